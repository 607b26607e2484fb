package local

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/jitr-agent/jitr-agent/pkg/buffer"
)

const (
	// maxSubscriptions of one client; AWS IoT Core has 50.
	maxSubscriptions = 50
	// What a client may leave unfetched: messages, and bytes of them. One
	// message always has room.
	maxQueue      = 1000
	maxQueueBytes = 128 << 10
)

// feed brings messages to the clients that subscribed.
type feed struct {
	subscribers atomic.Int64 // clients with a subscription: mostly none

	mu       sync.RWMutex
	clients  []*client
	retained map[string]*buffer.Message // by topic; only Server.Publish adds
}

// subscription is one of a client's.
type subscription struct {
	filter  string
	qos     byte
	noLocal bool
}

// delivery is a message on its way to a client; its Topic is the local one.
type delivery struct {
	message *buffer.Message
	qos     byte
	retain  bool
}

// size is about what a delivery holds in memory and on the wire.
func (d delivery) size() int {
	m := d.message
	n := len(m.Topic) + len(m.Payload) + len(m.ContentType) + len(m.ResponseTopic) + len(m.CorrelationData)
	for _, p := range m.UserProperties {
		n += len(p[0]) + len(p[1])
	}
	return n
}

// Publish sends payload to the clients that subscribed to topic, at the QoS
// that they asked for. Where retain is set, clients that subscribe later get
// it too; topic is one of Config.Feeds then. It does not wait for anybody, and
// keeps payload.
func (s *Server) Publish(topic string, payload []byte, retain bool) {
	m := &buffer.Message{Topic: topic, Payload: payload}
	s.feed.mu.Lock()
	if retain && slices.Contains(s.cfg.Feeds, topic) {
		s.feed.retained[topic] = m
	}
	s.feed.mu.Unlock()
	s.feed.send(nil, m, 1)
}

// send gives m, published by from at qos, to all that want it.
func (f *feed) send(from *client, m *buffer.Message, qos byte) {
	if f.subscribers.Load() == 0 {
		return
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	for _, c := range f.clients {
		c.offer(m, qos, c == from)
	}
}

// change adds c to the subscribers or takes it out.
func (f *feed) change(c *client, subscribed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.Index(f.clients, c)
	switch {
	case subscribed && i < 0:
		f.clients = append(f.clients, c)
	case !subscribed && i >= 0:
		f.clients = slices.Delete(f.clients, i, i+1)
	}
	f.subscribers.Store(int64(len(f.clients)))
}

// replay gives c the retained messages that s asks for. A newer one waits
// meanwhile, so that it arrives behind them.
func (f *feed) replay(c *client, s subscription) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for topic, m := range f.retained {
		if matches(s.filter, topic) {
			c.deliver(delivery{message: m, qos: s.qos, retain: true})
		}
	}
}
