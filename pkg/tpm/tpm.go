// Package tpm keeps a device key in a TPM 2.0 and signs with it. It knows two
// kinds: a resident key (Key), which the TPM made or took in and which never
// leaves it, and a sealed one (Sealed), a software key that only this TPM can
// unlock. It promises:
//
//   - The key never raises the dictionary-attack counter: key and parent have
//     noDA, so power cuts cannot lock a gateway out of its own key.
//   - A signature costs one TPM command: the key stays loaded. A key that the
//     TPM lost (reset, restart of a software TPM) is loaded again by itself.
//   - No call waits longer than its context or the command's limit. A TPM that
//     does not answer is ErrFailing, never a hang.
//   - Every failure is one of the sentinels in errors.go, and its text says
//     what to do. A cleared or exchanged TPM (ErrChanged) and a damaged key
//     file (ErrCorrupt) are told apart.
//   - The file of a resident key is a TSS2 PRIVATE KEY, which OpenSSL's tpm2
//     provider reads.
//   - No secret crosses the bus to the TPM in clear: not a sealed key, not one
//     that is taken in, not the owner's password.
//
// It makes no key unless it is told to, and leaves nothing in the TPM: a key
// lives wrapped in its file, loaded objects are transient.
package tpm

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/go-tpm/tpm2"
)

const (
	// commandLimit bounds one TPM command: hardware needs 200 to 600 ms for a
	// signature and about a second for an ECC primary.
	commandLimit = 10 * time.Second
	// rsaLimit bounds the making of an RSA key, which is a search for primes:
	// tens of seconds on a discrete chip.
	rsaLimit = 2 * time.Minute
)

// TPM is one TPM. It is safe for concurrent use: operations run one at a
// time, in an order of their own.
type TPM struct {
	name      string
	dev       device
	limit     time.Duration
	ownerAuth Secret
	commands  atomic.Uint64

	// turn holds one token; who has taken it may use the fields below and
	// send commands. A channel, because a mutex cannot be given up on.
	turn    chan struct{}
	pending <-chan struct{} // closed when an abandoned command has come back
}

// Option changes how Open opens a TPM.
type Option func(*TPM)

// WithOwnerAuth gives the password of the owner hierarchy. It is needed only
// where that has one and no storage root key stands at 0x81000001; the zero
// Secret is no password.
func WithOwnerAuth(password Secret) Option { return func(t *TPM) { t.ownerAuth = password } }

// Open opens the TPM that device names: an absolute path ("/dev/tpmrm0"),
// "unix:PATH" or "tcp:HOST:PORT" of a software TPM (swtpm). It sends no
// command. Errors wrap ErrAbsent, ErrDenied or ErrFailing.
func Open(device string, options ...Option) (*TPM, error) {
	dev, err := openDevice(device)
	if err != nil {
		return nil, explain("open "+device, err)
	}
	t := newTPM(device, dev)
	for _, o := range options {
		o(t)
	}
	return t, nil
}

func newTPM(name string, dev device) *TPM {
	t := &TPM{name: name, dev: dev, limit: commandLimit, turn: make(chan struct{}, 1)}
	t.turn <- struct{}{}
	return t
}

// Close ends the use of the TPM. Signers still loaded are not flushed: close
// them first. It waits for a command that is under way, but no longer than the
// limit of a command: a kernel driver that hangs cannot be interrupted, and
// its goroutine ends when the driver gives up.
func (t *TPM) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), t.limit)
	defer cancel()
	if err := t.take(ctx); err != nil {
		return fmt.Errorf("close %s: %w", t.name, err)
	}
	defer t.give()
	if err := t.settle(ctx); err != nil {
		return fmt.Errorf("close %s: %w", t.name, err)
	}
	return t.dev.Close()
}

// Commands returns how many commands were sent so far, repeats included.
func (t *TPM) Commands() uint64 { return t.commands.Load() }

// FlushLeftovers removes the transient objects that an earlier owner left
// loaded when it was killed, and returns how many there were. A software TPM
// has three slots and nobody who cleans them, so its only owner, the service,
// calls this at its start, before it loads its key. On a device node it does
// nothing: the kernel's resource manager flushes what a process leaves.
func (t *TPM) FlushLeftovers(ctx context.Context) (n int, err error) {
	if t.dev.Managed() {
		return 0, nil
	}
	err = t.do(ctx, "flush leftover objects", func(c channel) (err error) {
		n, err = flushFrom(c, firstTransient)
		return err
	})
	return n, err
}

// flushFrom removes what is loaded of the kind that begins with first.
func flushFrom(c channel, first uint32) (n int, err error) {
	handles, err := handlesFrom(c, first)
	if err != nil {
		return 0, err
	}
	for _, h := range handles {
		if _, err := (tpm2.FlushContext{FlushHandle: h}).Execute(c); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// The first handles of two kinds (TPM 2.0 Part 2, 7.2).
const (
	firstTransient = 0x80000000 // TRANSIENT_FIRST
	firstSession   = 0x02000000 // LOADED_SESSION_FIRST
)

// handlesFrom lists what is loaded of the kind that begins with first.
func handlesFrom(c channel, first uint32) ([]tpm2.TPMHandle, error) {
	const most = 64 // any software TPM has fewer slots
	rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: most}.Execute(c)
	if err != nil {
		return nil, err
	}
	list, err := rsp.CapabilityData.Data.Handles()
	if err != nil {
		return nil, err
	}
	return list.Handle, nil
}

// do runs f alone on the TPM and explains its error. f may run twice.
func (t *TPM) do(ctx context.Context, op string, f func(channel) error) error {
	if err := t.take(ctx); err != nil {
		return explain(op+" on "+t.name, err)
	}
	defer t.give()
	c := channel{t: t, ctx: ctx, limit: t.limit}
	err := f(c)
	if sessionsFull(err) && !t.dev.Managed() {
		// Nobody cleans a software TPM, and ours live no longer than an
		// operation.
		if _, err = flushFrom(c, firstSession); err == nil {
			err = f(c)
		}
	}
	if err != nil {
		return explain(op+" on "+t.name, err)
	}
	return nil
}

func (t *TPM) take(ctx context.Context) error {
	select {
	case <-t.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *TPM) give() { t.turn <- struct{}{} }
