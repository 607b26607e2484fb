package iotcore

import "net/http"

// The operations under /sim/ are the emulator's own: what an outside test has
// to see and to provoke.

func (a *api) simAttempts(*http.Request) (any, error) {
	return map[string]any{"attempts": append([]Attempt{}, a.Attempts()...)}, nil
}

func (a *api) simClients(*http.Request) (any, error) {
	return map[string]any{"clients": a.Connected()}, nil
}

func (a *api) simCertificate(r *http.Request) (any, error) {
	rec, err := a.registry.certificate(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return rec.story(), nil
}

func (a *api) simFaults(*http.Request) (any, error) { return a.faults.get(), nil }

// simSetFaults changes the faults that the body names.
func (a *api) simSetFaults(r *http.Request) (any, error) {
	to := a.faults.get()
	if err := readJSON(r, &to); err != nil {
		return nil, err
	}
	a.SetFaults(to)
	return to, nil
}
