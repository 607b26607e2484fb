package mqtt

import (
	"context"
	"net"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho/log"
)

// pinger sends a PINGREQ when either direction has been idle for the
// keep-alive interval, and ends the session when nothing comes back within half
// of it: one and a half intervals after the last sign of life, which is when
// the server gives up too (MQTT 5, 3.1.2.10). paho's own pinger needs up to
// two, pings right behind each CONNACK, which a metered link pays for at every
// reconnect, and cannot tell the session why it gave up.
type pinger struct {
	conn         *conn
	atLeastEvery time.Duration // the configured interval, 0 for no pings
}

// Run is called by paho; keepAlive is the server's, in seconds, and 0 says that
// it does not care for pings. This side does: nothing else notices an idle link
// that died. So the server can only make the interval shorter.
func (p *pinger) Run(ctx context.Context, _ net.Conn, keepAlive uint16) error {
	interval := time.Duration(keepAlive) * time.Second
	if interval == 0 || interval > p.atLeastEvery {
		interval = p.atLeastEvery
	}
	if interval == 0 {
		return nil
	}
	timer := time.NewTimer(interval)
	defer timer.Stop()
	var asked time.Time // zero while no answer is awaited
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		idle, received := p.conn.lastSent(), p.conn.lastReceived()
		if received.Before(idle) {
			idle = received
		}
		if !asked.IsZero() && received.Before(asked) {
			p.conn.fail(ErrKeepAlive)
			return ErrKeepAlive
		}
		asked = time.Time{}
		if wait := time.Until(idle.Add(interval)); wait > 0 {
			timer.Reset(wait)
			continue
		}
		asked = time.Now()
		if _, err := packets.NewControlPacket(packets.PINGREQ).WriteTo(p.conn); err != nil {
			return err
		}
		timer.Reset(interval / 2)
	}
}

// The rest of paho's interface. The connection sees every byte, so it needs not
// to be told of packets.
func (p *pinger) PacketSent()         {}
func (p *pinger) PacketReceived()     {}
func (p *pinger) PingResp()           {}
func (p *pinger) SetDebug(log.Logger) {}
