package local

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jitr-agent/jitr-agent/pkg/buffer"
	e2e "github.com/jitr-agent/jitr-agent/test/rig"
)

// later is a buffer that says a little later, from another goroutine, that
// messages are safe, many at a time: as PUBACKs and group commits come.
type later chan func(error)

func (l later) Put(_ context.Context, _ buffer.Message, done func(error)) error {
	if done != nil {
		l <- done
	}
	return nil
}

func (l later) run() {
	for done := range l {
		done(nil)
	}
}

// BenchmarkPublish: one client, 200 bytes at QoS 1 through the unix socket, 100
// at a time, until the last PUBACK. mosquitto does the same, where there is
// one; it has no subscriber.
func BenchmarkPublish(b *testing.B) {
	b.Run("agent/5", func(b *testing.B) { flow(b, agent(b), v5) })
	b.Run("agent/3.1.1", func(b *testing.B) { flow(b, agent(b), v311) })
	b.Run("mosquitto/3.1.1", func(b *testing.B) { flow(b, mosquitto(b), v311) })
}

// agent starts a server in front of a buffer that forgets.
func agent(b *testing.B) (socket string) {
	done := make(later, 1024)
	go done.run()
	b.Cleanup(func() { close(done) })
	return start(b, func(c *Config) { c.Buffer = done }).cfg.Socket
}

// mosquitto starts one that listens on a unix socket.
func mosquitto(b *testing.B) (socket string) {
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto"
	}
	dir := e2e.TempDir(b)
	socket = filepath.Join(dir, "s")
	config := filepath.Join(dir, "conf")
	text := fmt.Sprintf("listener 0 %s\nallow_anonymous true\nmax_inflight_messages 100\nuser root\n", socket)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(b.Context(), path, "-c", config)
	if err := cmd.Start(); err != nil {
		b.Skip(err)
	}
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	eventually(b, func() error { _, err := os.Stat(socket); return err })
	return socket
}

func flow(b *testing.B, socket string, version byte) {
	conn, err := new(net.Dialer).DialContext(b.Context(), "unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	in, out := bufio.NewReaderSize(conn, 16<<10), bufio.NewWriterSize(conn, 32<<10)
	if _, err := conn.Write(connect(version, "bench")); err != nil {
		b.Fatal(err)
	}
	if _, err := (&peer{conn, b}).read(); err != nil {
		b.Fatal(err)
	}
	message := publish(version, "telemetry/a/b", 1, strings.Repeat("x", 200))
	at := 2 + 1 + 2 + len("telemetry/a/b") // of the packet id; the length has two bytes
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	b.ResetTimer()
	window := make(chan struct{}, receiveMaximum)
	ended := make(chan struct{})
	go func() {
		ack := make([]byte, 4)
		for range b.N {
			if _, err := io.ReadFull(in, ack); err != nil || ack[0] != 0x40 {
				b.Errorf("% x, %v", ack, err)
				conn.Close()
				break
			}
			<-window
		}
		close(ended)
	}()
	for i := range b.N {
		select {
		case window <- struct{}{}:
		default:
			if err := out.Flush(); err != nil {
				b.Fatal(err)
			}
			select {
			case window <- struct{}{}:
			case <-ended:
				b.FailNow()
			}
		}
		binary.BigEndian.PutUint16(message[at:], uint16(1+i%receiveMaximum))
		if _, err := out.Write(message); err != nil {
			b.Fatal(err)
		}
	}
	if err := out.Flush(); err != nil {
		b.Fatal(err)
	}
	<-ended
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}
