package iotcore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

const ownARN = "arn:aws:iot:us-east-1:123456789012:"

// narrow is a policy that denies something of everything.
const narrow = `{"Version":"2012-10-17","Statement":[
 {"Effect":"Allow","Action":"iot:Connect","Resource":"*"},
 {"Effect":"Allow","Action":["iot:Publish","iot:Receive"],"Resource":"` + ownARN + `topic/ok/*"},
 {"Effect":"Allow","Action":"iot:Subscribe","Resource":"` + ownARN + `topicfilter/*"}]}`

func TestConnack(t *testing.T) {
	b := start(t, Config{NoConnectRate: true})
	gw := b.accepted("gw-1", "")
	for _, tt := range []struct{ asked, granted uint16 }{{0, 1200}, {5, 30}, {30, 0}, {60, 0}, {1200, 0}, {65535, 1200}} {
		d := device{t, b.mustDial(gw)}
		d.send(connectPacket("gw-1", func(c *packets.Connect) { c.KeepAlive = tt.asked }))
		ack := read[*packets.Connack](d)
		p := ack.Properties
		if ack.ReasonCode != 0 || *p.ReceiveMaximum != 100 || *p.MaximumPacketSize != 149504 || *p.MaximumQOS != 1 || *p.TopicAliasMaximum != 8 || *p.SubIDAvailable != 0 {
			t.Errorf("CONNACK %+v", p)
		}
		granted := uint16(0)
		if p.ServerKeepAlive != nil {
			granted = *p.ServerKeepAlive
		}
		if granted != tt.granted {
			t.Errorf("keep alive %d: server keep alive %d, want %d", tt.asked, granted, tt.granted)
		}
	}
}

func TestConnectRefused(t *testing.T) {
	b := start(t, Config{})
	none := b.ca.issue(t, "no-policy")
	if _, err := b.registry.registerCertificate(none.pem(), "", statusActive, false); err != nil {
		t.Fatal(err)
	}
	refusal := func(i identity, clientID string) *packets.Connack {
		d := device{t, b.mustDial(i)}
		d.send(connectPacket(clientID))
		ack := read[*packets.Connack](d)
		d.wantClosed()
		return ack
	}
	ack := refusal(none, "no-policy")
	const text = "CONNACK:Client is not authenticated/authorized to send the message:"
	if ack.ReasonCode != 0x87 || !strings.HasPrefix(ack.Properties.ReasonString, text) || len(ack.Properties.ReasonString) != len(text)+36 {
		t.Errorf("no policy: 0x%02x %q", ack.ReasonCode, ack.Properties.ReasonString)
	}
	gw := b.accepted("gw-1", "")
	b.connect(gw, "gw-1")
	if ack := refusal(gw, "gw-1"); ack.ReasonCode != 0x97 {
		t.Errorf("second CONNECT within a second: 0x%02x", ack.ReasonCode)
	}
	if ack := refusal(gw, "$x"); ack.ReasonCode != 0x85 {
		t.Errorf("client id $x: 0x%02x", ack.ReasonCode)
	}
	d := device{t, b.mustDial(gw)}
	d.send(connectPacket(""))
	if ack := read[*packets.Connack](d); ack.ReasonCode != 0 || !strings.HasPrefix(ack.Properties.AssignedClientID, "$GEN/") {
		t.Errorf("no client id: 0x%02x %+v", ack.ReasonCode, ack.Properties)
	}
}

func readPuback(d device) byte {
	d.t.Helper()
	return read[*packets.Puback](d).ReasonCode
}

func TestConnectRateEndsAfterASecond(t *testing.T) {
	h := &hook{lastConnect: map[string]time.Time{"gw-1": time.Now().Add(-connectInterval)}}
	if !h.connectRate("gw-1") || h.connectRate("gw-1") || !h.connectRate("gw-2") {
		t.Error("not one CONNECT a second for each client id")
	}
}

func TestDuplicateClientID(t *testing.T) {
	b := start(t, Config{NoConnectRate: true})
	gw := b.accepted("gw-1", "")
	old := b.connect(gw, "gw-1")
	b.connect(gw, "gw-1")
	if d := read[*packets.Disconnect](old); d.ReasonCode != 0x8E {
		t.Errorf("DISCONNECT 0x%02x", d.ReasonCode)
	}
	old.wantClosed()
}

func TestDeniedPublish(t *testing.T) {
	b := start(t, Config{NoConnectRate: true})
	gw := b.accepted("gw-1", narrow)

	d := b.connect(gw, "gw-1")
	for i, tt := range []struct {
		topic string
		code  byte
	}{
		{"ok/x", 0},
		{"other/x", 0x87},
		{"$aws/events/certificates/registered/x", 0x87},
		{"ok/" + strings.Repeat("x", 254), 0x90},
		{"ok/1/2/3/4/5/6/7", 0},
		{"ok/1/2/3/4/5/6/7/8", 0x90},
		{"ok/y", 0}, // the session was kept
	} {
		d.publish(tt.topic, 1, uint16(i+1), "hello")
		ack := read[*packets.Puback](d)
		if ack.ReasonCode != tt.code || ack.PacketID != uint16(i+1) {
			t.Errorf("%.40s: PUBACK %d 0x%02x, want 0x%02x", tt.topic, ack.PacketID, ack.ReasonCode, tt.code)
		}
	}
	cp := packets.NewControlPacket(packets.PUBLISH)
	p := cp.Content.(*packets.Publish)
	p.Topic, p.QoS, p.PacketID, p.Retain = "ok/x", 1, 20, true
	if d.send(cp); readPuback(d) != 0x87 {
		t.Error("retain without iot:RetainPublish was accepted")
	}
	d.publish("other/x", 0, 0, "hello")
	bye := read[*packets.Disconnect](d)
	if bye.ReasonCode != 0x87 || !strings.HasPrefix(bye.Properties.ReasonString, "DISCONNECT:Client is not authenticated/authorized to send the message:") {
		t.Errorf("QoS 0: DISCONNECT 0x%02x %q", bye.ReasonCode, bye.Properties.ReasonString)
	}
	d.wantClosed()
}

// MQTT 3.1.1 is told nothing: no PUBACK, no SUBACK, and no DISCONNECT, which
// its server does not have.
func TestDeniedToMQTT311(t *testing.T) {
	b := start(t, Config{NoConnectRate: true})
	gw := b.accepted("gw-1", `{"Statement":{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}}`)
	for name, packet := range map[string]string{
		"PUBLISH QoS 0": "\x30\x04\x00\x01tx",
		"PUBLISH QoS 1": "\x32\x06\x00\x01t\x00\x01x",
		"SUBSCRIBE":     "\x82\x06\x00\x01\x00\x01t\x01",
		"QoS 2":         "\x34\x06\x00\x01t\x00\x01x",
	} {
		conn := b.mustDial(gw)
		if _, err := io.WriteString(conn, "\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04gw-1"+packet); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); err != nil || string(got) != "\x20\x02\x00\x00" {
			t.Errorf("%s: %x, %v; want the CONNACK alone, and EOF", name, got, err)
		}
	}
}

func TestDeniedByAlias(t *testing.T) {
	b := start(t, Config{})
	d := b.connect(b.accepted("gw-1", narrow), "gw-1")
	alias := func(topic string, number, id uint16) byte {
		cp := packets.NewControlPacket(packets.PUBLISH)
		p := cp.Content.(*packets.Publish)
		p.Topic, p.QoS, p.PacketID, p.Properties.TopicAlias = topic, 1, id, &number
		d.send(cp)
		return read[*packets.Puback](d).ReasonCode
	}
	if got := alias("ok/x", 1, 1); got != 0 {
		t.Errorf("set: 0x%02x", got)
	}
	if got := alias("", 1, 2); got != 0 {
		t.Errorf("use: 0x%02x", got)
	}
	if got := alias("other/x", 1, 3); got != 0x87 {
		t.Errorf("set to a denied topic: 0x%02x", got)
	}
	if got := alias("", 1, 4); got != 0x87 {
		t.Errorf("use of a denied topic: 0x%02x", got)
	}
}

// Everything that ends the session of an MQTT 5 client, with its reason code.
func TestDisconnects(t *testing.T) {
	b := start(t, Config{NoConnectRate: true, Latency: 100 * time.Millisecond})
	gw := b.accepted("gw-1", "")
	big := strings.Repeat("x", maxPayload+1)
	unknown, tooHigh := uint16(3), uint16(9)
	tests := []struct {
		name string
		do   func(d device)
		code byte
	}{
		{"QoS 2", func(d device) { d.publish("t", 2, 1, "x") }, 0x9B},
		{"payload over 128 KiB", func(d device) { d.publish("t", 1, 1, big) }, 0x95},
		{"$SYS", func(d device) { d.publish("$SYS/x", 1, 1, "x") }, 0x90},
		{"receive maximum", func(d device) {
			// In one piece: before the first PUBACK is on its way.
			var all bytes.Buffer
			for i := range uint16(150) {
				cp := packets.NewControlPacket(packets.PUBLISH)
				p := cp.Content.(*packets.Publish)
				p.Topic, p.QoS, p.PacketID, p.Payload = "t", 1, i+1, []byte("x")
				if _, err := cp.WriteTo(&all); err != nil {
					d.t.Fatal(err)
				}
			}
			if _, err := d.conn.Write(all.Bytes()); err != nil {
				d.t.Fatal(err)
			}
		}, 0x93},
		{"alias never set", func(d device) {
			cp := packets.NewControlPacket(packets.PUBLISH)
			cp.Content.(*packets.Publish).Properties.TopicAlias = &unknown
			d.send(cp)
		}, 0x94},
		{"alias over 8", func(d device) {
			cp := packets.NewControlPacket(packets.PUBLISH)
			p := cp.Content.(*packets.Publish)
			p.Topic, p.Properties.TopicAlias = "t", &tooHigh
			d.send(cp)
		}, 0x94},
		{"subscription identifier", func(d device) {
			id := 7
			cp := packets.NewControlPacket(packets.SUBSCRIBE)
			s := cp.Content.(*packets.Subscribe)
			s.PacketID, s.Properties.SubscriptionIdentifier = 1, &id
			s.Subscriptions = []packets.SubOptions{{Topic: "t"}}
			d.send(cp)
		}, 161},
		{"second CONNECT", func(d device) { d.send(connectPacket("gw-1")) }, 0x82},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := b.connect(gw, "gw-1")
			d.t = t
			tt.do(d)
			for {
				cp, err := packets.ReadPacket(d.conn)
				if err != nil {
					t.Fatal(err)
				}
				if _, ok := cp.Content.(*packets.Puback); ok {
					continue
				}
				if bye, ok := cp.Content.(*packets.Disconnect); !ok || bye.ReasonCode != tt.code {
					t.Errorf("%s, want DISCONNECT 0x%02x", cp, tt.code)
				}
				break
			}
			d.wantClosed()
		})
	}
}

func TestExactly128KiBPass(t *testing.T) {
	b := start(t, Config{})
	d := b.connect(b.accepted("gw-1", ""), "gw-1")
	d.publish("t", 1, 1, strings.Repeat("x", maxPayload))
	if ack := read[*packets.Puback](d); ack.ReasonCode != 0 {
		t.Errorf("PUBACK 0x%02x", ack.ReasonCode)
	}
}

// A hundred in flight at a round trip are the client's right.
func TestWindowOf100(t *testing.T) {
	b := start(t, Config{Latency: 20 * time.Millisecond})
	d := b.connect(b.accepted("gw-1", ""), "gw-1")
	for i := range uint16(100) {
		d.publish("t", 1, i+1, "x")
	}
	for i := range uint16(300) { // and one more for each acknowledgement
		if ack := read[*packets.Puback](d); ack.ReasonCode != 0 {
			t.Fatalf("PUBACK 0x%02x", ack.ReasonCode)
		}
		if i < 200 {
			d.publish("t", 1, 101+i, "x")
		}
	}
}

func TestSubscribe(t *testing.T) {
	b := start(t, Config{NoConnectRate: true})
	limited := `{"Statement":[{"Effect":"Allow","Action":["iot:Connect","iot:Receive"],"Resource":"*"},
	 {"Effect":"Allow","Action":"iot:Subscribe","Resource":["` + ownARN + `topicfilter/ok/*","` + ownARN + `topicfilter/$aws/*","` + ownARN + `topicfilter/$SYS/*"]}]}`
	d := b.connect(b.accepted("gw-1", limited), "gw-1")
	for _, tt := range []struct {
		filter string
		code   byte
	}{
		{"ok/+/x", 1},
		{"ok/#", 1},
		{"no/x", 0x87},
		{"#", 0x87},
		{"$SYS/#", 0x87},
		{"$aws/things/gw-1/shadow/update/delta", 1},
		{"ok/#/x", 0x8F},
		{"ok/1/2/3/4/5/6/7/8", 0x8F},
	} {
		if ack := d.subscribe(tt.filter); len(ack.Reasons) != 1 || ack.Reasons[0] != tt.code || ack.Properties.ReasonString != "" {
			t.Errorf("%s: SUBACK %x %q, want %x", tt.filter, ack.Reasons, ack.Properties.ReasonString, tt.code)
		}
	}
	if ack := d.subscribe("ok/1", "no/1", "ok/2"); !bytes.Equal(ack.Reasons, []byte{1, 0x87, 1}) {
		t.Errorf("mixed: %x", ack.Reasons)
	}
	nine := strings.Split("ok/1 ok/2 ok/3 ok/4 ok/5 ok/6 ok/7 ok/8 ok/9", " ")
	if ack := d.subscribe(nine...); !bytes.Equal(ack.Reasons, bytes.Repeat([]byte{0x97}, 9)) {
		t.Errorf("nine filters: %x", ack.Reasons)
	}
	have := 5 // the granted ones above
	for i := range maxSubscriptions {
		want := byte(1)
		if i >= maxSubscriptions-have {
			want = 0x97
		}
		if ack := d.subscribe(fmt.Sprintf("ok/n/%d", i)); ack.Reasons[0] != want {
			t.Fatalf("subscription %d: 0x%02x, want 0x%02x", i, ack.Reasons[0], want)
		}
	}
}

func TestReceive(t *testing.T) {
	b := start(t, Config{})
	d := b.connect(b.accepted("gw-1", narrow), "gw-1")
	d.subscribe("#", "deep/a/#", "other/x")
	pub := b.connect(b.accepted("operator", ""), "operator")
	// Denied ones first: what comes first is what was let through.
	for i, topic := range []string{"other/x", "deep/a", "ok/1"} {
		pub.publish(topic, 1, uint16(i+1), topic)
		if ack := read[*packets.Puback](pub); ack.ReasonCode != 0 {
			t.Errorf("the publisher was affected: 0x%02x", ack.ReasonCode)
		}
	}
	if m := d.receive(); m.Topic != "ok/1" {
		t.Errorf("received %s", m.Topic)
	}
}

func TestParentIsNotMatched(t *testing.T) {
	b := start(t, Config{})
	d := b.connect(b.accepted("gw-1", ""), "gw-1")
	d.subscribe("a/#")
	pub := b.connect(b.accepted("operator", ""), "operator")
	pub.publish("a", 1, 1, "")
	pub.publish("a/b", 1, 2, "")
	if m := d.receive(); m.Topic != "a/b" {
		t.Errorf("a/# received %s", m.Topic)
	}
}

// A client that takes few messages at a time gets all, in order, whatever it
// does with its packet ids meanwhile.
func TestOutgoingWindow(t *testing.T) {
	b := start(t, Config{})
	few := uint16(3)
	d := b.connect(b.accepted("gw-1", ""), "gw-1", func(c *packets.Connect) { c.Properties.ReceiveMaximum = &few })
	d.subscribe("t")
	pub := b.connect(b.accepted("operator", ""), "operator")
	const total = 500
	for i := range total {
		pub.publish("t", 1, uint16(i+1), fmt.Sprint(i))
		if ack := read[*packets.Puback](pub); ack.ReasonCode != 0 {
			t.Fatalf("PUBACK 0x%02x", ack.ReasonCode)
		}
	}
	var unacked []uint16
	for i := range total {
		m := read[*packets.Publish](d)
		if string(m.Payload) != fmt.Sprint(i) {
			t.Fatalf("message %d is %s", i, m.Payload)
		}
		if unacked = append(unacked, m.PacketID); len(unacked) < int(few) && i < total-1 {
			continue
		}
		// The window is used up: a PINGRESP comes before the next message.
		d.send(packets.NewControlPacket(packets.PINGREQ))
		read[*packets.Pingresp](d)
		for _, id := range unacked {
			cp := packets.NewControlPacket(packets.PUBACK)
			cp.Content.(*packets.Puback).PacketID = id
			d.send(cp)
		}
		unacked = nil
	}
}

// A client that does not read holds up nobody.
func TestDeafClient(t *testing.T) {
	b := start(t, Config{})
	deaf := b.connect(b.accepted("deaf", ""), "deaf")
	deaf.subscribe("t")
	pub := b.connect(b.accepted("operator", ""), "operator")
	payload := strings.Repeat("x", 64<<10)
	for i := range 500 { // 32 MB: more than sockets hold and than we queue
		pub.publish("t", 1, uint16(i+1), payload)
		if ack := read[*packets.Puback](pub); ack.ReasonCode != 0 {
			t.Fatalf("PUBACK 0x%02x", ack.ReasonCode)
		}
	}
}

func TestWill(t *testing.T) {
	b := start(t, Config{})
	watch := b.connect(b.accepted("operator", ""), "operator")
	watch.subscribe("ok/will", "no/will")
	for _, name := range []string{"denied", "allowed"} {
		topic := map[string]string{"denied": "no/will", "allowed": "ok/will"}[name]
		d := b.connect(b.accepted(name, narrow), name, func(c *packets.Connect) {
			c.WillFlag, c.WillTopic, c.WillMessage, c.WillProperties = true, topic, []byte(name), &packets.Properties{}
		})
		d.conn.NetConn().Close() // without DISCONNECT
	}
	if m := watch.receive(); m.Topic != "ok/will" {
		t.Errorf("will on %s", m.Topic)
	}
}

func TestShadowOverMQTT(t *testing.T) {
	b := start(t, Config{})
	d := b.connect(b.accepted("gw-1", ""), "gw-1")
	for _, prefix := range []string{"$aws/things/gw-1/shadow", "$aws/things/gw-1/shadow/name/net"} {
		d.subscribe(prefix+"/get/accepted", prefix+"/get/rejected", prefix+"/update/+", prefix+"/delete/accepted")
		request := func(verb, body string, answers ...string) {
			t.Helper()
			d.publish(prefix+"/"+verb, 1, 1, body)
			if ack := read[*packets.Puback](d); ack.ReasonCode != 0 {
				t.Fatalf("%s: PUBACK 0x%02x", verb, ack.ReasonCode)
			}
			for _, want := range answers {
				topic, text, _ := strings.Cut(want, " ")
				if m := d.receive(); m.Topic != prefix+"/"+topic || !strings.Contains(string(m.Payload), text) {
					t.Errorf("%s: %s %s, want %s", verb, m.Topic, m.Payload, want)
				}
			}
		}
		request("get", "", `get/rejected "code":404,"message":"No shadow exists with name: '`)
		request("update", `{"state":{"desired":{"a":1}},"clientToken":"tok"}`,
			`update/accepted "version":1`, `update/delta {"state":{"a":1},`, `update/documents "previous":{"state":{}`)
		request("update", `{"state":{"reported":{"a":1}},"version":9,"clientToken":"tok"}`, `update/rejected "code":409,"message":"Version conflict"`)
		request("update", `{"state":{"reported":{"a":1}},"version":1}`, `update/accepted "version":2`, `update/documents "current":{"state":{"desired":{"a":1},"reported":{"a":1}}`)
		request("get", `{"clientToken":"q"}`, `get/accepted "clientToken":"q"`)
		request("delete", "", `delete/accepted "version":2`)
	}
}

func TestFaults(t *testing.T) {
	b := start(t, Config{NoConnectRate: true})
	gw := b.accepted("gw-1", "")
	if code, _, _ := b.api("POST", "/sim/faults", `{"cutAfterConnack":true}`); code != 200 {
		t.Fatal(code)
	}
	b.connect(gw, "gw-1").wantClosed()
	if code, _, out := b.api("POST", "/sim/faults", `{"cutAfterConnack":false,"denyPublish":"init/#"}`); code != 200 || out["denyPublish"] != "init/#" {
		t.Fatal(code, out)
	}
	d := b.connect(gw, "gw-1")
	for topic, want := range map[string]byte{"init/gw-1": 0x87, "dt/gw-1": 0} {
		d.publish(topic, 1, 1, "x")
		if ack := read[*packets.Puback](d); ack.ReasonCode != want {
			t.Errorf("%s: 0x%02x", topic, ack.ReasonCode)
		}
	}
}

func TestShutdownSaysSo(t *testing.T) {
	b := start(t, Config{})
	d := b.connect(b.accepted("gw-1", ""), "gw-1")
	idle := b.mustDial(b.ca.issue(t, "idle")) // never sends CONNECT
	b.stop()
	if bye := read[*packets.Disconnect](d); bye.ReasonCode != 0x8B {
		t.Errorf("DISCONNECT 0x%02x", bye.ReasonCode)
	}
	d.wantClosed()
	if _, err := idle.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("idle connection: %v", err)
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for _, one := range []string{"(*link).run(", "(*Server).serve(", "(*Server).accept(", "(*Server).Run(", "(*store).run(", "(*activator).run("} {
		if bytes.Contains(stacks, []byte(one)) {
			t.Errorf("%s still runs", one)
		}
	}
}

func TestMatches(t *testing.T) {
	tests := []struct {
		filter, topic string
		want          bool
	}{
		{"a/b", "a/b", true}, {"a/b", "a", false}, {"a", "a/b", false},
		{"a/#", "a/b/c", true}, {"a/#", "a", false}, {"#", "a/b", true}, {"#", "$aws/x", false},
		{"+/b", "a/b", true}, {"+", "a/b", false}, {"+/+", "/b", true}, {"+/x", "$aws/x", false},
		{"$aws/#", "$aws/x", true}, {"a/+/c", "a/b/c", true}, {"a/+/c", "a/b/d", false},
	}
	for _, tt := range tests {
		if got := matches(tt.filter, tt.topic); got != tt.want {
			t.Errorf("matches(%q, %q) = %v", tt.filter, tt.topic, got)
		}
	}
}
