// Command demo is `make demo`: the whole first connect on one machine, with the
// real programs, a software TPM and the emulator. It judges by what others
// see: the emulator's registry over REST, and mosquitto_sub.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

const (
	thing = "gw-demo"
	// patience is how long the certificate may stay pending, and how long all
	// that follows may take.
	patience = 30 * time.Second
	// interval is what the demo asks for through the shadow.
	interval = "2s"
)

// summary is what the demo found out, for people and for scripts.
type summary struct {
	Result                string `json:"result"`
	KeyProvider           string `json:"key_provider"`
	CertificateID         string `json:"certificate_id"`
	CAID                  string `json:"ca_id"`
	Attempts              int    `json:"attempts"`
	RefusedWhilePending   int    `json:"refused_while_pending"`
	ActivatedAfter        string `json:"activated_after"`
	OnlineAfterActivation string `json:"online_after_activation"`
	Init                  string `json:"init"`
	TelemetryMessages     int    `json:"telemetry_messages"`
	ShadowVersion         int64  `json:"shadow_version"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := demo(ctx)
	stop()
	os.Exit(code)
}

func demo(ctx context.Context) int {
	dir, err := filepath.Abs("build/demo")
	if err == nil {
		err = errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755))
	}
	if err != nil {
		fmt.Println("demo: failed:", err)
		return 1
	}
	s := &summary{}
	err = play(ctx, dir, s)
	if ctx.Err() != nil {
		err = errors.New("it was interrupted")
	}
	s.Result = "ok"
	if err != nil {
		s.Result = "failed: " + err.Error()
	}
	s.print()
	if data, encodeErr := json.MarshalIndent(s, "", "  "); encodeErr == nil {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, "summary.json"), append(data, '\n'), 0o644))
	}
	fmt.Println("demo:", s.Result)
	if err != nil {
		return 1
	}
	return 0
}

func (s *summary) print() {
	fmt.Println()
	row := func(name string, value any) {
		if value != "" {
			fmt.Printf("  %-24s  %v\n", name, value)
		}
	}
	row("key provider", s.KeyProvider)
	row("certificate id", s.CertificateID)
	row("CA id", s.CAID)
	row("attempts", s.Attempts)
	row("refused while pending", s.RefusedWhilePending)
	row("activated after", s.ActivatedAfter)
	row("online after activation", s.OnlineAfterActivation)
	row("init", s.Init)
	row("telemetry messages", s.TelemetryMessages)
	row("shadow version", s.ShadowVersion)
	fmt.Println()
}

// play goes through the scenes. Everything it starts has ended when it
// returns.
func play(ctx context.Context, dir string, s *summary) error {
	st := &stage{dir: dir}
	defer st.clear()

	activate := os.Getenv("ACTIVATE")
	if activate == "" {
		activate = "3s"
	}
	device, err := st.startTPM(ctx)
	if err != nil {
		return err
	}
	if err := st.run(ctx, "bin/jitrctl", "ca", "init", "--dir", st.path("ca"), "--cn", "Demo CA"); err != nil {
		return err
	}
	if err := st.startCloud(ctx, activate); err != nil {
		return err
	}
	watch, err := st.startObserver(ctx)
	if err != nil {
		return err
	}
	if err := st.enrol(ctx, device, s); err != nil {
		return err
	}
	if err := st.startAgent(ctx); err != nil {
		return err
	}

	cert, err := st.untilActive(ctx, s)
	if err != nil {
		return err
	}
	s.ActivatedAfter = cert.ActivatedAt.Sub(cert.FirstSeenAt).Round(100 * time.Millisecond).String()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := watch.until(ctx, "the init message", "init/"+thing); err != nil {
		return err
	}
	s.Init = "seen by mosquitto_sub on init/" + thing
	if err := st.desire(ctx, interval); err != nil {
		return err
	}
	if s.ShadowVersion, err = st.untilReported(ctx, interval); err != nil {
		return err
	}
	if err := watch.until(ctx, "a telemetry message", "dt/"+thing+"/system"); err != nil {
		return err
	}
	if cert, err = st.certificate(ctx, s.CertificateID); err != nil {
		return err
	}
	s.RefusedWhilePending, s.Attempts = cert.RefusedWhilePending, cert.RefusedWhilePending+1
	s.OnlineAfterActivation = cert.AcceptedAt.Sub(cert.ActivatedAt).Round(time.Millisecond).String()
	s.TelemetryMessages = watch.count("dt/" + thing + "/system")
	return nil
}
