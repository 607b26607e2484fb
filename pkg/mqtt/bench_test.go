package mqtt

import (
	"bufio"
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// sink is a broker of few allocations: it acknowledges every PUBLISH, with one
// write for all that came at once.
func sink(conn net.Conn) {
	r := bufio.NewReaderSize(conn, 32<<10)
	if _, err := packets.ReadPacket(r); err != nil {
		return
	}
	if _, err := (&packets.Connack{}).WriteTo(conn); err != nil {
		return
	}
	var acks []byte
	for {
		if r.Buffered() == 0 && len(acks) > 0 {
			if _, err := conn.Write(acks); err != nil {
				return
			}
			acks = acks[:0]
		}
		if kind, err := r.ReadByte(); err != nil || kind>>4 != packets.PUBLISH {
			return
		}
		length, shift := 0, 0
		for digit := byte(0x80); digit >= 0x80; shift += 7 {
			digit, _ = r.ReadByte()
			length |= int(digit&0x7f) << shift
		}
		body, err := r.Peek(length)
		if err != nil {
			return
		}
		topic := int(body[0])<<8 | int(body[1])
		acks = append(acks, packets.PUBACK<<4, 2, body[2+topic], body[3+topic])
		if _, err := r.Discard(length); err != nil {
			return
		}
	}
}

// BenchmarkSend is a message of 200 bytes from Send to its outcome, with a full
// window of 100, over TLS 1.2 and TCP on this machine. The CPU time and the
// allocations of the broker's side are in it too. `make bench` compares with
// other clients.
func BenchmarkSend(b *testing.B) {
	listener, err := tls.Listen("tcp", "127.0.0.1:0", selfSigned(b))
	if err != nil {
		b.Fatal(err)
	}
	var server sync.WaitGroup
	server.Go(func() {
		if conn, err := listener.Accept(); err == nil {
			sink(conn)
			conn.Close()
		}
	})
	defer server.Wait()
	defer listener.Close()
	dialer := &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	client, err := dialer.DialContext(b.Context(), "tcp", listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	s, err := Connect(b.Context(), client, Config{ClientID: "gw-1", KeepAlive: time.Minute, Stall: 20 * time.Second})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()

	m := Message{Topic: "dt/gw-1/bench", Payload: make([]byte, 200), ContentType: "application/octet-stream"}
	var pending sync.WaitGroup
	outcome := func(code byte, err error) {
		if code != 0 || err != nil {
			b.Errorf("outcome %#x, %v", code, err)
		}
		pending.Done()
	}
	b.ReportAllocs()
	for b.Loop() {
		pending.Add(1)
		if err := s.Send(b.Context(), m, outcome); err != nil {
			b.Fatal(err)
		}
	}
	pending.Wait()
}
