package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// Who finds all places taken waits for half of them where the peer's PUBACKs
// can be hastened, which is done once, and else for one. An interrupted wait
// takes none.
func TestPlaces(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		limit    int
		hastened bool
		waitsFor int
	}{
		{1, true, 1},
		{2, true, 1},
		{5, true, 3},
		{100, true, 50},
		{100, false, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			var p places
			hastened := 0
			p.open(tt.limit, tt.hastened)
			lost := make(chan struct{})
			for want := range tt.limit {
				if id, err := p.take(t.Context(), lost); err != nil || int(id) != want+1 {
					t.Fatalf("%+v: place %d is %d, %v", tt, want+1, id, err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := p.take(ctx, lost); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%+v: take of none = %v", tt, err)
			}

			const takers = 2
			taken := make(chan uint16, takers)
			for range takers {
				go func() {
					if id, err := p.take(t.Context(), lost); err == nil {
						taken <- id
					}
				}()
			}
			for n := 1; n <= tt.waitsFor; n++ {
				if len(taken) > 0 {
					t.Errorf("%+v: the wait ends with %d places", tt, n-1)
				}
				p.put(uint16(n))
				synctest.Wait()
				if p.hasten() {
					hastened++
				}
			}
			if want := min(takers, tt.waitsFor); len(taken) != want {
				t.Errorf("%+v: %d of %d who wait have a place", tt, len(taken), want)
			}
			if id := <-taken; id != 1 {
				t.Errorf("%+v: the place that came back first is %d; want 1", tt, id)
			}
			if want := tt.hastened && tt.waitsFor > 1; want && hastened != 1 || !want && hastened != 0 {
				t.Errorf("%+v: hastened %d times", tt, hastened)
			}
			close(lost)
			if tt.waitsFor < takers {
				return
			}
			for p.free > 0 {
				if _, err := p.take(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := p.take(t.Context(), lost); !errors.Is(err, ErrLost) {
				t.Errorf("%+v: take when the session is over = %v", tt, err)
			}
		})
	}
}

// wrapped is a connection in a wrapper of somebody else's.
type wrapped struct{ net.Conn }

func (w wrapped) NetConn() net.Conn { return w.Conn }

// The socket is found below TLS and wrappers, and takes the option; what has
// none is not mistaken for one.
func TestHastener(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	pipe, other := net.Pipe()
	defer pipe.Close()
	defer other.Close()
	h := newHastener(tls.Client(wrapped{conn}, &tls.Config{}))
	if h == nil {
		t.Fatal("no socket is found below TLS")
	}
	begin := time.Now()
	h.hasten()
	if took := time.Since(begin); took < gathering {
		t.Errorf("PUBACKs had %s to gather; want %s", took, gathering)
	}
	h.close()
	h.hasten() // which neither waits for ever nor harms
	if newHastener(tls.Client(wrapped{pipe}, &tls.Config{})) != nil {
		t.Error("a pipe passes for a socket")
	}
}
