package iotcore

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"go.uber.org/zap"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
)

// hook makes an AWS IoT data plane out of the mochi broker. Its methods are
// called by the broker, those about one client on the goroutine that reads
// from that client.
//
// connect.go has the decision about a CONNECT, publish.go and subscribe.go
// what an accepted client may do.
type hook struct {
	mqtt.HookBase
	broker    *mqtt.Server
	registry  *registry
	shadows   *shadows
	attempts  *attempts
	faults    *faults
	activator *activator
	cfg       Config
	log       *zap.Logger

	mu          sync.Mutex
	lastConnect map[string]time.Time // by client id
	observers   []func(Message)
}

// errClosed ends a connection: the broker closes it and says nothing.
var errClosed = errors.New("connection closed by the emulator")

// ID names the hook in the broker's log.
func (h *hook) ID() string { return "aws-iot" }

// Provides lists the methods below.
func (h *hook) Provides(b byte) bool {
	return slices.Contains([]byte{
		mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnSessionEstablish, mqtt.OnSessionEstablished, mqtt.OnACLCheck,
		mqtt.OnPacketRead, mqtt.OnPacketEncode, mqtt.OnPublish, mqtt.OnPublished,
		mqtt.OnSubscribe, mqtt.OnSubscribed, mqtt.OnWill,
	}, b)
}

// linkOf is the connection of a client; nil for the broker's own inline
// client.
func linkOf(cl *mqtt.Client) *link {
	l, _ := cl.Net.Conn.(*link)
	return l
}

// allowed asks the policies of the connection.
func (h *hook) allowed(l *link, action, kind, name string) bool {
	p := l.principal.Load()
	if p == nil || p.generation != h.registry.generation.Load() {
		p = h.registry.principal(l.chain[0], l.clientID, l.sni)
		l.principal.Store(p)
	}
	return p.allows(action, h.registry.arn(kind, name))
}

// OnPacketRead refuses what AWS does not take whatever the policy says, and
// puts the topic in the place of a topic alias, so that everything behind
// sees it.
func (h *hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	l := linkOf(cl)
	if l == nil {
		return pk, nil
	}
	switch pk.FixedHeader.Type {
	case packets.Publish:
		return h.readPublish(cl, l, pk)
	case packets.Puback:
		l.acked()
	case packets.Subscribe:
		return pk, h.readSubscribe(cl, pk)
	case packets.Pubrec, packets.Pubrel, packets.Pubcomp, packets.Auth:
		return pk, h.disconnect(cl, packets.ErrProtocolViolation)
	}
	return pk, nil
}

// disconnect sends DISCONNECT, to an MQTT 5 client, and closes. Its error is
// the one that makes the broker stop reading.
func (h *hook) disconnect(cl *mqtt.Client, code packets.Code) error {
	_ = h.broker.DisconnectClient(cl, code) // its error is code itself
	return packets.ErrRejectPacket
}

// notAuthorized is the text that AWS sends with reason code 0x87.
func notAuthorized(packet string) string {
	return packet + ":Client is not authenticated/authorized to send the message:" + awsapi.NewID()
}

// OnPacketEncode completes packets to the client with what AWS sends and the
// broker does not.
func (h *hook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	if linkOf(cl) == nil {
		return pk
	}
	p := &pk.Properties
	denied := pk.ReasonCode == packets.ErrNotAuthorized.Code
	switch pk.FixedHeader.Type {
	case packets.Connack:
		if pk.ReasonCode != 0 {
			*p = packets.Properties{ReasonString: p.ReasonString}
			if denied {
				p.ReasonString = notAuthorized("CONNACK")
			}
			break
		}
		p.MaximumPacketSize = maxPacketSize
		p.TopicAliasMaximum = topicAliasMaximum
		p.RetainAvailable, p.RetainAvailableFlag = 1, true
		p.WildcardSubAvailable, p.WildcardSubAvailableFlag = 1, true
		p.SharedSubAvailable, p.SharedSubAvailableFlag = 1, true
		p.SubIDAvailable, p.SubIDAvailableFlag = 0, true
	case packets.Puback:
		if denied {
			p.ReasonString = notAuthorized("PUBACK")
		}
	case packets.Disconnect:
		if denied {
			p.ReasonString = notAuthorized("DISCONNECT")
		}
	case packets.Suback:
		p.ReasonString = "" // the broker takes our packet ids for the client's
	}
	return pk
}

// generatedClientID is what AWS calls a client that gave no id.
func generatedClientID() string { return "$GEN/" + awsapi.NewID() }

func validClientID(id string) bool {
	return len(id) <= maxClientID && !strings.HasPrefix(id, "$")
}

// describe is what the log says of a client.
func (l *link) describe() zap.Field {
	return zap.String("client", strconv.Quote(l.clientID)+" at "+l.RemoteAddr().String())
}
