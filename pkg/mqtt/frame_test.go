package mqtt

import (
	"bytes"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/packets"
)

// byPaho is m as paho encodes it.
func byPaho(t *testing.T, m Message, id uint16) []byte {
	t.Helper()
	properties := &packets.Properties{
		ContentType: m.ContentType, ResponseTopic: m.ResponseTopic, CorrelationData: m.CorrelationData,
	}
	if m.Text {
		properties.PayloadFormat = new(byte(1))
	}
	if m.Expiry > 0 {
		properties.MessageExpiry = &m.Expiry
	}
	for _, u := range m.UserProperties {
		properties.User = append(properties.User, packets.User{Key: u[0], Value: u[1]})
	}
	var b bytes.Buffer
	p := &packets.Publish{PacketID: id, QoS: 1, Topic: m.Topic, Payload: m.Payload, Properties: properties}
	if _, err := p.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// FuzzFrame: what we encode is what paho does, byte for byte, and takes as many
// bytes as was said before.
func FuzzFrame(f *testing.F) {
	f.Add("t", []byte("x"), "", "", []byte(nil), "", "", 0, false, uint32(0), uint16(1))
	f.Add("dt/gw-1/system", []byte(`{"a":1}`), "application/json", "r/1", []byte{0, 1}, "stream", "7", 2, true, uint32(60), uint16(100))
	f.Add("", []byte(nil), "", "", []byte{}, "", "", 1, true, uint32(1<<32-1), uint16(65535))
	for _, n := range []int{118, 119, 120, 121, 16_370, 16_380, 16_390, 70_000, 2_097_140, 2_097_150} { // about where the length grows
		f.Add("t", make([]byte, n), strings.Repeat("c", n%65_000), "", []byte(nil), "", "", 0, false, uint32(0), uint16(1))
	}
	f.Fuzz(func(t *testing.T, topic string, payload []byte, contentType, response string, correlation []byte,
		name, value string, times int, text bool, expiry uint32, id uint16,
	) {
		m := Message{topic, payload, contentType, response, correlation, nil, text, expiry}
		for range min(times, 10) {
			m.UserProperties = append(m.UserProperties, [2]string{name, value})
		}
		frame := frameOf(&m)
		if !frame.fits(0) {
			for _, s := range []string{topic, contentType, response, string(correlation), name, value} {
				if len(s) > 65_535 {
					return
				}
			}
			t.Fatal("a legal message is refused")
		}
		got, want := frame.append(nil, id), byPaho(t, m, id)
		if !bytes.Equal(got, want) {
			t.Errorf("got  %x\nwant %x", got, want)
		}
		if !frame.fits(len(got)) || frame.fits(len(got)-1) {
			t.Errorf("of a frame of %d bytes, fits says that it fits %v, and one byte less %v",
				len(got), frame.fits(len(got)), frame.fits(len(got)-1))
		}
	})
}

// A string's length has two bytes: a longer one cannot be sent, and is not cut.
func TestFieldTooLong(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 65_536)
	for name, m := range map[string]Message{
		"topic":            {Topic: long},
		"content type":     {ContentType: long},
		"response topic":   {ResponseTopic: long},
		"correlation data": {CorrelationData: []byte(long)},
		"property's name":  {UserProperties: [][2]string{{"a", "b"}, {long, ""}}},
		"property's value": {UserProperties: [][2]string{{"", long}, {"a", "b"}}},
	} {
		if f := frameOf(&m); f.fits(0) {
			t.Errorf("a %s of 65536 bytes fits", name)
		}
	}
	if f := frameOf(&Message{Topic: long[1:]}); !f.fits(0) {
		t.Error("a topic of 65535 bytes does not fit")
	}
}

func BenchmarkFrame(b *testing.B) {
	m := Message{Topic: "dt/gw-1/system", Payload: make([]byte, 200), ContentType: "application/json"}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		f := frameOf(&m)
		buf = f.append(buf[:0], 1)
	}
	b.SetBytes(int64(len(buf)))
}
