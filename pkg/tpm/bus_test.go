package tpm

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"sync"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/jitr-agent/jitr-agent/internal/swtpmtest"
)

// bus is a device that somebody reads along, and that bears one command at a
// time.
type bus struct {
	device
	mu       sync.Mutex
	busy     bool
	overlaps int
	seen     [][]byte // commands and responses
}

func (b *bus) Send(ctx context.Context, command []byte) ([]byte, error) {
	b.mu.Lock()
	if b.busy {
		b.overlaps++
	}
	b.busy = true
	b.mu.Unlock()
	rsp, err := b.device.Send(ctx, command)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.busy = false
	b.seen = append(b.seen, bytes.Clone(command), bytes.Clone(rsp))
	return rsp, err
}

// onBus opens a TPM whose bus is read along.
func onBus(t *testing.T, s *swtpmtest.TPM) (*TPM, *bus) {
	t.Helper()
	dev, err := openDevice(s.Device)
	if err != nil {
		t.Fatal(err)
	}
	b := &bus{device: dev}
	return newTPM(s.Device, b), b
}

// shows says whether the bytes crossed the bus in clear.
func (b *bus) shows(secret []byte) bool {
	for _, data := range b.seen {
		if bytes.Contains(data, secret) {
			return true
		}
	}
	return false
}

// sessions are the TPM2_StartAuthSession commands that were seen.
func (b *bus) sessions() (all []tpm2.StartAuthSession) {
	for _, data := range b.seen {
		if len(data) < headerSize || tpm2.TPMCC(binary.BigEndian.Uint32(data[6:])) != tpm2.TPMCCStartAuthSession {
			continue
		}
		all = append(all, tpm2.StartAuthSession{
			TPMKey: tpm2.TPMHandle(binary.BigEndian.Uint32(data[headerSize:])),
		})
	}
	return all
}

// A TPM takes one command at a time; two would mix their responses.
func TestOneCommandAtATime(t *testing.T) {
	tp, b := onBus(t, swtpmtest.Start(t))
	signer := loadKey(t, tp, createKey(t, tp, ECDSAP256))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				checkSign(t, signer)
			}
		})
	}
	wg.Wait()
	if b.overlaps != 0 {
		t.Errorf("%d commands met another one", b.overlaps)
	}
}

// What a key is sealed with crosses the bus twice, never in clear, and in
// sessions whose key does not follow from what is on the bus.
func TestSealedSecretStaysOffTheBus(t *testing.T) {
	for _, pcrs := range [][]int{nil, {7}} {
		tp, b := onBus(t, swtpmtest.Start(t))
		secret := bytes.Repeat([]byte{0x5a}, wrapKeySize)
		var got []byte
		err := tp.do(t.Context(), "seal", func(c channel) error {
			p, err := choose(c)
			if err != nil {
				return err
			}
			defer p.close(c)
			public, private, err := p.seal(c, secret, pcrs)
			if err != nil {
				return err
			}
			got, err = p.unseal(c, &Sealed{
				public: public, private: private, header: sealedHeader{PCRs: pcrs, ParentName: p.key.Name.Buffer},
			})
			return err
		})
		if err != nil || !bytes.Equal(got, secret) {
			t.Fatalf("unsealed %x: %v", got, err)
		}
		if b.shows(secret) {
			t.Error("the secret crossed the bus in clear")
		}
		salted := 0
		for _, s := range b.sessions() {
			if s.TPMKey != tpm2.TPMRHNull {
				salted++
			}
		}
		if salted != 2 { // one to seal, one to unseal; a trial session carries nothing
			t.Errorf("%d salted sessions, want 2", salted)
		}
	}
}

// Nor does a software key that is taken in, or the owner's password.
func TestAdoptedKeyStaysOffTheBus(t *testing.T) {
	s := swtpmtest.Start(t)
	tool(t, s, "tpm2_changeauth", "-c", "owner", "owner's password")
	for _, alg := range []Algorithm{ECDSAP256, RSA2048} {
		tp, b := onBus(t, s)
		WithOwnerAuth(NewSecret([]byte("owner's password")))(tp)
		key := softwareKey(t, alg)
		if _, err := tp.Adopt(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		var secrets [][]byte
		switch key := key.(type) {
		case *ecdsa.PrivateKey:
			d, err := key.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			secrets = [][]byte{d}
		case *rsa.PrivateKey:
			secrets = [][]byte{key.Primes[0].Bytes(), key.Primes[1].Bytes()}
		}
		for _, secret := range append(secrets, []byte("owner's password")) {
			if b.shows(secret) {
				t.Errorf("%s: %x crossed the bus in clear", alg, secret)
			}
		}
	}
}

// From the start of the service to its first signature: flush what another one
// left, read the SRK's name, load, sign. A reconnect is a signature.
func TestCommandBudget(t *testing.T) {
	s := swtpmtest.Start(t)
	persistSRK(t, s)
	file := encodeKey(t, createKey(t, openTPM(t, s.Device), ECDSAP256))

	tp, b := onBus(t, s)
	if _, err := tp.FlushLeftovers(t.Context()); err != nil {
		t.Fatal(err)
	}
	key, err := ParseKey(file)
	if err != nil {
		t.Fatal(err)
	}
	signer := loadKey(t, tp, key)
	checkSign(t, signer)
	if n := tp.Commands(); n > 4 || int(n) != len(b.seen)/2 {
		t.Errorf("%d commands to the first signature, %d on the bus; want at most 4", n, len(b.seen)/2)
	}
	for range 3 {
		before := tp.Commands()
		handshake(t, signer)
		// The certificate that handshake makes for the key is the second
		// signature.
		if n := tp.Commands() - before; n != 2 {
			t.Errorf("%d commands for a certificate and a connection, want 2", n)
		}
	}
}

// What a killed process left of its sessions is in nobody's way.
func TestLeftoverSessions(t *testing.T) {
	s := swtpmtest.Start(t)
	tp := openTPM(t, s.Device)
	seal := sealKey(t, tp, softwareKey(t, ECDSAP256))
	err := tp.do(t.Context(), "leave sessions", func(c channel) error {
		for range 64 {
			_, _, err := tpm2.HMACSession(c, tpm2.TPMAlgSHA256, nonceSize)
			if err != nil {
				if !sessionsFull(err) {
					return err
				}
				return nil
			}
		}
		return errors.New("the TPM never ran out of sessions")
	})
	if err != nil {
		t.Fatal(err)
	}
	unsealKey(t, tp, seal)
}
