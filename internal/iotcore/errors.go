package iotcore

import (
	"errors"
	"fmt"
	"net/http"
	"syscall"
)

// ListenError says that an address cannot be listened on. Purpose is "MQTT" or "API".
type ListenError struct {
	Purpose string
	Addr    string
	Err     error
}

func (e *ListenError) Error() string {
	why := e.Err.Error()
	if errors.Is(e.Err, syscall.EADDRINUSE) {
		why = "another program has that port"
	}
	return fmt.Sprintf("cannot listen on %s for %s: %s", e.Addr, e.Purpose, why)
}

func (e *ListenError) Unwrap() error { return e.Err }

// apiError is a refusal of the control plane. It becomes the HTTP answer
// that the AWS SDKs and the aws CLI read: the name in x-amzn-ErrorType, the
// text in the body.
type apiError struct {
	status   int
	name     string // an AWS exception, as ResourceNotFoundException
	message  string
	resource *resource // only of ResourceAlreadyExistsException
}

type resource struct{ id, arn string }

func (e *apiError) Error() string { return e.name + ": " + e.message }

func invalidRequest(format string, args ...any) error {
	return &apiError{status: http.StatusBadRequest, name: "InvalidRequestException", message: fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) error {
	return &apiError{status: http.StatusNotFound, name: "ResourceNotFoundException", message: fmt.Sprintf(format, args...)}
}

func alreadyExists(message, id, arn string) error {
	return &apiError{status: http.StatusConflict, name: "ResourceAlreadyExistsException", message: message, resource: &resource{id, arn}}
}

func certificateState(format string, args ...any) error {
	return &apiError{status: http.StatusNotAcceptable, name: "CertificateStateException", message: fmt.Sprintf(format, args...)}
}

func certificateValidation(format string, args ...any) error {
	return &apiError{status: http.StatusBadRequest, name: "CertificateValidationException", message: fmt.Sprintf(format, args...)}
}

func limitExceeded(format string, args ...any) error {
	return &apiError{status: http.StatusGone, name: "LimitExceededException", message: fmt.Sprintf(format, args...)}
}
