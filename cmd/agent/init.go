package main

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jitr-agent/jitr-agent/internal/clock"
	"github.com/jitr-agent/jitr-agent/internal/settings"
	"github.com/jitr-agent/jitr-agent/internal/state"
	"github.com/jitr-agent/jitr-agent/internal/version"
	"github.com/jitr-agent/jitr-agent/pkg/identity"
	"github.com/jitr-agent/jitr-agent/pkg/mqtt"
)

// initMessage is what a gateway says of itself once, schema 1.
type initMessage struct {
	Schema          int      `json:"schema"`
	ThingName       string   `json:"thing_name"`
	CertificateID   string   `json:"certificate_id"`
	CACertificateID *string  `json:"ca_certificate_id"`
	Replaces        *string  `json:"replaces"` // the certificate that was accepted before this one
	AgentVersion    string   `json:"agent_version"`
	KeyProvider     string   `json:"key_provider"`
	Hardware        hardware `json:"hardware"`
	OS              osInfo   `json:"os"`
	BootID          string   `json:"boot_id"`
	SentAt          string   `json:"sent_at"`
}

type hardware struct {
	Model  *string `json:"model"`
	Serial *string `json:"serial"`
	Arch   string  `json:"arch"` // as uname -m has it
}

type osInfo struct {
	ID      string `json:"id"`
	Version string `json:"version"`
	Kernel  string `json:"kernel"`
}

const jsonType = "application/json"

// makeInit builds the init message for an identity at an endpoint.
func makeInit(topic string, id *identity.Identity, known state.File, host string) mqtt.Message {
	model, serial := identity.Hardware("/")
	var uts unix.Utsname
	_ = unix.Uname(&uts) // fails only for a bad pointer
	release := osRelease("/etc/os-release")
	payload, err := json.Marshal(initMessage{
		Schema:          1,
		ThingName:       id.ThingName,
		CertificateID:   id.CertificateID(),
		CACertificateID: orNull(id.CACertificateID()),
		Replaces:        orNull(replaced(known, id.CertificateID(), host)),
		AgentVersion:    version.Number(),
		KeyProvider:     id.Provider,
		Hardware:        hardware{Model: orNull(model), Serial: orNull(serial), Arch: unix.ByteSliceToString(uts.Machine[:])},
		OS:              osInfo{ID: release["ID"], Version: release["VERSION_ID"], Kernel: unix.ByteSliceToString(uts.Release[:])},
		BootID:          clock.BootID(),
		SentAt:          time.Now().UTC().Format("2006-01-02T15:04:05.000Z"),
	})
	if err != nil {
		panic(err) // plain strings and numbers always marshal
	}
	return mqtt.Message{
		Topic:       settings.Expand(topic, map[string]string{"thing_name": id.ThingName}),
		Payload:     payload,
		ContentType: jsonType,
	}
}

// replaced is the certificate that this endpoint accepted last before this
// one, "" for none.
func replaced(known state.File, certificateID, host string) string {
	var id string
	var latest time.Time
	for key, history := range known.Histories {
		other, at, _ := strings.Cut(key, "@")
		if at == host && other != certificateID && history.AcceptedAt.After(latest) {
			id, latest = other, history.AcceptedAt
		}
	}
	return id
}

// osRelease reads os-release(5); what cannot be read is empty.
func osRelease(path string) map[string]string {
	values := map[string]string{}
	f, err := os.Open(path)
	if err != nil {
		return values
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), "="); ok {
			values[name] = strings.Trim(value, `"'`)
		}
	}
	return values
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
