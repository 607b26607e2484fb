package mqtt

import (
	"context"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// FuzzSession: whatever bytes a server sends behind the CONNECT, the attempt
// or the session ends, with a reason, and takes little memory. That it ends is
// seen by synctest, for which all goroutines asleep are a deadlock.
func FuzzSession(f *testing.F) {
	accepted := []byte{0x20, 3, 0, 0, 0}
	f.Add([]byte(nil))
	f.Add([]byte{0x20, 3, 0, 0x87, 0})
	f.Add([]byte{0x20, 6, 0, 0, 3, 0x13, 0, 0}) // Server Keep Alive 0
	f.Add([]byte{0x20, 0xff, 0xff, 0xff, 0x7f})
	f.Add(append(accepted, 0xd0, 0))                                                                // PINGRESP
	f.Add(append(accepted, 0xe0, 2, 0x8e, 0))                                                       // DISCONNECT
	f.Add(append(accepted, 0x40, 2, 0, 1))                                                          // PUBACK
	f.Add(append(accepted, 0x90, 4, 0, 101, 0, 0x87))                                               // SUBACK
	f.Add(append(accepted, 0x32, 7, 0, 1, 'a', 0, 7, 0, 'x', 0x30, 5, 0, 1, 'b', 0, 'y'))           // PUBLISH
	f.Add(append([]byte{0x20, 9, 0, 0, 6, 0x21, 0, 1, 0x13, 0, 1}, 0x62, 2, 0, 1, 0x50, 2, 0, 200)) // PUBREL, PUBREC
	f.Fuzz(func(t *testing.T, stream []byte) {
		const limit = 32 << 20 // some frames of MaxFrame, and what a connect takes
		var before, behind runtime.MemStats
		runtime.ReadMemStats(&before)
		synctest.Test(t, func(t *testing.T) {
			client, server := net.Pipe()
			var work sync.WaitGroup
			work.Go(func() { _, _ = io.Copy(io.Discard, server) })
			work.Go(func() { _, _ = server.Write(stream) }) // fails when the client hangs up
			s, err := Connect(t.Context(), client, Config{
				ClientID: "gw-1", KeepAlive: 30 * time.Second, Stall: 20 * time.Second, OnMessage: func(string, []byte) {},
			})
			if err == nil {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				_, _ = s.Publish(ctx, Message{Topic: "t", Payload: []byte("x")})
				_, _ = s.Subscribe(ctx, []string{"a"})
				cancel()
				if s.Err() == nil {
					t.Error("a session ended without a reason")
				}
			}
			client.Close()
			server.Close()
			work.Wait()
		})
		runtime.ReadMemStats(&behind)
		if took := behind.TotalAlloc - before.TotalAlloc; took > limit+100*uint64(len(stream)) {
			t.Errorf("%d bytes of a server took %d bytes of memory", len(stream), took)
		}
	})
}
