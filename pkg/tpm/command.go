package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// errNoAnswer: the command's limit passed, or it ended without a response.
var errNoAnswer = errors.New("it does not answer")

// channel is what one operation sends its commands through, as go-tpm's
// transport.TPM. Only the holder of the TPM's turn may use it.
type channel struct {
	t     *TPM
	ctx   context.Context //nolint:containedctx // go-tpm's Send has no other way to get it
	limit time.Duration   // for each command
}

// Send carries one command to the TPM. It sends it again while the TPM asks
// for that, within the limit.
func (c channel) Send(command []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(c.ctx, c.limit, fmt.Errorf("%w within %s", errNoAnswer, c.limit))
	defer cancel()
	// From 10 ms, as the kernel's own loop does, to 1 s.
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		rsp, err := c.t.exchange(ctx, command)
		if err != nil {
			return nil, err
		}
		rc := tpm2.TPMRC(binary.BigEndian.Uint32(rsp[6:]))
		if !retryable(rc) {
			return rsp, nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, rc
		}
	}
}

// retryable says whether the TPM asks for the same command again. Most other
// warnings last until somebody acts (TPM_RC_LOCKOUT, TPM_RC_OBJECT_MEMORY).
func retryable(rc tpm2.TPMRC) bool {
	return slices.Contains([]tpm2.TPMRC{
		tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting, tpm2.TPMRCNVRate, tpm2.TPMRCNVUnavailable,
	}, rc)
}

// exchange sends one command, and returns when there is a response or ctx has
// ended. It runs the device on a goroutine, because a device node cannot be
// interrupted: a command that is given up stays pending, and its late response
// is thrown away.
func (t *TPM) exchange(ctx context.Context, command []byte) ([]byte, error) {
	if err := t.settle(ctx); err != nil {
		return nil, err
	}
	var (
		rsp  []byte
		err  error
		done = make(chan struct{})
	)
	t.commands.Add(1)
	go func() {
		defer close(done)
		rsp, err = t.dev.Send(ctx, command)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		t.pending = done
		return nil, context.Cause(ctx)
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		<-ctx.Done() // a dialer's timer may be a moment ahead of the context's
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, err
	case len(rsp) < headerSize:
		return nil, fmt.Errorf("%w: a response of %d bytes came", errNoAnswer, len(rsp))
	}
	return rsp, nil
}

// settle waits for a command that was given up.
func (t *TPM) settle(ctx context.Context) error {
	if t.pending == nil {
		return nil
	}
	select {
	case <-t.pending:
		t.pending = nil
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
