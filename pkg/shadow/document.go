package shadow

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The range of telemetry.interval, as agent.toml has it.
const (
	minInterval = time.Second
	maxInterval = 24 * time.Hour
)

// update is the request that reports. It carries no version: the report is the
// truth whatever the document's version is.
type update struct {
	State struct {
		Reported document `json:"reported"`
	} `json:"state"`
	ClientToken string `json:"clientToken"`
}

type document struct {
	Telemetry telemetry `json:"telemetry"`
}

type telemetry struct {
	Interval string `json:"interval"`
}

func reportPayload(interval, token string) []byte {
	var u update
	u.State.Reported.Telemetry.Interval = interval
	u.ClientToken = token
	data, err := json.Marshal(u)
	if err != nil {
		panic("shadow: " + err.Error()) // strings can always be marshalled
	}
	return data
}

func getPayload(token string) []byte {
	return []byte(`{"clientToken":` + strconv.Quote(token) + `}`) // a token needs no escapes
}

// envelope is what all answers have. State and Code are each in some only.
type envelope struct {
	State       json.RawMessage `json:"state"`
	Version     int64           `json:"version"`
	ClientToken string          `json:"clientToken"`
	Code        int             `json:"code"`
	Message     string          `json:"message"`
}

// desired is what a state says about telemetry.interval.
type desired int

const (
	unsaid  desired = iota // nothing: the key is absent
	removed                // null, at any level
	said
)

// intervalIn finds telemetry.interval in a state and gives its text. A value of
// a wrong type is an error.
func intervalIn(state json.RawMessage) (string, desired, error) {
	section, found, err := child(state, "telemetry")
	if found != said || err != nil {
		return "", found, err
	}
	value, found, err := child(section, "interval")
	if found != said || err != nil {
		return "", found, err
	}
	var text string
	if err := json.Unmarshal(value, &text); err != nil {
		return "", said, fmt.Errorf("telemetry.interval is %s and not a string like \"60s\"", clip(value))
	}
	return text, said, nil
}

// child is the member of an object. An object that is absent or null has none.
func child(object json.RawMessage, key string) (json.RawMessage, desired, error) {
	if len(object) == 0 {
		return nil, unsaid, nil
	}
	if string(object) == "null" {
		return nil, removed, nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(object, &members); err != nil {
		return nil, said, fmt.Errorf("%s is not an object with the key %s", clip(object), key)
	}
	value, ok := members[key]
	switch {
	case !ok:
		return nil, unsaid, nil
	case string(value) == "null":
		return nil, removed, nil
	}
	return value, said, nil
}

// clip shows what the cloud sent, on one line, and not so much of it that it
// fills the journal.
func clip(text []byte) string {
	const most = 60
	var line bytes.Buffer
	if json.Compact(&line, text) == nil {
		text = line.Bytes()
	}
	if len(text) > most {
		return strings.ToValidUTF8(string(text[:most]), "") + "…"
	}
	return string(text)
}

// parseInterval checks a desired interval.
func parseInterval(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("telemetry.interval %s is not a duration like \"60s\"", clip([]byte(strconv.Quote(text))))
	}
	if d < minInterval || d > maxInterval {
		return 0, fmt.Errorf("telemetry.interval %q is out of range; allowed: 1s to 24h", text)
	}
	return d, nil
}

// formatInterval is how an interval is reported that nobody has written yet.
func formatInterval(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s"
}
