package local

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jitr-agent/jitr-agent/pkg/buffer"
)

// pipe is a server whose clients come over pipes, for tests on virtual time.
type pipe struct {
	*Server
	*store
	ctx  context.Context //nolint:containedctx // of the test
	stop context.CancelFunc
	wg   sync.WaitGroup
}

func newPipe(t *testing.T) *pipe {
	p := &pipe{store: newStore()}
	r := &rig{store: p.store, t: t, refused: make(chan string, 1000)}
	server, err := New(r.config(t))
	if err != nil {
		t.Fatal(err)
	}
	p.Server = server
	p.ctx, p.stop = context.WithCancel(t.Context())
	t.Cleanup(func() { p.stop(); p.wg.Wait() })
	return p
}

// dial gives the other end of a connection, and a channel that is closed when
// the server has done with it.
func (p *pipe) dial(t *testing.T) (conn net.Conn, ended chan struct{}) {
	ours, theirs := net.Pipe()
	ended = make(chan struct{})
	p.wg.Go(func() {
		defer close(ended)
		p.serve(p.ctx, theirs)
	})
	t.Cleanup(func() { ours.Close() })
	return ours, ended
}

// endsAfter waits for the end of a connection and looks at the clock.
func endsAfter(t *testing.T, since time.Time, ended chan struct{}, want time.Duration) {
	t.Helper()
	<-ended
	if got := time.Since(since); got != want {
		t.Errorf("it ended after %v, want %v", got, want)
	}
}

func write(t *testing.T, conn net.Conn, b []byte) {
	t.Helper()
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
}

// readAll collects what the server says.
func readAll(conn net.Conn) (all chan []byte) {
	all = make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(conn)
		all <- b
	}()
	return all
}

// TestConnectDeadline: who says no CONNECT has 5 s, whatever else it says.
func TestConnectDeadline(t *testing.T) {
	hello := connect(v311, "me")
	for name, send := range map[string]func(t *testing.T, conn net.Conn){
		"mute": func(*testing.T, net.Conn) {},
		"half": func(t *testing.T, conn net.Conn) { write(t, conn, hello[:5]) },
		"byte by byte": func(t *testing.T, conn net.Conn) {
			for i := range 4 {
				write(t, conn, hello[i:i+1])
				elapse(time.Second)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPipe(t)
				begin := time.Now()
				conn, ended := p.dial(t)
				send(t, conn)
				endsAfter(t, begin, ended, 5*time.Second)
			})
		})
	}
}

// TestKeepAlive: one and a half intervals without a whole packet end the
// connection; an interval of 0 never does.
func TestKeepAlive(t *testing.T) {
	each(t, func(t *testing.T, version byte) {
		synctest.Test(t, func(t *testing.T) {
			p := newPipe(t)
			conn, ended := p.dial(t)
			heard := readAll(conn)
			write(t, conn, connect(version, "me")) // 60 s
			for range 5 {
				elapse(80 * time.Second)
				write(t, conn, []byte{0xC0, 0})
			}
			last := time.Now()
			elapse(time.Minute)
			write(t, conn, []byte{0xC0})
			endsAfter(t, last, ended, 90*time.Second)
			if all := <-heard; version == v5 && all[len(all)-1] == 0 {
				t.Errorf("no reason: % x", all)
			}
		})
	})
	t.Run("none", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newPipe(t)
			conn, ended := p.dial(t)
			readAll(conn)
			write(t, conn, packet(0x10, str("MQTT"), []byte{v311, 2, 0, 0}, str("me")))
			elapse(24 * time.Hour)
			write(t, conn, publish(v311, "telemetry/x", 1, "1"))
			synctest.Wait()
			select {
			case <-ended:
				t.Error("it ended")
			default:
			}
		})
	})
}

// TestDoesNotRead: who does not fetch what is sent to it is cut off after 10 s.
func TestDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipe(t)
		begin := time.Now()
		conn, ended := p.dial(t)
		write(t, conn, connect(v311, "me"))
		endsAfter(t, begin, ended, writeTimeout)
	})
}

// TestAnswersAreBounded: who asks and does not read the answers is not read
// either.
func TestAnswersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipe(t)
		conn, _ := p.dial(t)
		write(t, conn, connect(v311, "me"))
		if err := conn.SetWriteDeadline(time.Now().Add(writeTimeout / 2)); err != nil {
			t.Fatal(err)
		}
		// Answers of 4 KiB, and a read buffer of 8 KiB with more requests.
		if n, err := conn.Write(bytes.Repeat([]byte{0xC0, 0}, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) || n > 16<<10 {
			t.Errorf("%d bytes of requests were read, %v", n, err)
		}
	})
}

// TestFullRetried: a message of MQTT 3.1.1 gets its PUBACK soon after there is
// room.
func TestFullRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipe(t)
		p.setFull(buffer.ErrFull)
		conn, _ := p.dial(t)
		write(t, conn, connect(v311, "me"))
		ack := make([]byte, 4)
		if _, err := io.ReadFull(conn, ack); err != nil {
			t.Fatal(err)
		}
		write(t, conn, publish(v311, "telemetry/x", 1, "1"))
		elapse(time.Hour)
		p.setFull(nil)
		begin := time.Now()
		if _, err := io.ReadFull(conn, ack); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begin); d > fullRetry {
			t.Errorf("it took %v", d)
		}
	})
}

// TestStopIsShort: a client that does not read does not hold up the end.
func TestStopIsShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipe(t)
		conn, ended := p.dial(t)
		write(t, conn, connect(v5, "me")) // and the CONNACK stays where it is
		synctest.Wait()
		begin := time.Now()
		p.stop()
		endsAfter(t, begin, ended, farewell)
	})
}

// elapse lets virtual time pass.
func elapse(d time.Duration) { <-time.After(d) }
