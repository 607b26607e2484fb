package activationtest

import (
	"net/http"
	"strconv"
	"strings"
)

// Operation names the operation of AWS IoT's control plane that a request is
// for, among those that an activation uses; else its method and path.
func Operation(r *http.Request) string {
	path := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	shape := r.Method + " " + path[0] + " " + strconv.Itoa(len(path))
	if len(path) == 3 {
		shape = r.Method + " " + path[0] + " " + path[2]
	}
	switch shape {
	case "GET certificates 2":
		return "DescribeCertificate"
	case "PUT certificates 2":
		return "UpdateCertificate"
	case "GET certificates-by-ca 2":
		return "ListCertificatesByCA"
	case "GET cacertificate 2":
		return "DescribeCACertificate"
	case "POST things 2":
		return "CreateThing"
	case "GET things 2":
		return "DescribeThing"
	case "PUT things principals":
		return "AttachThingPrincipal"
	case "GET things principals":
		return "ListThingPrincipals"
	case "PUT target-policies 2":
		return "AttachPolicy"
	default:
		return r.Method + " " + r.URL.EscapedPath()
	}
}

// Refused is AWS's answer to a call that it does not carry out: status 400,
// and an error of that name.
func Refused(r *http.Request, name string) *http.Response {
	return &http.Response{
		StatusCode: http.StatusBadRequest, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"X-Amzn-Errortype": {name}, "Content-Type": {"application/json"}},
		Body:   http.NoBody,
	}
}
