package awsapi

import (
	"errors"
	"fmt"
	"net/http"
)

// Error is a refusal as the AWS SDKs and the aws CLI read it.
type Error struct {
	Status  int
	Code    string // the exception, as ResourceNotFoundException
	Message string
	Fields  map[string]string // more of the body, as resourceArn
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Refuse makes an Error.
func Refuse(status int, code, format string, args ...any) *Error {
	return &Error{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

// asError is what the caller is told of err.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Status: http.StatusInternalServerError, Code: "InternalFailureException", Message: err.Error()}
}
