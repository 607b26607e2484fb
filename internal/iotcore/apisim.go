package iotcore

import (
	"net/http"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
)

// simOperations are the emulator's own, under /sim/: what an outside test has
// to see and to provoke.
func (a *api) simOperations() map[string]awsapi.Operation {
	return map[string]awsapi.Operation{
		"GET /sim/attempts":             {Handle: a.simAttempts},
		"GET /sim/clients":              {Handle: a.simClients},
		"GET /sim/certificates/{id}":    {Handle: a.simCertificate},
		"GET /sim/faults":               {Handle: a.simFaults},
		"POST /sim/faults":              {Handle: a.simSetFaults},
		"GET /sim/calls":                {Handle: a.simCalls},
		"PUT /sim/access-keys/{key}":    {Handle: a.simRestrict},
		"DELETE /sim/access-keys/{key}": {Handle: a.simUnrestrict},
	}
}

func (a *api) simAttempts(*awsapi.Request) (any, error) {
	return map[string]any{"attempts": append([]Attempt{}, a.Attempts()...)}, nil
}

func (a *api) simClients(*awsapi.Request) (any, error) {
	return map[string]any{"clients": a.Connected()}, nil
}

func (a *api) simCertificate(r *awsapi.Request) (any, error) {
	rec, err := a.registry.certificate(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return rec.story(), nil
}

func (a *api) simFaults(*awsapi.Request) (any, error) { return a.faults.get(), nil }

// simSetFaults changes the faults that the body names.
func (a *api) simSetFaults(r *awsapi.Request) (any, error) {
	to := a.faults.get()
	if err := r.JSON(&to); err != nil {
		return nil, err
	}
	a.SetFaults(to)
	return to, nil
}

func (a *api) simCalls(*awsapi.Request) (any, error) {
	return map[string]any{"calls": a.Calls()}, nil
}

// simRestrict gives an access key the IAM policy in the body.
func (a *api) simRestrict(r *awsapi.Request) (any, error) {
	if err := a.iam.Restrict(r.PathValue("key"), append([]byte{}, r.Body()...)); err != nil {
		return nil, awsapi.Refuse(http.StatusBadRequest, "MalformedPolicyDocument", "%v", err)
	}
	return nil, nil
}

func (a *api) simUnrestrict(r *awsapi.Request) (any, error) {
	return nil, a.iam.Restrict(r.PathValue("key"), nil)
}
