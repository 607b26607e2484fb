// Package chaos tests the promise on messages (docs/durability.md) with the
// real agent in the middle of everything that can go wrong: three outside
// producers that log each acknowledgement, clouds that cut, stall, forget and
// refuse, and kill -9 every few seconds. The program check, which reads nothing
// but what the producers and the cloud wrote down, decides.
//
// That the scene and its judge can see a loss is shown by a mosquitto bridge in
// the agent's place, and by captures that were tampered with.
//
// The environment variable CHAOS_KEEP names a directory that gets the files of
// each run.
package chaos

import (
	"flag"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

var (
	messages = flag.Int("messages", 3600, "messages of each run against a kind of cloud")
	rate     = flag.Int("rate", 50, "messages a second of each of the three producers")
	seedFlag = flag.Uint64("seed", 0, "of what is random; 0: another one each time")
)

func TestMain(m *testing.M) { rig.Main(m) }

const (
	// soon is enough for what needs no waiting in a gateway, on a busy machine.
	soon = 20 * time.Second
	// spillAfter is the agent's: short, so that the cloud can be silent for
	// longer than that many times in a run.
	spillAfter = 500 * time.Millisecond
	// padding makes a message of a usual length.
	padding = 80
	// killGap is the mean time between kills of the gateway.
	killGap = 4 * time.Second
)

// seed is that of the command line, or a new one.
func seed() uint64 {
	if *seedFlag != 0 {
		return *seedFlag
	}
	return uint64(time.Now().UnixNano())
}

// TestAgent is the promise: nothing that was acknowledged is lost or uncounted,
// topics keep their order but for 0x97, nothing comes twice without a reason.
func TestAgent(t *testing.T) {
	t.Parallel()
	for name, cloud := range map[string]startCloud{"scripted": scripted, "mosquitto": mosquitto} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := scene{cloud: cloud, gateway: newAgent(nil), messages: *messages, rate: *rate, padding: padding, killGap: killGap, finished: 2 * time.Minute}
			v := s.run(t, seed())
			if !v.OK {
				t.Error("the checker found faults")
			}
			wantSeen(t, v, s.messages, "cuts", "kills", "duplicates")
			if name == "scripted" {
				wantSeen(t, v, s.messages, "refused")
			}
			if v.number(t, "in gaps") != 0 {
				t.Error("there was room for everything, and messages are in gap records")
			}
			if n := v.number(t, "dead letters"); n != 3*(s.messages/3/50) {
				t.Errorf("%d dead letters, and each producer has one in 50 messages denied", n)
			}
		})
	}
}

// TestFull: while the cloud is away more comes than there is room for, through
// kills. What gives way is counted, all of it.
func TestFull(t *testing.T) {
	t.Parallel()
	small := map[string]string{"buffer.max_size": `"1MiB"`}
	s := scene{
		cloud: scripted, gateway: newAgent(small), messages: 1500, rate: 50, padding: 2000, away: true,
		killGap: 3 * time.Second, finished: 2 * time.Minute,
	}
	v := s.run(t, seed())
	if !v.OK {
		t.Error("the checker found faults")
	}
	wantSeen(t, v, s.messages, "kills")
	counted, missing := v.number(t, "in gaps"), s.messages-v.number(t, "taken")-v.number(t, "dead letters")
	if missing < s.messages/10 {
		t.Errorf("%d messages are missing: the buffer was not full", missing)
	}
	// One that its producer repeated is two in the queue. A kill between the gap
	// record and the drop counts the messages of one segment again: too many are
	// said to be lost then, never too few.
	const segment = (256 << 10) / 2000
	if most := missing + v.number(t, "repeated") + segment*v.number(t, "kills"); counted > most {
		t.Errorf("%d messages are in gap records, and at most %d gave way", counted, most)
	}
}

// TestDeniedAndCut: a server that cuts whoever published what it denies does
// not hold up all other messages with a denied one.
func TestDeniedAndCut(t *testing.T) {
	t.Parallel()
	s := scene{cloud: scriptedCutting, gateway: newAgent(nil), messages: 300, rate: 50, padding: padding, finished: time.Minute}
	v := s.run(t, seed())
	if !v.OK {
		t.Error("the checker found faults")
	}
	wantSeen(t, v, s.messages, "cuts", "dead letters")
}

// wantSeen holds the scene to what it is for: all was acknowledged, and the
// faults did happen.
func wantSeen(t *testing.T, v verdict, messages int, faults ...string) {
	t.Helper()
	if n := v.number(t, "acknowledged"); n != messages/3*3 {
		t.Errorf("%d of %d messages were acknowledged", n, messages)
	}
	for _, fault := range faults {
		if v.number(t, fault) < 2 {
			t.Errorf("the scene has %d %s", v.number(t, fault), fault)
		}
	}
}

// TestBridge is the negative control: the same scene with what gateways use
// today, mosquitto with a bridge at its defaults, which acknowledges what it
// keeps in memory only.
func TestBridge(t *testing.T) {
	t.Parallel()
	s := scene{cloud: scripted, gateway: newBridge(), messages: 1200, rate: 40, padding: padding, killGap: 2 * time.Second, finished: 2 * time.Minute}
	v := s.run(t, seed())
	if v.OK || v.number(t, "lost") == 0 {
		t.Error("a bridge at its defaults was killed with messages that it had acknowledged, and the checker saw no loss")
	}
	wantSeen(t, v, s.messages, "cuts", "kills")
}
