package iotcore

import (
	"errors"
	"fmt"
	"net/http"
	"syscall"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
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

// The refusals of the control plane, with the names of the AWS API reference.

func invalidRequest(format string, args ...any) error {
	return awsapi.Refuse(http.StatusBadRequest, "InvalidRequestException", format, args...)
}

func notFound(format string, args ...any) error {
	return awsapi.Refuse(http.StatusNotFound, "ResourceNotFoundException", format, args...)
}

func alreadyExists(message, id, arn string) error {
	return &awsapi.Error{
		Status: http.StatusConflict, Code: "ResourceAlreadyExistsException", Message: message,
		Fields: map[string]string{"resourceId": id, "resourceArn": arn},
	}
}

func certificateState(format string, args ...any) error {
	return awsapi.Refuse(http.StatusNotAcceptable, "CertificateStateException", format, args...)
}

func certificateValidation(format string, args ...any) error {
	return awsapi.Refuse(http.StatusBadRequest, "CertificateValidationException", format, args...)
}

func deleteConflict(format string, args ...any) error {
	return awsapi.Refuse(http.StatusConflict, "DeleteConflictException", format, args...)
}

func limitExceeded(format string, args ...any) error {
	return awsapi.Refuse(http.StatusGone, "LimitExceededException", format, args...)
}
