package local

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestMatches(t *testing.T) {
	for _, test := range []struct {
		filter, topic string
		want          bool
	}{
		{"telemetry/#", "telemetry/a", true},
		{"telemetry/#", "telemetry/a/b/c", true},
		{"telemetry/#", "telemetry", true},
		{"telemetry/#", "telemetri/a", false},
		{"telemetry/+", "telemetry/a", true},
		{"telemetry/+", "telemetry/", true},
		{"telemetry/+", "telemetry/a/b", false},
		{"telemetry/+", "telemetry", false},
		{"telemetry/+/b", "telemetry/a/b", true},
		{"telemetry/+/b", "telemetry/a/c", false},
		{"telemetry/+/#", "telemetry/a", true},
		{"telemetry/+/#", "telemetry", false},
		{"telemetry/a", "telemetry/a", true},
		{"telemetry/a", "telemetry/a/", false},
		{"telemetry/a/", "telemetry/a", false},
		{"telemetry/a", "telemetry/ab", false},
	} {
		if got := matches(test.filter, test.topic); got != test.want {
			t.Errorf("%q and %q: %v", test.filter, test.topic, got)
		}
	}
	for filter, want := range map[string]bool{
		"a": true, "a/#": true, "#": true, "+": true, "+/a/+": true, "a/": true, "/": true,
		"a#": false, "a/#/b": false, "a+": false, "a/+b": false, "#/": false, "##": false,
	} {
		if got := validFilter(filter); got != want {
			t.Errorf("%q is valid: %v", filter, got)
		}
	}
}

// TestEcho: a local publish reaches the local subscribers, as it was sent, at
// the smaller QoS.
func TestEcho(t *testing.T) {
	r := start(t)
	p, old, silent := r.client(v5, "a"), r.client(v311, "b"), r.client(v5, "c")
	p.send(subscribe(v5, 1, 0|4, "telemetry/#"), subscribe(v5, 2, 0, "telemetry/mine")) // bit 4: not its own
	p.expect("9004 0001 00 00")
	p.expect("9004 0002 00 00")
	old.send(subscribe(v311, 1, 1, "telemetry/+", "telemetry/#"))
	old.expect("9004 0001 0101")

	props := cat([]byte{1, 1}, []byte{2, 0, 0, 0, 9}, cat([]byte{3}, str("t")), cat([]byte{8}, str("r")), cat([]byte{9}, str("c")), []byte{38}, str("a"), str("b"))
	message := packet(0x32, str("telemetry/x"), u16(7), properties(props), []byte("payload"))
	silent.send(message)
	silent.expect("4002 0007")
	if got, want := p.packet(), packet(0x30, str("telemetry/x"), properties(props), []byte("payload")); !bytes.Equal(got, want) {
		t.Errorf("got  % x\nwant % x", got, want)
	}
	if got, want := old.packet(), packet(0x32, str("telemetry/x"), u16(1), []byte("payload")); !bytes.Equal(got, want) {
		t.Errorf("got  % x\nwant % x", got, want)
	}
	old.send([]byte{0x40, 2, 0, 1})

	p.send(publish(v5, "telemetry/x", 0, "1"), publish(v5, "telemetry/mine", 0, "2"))
	if got, want := p.packet(), publish(v5, "telemetry/mine", 0, "2"); !bytes.Equal(got, want) {
		t.Errorf("got  % x\nwant % x", got, want)
	}
	for _, want := range [][]byte{publish(v311, "telemetry/x", 0, "1"), publish(v311, "telemetry/mine", 0, "2")} {
		if got := old.packet(); !bytes.Equal(got, want) {
			t.Errorf("got  % x\nwant % x", got, want)
		}
	}
	// What is not kept is not passed on.
	silent.send(publish(v5, "wrong", 0, "3"))

	old.send(packet(0xA2, u16(2), str("telemetry/#"), str("telemetry/+")))
	old.expect("b002 0002")
	silent.send(publish(v5, "telemetry/x", 8, "4"))
	silent.expect("4002 0008")
	old.expectAlive()
	silent.expectAlive()
}

// TestRetained: the agent's own topics come at once to who subscribes, the
// latest value only.
func TestRetained(t *testing.T) {
	r := start(t)
	r.Publish("agent/status", []byte("1"), true)
	r.Publish("agent/status", []byte("2"), true)
	r.Publish("telemetry/never", []byte("not kept"), true)
	p, old := r.client(v5, "a"), r.client(v311, "b")
	old.send(subscribe(v311, 1, 1, "agent/status", "telemetry/#"))
	old.expect("9004 0001 0101")
	if got, want := old.packet(), packet(0x33, str("agent/status"), u16(1), []byte("2")); !bytes.Equal(got, want) {
		t.Errorf("got % x, want % x", got, want)
	}
	for _, test := range []struct {
		options  byte
		replayed bool
	}{{0x20, false}, {0x10, false}, {0x00, true}} { // never; if new, which it is not any more; always
		p.send(subscribe(v5, 1, test.options, "agent/status"))
		p.expect("9004 0001 00 00")
		if test.replayed {
			if got, want := p.packet(), packet(0x31, str("agent/status"), []byte{0}, []byte("2")); !bytes.Equal(got, want) {
				t.Errorf("got % x, want % x", got, want)
			}
		}
		p.expectAlive()
	}
	r.Publish("agent/status", []byte("3"), true)
	if got, want := p.packet(), publish(v5, "agent/status", 0, "3"); !bytes.Equal(got, want) {
		t.Errorf("got % x, want % x", got, want)
	}
}

// TestSubscriptionLimit: 50, of whatever kind; the same again is no other.
func TestSubscriptionLimit(t *testing.T) {
	r := start(t)
	p := r.client(v5, "a")
	for i := range maxSubscriptions {
		p.send(subscribe(v5, 1, 0, fmt.Sprint("telemetry/", i)))
		p.expect("9004 0001 00 00")
	}
	p.send(subscribe(v5, 1, 0, "telemetry/more", "telemetry/0"))
	p.expect("9005 0001 00 97 00")
}

// TestDeliveryWindow: at QoS 1 a client gets as many at a time as it takes, and
// only what is short enough for it.
func TestDeliveryWindow(t *testing.T) {
	r := start(t)
	p := r.dial()
	p.send(packet(0x10, str("MQTT"), []byte{v5, 2, 0, 60}, properties([]byte{33, 0, 2}, []byte{39, 0, 0, 0, 40}), str("a")))
	p.packet()
	p.send(subscribe(v5, 1, 1, "agent/status"))
	p.expect("9004 0001 00 01")
	for i := range 4 {
		r.Publish("agent/status", []byte{byte('a' + i)}, false)
		r.Publish("agent/status", bytes.Repeat([]byte("x"), 40), false) // too long for it
	}
	var ids []byte // of those without PUBACK
	for i := range 4 {
		got := p.packet()
		if want := publish(v5, "agent/status", int(got[17]), string(rune('a'+i))); !bytes.Equal(got, want) {
			t.Errorf("got % x, want % x", got, want)
		}
		if ids = append(ids, got[17]); len(ids) == 2 { // two at a time
			p.expectAlive()
			p.send(packet(0x40, u16(int(ids[0]))))
			ids = ids[1:]
		}
	}
}

// TestSlowSubscriber: who does not read loses what has QoS 0; with QoS 1 it is
// cut off. Nobody waits for it, and what it holds is bounded.
func TestSlowSubscriber(t *testing.T) {
	for qos := range byte(2) {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			r := start(t)
			slow, p := r.client(v5, "slow"), r.client(v5, "p")
			slow.send(subscribe(v5, 1, qos, "telemetry/#"))
			slow.expect(fmt.Sprintf("9004 0001 00 %02x", qos))
			large := strings.Repeat("x", 8<<10)
			for i := range 500 { // 4 MB: no socket has that
				p.send(publish(v5, "telemetry/x", 1, large))
				p.expect("4002 0001")
				if i%100 == 0 {
					r.Server.mu.Lock()
					if c := r.clients["slow"]; c != nil {
						c.mu.Lock()
						if c.queueBytes > maxQueueBytes || len(c.queue) > maxQueue {
							t.Errorf("%d messages, %d bytes wait", len(c.queue), c.queueBytes)
						}
						c.mu.Unlock()
					}
					r.Server.mu.Unlock()
				}
			}
			if messages, _ := r.take(); len(messages) != 500 {
				t.Errorf("the buffer has %d", len(messages))
			}
			n := 0
			var end []byte
			for {
				packet, err := slow.read()
				if err != nil || packet[0]>>4 != 3 {
					end = packet
					break
				}
				n++
				if qos == 0 && n == 1 {
					slow.send([]byte{0xC0, 0}) // its answer ends the loop
				}
			}
			switch {
			case qos == 0 && (n == 0 || n == 500 || end[0] != 0xD0):
				t.Errorf("%d messages, then % x", n, end)
			case qos == 1 && (n > 20 || end == nil || end[0] != 0xE0 || end[2] != 0x97):
				t.Errorf("%d messages, then % x", n, end)
			}
		})
	}
}
