// Package jitr gets a gateway into AWS IoT Core by just-in-time registration
// and keeps it there.
//
// Each attempt leaves evidence: how far it got, what it saw, and whether this
// certificate was ever accepted at this endpoint. One function turns evidence
// into a cause (classify.go), one table turns a cause into a schedule
// (schedule.go) and a state (state.go), and one loop waits and tries again
// (loop.go). Nothing else in the program decides anything about connections.
package jitr

// State is what the agent is doing, as people and programs see it.
type State string

// The states.
const (
	Starting                State = "starting"
	WaitingForConfiguration State = "waiting-for-configuration"
	WaitingForIdentity      State = "waiting-for-identity"
	WaitingForClock         State = "waiting-for-clock"
	Connecting              State = "connecting"
	PendingActivation       State = "pending-activation"
	Initializing            State = "initializing"
	Online                  State = "online"
	Offline                 State = "offline"
	Rejected                State = "rejected"
)

// Cause is why the agent is not online. The empty cause is none.
type Cause string

// The causes, in the order of the states that they lead to.
const (
	NoKey         Cause = "no-key"
	NoCertificate Cause = "no-certificate"
	KeyMismatch   Cause = "key-mismatch"
	KeyCorrupt    Cause = "key-corrupt"
	TPMAbsent     Cause = "tpm-absent"
	TPMDenied     Cause = "tpm-denied"
	TPMChanged    Cause = "tpm-changed"
	TPMLocked     Cause = "tpm-locked"
	TPMFailing    Cause = "tpm-failing"

	Clock Cause = "clock"

	DNS               Cause = "dns"
	Network           Cause = "network"
	Proxy             Cause = "proxy"
	ServerUntrusted   Cause = "server-untrusted"
	TLS               Cause = "tls"
	Protocol          Cause = "protocol"
	Throttled         Cause = "throttled"
	ServerBusy        Cause = "server-busy"
	ServerClosed      Cause = "server-closed"
	KeepAlive         Cause = "keepalive"
	DuplicateClientID Cause = "duplicate-client-id"

	Pending Cause = "pending"

	NotAuthorized     Cause = "not-authorized"
	ClientCertRefused Cause = "client-cert-refused"
	CertExpired       Cause = "cert-expired"
)

// Phase is how far an attempt got.
type Phase string

// The phases, in their order.
const (
	PhaseClock    Phase = "clock"
	PhaseIdentity Phase = "identity"
	PhaseDNS      Phase = "dns"
	PhaseTCP      Phase = "tcp"
	PhaseProxy    Phase = "proxy"
	PhaseTLS      Phase = "tls"
	PhaseConnack  Phase = "connack"
	PhaseSession  Phase = "session"
)

// StateFor is the state of an agent that waits because of cause. A
// certificate that this endpoint accepted before is offline where a new one is
// still connecting.
func StateFor(cause Cause, accepted bool) State {
	switch cause {
	case NoKey, NoCertificate, KeyMismatch, KeyCorrupt, TPMAbsent, TPMDenied, TPMChanged, TPMLocked, TPMFailing:
		return WaitingForIdentity
	case Clock:
		return WaitingForClock
	case Pending:
		return PendingActivation
	case NotAuthorized, ClientCertRefused, CertExpired:
		return Rejected
	default:
		if accepted {
			return Offline
		}
		return Connecting
	}
}
