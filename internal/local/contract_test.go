package local

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/jitr-agent/jitr-agent/pkg/buffer"
)

// cat joins what is written byte by byte.
func cat(parts ...[]byte) (all []byte) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// TestContract sends one thing each and looks at the answer: every row of the
// contract on the local MQTT, and what MQTT itself forbids.
func TestContract(t *testing.T) {
	long := strings.Repeat("x", 300)
	text := func(prop byte, s string) []byte { return cat([]byte{prop}, str(s)) }
	with := func(props ...[]byte) []byte {
		return packet(0x32, str("telemetry/x"), u16(7), properties(props...), []byte("1"))
	}
	for _, test := range []struct {
		name    string
		version byte
		send    []byte
		want    string // the answer, as hex; or
		code    byte   // the reason code of a PUBACK (0xFF: none is given), or
		end     byte   // that of a DISCONNECT (0xFF: the connection just ends)
		kept    int    // messages that the buffer has then
		refused string // what Refused is told
	}{
		{name: "QoS 1", version: v5, send: publish(v5, "telemetry/x", 7, "1"), want: "4002 0007", kept: 1},
		{name: "QoS 1", version: v311, send: publish(v311, "telemetry/x", 7, "1"), want: "4002 0007", kept: 1},
		{name: "QoS 0", version: v5, send: publish(v5, "telemetry/x", 0, "1"), kept: 1},
		{name: "QoS 0", version: v311, send: publish(v311, "telemetry/x", 0, "1"), kept: 1},
		{name: "no payload", version: v311, send: publish(v311, "telemetry/x", 7, ""), want: "4002 0007", kept: 1},
		{name: "retain and DUP are ignored", version: v5, send: packet(0x3B, str("telemetry/x"), u16(7), []byte{0}), want: "4002 0007", kept: 1},
		{name: "seven segments of its own", version: v5, send: publish(v5, "telemetry/1/2/3/4/5/6", 7, ""), want: "4002 0007", kept: 1},
		{name: "the longest payload", version: v311, send: publish(v311, "telemetry/x", 7, strings.Repeat("x", 127<<10)), want: "4002 0007", kept: 1},

		{name: "another topic", version: v5, send: publish(v5, "dt/x", 7, "1"), code: 0x90, refused: "me|dt/x|local programs publish to telemetry/<one or more segments>"},
		{name: "another topic", version: v311, send: publish(v311, "dt/x", 7, "1"), end: 0xFF, refused: "me|dt/x|local programs publish to telemetry/<one or more segments>"},
		{name: "another topic, QoS 0", version: v5, send: publish(v5, "dt/x", 0, "1"), refused: "me|dt/x|local programs publish to telemetry/<one or more segments>"},
		{name: "another topic, QoS 0", version: v311, send: publish(v311, "dt/x", 0, "1"), end: 0xFF, refused: "me|dt/x|local programs publish to telemetry/<one or more segments>"},
		{name: "agent/status", version: v5, send: publish(v5, "agent/status", 7, "1"), code: 0x90, refused: "me|agent/status|local programs publish to telemetry/<one or more segments>"},
		{name: "no segment", version: v5, send: publish(v5, "telemetry/", 7, "1"), code: 0x90, refused: "me|telemetry/|local programs publish to telemetry/<one or more segments>"},
		{name: "no segment", version: v5, send: publish(v5, "telemetry", 7, "1"), code: 0x90, refused: "me|telemetry|local programs publish to telemetry/<one or more segments>"},
		{name: "a wildcard", version: v5, send: publish(v5, "telemetry/+", 7, "1"), code: 0x90, refused: "me|telemetry/+|a topic to publish to has no wildcards"},
		{name: "too many segments", version: v5, send: publish(v5, "telemetry/1/2/3/4/5/6/7", 7, ""), code: 0x90, refused: "me|telemetry/1/2/3/4/5/6/7|the topic has 9 segments in the cloud; AWS IoT Core takes 8"},
		{name: "too many segments", version: v311, send: publish(v311, "telemetry/1/2/3/4/5/6/7", 7, ""), end: 0xFF, refused: "me|telemetry/1/2/3/4/5/6/7|the topic has 9 segments in the cloud; AWS IoT Core takes 8"},
		{name: "too long a topic", version: v5, send: publish(v5, "telemetry/"+long, 7, ""), code: 0x90, refused: "me|telemetry/" + long[:256-len("telemetry/")] + "…|the topic has 308 bytes in the cloud; AWS IoT Core takes 256"},
		{name: "a control character", version: v5, send: publish(v5, "telemetry/\x07", 7, ""), code: 0x90, refused: `me|"telemetry/\a"|the topic has a control character`},

		{name: "QoS 2", version: v5, send: packet(0x34, str("telemetry/x"), u16(7), []byte{0}), end: 0x9B, refused: "me||there is no QoS 2 here; publish with QoS 1"},
		{name: "QoS 2", version: v311, send: packet(0x34, str("telemetry/x"), u16(7)), end: 0xFF, refused: "me||there is no QoS 2 here; publish with QoS 1"},
		{name: "too large a payload", version: v5, send: publish(v5, "telemetry/x", 7, strings.Repeat("x", 127<<10+1)), end: 0x95, refused: "me|telemetry/x|a message of 130049 bytes is too large; it can have 130048"},
		{name: "too large a payload", version: v311, send: publish(v311, "telemetry/x", 7, strings.Repeat("x", 127<<10+1)), end: 0xFF, refused: "me|telemetry/x|a message of 130049 bytes is too large; it can have 130048"},
		{name: "a packet of 256 MB, announced", version: v5, send: []byte{0x32, 0xFF, 0xFF, 0xFF, 0x7F}, end: 0x95, refused: "me||a packet of 268435455 bytes is too large; it can have 130560"},
		{name: "a packet of 200 KB", version: v5, send: publish(v5, "telemetry/x", 7, strings.Repeat("x", 200<<10)), end: 0x95, refused: "me||a packet of 204816 bytes is too large; it can have 130560"},
		{name: "a large SUBSCRIBE", version: v5, send: subscribe(v5, 7, 0, strings.Repeat("x", 60000)), end: 0x95, refused: "me||a packet of 60006 bytes is too large; it can have 16384"},

		{name: "properties", version: v5, send: with([]byte{1, 1}, []byte{2, 0, 0, 0, 9}, text(3, "t"), text(8, "r"), text(9, "c"), cat([]byte{38}, str("a"), str("b"))), want: "4002 0007", kept: 1},
		{name: "text that is none", version: v5, send: packet(0x32, str("telemetry/x"), u16(7), properties([]byte{1, 1}), []byte{0xFF}), code: 0x99, refused: "me|telemetry/x|the payload is said to be text, and is not UTF-8"},
		{name: "a long response topic", version: v5, send: with(text(8, long)), code: 0x90, refused: "me|telemetry/x|the response topic cannot be used: the topic has 300 bytes in the cloud; AWS IoT Core takes 256"},
		{name: "a response topic with wildcards", version: v5, send: with(text(8, "a/+")), end: 0x82},
		{name: "a topic alias", version: v5, send: with([]byte{35, 0, 1}), end: 0x94},
		{name: "a property twice", version: v5, send: with(text(3, "t"), text(3, "t")), end: 0x82},
		{name: "a property of another packet", version: v5, send: with([]byte{33, 0, 1}), end: 0x82},
		{name: "an unknown property", version: v5, send: with([]byte{0x7F}), end: 0x82},
		{name: "a property that runs over its end", version: v5, send: packet(0x32, str("telemetry/x"), u16(7), []byte{3, 3, 0, 9}, []byte("123456789")), end: 0x81},
		{name: "properties longer than the packet", version: v5, send: packet(0x32, str("telemetry/x"), u16(7), []byte{99}), end: 0x81},
		{name: "payload format 2", version: v5, send: with([]byte{1, 2}), end: 0x82},

		{name: "a topic that is no UTF-8", version: v5, send: publish(v5, "telemetry/\xFF", 7, ""), end: 0x81},
		{name: "a topic with NUL", version: v5, send: publish(v5, "telemetry/\x00", 7, ""), end: 0x81},
		{name: "a topic longer than the packet", version: v5, send: packet(0x32, u16(99), []byte("telemetry")), end: 0x81},
		{name: "no packet id", version: v5, send: packet(0x32, str("telemetry/x"), u16(0), []byte{0}), end: 0x82},
		{name: "an empty PUBLISH", version: v5, send: []byte{0x30, 0}, end: 0x81},
		{name: "QoS 3", version: v5, send: packet(0x36, str("telemetry/x"), u16(7), []byte{0}), end: 0x81},
		{name: "QoS 0 with DUP", version: v5, send: packet(0x38, str("telemetry/x"), []byte{0}), end: 0x81},
		{name: "a length of five bytes", version: v5, send: []byte{0x32, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F}, end: 0x81},

		{name: "PINGREQ", version: v5, send: []byte{0xC0, 0}, want: "d000"},
		{name: "DISCONNECT", version: v5, send: []byte{0xE0, 0}, end: 0xFF},
		{name: "a second CONNECT", version: v5, send: connect(v5, "me"), end: 0x82},
		{name: "a CONNACK", version: v5, send: []byte{0x20, 2, 0, 0}, end: 0x82},
		{name: "a PUBREC", version: v5, send: []byte{0x50, 2, 0, 1}, end: 0x82},
		{name: "AUTH", version: v5, send: []byte{0xF0, 0}, end: 0x82},
		{name: "type 0", version: v5, send: []byte{0, 0}, end: 0x82},
		{name: "PINGREQ with flags", version: v5, send: []byte{0xC1, 0}, end: 0x81},
		{name: "a PUBACK of nothing", version: v5, send: []byte{0x40, 2, 0, 9}},
		{name: "half a PUBACK", version: v5, send: []byte{0x40, 1, 0}, end: 0x81},

		{name: "SUBSCRIBE", version: v5, send: subscribe(v5, 7, 1, "telemetry/#", "telemetry/+/x", "agent/status", "telemetry/a"), want: "9007 0007 00 01010101"},
		{name: "SUBSCRIBE", version: v311, send: subscribe(v311, 7, 1, "telemetry/#"), want: "9003 0007 01"},
		{name: "SUBSCRIBE at QoS 2", version: v5, send: subscribe(v5, 7, 2, "telemetry/#"), want: "9004 0007 00 01"},
		{name: "SUBSCRIBE to others", version: v5, send: subscribe(v5, 7, 0, "dt/x"), want: "9004 0007 00 87", refused: "me|dt/x|local programs subscribe to telemetry/…, agent/status"},
		{name: "SUBSCRIBE to others", version: v311, send: subscribe(v311, 7, 0, "dt/x"), want: "9003 0007 80", refused: "me|dt/x|local programs subscribe to telemetry/…, agent/status"},
		{name: "SUBSCRIBE to all", version: v5, send: subscribe(v5, 7, 0, "#"), want: "9004 0007 00 87", refused: "me|#|local programs subscribe to telemetry/…, agent/status"},
		{name: "SUBSCRIBE to some of each", version: v5, send: subscribe(v5, 7, 0, "telemetry/a", "telemetry/#/x"), want: "9005 0007 00 00 8f", refused: "me|telemetry/#/x|the topic filter is not a valid one"},
		{name: "a shared subscription", version: v5, send: subscribe(v5, 7, 0, "$share/g/telemetry/#"), want: "9004 0007 00 9e", refused: "me|$share/g/telemetry/#|there are no shared subscriptions here"},
		{name: "a subscription identifier", version: v5, send: packet(0x82, u16(7), []byte{2, 11, 1}, str("telemetry/#"), []byte{0}), end: 0xA1},
		{name: "SUBSCRIBE without options", version: v5, send: packet(0x82, u16(7), []byte{0}, str("telemetry/#")), end: 0x81},
		{name: "SUBSCRIBE to nothing", version: v5, send: packet(0x82, u16(7), []byte{0}), end: 0x82},
		{name: "SUBSCRIBE without id", version: v5, send: subscribe(v5, 0, 0, "telemetry/#"), end: 0x82},
		{name: "SUBSCRIBE at QoS 3", version: v311, send: subscribe(v311, 7, 3, "telemetry/#"), end: 0xFF},
		{name: "SUBSCRIBE with wrong flags", version: v5, send: packet(0x80, u16(7), []byte{0}, str("telemetry/#"), []byte{0}), end: 0x81},
		{name: "UNSUBSCRIBE", version: v5, send: packet(0xA2, u16(7), []byte{0}, str("telemetry/#")), want: "b004 0007 00 11"},
		{name: "UNSUBSCRIBE", version: v311, send: packet(0xA2, u16(7), str("telemetry/#")), want: "b002 0007"},
		{name: "UNSUBSCRIBE from nothing", version: v5, send: packet(0xA2, u16(7), []byte{0}), end: 0x82},
	} {
		t.Run(test.name+map[byte]string{v311: ", 3.1.1", v5: ", 5"}[test.version], func(t *testing.T) {
			r := start(t)
			p := r.client(test.version, "me")
			p.send(test.send)
			switch {
			case test.want != "":
				p.expect(test.want)
			case test.code != 0:
				p.expectReason(0x40, 4, test.code)
			case test.end == 0xFF:
				p.expectEnd(0)
			case test.end != 0:
				p.expectEnd(test.end)
			}
			if test.end == 0 {
				p.expectAlive()
			}
			if test.refused != "" {
				if got := <-r.refused; got != test.refused {
					t.Errorf("Refused is told %q, want %q", got, test.refused)
				}
			}
			if messages, _ := r.take(); len(messages) != test.kept {
				t.Errorf("the buffer has %d messages, want %d", len(messages), test.kept)
			}
		})
	}
}

// TestConnect: which CONNECT is accepted, and with what.
func TestConnect(t *testing.T) {
	full := func(version, flags byte, keepAlive int, rest ...[]byte) []byte {
		return packet(0x10, append([][]byte{str("MQTT"), {version, flags}, u16(keepAlive)}, rest...)...)
	}
	// Receive Maximum 100, Maximum QoS 1, Maximum Packet Size 127.5 KiB, no
	// subscription identifiers, no shared subscriptions.
	const limits = "210064 2401 270001fe00 2900 2a00"
	for _, test := range []struct {
		name string
		send []byte
		want string // hex; empty: closed without an answer
		ends bool   // after the answer
	}{
		{"3.1.1", connect(v311, "a"), "2002 0000", false},
		{"5", connect(v5, "a"), "2011 0000 0e" + limits, false},
		{"3.1.1 without id", connect(v311, ""), "2002 0000", false},
		{"3.1.1 with a session", full(v311, 0, 60, str("a")), "2002 0000", false},
		{"3.1.1 with a session, without id", full(v311, 0, 60, str("")), "2002 0002", true},
		{"5 with a session", full(v5, 0, 60, properties([]byte{17, 0, 0, 1, 0}), str("a")), "2016 0000 13 1100000000" + limits, false},
		{"user name and password", full(v311, 0xC2, 60, str("a"), str("user"), str("secret")), "2002 0000", false},
		{"an empty password", full(v311, 0xC2, 60, str("a"), str("user"), str("")), "2002 0000", false},
		{"a will", full(v311, 0x2E, 60, str("a"), str("telemetry/will"), str("x")), "2002 0000", false},
		{"a will without payload", full(v5, 0x26, 60, []byte{0}, str("a"), []byte{0}, str("telemetry/will"), str("")), "2011 0000 0e" + limits, false},
		{"3.1", packet(0x10, str("MQIsdp"), []byte{3, 2, 0, 60}, str("a")), "2002 0001", true},
		{"MQTT 3", full(3, 2, 60, str("a")), "2002 0001", true},
		{"MQTT 6", full(6, 2, 60, []byte{0}, str("a")), "2003 0084 00", true},
		{"MQTT 5 with authentication", full(v5, 2, 60, properties(cat([]byte{21}, str("x"))), str("a")), "2003 008c 00", true},
		{"MQTT 5 with a reserved flag", full(v5, 3, 60, []byte{0}, str("a")), "2003 0081 00", true},
		{"MQTT 5 with a property of another packet", full(v5, 2, 60, properties([]byte{36, 1}), str("a")), "2003 0081 00", true},
		{"MQTT 5, cut short", full(v5, 2, 60, []byte{0}), "2003 0085 00", true},
		{"too long an id", connect(v311, strings.Repeat("x", 257)), "2002 0002", true},
		{"another protocol", packet(0x10, str("HTTP"), []byte{4, 2, 0, 60}, str("a")), "2002 0001", true},
		{"3.1.1, cut short", full(v311, 2, 60), "2002 0002", true},
		{"a PUBLISH first", publish(v311, "telemetry/x", 0, "1"), "", true},
		{"HTTP", []byte("GET / HTTP/1.1\r\n\r\n"), "", true},
		{"a long CONNECT", full(v311, 0xC2, 60, str("a"), str("user"), str(strings.Repeat("x", 17000))), "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := start(t)
			p := r.dial()
			p.send(test.send)
			if test.want != "" {
				p.expect(test.want)
			}
			if test.ends {
				p.expectEnd(0)
				return
			}
			p.expectAlive()
			if got := r.Status().Clients; got != 1 {
				t.Errorf("%d clients, want 1", got)
			}
		})
	}

	t.Run("5 without id", func(t *testing.T) {
		r := start(t)
		p, q := r.dial(), r.dial()
		p.send(connect(v5, ""))
		q.send(connect(v5, ""))
		a, b := string(p.packet()), string(q.packet())
		if !strings.Contains(a, "\x12\x00\x1fauto-") || a == b {
			t.Errorf("the CONNACKs are %q and %q; an id should be assigned to each", a, b)
		}
	})
}

// TestForwarded: what the cloud gets of a message.
func TestForwarded(t *testing.T) {
	r := start(t)
	p := r.client(v5, "me")
	user := func(name, value string) []byte { return cat([]byte{38}, str(name), str(value)) }
	p.send(packet(0x32, str("telemetry/x/y"), u16(1), properties(
		[]byte{1, 1}, []byte{2, 0, 0, 1, 0}, cat([]byte{3}, str("text/plain")),
		user("b", "1"), user("stream", "mine"), user("a", "2"), user("seq", "mine"), user("b", "3"),
		cat([]byte{8}, str("reply/here")), cat([]byte{9}, str("\x00\xFF"))), []byte("payload")),
		packet(0x32, str("telemetry/z"), u16(2), properties([]byte{2, 0, 0, 0, 0}), []byte{0, 0xFF}))
	p.expect("4002 0001")
	p.expect("4002 0002")
	got, _ := r.take()
	want := []buffer.Message{
		{
			Topic: "dt/gw-1/x/y", Payload: []byte("payload"), ContentType: "text/plain", ResponseTopic: "reply/here",
			CorrelationData: []byte{0, 0xFF}, UserProperties: [][2]string{{"b", "1"}, {"a", "2"}, {"b", "3"}}, Text: true, Expiry: 256,
		},
		// An expiry of 0 would be none to the buffer.
		{Topic: "dt/gw-1/z", Payload: []byte{0, 0xFF}, Expiry: 1},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestMapped: what the configured topic makes of a local one can be refused
// as well.
func TestMapped(t *testing.T) {
	for _, test := range []struct {
		to   string
		err  error
		code byte
	}{
		{to: "$aws/rules/r/x", code: 0x90},
		{to: "", code: 0x90},
		{to: "a/#", code: 0x90},
		{to: strings.Repeat("x", 257), code: 0x90},
		{err: errors.New("there is no thing name yet"), code: 0x83},
	} {
		r := start(t, func(c *Config) { c.Map = func(string) (string, error) { return test.to, test.err } })
		p := r.client(v5, "me")
		p.send(publish(v5, "telemetry/x", 7, "1"))
		p.expectReason(0x40, 4, test.code)
		if messages, _ := r.take(); len(messages) > 0 || r.Status().Refused != 1 {
			t.Errorf("%q: %d messages kept, %d refused", test.to, len(messages), r.Status().Refused)
		}
	}
}

// TestRefusedOnce: a client that does not learn does not fill the journal.
func TestRefusedOnce(t *testing.T) {
	r := start(t)
	for range 3 {
		for _, id := range []string{"a", "b", ""} {
			p := r.client(v311, id)
			p.send(publish(v311, "dt/x", 1, ""))
			p.expectEnd(0)
		}
	}
	// Nor does one without an id that has many topics, or one that has them long
	// or with what a terminal takes for a command.
	p := r.client(v5, "")
	for i := range 5 {
		p.send(publish(v5, fmt.Sprint("dt/", i), 1, ""))
		p.expectReason(0x40, 4, 0x90)
	}
	p = r.client(v5, "\x1b[31m")
	p.send(publish(v5, "\u009b2J"+strings.Repeat("é", 1000), 1, ""))
	p.expectReason(0x40, 4, 0x90)
	close(r.refused)
	var got []string
	for line := range r.refused {
		got = append(got, line[:strings.LastIndex(line, "|")])
	}
	want := []string{
		"a|dt/x", "b|dt/x", "auto|dt/x",
		"auto|dt/0",
		`"\x1b[31m"|"\u009b2J` + strings.Repeat("é", 126) + `…"`,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
	if got := r.Status().Refused; got != 15 {
		t.Errorf("%d refused, want 15", got)
	}
}

// TestReasons: a client of MQTT 5 is told why, unless it does not want to know
// or has no room for it.
func TestReasons(t *testing.T) {
	for _, test := range []struct {
		name  string
		props []byte
		told  bool
	}{
		{"told", nil, true},
		{"no problem information", []byte{23, 0}, false},
		{"small packets", []byte{39, 0, 0, 0, 20}, false},
	} {
		r := start(t)
		p := r.dial()
		p.send(packet(0x10, str("MQTT"), []byte{v5, 2, 0, 60}, properties(test.props), str("a")))
		if ack := p.packet(); ack[3] != 0 {
			t.Fatalf("%s: CONNACK % x", test.name, ack)
		}
		p.send(publish(v5, "dt/x", 7, ""))
		got := p.packet()
		if got[4] != 0x90 || strings.Contains(string(got), "local programs publish to") != test.told {
			t.Errorf("%s: PUBACK %q", test.name, got)
		}
	}
}
