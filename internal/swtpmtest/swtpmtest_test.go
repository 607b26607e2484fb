package swtpmtest

import (
	"net"
	"strings"
	"testing"
)

func TestStartedMeansListening(t *testing.T) {
	for name, start := range map[string]func(testing.TB) *TPM{"unix": Start, "tcp": StartTCP} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			network, address, _ := strings.Cut(s.Device, ":")
			dial := func() error {
				conn, err := new(net.Dialer).DialContext(t.Context(), network, address)
				if err == nil {
					conn.Close()
				}
				return err
			}
			for range 3 {
				if err := dial(); err != nil {
					t.Fatalf("after the start: %v", err)
				}
				s.PowerCut()
				if dial() == nil {
					t.Fatal("it still listens after a power cut")
				}
				s.PowerOn()
			}
		})
	}
}
