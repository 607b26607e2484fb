package iotcore

import (
	"crypto/tls"
	"encoding/json"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"go.uber.org/zap"

	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// OnConnect decides about a CONNECT. An error makes the broker close without
// a CONNACK.
func (h *hook) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	l := linkOf(cl)
	if cl.Properties.Props.AssignedClientID != "" {
		cl.ID = generatedClientID()
		cl.Properties.Props.AssignedClientID = cl.ID
	}
	l.clientID = cl.ID
	l.connected(cl.Properties.ProtocolVersion, cl.Properties.Props.ReceiveMaximum, func() {
		_ = h.disconnect(cl, packets.ErrKeepAliveTimeout) // the reader has an error of its own
	})

	v := h.registry.present(l.chain, l.sni, pk.Connect.ClientIdentifier)
	h.announce(v)
	switch v.outcome {
	case OutcomeAccepted:
	case OutcomeRegistered, OutcomePending:
		h.record(l, v.outcome, "")
		return h.closePending(cl, l)
	default:
		h.record(l, v.outcome, v.why)
		return errClosed
	}

	if cl.Properties.Props.AssignedClientID == "" && !validClientID(cl.ID) {
		return h.refuse(cl, l, OutcomeInvalid, packets.ErrClientIdentifierNotValid)
	}
	if !h.connectRate(cl.ID) {
		return h.refuse(cl, l, OutcomeThrottled, packets.ErrQuotaExceeded)
	}
	if !h.allowed(l, "iot:Connect", "client", cl.ID) {
		return h.refuse(cl, l, OutcomeNotAuthorized, packets.ErrNotAuthorized)
	}
	h.limitKeepAlive(cl)
	return nil
}

// refuse is how an ACTIVE certificate is turned away: MQTT 5 is told why.
func (h *hook) refuse(cl *mqtt.Client, l *link, why Outcome, code packets.Code) error {
	h.record(l, why, "")
	h.connack(cl, code)
	return errClosed
}

// connack tells an MQTT 5 client why it is refused, and others nothing.
func (h *hook) connack(cl *mqtt.Client, code packets.Code) {
	if cl.Properties.ProtocolVersion == 5 {
		_ = h.broker.SendConnack(cl, code, false, nil) // what it could not send it need not
	}
}

// closePending is --pending-close.
func (h *hook) closePending(cl *mqtt.Client, l *link) error {
	switch h.cfg.PendingClose {
	case CloseRST:
		_ = l.abort() // an error says that it is closed already
	case CloseConnack:
		h.connack(cl, packets.ErrNotAuthorized)
	case CloseFIN, CloseAlert: // the alert has been sent long before
	}
	return errClosed
}

// verifyConnection is CloseAlert: registration and refusal in the handshake.
func (h *hook) verifyConnection(state tls.ConnectionState) error {
	v := h.registry.present(state.PeerCertificates, state.ServerName, "")
	h.announce(v)
	if v.outcome == OutcomeRegistered || v.outcome == OutcomePending {
		return &pendingError{v, len(state.PeerCertificates), state.ServerName}
	}
	return nil // everything else is decided after CONNECT
}

// pendingError ends a handshake with a pending certificate.
type pendingError struct {
	verdict
	certificates int // presented
	sni          string
}

func (e *pendingError) Error() string { return "the certificate is PENDING_ACTIVATION" }

// announce tells the world of a pending certificate, on every CONNECT as AWS
// does, and the emulator's own activation of a new one.
func (h *hook) announce(v verdict) {
	if v.event == nil {
		return
	}
	if v.outcome == OutcomeRegistered {
		h.activator.add(v.certificateID, h.registry.now())
	}
	payload, err := json.Marshal(v.event)
	if err == nil {
		err = h.broker.Publish("$aws/events/certificates/registered/"+v.event.CACertificateID, payload, false, 1)
	}
	if err != nil {
		h.log.Error("An event was not published.", zap.Error(err))
	}
}

// connectRate allows one CONNECT a second for a client id.
func (h *hook) connectRate(clientID string) bool {
	if h.cfg.NoConnectRate {
		return true
	}
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Sub(h.lastConnect[clientID]) < connectInterval {
		return false
	}
	h.lastConnect[clientID] = now
	if len(h.lastConnect) > maxAttempts {
		for id, at := range h.lastConnect {
			if now.Sub(at) >= connectInterval {
				delete(h.lastConnect, id)
			}
		}
	}
	return true
}

// limitKeepAlive brings the keep-alive into AWS's limits. MQTT 5 hears of it
// as Server Keep Alive.
func (h *hook) limitKeepAlive(cl *mqtt.Client) {
	wanted := cl.State.Keepalive
	switch {
	case wanted == 0 || wanted > maxKeepAlive:
		cl.State.Keepalive = maxKeepAlive
	case wanted < minKeepAlive:
		cl.State.Keepalive = minKeepAlive
	}
	cl.State.ServerKeepalive = cl.State.Keepalive != wanted
}

// OnConnectAuthenticate lets pass what OnConnect has let pass.
func (h *hook) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

// OnSessionEstablish comes right before CONNACK 0, so that who sees the
// CONNACK also finds it recorded.
func (h *hook) OnSessionEstablish(cl *mqtt.Client, _ packets.Packet) {
	l := linkOf(cl)
	h.registry.accepted(certs.ID(l.chain[0]))
	h.record(l, OutcomeAccepted, "")
	// The broker confuses its packet ids with the client's: a PUBLISH from
	// the client makes it forget its own message of the same id. Clients
	// begin at 1, so begin elsewhere.
	for range 2048 {
		if _, err := cl.NextPacketID(); err != nil {
			break
		}
	}
}

// OnSessionEstablished follows CONNACK 0.
func (h *hook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	// The window is the link's business; the broker's own loses quota for
	// each message that had to wait. Only here, because a resumed session
	// sets it too.
	cl.State.Inflight.ResetSendQuota(0)
	if h.faults.get().CutAfterConnack {
		cl.Stop(errClosed)
	}
}

// record notes how the attempt ended.
func (h *hook) record(l *link, outcome Outcome, detail string) {
	l.outcome = true
	one := Attempt{
		At: h.registry.now(), Remote: l.RemoteAddr().String(),
		TLSVersion: tls.VersionName(l.conn.ConnectionState().Version),
		SNI:        l.sni, ClientCertificates: len(l.chain), CertificateID: certs.ID(l.chain[0]),
		ClientID: l.clientID, ProtocolVersion: int(l.version), Outcome: outcome, Detail: detail,
	}
	h.attempts.add(one)
	h.log.Info("A client connected.", l.describe(), zap.String("outcome", string(outcome)),
		zap.String("certificate", one.CertificateID), zap.String("detail", detail))
}
