// Package awsapi is the outside that all emulated AWS services share: who
// calls, what an operation is, how a refusal looks, and the four protocols
// that the SDKs and the aws CLI speak (REST-JSON, JSON 1.0 and 1.1, query).
//
// An Operation carries the name of its IAM action and the resources that it
// touches, so that one Gate in front of all of them can decide whether the
// caller may do it, and at which rate.
package awsapi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Place is the account and the Region that everything is in.
type Place struct{ Region, Account string }

// ARN names a resource of a regional service: ARN("lambda", "function:f").
func (p Place) ARN(service, resource string) string {
	return "arn:aws:" + service + ":" + p.Region + ":" + p.Account + ":" + resource
}

// GlobalARN names a resource of a service without Regions, such as IAM.
func (p Place) GlobalARN(service, resource string) string {
	return "arn:aws:" + service + "::" + p.Account + ":" + resource
}

// Operation is one operation of an AWS API.
type Operation struct {
	// Action is its name in IAM policies, as "iot:UpdateCertificate". Empty:
	// the emulator's own, which nobody judges.
	Action string
	// Resources are the ARNs that the caller's policies must allow Action on,
	// each of them; nil stands for "*", an action without resource types.
	Resources func(*Request) []string
	// Handle carries it out. What it returns becomes the answer's body.
	Handle Handler
	// Status of a success; 0: 200.
	Status int
	// MaxBody is the greatest request body in bytes; 0: 256 KiB.
	MaxBody int64
}

// Handler carries out one operation. A json.RawMessage is sent as it is, nil
// is an empty answer.
type Handler func(*Request) (any, error)

// Gate decides whether an operation may go on: permissions, Region, rate. It
// must be safe for concurrent use.
type Gate interface {
	Admit(*Request, Operation) error
}

// Request is one call. It is used by one goroutine.
type Request struct {
	*http.Request
	Credential Credential

	// Answer are headers for the answer, for the few operations with some.
	Answer http.Header

	body []byte
	form url.Values // of the query protocol
}

const maxBody = 256 << 10

// newRequest bounds the body. It is read at once, because the names of the
// resources can be in it.
func newRequest(w http.ResponseWriter, r *http.Request, limit int64) (*Request, error) {
	req := &Request{Request: r, Credential: parseCredential(r.Header.Get("Authorization")), Answer: w.Header()}
	if limit == 0 {
		limit = maxBody
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if _, tooBig := errors.AsType[*http.MaxBytesError](err); tooBig {
		return req, &Error{Status: http.StatusRequestEntityTooLarge, Code: "RequestEntityTooLargeException", Message: "The payload exceeds the maximum size allowed"}
	}
	if err != nil {
		return req, &Error{Status: http.StatusBadRequest, Code: "InvalidRequestException", Message: "The request body cannot be read: " + err.Error()}
	}
	req.body = data
	return req, nil
}

// Body is the request body.
func (r *Request) Body() []byte { return r.body }

// JSON reads the request body into v. AWS ignores unknown fields, and takes
// an empty body for an empty object.
func (r *Request) JSON(v any) error {
	if len(r.body) == 0 {
		return nil
	}
	if err := json.Unmarshal(r.body, v); err != nil {
		return &Error{Status: http.StatusBadRequest, Code: "SerializationException", Message: err.Error()}
	}
	return nil
}

// Field is a string field of the JSON body, for Operation.Resources; "" where
// there is none.
func (r *Request) Field(name string) string {
	var all map[string]json.RawMessage
	var s string
	if json.Unmarshal(r.body, &all) != nil || json.Unmarshal(all[name], &s) != nil {
		return ""
	}
	return s
}

// Form is a parameter of the query protocol.
func (r *Request) Form(name string) string { return r.form.Get(name) }

// Epoch is a time as the AWS JSON protocols have it: seconds, with a fraction.
func Epoch(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// Credential is what a SigV4 Authorization header says of the caller. The
// signature is not checked: the access key stands for itself.
type Credential struct{ AccessKey, Region, Service string }

// parseCredential reads AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/SERVICE/aws4_request, …
// Anything else is an unsigned request, as curl sends it.
func parseCredential(header string) Credential {
	_, scope, ok := strings.Cut(header, "Credential=")
	if !ok || !strings.HasPrefix(header, "AWS4-HMAC-SHA256") {
		return Credential{}
	}
	scope, _, _ = strings.Cut(scope, ",")
	parts := strings.Split(strings.TrimSpace(scope), "/")
	if len(parts) != 5 {
		return Credential{}
	}
	return Credential{AccessKey: parts[0], Region: parts[2], Service: parts[3]}
}
