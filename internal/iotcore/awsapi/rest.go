package awsapi

import (
	"encoding/json"
	"maps"
	"net/http"
)

// REST serves operations by method and path, in the REST-JSON protocol. The
// keys of ops are patterns of http.ServeMux; the mux matches the escaped path
// segment by segment, so that an ARN with its slashes is one segment, as the
// SDKs send it.
func REST(mux *http.ServeMux, gate Gate, ops map[string]Operation) {
	for pattern, op := range ops {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			req, err := newRequest(w, r, op.MaxBody)
			if err == nil {
				err = gate.Admit(req, op)
			}
			var out any
			if err == nil {
				out, err = op.Handle(req)
			}
			if err != nil {
				WriteError(w, err)
				return
			}
			status := op.Status
			if own, ok := out.(Answer); ok {
				status, out = own.Status, json.RawMessage(nil)
			}
			writeJSON(w, "application/json", status, out)
		})
	}
}

// Answer is what a Handler returns where one operation has several statuses.
// Its body is empty.
type Answer struct{ Status int }

func writeJSON(w http.ResponseWriter, contentType string, status int, out any) {
	if status == 0 {
		status = http.StatusOK
	}
	if out == nil {
		out = struct{}{}
	}
	data, err := json.Marshal(out)
	if raw, ok := out.(json.RawMessage); ok {
		data, err = raw, nil // as it is: not even the white space changes
	}
	if err != nil {
		WriteError(w, err)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	if status != http.StatusNoContent {
		_, _ = w.Write(data) // a client that has gone asks again
	}
}

// WriteError answers with a refusal in REST-JSON. It must not put a numeric
// "code" into the body: aws-sdk-go-v2 cannot read it.
func WriteError(w http.ResponseWriter, err error) {
	e := asError(err)
	w.Header().Set("X-Amzn-ErrorType", e.Code)
	body := map[string]string{"message": e.Message}
	maps.Copy(body, e.Fields)
	writeJSON(w, "application/json", e.Status, body)
}
