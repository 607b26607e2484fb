package local

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// TestClientLimit: the 65th is told; a newcomer with a known id is none.
func TestClientLimit(t *testing.T) {
	r := start(t)
	all := make([]*peer, maxClients)
	for i := range all {
		all[i] = r.client(v311, fmt.Sprint("c", i))
	}
	p := r.dial()
	p.send(connect(v5, "more"))
	p.expectReason(0x20, 3, 0x97)
	p.expectEnd(0)
	p = r.dial()
	p.send(connect(v311, "more"))
	p.expect("2002 0003")
	p.expectEnd(0)
	if got := <-r.refused; got != "more||there are 64 local clients already" {
		t.Errorf("told %q", got)
	}
	p = r.client(v311, "c7")
	all[7].expectEnd(0)
	p.expectAlive()
	all[8].Close()
	eventually(t, func() error {
		if n := r.Status().Clients; n != maxClients-1 {
			return fmt.Errorf("%d clients", n)
		}
		return nil
	})
	r.client(v5, "more").expectAlive()
}

// TestCrowd: 64 clients publish, of which 8 never read: they flood the server
// with PINGREQs, subscriptions and messages of their own. The others get each
// PUBACK, and memory stays bounded. In the end nothing is left.
func TestCrowd(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	r := start(t)
	r.forget = true
	heap := heapInUse()
	var mutes, others sync.WaitGroup
	for i := range 8 {
		p := r.client(v5, fmt.Sprint("mute", i))
		mutes.Go(func() {
			flood := cat(subscribe(v5, 1, 1, "telemetry/#"), []byte{0xC0, 0}, publish(v5, "telemetry/x", 0, strings.Repeat("x", 4000)))
			for {
				if _, err := p.Write(flood); err != nil {
					return // cut off, or the end of the test
				}
			}
		})
	}
	const messages = 200
	for i := range maxClients - 8 {
		version := versions[i%2]
		p := r.client(version, fmt.Sprint("c", i))
		others.Go(func() {
			for n := range messages {
				p.send(publish(version, "telemetry/x", 1+n, "payload"))
				if got, err := p.read(); err != nil || got[0] != 0x40 || got[3] != byte(1+n) {
					t.Errorf("client %d: message %d: % x, %v", i, n, got, err)
					return
				}
			}
		})
	}
	others.Wait()
	// The bound in the package comment, for 8 clients.
	if used := heapInUse() - heap; used > 8*400<<10 {
		t.Errorf("the heap has grown by %d KiB", used>>10)
	}
	r.stop()
	mutes.Wait()
	eventually(t, func() error {
		if n := runtime.NumGoroutine(); n > goroutines {
			return fmt.Errorf("%d goroutines, %d before", n, goroutines)
		}
		return nil
	})
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestSlowSender: 60 clients announce the longest packet and send a byte of it.
// That costs what they sent, not what they announced; the next client is
// served.
func TestSlowSender(t *testing.T) {
	r := start(t)
	heap := heapInUse()
	for i := range 60 {
		p := r.client(v311, fmt.Sprint("c", i))
		p.send(publish(v311, "telemetry/x", 1, strings.Repeat("x", 100<<10))[:100])
	}
	r.client(v5, "p").expectAlive()
	if used := heapInUse() - heap; used > 64*40<<10 {
		t.Errorf("the heap has grown by %d KiB", used>>10)
	}
	if got := r.Status().Clients; got != 61 {
		t.Errorf("%d clients", got)
	}
}

// TestMuteCrowd: connections that say nothing are bounded too, and give way
// after a while.
func TestMuteCrowd(t *testing.T) {
	r := start(t)
	mutes := make([]*peer, maxClients+maxGuests+20)
	for i := range mutes {
		mutes[i] = r.dial()
	}
	p := r.dial() // the last of those that wait to be accepted
	p.send(connect(v5, "patient"))
	if ack := p.packet(); ack[3] != 0 {
		t.Errorf("CONNACK % x", ack)
	}
	ended := 0
	for _, mute := range mutes {
		if hungUp(mute.Conn) {
			ended++
		}
	}
	if ended < 20+1 {
		t.Errorf("%d are there at a time", len(mutes)+1-ended)
	}
}
