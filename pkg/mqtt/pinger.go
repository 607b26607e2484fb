package mqtt

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho/log"
)

// pinger sends a PINGREQ when either direction has been idle for the
// keep-alive interval, and ends the session when no PINGRESP comes within
// another one. paho's own pinger also pings right behind each CONNACK, which
// a metered link pays for at every reconnect, and cannot tell the session
// why it gave up.
type pinger struct {
	conn *conn

	mu       sync.Mutex
	sent     time.Time // the last packet in each direction
	received time.Time
	answered time.Time // the last PINGRESP
}

// Run is called by paho; keepAlive is in seconds, 0 switches pings off.
func (p *pinger) Run(ctx context.Context, _ net.Conn, keepAlive uint16) error {
	if keepAlive == 0 {
		return nil
	}
	interval := time.Duration(keepAlive) * time.Second
	timer := time.NewTimer(interval)
	defer timer.Stop()
	var asked time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		p.mu.Lock()
		due, answered := p.sent, p.answered
		if p.received.Before(due) {
			due = p.received
		}
		p.mu.Unlock()
		if !asked.IsZero() && answered.Before(asked) {
			p.conn.fail(ErrKeepAlive)
			return ErrKeepAlive
		}
		if wait := time.Until(due.Add(interval)); wait > 0 {
			timer.Reset(wait)
			continue
		}
		asked = time.Now()
		if _, err := packets.NewControlPacket(packets.PINGREQ).WriteTo(p.conn); err != nil {
			return err
		}
		p.PacketSent()
		timer.Reset(interval)
	}
}

func (p *pinger) PacketSent() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = time.Now()
}

func (p *pinger) PacketReceived() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.received = time.Now()
}

func (p *pinger) PingResp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answered = time.Now()
}

func (p *pinger) SetDebug(log.Logger) {}
