package shadow

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestConnectReportsThenAsks(t *testing.T) {
	with(t, func(d *device) {
		d.wantState(Stale, 0)
		disconnect := d.connect()
		d.wantLog("subscribe 5, update 60s, get")
		d.wantReported(interval("60s"))
		d.wantState(Synced, 1)
		disconnect()
		d.wantState(Stale, 1)
		d.connect()
		d.wantLog("subscribe 5, update 60s, get")
		d.wantState(Synced, 2)
		d.wantApplied()
		d.wantTrouble()
	})
}

func TestDeltaIsAppliedAndReported(t *testing.T) {
	with(t, func(d *device) {
		d.connect()
		d.wantLog("subscribe 5, update 60s, get")
		d.c.desire(interval("7s"))
		d.wantLog("update 7s")
		d.wantApplied(7 * time.Second)
		d.wantReported(interval("7s"))
		d.wantState(Synced, 3)
		if got, ok := d.Override(); !ok || got != 7*time.Second {
			t.Errorf("override is %v %v", got, ok)
		}
	})
}

// TestDesiredWhileAway: what was desired before the connect is found by the
// delta of the report, or by the get, and is applied once.
func TestDesiredWhileAway(t *testing.T) {
	with(t, func(d *device) {
		d.c.desire(interval("7s"))
		disconnect := d.connect()
		d.wantLog("subscribe 5, update 60s, get, update 7s")
		d.wantApplied(7 * time.Second)
		d.wantState(Synced, 3)
		disconnect()
		d.c.desire(interval("9s"))
		d.connect()
		d.wantLog("subscribe 5, update 7s, get, update 9s")
		d.wantApplied(9 * time.Second)
		d.wantReported(interval("9s"))
		d.wantState(Synced, 6)
		d.wantTrouble()
	})
}

// TestSameDurationInOtherWords: the cloud compares texts.
func TestSameDurationInOtherWords(t *testing.T) {
	with(t, func(d *device) {
		d.connect()
		d.c.desire(interval("1m"))
		d.wantLog("subscribe 5, update 60s, get, update 1m")
		d.wantReported(interval("1m"))
		d.wantState(Synced, 3)
	})
}

func TestImpossibleDesiredValues(t *testing.T) {
	for _, desired := range []string{
		interval("0s"), interval("999ms"), interval("24h1s"), interval("-7s"), interval("soon"), interval(""), interval("7"),
		`{"telemetry":{"interval":7}}`, `{"telemetry":{"interval":["7s"]}}`, `{"telemetry":"7s"}`, `{"telemetry":["interval"]}`, `"7s"`,
		`{"telemetry":{"interval":"` + strings.Repeat("9", 5000) + `"}}`,
	} {
		t.Run(desired[:min(len(desired), 40)], func(t *testing.T) {
			with(t, func(d *device) {
				disconnect := d.connect()
				d.wantLog("subscribe 5, update 60s, get")
				d.c.desire(desired)
				d.wantLog("") // above all no report, which would bring the next delta
				d.wantApplied()
				d.wantReported(interval("60s"))
				d.mu.Lock()
				if len(d.trouble) == 1 && len(d.trouble[0].Error()) > 200 {
					t.Errorf("the sentence is as long as %d bytes", len(d.trouble[0].Error()))
				}
				d.mu.Unlock()
				d.wantTrouble(ErrDesired)
				disconnect()
				d.connect()
				d.wantLog("subscribe 5, update 60s, get")
				d.wantTrouble() // told already

				d.c.desire(interval("8s"))
				d.wantApplied(8 * time.Second)
				d.c.desire(desired)
				d.wantReported(interval("8s"))
				d.wantTrouble(ErrDesired) // a new mistake
			})
		})
	}
}

func TestUnknownKeysAreIgnored(t *testing.T) {
	with(t, func(d *device) {
		d.connect()
		d.c.desire(`{"colour":"red","telemetry":{"unit":"K"}}`)
		d.wantLog("subscribe 5, update 60s, get")
		d.wantApplied()
		d.wantTrouble()
		d.c.desire(`{"colour":"red","telemetry":{"interval":"7s","unit":"K"}}`)
		d.wantLog("update 7s")
		d.wantReported(interval("7s"))
		d.wantTrouble()
	})
}

func TestLateDeltaUndoesNothing(t *testing.T) {
	with(t, func(d *device) {
		d.connect()
		d.wantLog("subscribe 5, update 60s, get")
		d.c.raw("update/delta", `{"state":`+interval("9s")+`,"version":9}`)
		d.c.raw("update/delta", `{"state":`+interval("8s")+`,"version":8}`)
		d.c.raw("update/delta", `{"state":`+interval("9s")+`,"version":9}`)
		d.wantApplied(9 * time.Second)
		d.wantLog("update 9s")
		d.c.raw("update/delta", `{"state":`+interval("10s")+`,"version":10}`)
		d.wantApplied(10 * time.Second)
		d.wantTrouble()
	})
}

// TestDeltaOvertakesTheAnswer: the answer to a get is older than a delta that
// came before it.
func TestDeltaOvertakesTheAnswer(t *testing.T) {
	with(t, func(d *device) {
		d.c.desire(interval("7s"))
		d.c.set(func() { d.c.hold = true })
		d.connect()
		d.c.set(func() { d.c.hold = false })
		d.wantState(Stale, 0)
		d.c.desire(interval("8s"))
		d.wantApplied(8 * time.Second)
		d.c.set(func() {
			for i := range d.c.held { // backwards
				d.c.held[len(d.c.held)-1-i]()
			}
		})
		d.wantApplied()
		d.wantReported(interval("8s"))
		d.wantState(Synced, 4)
	})
}

// TestShadowDeleted: versions begin anew, within a session and between two.
func TestShadowDeleted(t *testing.T) {
	with(t, func(d *device) {
		disconnect := d.connect()
		for range 5 {
			d.c.desire(interval("7s"))
		}
		d.wantApplied(7 * time.Second)
		disconnect()
		d.c.set(func() { d.c.doc, d.c.version = nil, 0 })
		d.connect()
		d.wantApplied(time.Minute) // nothing is desired any more
		d.wantReported(interval("60s"))
		d.c.desire(interval("9s"))
		d.wantApplied(9 * time.Second)

		// Again, behind our back; the next get finds out.
		d.c.raw("update/delta", `{"state":`+interval("9s")+`,"version":900}`)
		d.c.set(func() { d.c.doc, d.c.version = map[string]any{}, 0 })
		d.c.desire(interval("11s")) // version 1: late, as far as we can know
		d.wantApplied()
		d.c.desire("null") // makes us ask
		d.wantApplied(time.Minute)
		d.c.desire(interval("12s"))
		d.wantApplied(12 * time.Second)
		d.wantReported(interval("12s"))
	})
}

func TestNoShadowYet(t *testing.T) {
	with(t, func(d *device) {
		d.c.set(func() { d.c.mute = true })
		d.connect()
		d.c.set(func() { d.c.mute = false })
		// The update is lost; the get finds no shadow.
		d.c.raw("get/rejected", `{"code":404,"message":"No shadow exists","clientToken":"somebody else's"}`)
		d.wantState(Stale, 0)
		<-time.After(firstRetry)
		d.wantLog("subscribe 5, update 60s, get, update 60s, get")
		d.wantState(Synced, 1)
		d.wantTrouble()
	})
}

// TestDesiredRemoved: the configured interval comes back.
func TestDesiredRemoved(t *testing.T) {
	for _, removal := range []string{`null`, `{"telemetry":null}`, `{"telemetry":{"interval":null}}`} {
		t.Run(removal, func(t *testing.T) {
			with(t, func(d *device) {
				d.connect()
				d.c.desire(interval("7s"))
				d.wantApplied(7 * time.Second)
				d.wantLog("subscribe 5, update 60s, get, update 7s")
				d.c.set(func() { d.c.doc["desired"] = map[string]any{} })
				d.c.raw("update/accepted", `{"state":{"desired":`+removal+`},"version":4,"clientToken":"operator"}`)
				d.wantLog("get, update 60s")
				d.wantApplied(time.Minute)
				d.wantReported(interval("60s"))
				if _, ok := d.Override(); ok {
					t.Error("there is still an override")
				}
			})
		})
	}
}

func TestConfiguredInterval(t *testing.T) {
	with(t, func(d *device) {
		d.connect()
		d.wantLog("subscribe 5, update 60s, get")
		d.SetInterval(90 * time.Minute)
		d.wantLog("update 5400s")
		d.wantApplied(90 * time.Minute)
		d.c.desire(interval("7s"))
		d.wantLog("update 7s")
		d.wantApplied(7 * time.Second)
		d.SetInterval(2 * time.Minute) // the shadow is stronger
		d.wantLog("")
		d.wantApplied()
		d.c.desire(`null`)
		d.wantApplied(2 * time.Minute)
		d.wantReported(interval("120s"))
	})
}

func TestApplyFails(t *testing.T) {
	with(t, func(d *device) {
		d.connect()
		d.mu.Lock()
		d.applyErr = errors.New("disk full")
		d.mu.Unlock()
		d.c.desire(interval("7s"))
		d.wantTrouble(ErrApply)
		d.wantReported(interval("60s"))
		if _, ok := d.Override(); ok {
			t.Error("an interval that is not in effect counts as an override")
		}
	})
}

// TestSubscribingDenied is the how-to's policy: Connect, Publish and
// UpdateThingShadow only.
func TestSubscribingDenied(t *testing.T) {
	with(t, func(d *device) {
		d.c.set(func() { d.c.codes = []byte{0x87, 0x87, 0x87, 0x87, 0x87}; d.c.mute = true })
		disconnect := d.connect()
		d.wantLog("subscribe 5, update 60s") // no get: its answer could not be heard
		d.wantState(ReportOnly, 0)
		d.wantTrouble(ErrDenied)
		<-time.After(time.Hour)
		d.wantLog("") // and no retries
		d.SetInterval(2 * time.Minute)
		d.wantLog("update 120s")
		disconnect()
		d.connect()
		d.wantLog("subscribe 5, update 120s")
		d.wantState(ReportOnly, 0)
		d.wantTrouble() // told once
		d.c.set(func() { d.c.codes = nil; d.c.mute = false })
		d.connect()
		d.wantState(Synced, 1)
		d.c.set(func() { d.c.codes = []byte{1, 1, 0x87, 1, 1} })
		d.connect()
		d.wantState(ReportOnly, 2) // what was granted is heard
		d.wantTrouble(ErrDenied)   // denied anew
	})
}

// TestNoAnswer: a policy that denies iot:Receive lets the requests through and
// no answers.
func TestNoAnswer(t *testing.T) {
	with(t, func(d *device) {
		d.c.set(func() { d.c.mute = true })
		d.connect()
		d.wantLog("subscribe 5, update 60s, get")
		d.wantState(Stale, 0)
		<-time.After(29 * time.Second)
		d.wantLog("")
		<-time.After(time.Hour)
		want := strings.TrimSuffix(strings.Repeat("update 60s, get, ", 9), ", ") // at 0.5 1.5 3.5 7.5 15.5 25.5 35.5 45.5 55.5 min
		d.wantLog(want)
		d.c.set(func() { d.c.mute = false })
		<-time.After(10 * time.Minute)
		d.wantState(Synced, 1)
	})
}

func TestRejected(t *testing.T) {
	with(t, func(d *device) {
		d.c.set(func() { d.c.reject = 429 })
		d.connect()
		d.wantState(Stale, 0)
		d.wantTrouble(ErrRejected, ErrRejected)
		d.c.set(func() { d.c.reject = 0 })
		<-time.After(firstRetry)
		d.wantState(Synced, 1)
		d.c.raw("update/rejected", `{"code":400,"message":"Invalid JSON","clientToken":"x"}`)
		d.c.raw("get/rejected", `{"code":404,"message":"No shadow exists"}`)
		d.wantState(Synced, 1)
		d.wantTrouble() // other people's requests
	})
}

func TestSessionFails(t *testing.T) {
	with(t, func(d *device) {
		d.c.set(func() { d.c.subscribeErr = errors.New("quota") })
		d.connect()
		d.wantLog("subscribe 5") // nothing is sent before the subscriptions stand
		d.wantTrouble(ErrPublish)
		d.c.set(func() { d.c.subscribeErr, d.c.publishErr = nil, errors.New("not authorized") })
		<-time.After(firstRetry)
		d.wantLog("subscribe 5, update 60s, get")
		d.wantTrouble(ErrPublish, ErrPublish)
		d.wantState(Stale, 0)
		d.c.set(func() { d.c.publishErr = nil })
		<-time.After(2 * firstRetry)
		d.wantLog("update 60s, get")
		d.wantState(Synced, 1)
	})
}

// TestMessagesOfAnOldSession come to nothing.
func TestMessagesOfAnOldSession(t *testing.T) {
	with(t, func(d *device) {
		disconnect := d.connect()
		disconnect()
		d.wantLog("subscribe 5, update 60s, get")
		d.c.raw("update/delta", `{"state":`+interval("7s")+`,"version":50}`)
		d.wantApplied()
		d.wantState(Stale, 1)
		d.connect()
		d.wantLog("subscribe 5, update 60s, get")
		d.wantState(Synced, 2)
	})
}

func TestMalformedMessages(t *testing.T) {
	with(t, func(d *device) {
		d.connect()
		d.wantLog("subscribe 5, update 60s, get")
		for _, verb := range []string{"get/accepted", "get/rejected", "update/accepted", "update/rejected", "update/delta", "update/documents", "x"} {
			for _, payload := range []string{"", "{", "null", "[]", `"x"`, "{}", `{"version":"1"}`, `{"state":1,"version":1}`, `{"state":{"desired":1},"version":1}`,
				`{"state":null}`, `{"version":1e30}`, "\xff", `{"state":{"desired":{"telemetry":7}},"version":1}`} {
				d.c.raw(verb, payload)
			}
		}
		d.wantApplied()
		d.wantLog("")
		d.wantState(Synced, 1)
		d.mu.Lock()
		if len(d.trouble) == 0 {
			t.Error("none of it is told")
		}
		d.mu.Unlock()
		d.c.desire(interval("7s"))
		d.wantApplied(7 * time.Second)
	})
}

// TestFlood: Handle never blocks, and what found no room is asked for.
func TestFlood(t *testing.T) {
	with(t, func(d *device) {
		d.connect()
		d.wantLog("subscribe 5, update 60s, get")
		d.c.set(func() { // the worker cannot report while the cloud is locked
			d.Handle("$aws/things/gw/shadow/update/delta", []byte(`{"state":`+interval("7s")+`,"version":2}`))
			for range 3 * inboxSize {
				d.Handle("$aws/things/gw/shadow/update/accepted", []byte(`{"version":1}`))
			}
			d.c.doc["desired"] = map[string]any{"telemetry": map[string]any{"interval": "9s"}}
			d.c.version = 10
		})
		d.wantReported(interval("9s"))
		if log := d.c.takeLog(); !strings.HasPrefix(log, "update 7s") || !strings.Contains(log, "update 9s") {
			t.Errorf("the cloud was asked %q", log)
		}
	})
}

func TestHandleTakesItsTopicsOnly(t *testing.T) {
	s := New(Options{ThingName: "gw"})
	for topic, want := range map[string]bool{
		"$aws/things/gw/shadow/update/delta":   true,
		"$aws/things/gw/shadow/update/unknown": true,
		"$aws/things/gw2/shadow/update/delta":  false,
		"$aws/things/gw/jobs/notify":           false,
		"dt/gw/x":                              false,
	} {
		if got := s.Handle(topic, nil); got != want {
			t.Errorf("%s: %v, want %v", topic, got, want)
		}
	}
}

func TestFiltersFitOneSubscribe(t *testing.T) {
	filters := topicsOf("gw").filters()
	if len(filters) > 8 {
		t.Errorf("%d filters, AWS takes 8", len(filters))
	}
	for _, f := range filters {
		if strings.ContainsAny(f, "+#") {
			t.Errorf("%s has a wildcard", f)
		}
	}
}

func TestIntervalText(t *testing.T) {
	for d, want := range map[time.Duration]string{time.Minute: "60s", 7 * time.Second: "7s", 1500 * time.Millisecond: "1.5s", 24 * time.Hour: "86400s"} {
		got := formatInterval(d)
		back, err := parseInterval(got)
		if got != want || err != nil || back != d {
			t.Errorf("%v is written %s and read %v, %v", d, got, back, err)
		}
	}
}

// FuzzMessages: whatever comes in, nothing impossible is applied.
func FuzzMessages(f *testing.F) {
	f.Add("update/delta", `{"state":{"telemetry":{"interval":"7s"}},"version":3}`)
	f.Add("get/accepted", `{"state":{"desired":{"telemetry":{"interval":"0s"}}},"version":3}`)
	f.Add("update/accepted", `{"state":{"desired":null},"version":3}`)
	f.Add("get/rejected", `{"code":404}`)
	f.Fuzz(func(t *testing.T, verb, payload string) {
		with(t, func(d *device) {
			d.connect()
			d.c.raw(verb, payload)
			synctest.Wait()
			for _, v := range d.applied {
				if v < minInterval || v > maxInterval {
					t.Error(fmt.Sprint("applied ", v))
				}
			}
		})
	})
}
