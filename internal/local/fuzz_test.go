package local

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/pkg/buffer"
)

// script is a connection whose client sends data and closes; what it is told
// is kept.
type script struct {
	net.Conn // nil: nothing else is called
	data     *bytes.Reader
	mu       sync.Mutex
	told     bytes.Buffer
}

func (s *script) Read(p []byte) (int, error) { return s.data.Read(p) }

func (s *script) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told.Write(p)
}
func (*script) SetReadDeadline(time.Time) error  { return nil }
func (*script) SetWriteDeadline(time.Time) error { return nil }
func (*script) Close() error                     { return nil }

// fussy keeps some messages and not others, at once or a little later.
type fussy struct {
	mu   sync.Mutex
	n    int
	kept []buffer.Message // at QoS 1
	wg   sync.WaitGroup
}

func (f *fussy) Put(_ context.Context, m buffer.Message, done func(error)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	switch {
	case f.n%5 == 4:
		return buffer.ErrTooLarge
	case f.n%5 == 3:
		return buffer.ErrClosed
	case done == nil:
		return nil
	case f.n%5 == 2:
		f.wg.Go(func() { done(errors.New("not kept")) })
	default:
		f.kept = append(f.kept, m)
		f.wg.Go(func() { done(nil) })
	}
	return nil
}

// FuzzClient sends anything. The server does not panic, hand in what no AWS IoT
// Core would take, or acknowledge more than was kept; what it says can be
// parsed.
func FuzzClient(f *testing.F) {
	for _, version := range versions {
		hello := connect(version, "me")
		f.Add(hello)
		f.Add(cat(hello, publish(version, "telemetry/x", 1, "1"), publish(version, "telemetry/y/z", 2, "2"), publish(version, "telemetry/x", 0, "3")))
		f.Add(cat(hello, subscribe(version, 1, 1, "telemetry/#", "agent/status"), publish(version, "telemetry/x", 1, "1"), []byte{0x40, 2, 0, 1}))
		f.Add(cat(hello, packet(0xA2, u16(1), none(version), str("telemetry/#")), []byte{0xC0, 0}, []byte{0xE0, 0}))
	}
	f.Add(cat(connect(v5, ""), packet(0x32, str("telemetry/x"), u16(1), properties([]byte{1, 1}, []byte{2, 0, 0, 0, 9}, cat([]byte{3}, str("t")),
		cat([]byte{8}, str("r")), cat([]byte{9}, str("c")), []byte{38}, str("a"), str("b")), []byte("1"))))
	f.Add(packet(0x10, str("MQTT"), []byte{v5, 0xF6, 0, 60}, properties([]byte{17, 0, 0, 0, 9}, []byte{33, 0, 9}, []byte{39, 0, 0, 9, 9}), str("me"),
		properties([]byte{24, 0, 0, 0, 1}), str("will"), str("payload"), str("user"), str("password")))
	f.Fuzz(func(t *testing.T, data []byte) {
		store := &fussy{}
		cfg := (&rig{t: t, refused: make(chan string, len(data)+1)}).config(t)
		cfg.Buffer, cfg.Log = store, nop
		server, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		server.Publish("agent/status", []byte("{}"), true)
		conn := &script{data: bytes.NewReader(data)}
		server.serve(t.Context(), conn)
		store.wg.Wait()

		acknowledged := parseTold(t, data, conn.told.Bytes())
		if acknowledged > len(store.kept) {
			t.Errorf("%d acknowledged, %d kept", acknowledged, len(store.kept))
		}
		for _, m := range store.kept {
			if !bytes.Contains(data, m.Payload) || cloudTopic(m.Topic) != nil || len(m.Payload) > MaxPayload {
				t.Errorf("kept: %+v", m)
			}
		}
		if n := server.Status().Clients; n != 0 || server.feed.subscribers.Load() != 0 {
			t.Errorf("%d clients are left", n)
		}
	})
}

// parseTold walks over what the server said, and counts the successful PUBACKs.
func parseTold(t *testing.T, sent, told []byte) (acknowledged int) {
	rest := bytes.NewReader(told)
	for rest.Len() > 0 {
		header, _ := rest.ReadByte() // there is one
		n, err := binary.ReadUvarint(rest)
		if err != nil || n > uint64(rest.Len()) {
			t.Fatalf("sent % x, told % x: cut short", sent, told)
		}
		body := make([]byte, n)
		_, _ = io.ReadFull(rest, body) // they are there
		if !slices.Contains([]byte{2, 3, 4, 9, 11, 13, 14}, header>>4) {
			t.Fatalf("sent % x, told % x: packet %02x", sent, told, header)
		}
		if header == 0x40 && (n == 2 || body[2] < 0x80) {
			acknowledged++
		}
	}
	return acknowledged
}
