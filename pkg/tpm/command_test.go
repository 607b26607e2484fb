package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// scripted is a device that answers what the test says.
type scripted struct {
	answer func(n int) ([]byte, error)
	count  atomic.Int64
}

func (s *scripted) Send(context.Context, []byte) ([]byte, error) {
	return s.answer(int(s.count.Add(1)))
}

func (s *scripted) sent() int { return int(s.count.Load()) }

func (*scripted) Managed() bool { return false }
func (*scripted) Close() error  { return nil }

// code is a response that is nothing but a response code.
func code(rc tpm2.TPMRC) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(tpm2.TPMSTNoSessions))
	b = binary.BigEndian.AppendUint32(b, headerSize)
	return binary.BigEndian.AppendUint32(b, uint32(rc))
}

func flush(t *testing.T, tp *TPM) error {
	return tp.do(t.Context(), "flush", func(c channel) error {
		_, err := tpm2.FlushContext{FlushHandle: tpm2.TPMHandle(0x80000000)}.Execute(c)
		return err
	})
}

func TestRetry(t *testing.T) {
	for rc, again := range map[tpm2.TPMRC]bool{
		tpm2.TPMRCRetry: true, tpm2.TPMRCYielded: true, tpm2.TPMRCTesting: true,
		tpm2.TPMRCNVRate: true, tpm2.TPMRCNVUnavailable: true,
		// Warnings as well, but waiting does not help.
		tpm2.TPMRCLockout: false, tpm2.TPMRCObjectMemory: false, tpm2.TPMRCReferenceH0: false,
		tpm2.TPMRCFailure: false,
	} {
		synctest.Test(t, func(t *testing.T) {
			dev := &scripted{answer: func(n int) ([]byte, error) {
				if n < 3 {
					return code(rc), nil
				}
				return code(tpm2.TPMRCSuccess), nil
			}}
			tp := newTPM("scripted", dev)
			err := flush(t, tp)
			switch {
			case again && (err != nil || dev.sent() != 3 || tp.Commands() != 3):
				t.Errorf("%v: sent %d times, counted %d: %v", rc, dev.sent(), tp.Commands(), err)
			case !again && (!errors.Is(err, rc) || dev.sent() != 1):
				t.Errorf("%v: sent %d times: %v", rc, dev.sent(), err)
			}
		})
	}
}

func TestRetryEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dev := &scripted{answer: func(int) ([]byte, error) { return code(tpm2.TPMRCRetry), nil }}
		start := time.Now()
		err := flush(t, newTPM("scripted", dev))
		if !errors.Is(err, ErrFailing) || !errors.Is(err, tpm2.TPMRCRetry) {
			t.Errorf("got %v", err)
		}
		if d := time.Since(start); d != commandLimit || dev.sent() > 20 {
			t.Errorf("it gave up after %s and %d commands", d, dev.sent())
		}
	})
}

// A device node cannot be interrupted: the command is left behind, and the
// next one waits for it.
func TestHungNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		awake := make(chan struct{})
		dev := &scripted{answer: func(n int) ([]byte, error) {
			if n == 1 {
				<-awake
				return nil, syscall.ETIME
			}
			return code(tpm2.TPMRCSuccess), nil
		}}
		tp := newTPM("scripted", dev)
		start := time.Now()
		for range 2 {
			if err := flush(t, tp); !errors.Is(err, ErrFailing) || !strings.Contains(err.Error(), "within 10s") {
				t.Errorf("got %v", err)
			}
		}
		if err := tp.Close(); err == nil {
			t.Error("closed with a command under way")
		}
		if d := time.Since(start); d != 3*commandLimit || dev.sent() != 1 {
			t.Errorf("%s and %d commands", d, dev.sent())
		}
		close(awake)
		if err := flush(t, tp); err != nil || dev.sent() != 2 {
			t.Errorf("after it woke up: %v, %d commands", err, dev.sent())
		}
		if err := tp.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestShortResponse(t *testing.T) {
	for _, rsp := range [][]byte{nil, {}, code(tpm2.TPMRCSuccess)[:9]} {
		dev := &scripted{answer: func(int) ([]byte, error) { return rsp, nil }}
		if err := flush(t, newTPM("scripted", dev)); !errors.Is(err, ErrFailing) {
			t.Errorf("%x: %v", rsp, err)
		}
	}
}

func TestExplain(t *testing.T) {
	for _, test := range []struct {
		err  error
		want error
		says string
	}{
		{syscall.ENOENT, ErrAbsent, "tpm_device"},
		{syscall.ECONNREFUSED, ErrAbsent, "software TPM"},
		{syscall.ENODEV, ErrAbsent, "overlay"},
		{syscall.EACCES, ErrDenied, "group tss"},
		{syscall.EPERM, ErrDenied, "group tss"},
		{syscall.EBUSY, ErrFailing, "/dev/tpmrm0"},
		{tpm2.TPMRCLockout, ErrLocked, "recovery time"},
		{tpm2.TPMRC(0x9A2), ErrFailing, "password"},                 // BAD_AUTH of session 1
		{tpm2.TPMRC(0x185), ErrFailing, "hierarchy is disabled"},    // HIERARCHY of handle 1
		{tpm2.TPMRCFailure, ErrFailing, "off and on"},               // the chip's own self-test
		{context.Canceled, context.Canceled, "context canceled"},    // not the TPM's fault
		{context.DeadlineExceeded, context.DeadlineExceeded, "exc"}, // nor this
	} {
		err := explain("sign on /dev/tpmrm0", test.err)
		if !errors.Is(err, test.want) || !errors.Is(err, test.err) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%v: %v", test.err, err)
		}
		if strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "sign on /dev/tpmrm0: ") {
			t.Errorf("not one line with its object: %q", err)
		}
		if again := explain("load", err); !errors.Is(again, test.want) || strings.Count(again.Error(), ";") > strings.Count(err.Error(), ";") {
			t.Errorf("explained twice: %v", again)
		}
	}
}
