package iotcore

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
)

// api is the control plane and the HTTP side of the data plane, REST-JSON as
// the AWS SDKs speak it. Signatures are not checked. The names of operations,
// fields and errors are those of the AWS API reference.
type api struct {
	*Server
	client *mqtt.Client // who publishes for it
}

func newAPI(s *Server) http.Handler {
	a := &api{Server: s, client: s.broker.NewClient(nil, mqtt.LocalListener, "api", true)}
	mux := http.NewServeMux()
	// The mux matches the escaped path segment by segment, so that an ARN
	// with its slashes is one segment, as the SDKs send it.
	for pattern, h := range map[string]handler{
		"GET /endpoint":                    a.describeEndpoint,
		"GET /registrationcode":            a.getRegistrationCode,
		"POST /cacertificate":              a.registerCACertificate,
		"GET /cacertificate/{id}":          a.describeCACertificate,
		"PUT /cacertificate/{id}":          a.updateCACertificate,
		"DELETE /cacertificate/{id}":       a.deleteCACertificate,
		"GET /cacertificates":              a.listCACertificates,
		"POST /certificate/register":       a.registerCertificate,
		"POST /certificate/register-no-ca": a.registerCertificateWithoutCA,
		"GET /certificates":                a.listCertificates,
		"GET /certificates-by-ca/{id}":     a.listCertificatesByCA,
		"GET /certificates/{id}":           a.describeCertificate,
		"PUT /certificates/{id}":           a.updateCertificate,
		"DELETE /certificates/{id}":        a.deleteCertificate,
		"POST /policies/{name}":            a.createPolicy,
		"GET /policies/{name}":             a.getPolicy,
		"PUT /target-policies/{name}":      a.attachPolicy,
		"POST /target-policies/{name}":     a.detachPolicy,
		"PUT /principal-policies/{name}":   a.attachPrincipalPolicy,
		"POST /attached-policies/{target}": a.listAttachedPolicies,
		"POST /things/{name}":              a.createThing,
		"GET /things/{name}":               a.describeThing,
		"PUT /things/{name}/principals":    a.attachThingPrincipal,
		"DELETE /things/{name}/principals": a.detachThingPrincipal,
		"GET /things/{name}/principals":    a.listThingPrincipals,
		"GET /principals/things":           a.listPrincipalThings,
		"POST /topics/{topic...}":          a.publish,
		"GET /things/{name}/shadow":        a.getThingShadow,
		"POST /things/{name}/shadow":       a.updateThingShadow,
		"DELETE /things/{name}/shadow":     a.deleteThingShadow,
		"GET /sim/attempts":                a.simAttempts,
		"GET /sim/clients":                 a.simClients,
		"GET /sim/certificates/{id}":       a.simCertificate,
		"GET /sim/faults":                  a.simFaults,
		"POST /sim/faults":                 a.simSetFaults,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { serve(w, r, h) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, &apiError{
			status: http.StatusNotFound, name: "UnknownOperationException",
			message: "The emulator has no operation " + r.Method + " " + r.URL.EscapedPath(),
		})
	})
	return mux
}

// handler carries out one operation. What it returns becomes the JSON body;
// json.RawMessage is sent as it is, nil is an empty object.
type handler func(r *http.Request) (any, error)

// maxBody is the greatest request body in bytes; the largest legitimate one
// is a message of maxPayload.
const maxBody = 256 << 10

func serve(w http.ResponseWriter, r *http.Request, h handler) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	out, err := h(r)
	if err != nil {
		writeError(w, err)
		return
	}
	if out == nil {
		out = struct{}{}
	}
	data, err := json.Marshal(out)
	if err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(data) // a client that has gone asks again
}

// writeError must not put a numeric "code" into the body: aws-sdk-go-v2
// cannot read it.
func writeError(w http.ResponseWriter, err error) {
	out := &apiError{status: http.StatusInternalServerError, name: "InternalFailureException", message: err.Error()}
	errors.As(err, &out)
	var refused *shadowError
	if errors.As(err, &refused) {
		out = refused.http()
	}
	body := map[string]string{"message": out.message}
	if refused != nil {
		body["traceId"] = newUUID()
	}
	if out.resource != nil {
		body["resourceId"], body["resourceArn"] = out.resource.id, out.resource.arn
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-ErrorType", out.name)
	w.WriteHeader(out.status)
	_, _ = w.Write(encode(body)) // as in serve
}

// readJSON reads the request body into v. AWS ignores unknown fields.
func readJSON(r *http.Request, v any) error {
	data, err := readBody(r)
	if err != nil {
		return err
	}
	if len(data) == 0 {
		return nil
	}
	if err := json.Unmarshal(data, v); err != nil {
		return &apiError{status: http.StatusBadRequest, name: "SerializationException", message: err.Error()}
	}
	return nil
}

func readBody(r *http.Request) ([]byte, error) {
	data, err := io.ReadAll(r.Body)
	if _, tooBig := errors.AsType[*http.MaxBytesError](err); tooBig {
		return nil, &apiError{status: http.StatusRequestEntityTooLarge, name: "RequestEntityTooLargeException", message: "The payload exceeds the maximum size allowed"}
	}
	if err != nil {
		return nil, invalidRequest("The request body cannot be read: %v", err)
	}
	return data, nil
}

// epoch is a time as the AWS JSON protocol has it: seconds, with a fraction.
func epoch(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
