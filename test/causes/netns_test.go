package causes

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// slowTests is set in the environment for what takes minutes.
const slowTests = "SLOW"

// lab is a network namespace with a cable to ours: the server is at one end,
// the gateway at the other.
type lab struct {
	t              testing.TB
	name           string
	server, client string // addresses
	near, far      string // interfaces: ours and the gateway's
}

func newLab(t testing.TB) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skipped: network namespaces need root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("skipped: network namespaces need ip (iproute2)")
	}
	r := rand.Uint32()
	prefix := fmt.Sprintf("10.%d.%d.", 128+r%128, r>>8%256)
	first := r >> 16 % 64 * 4
	l := &lab{
		t: t, name: fmt.Sprintf("causes%x", r), near: fmt.Sprintf("cn%x", r), far: fmt.Sprintf("cf%x", r),
		server: prefix + strconv.Itoa(int(first)+1), client: prefix + strconv.Itoa(int(first)+2),
	}
	l.ip("netns", "add", l.name)
	t.Cleanup(func() {
		// The cable goes with it.
		if out, err := exec.Command("ip", "netns", "del", l.name).CombinedOutput(); err != nil { //nolint:noctx // the test's context has ended here
			t.Errorf("ip netns del: %v: %s", err, out)
		}
	})
	l.ip("link", "add", l.near, "type", "veth", "peer", "name", l.far, "netns", l.name)
	l.ip("addr", "add", l.server+"/30", "dev", l.near)
	l.inside("addr", "add", l.client+"/30", "dev", l.far)
	// What only the agent sends shall go over the cable.
	l.quiet(nil, l.near)
	l.quiet([]string{"ip", "netns", "exec", l.name}, l.far)
	l.ip("link", "set", l.near, "up")
	l.inside("link", "set", "lo", "up")
	l.inside("link", "set", l.far, "up")
	return l
}

// quiet switches IPv6 off on an interface.
func (l *lab) quiet(where []string, device string) {
	command := append(where, "sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/"+device+"/disable_ipv6 || true")
	rig.MustRun(l.t, command[0], command[1:]...)
}

func (l *lab) ip(args ...string) {
	l.t.Helper()
	rig.MustRun(l.t, "ip", args...)
}

func (l *lab) inside(args ...string) {
	l.t.Helper()
	l.ip(append([]string{"-n", l.name}, args...)...)
}

// Vanish makes all packets vanish, in both directions: what the gateway sends
// has no way back, so it is dropped too. No interface shows anything.
func (l *lab) Vanish() { l.ip("route", "add", "blackhole", l.client+"/32") }

// Appear ends that.
func (l *lab) Appear() { l.ip("route", "del", "blackhole", l.client+"/32") }

// traffic counts what went over the cable so far, in both directions: packets,
// and bytes from the IP header on.
func (l *lab) traffic() (packets, bytes int64) {
	l.t.Helper()
	read := func(counter string) int64 {
		data, err := os.ReadFile("/sys/class/net/" + l.near + "/statistics/" + counter)
		if err != nil {
			l.t.Fatal(err)
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
		if err != nil {
			l.t.Fatal(err)
		}
		return n
	}
	const ethernet = 14 // bytes of header that the counters of an interface hold
	packets = read("rx_packets") + read("tx_packets")
	return packets, read("rx_bytes") + read("tx_bytes") - ethernet*packets
}

// start starts the service at the far end of the cable.
func (l *lab) start(g *gateway) {
	g.t.Helper()
	g.Process = rig.StartProcess(g.t, g.Env(), "ip", "netns", "exec", l.name,
		rig.Bin(g.t, "jitr-agent"), "--config", g.ConfigFile, "--state-dir", g.StateDir, "run")
}

// online starts a server and a gateway in the lab, and waits until they have
// met.
func (l *lab) online(t *testing.T, p play, settings map[string]string) (*server, *gateway) {
	t.Helper()
	srv := startServer(t, l.server+":0", p)
	g := newGateway(t, srv.Settings(), settings)
	l.start(g)
	g.await(soon, "online", 0)
	return srv, g
}

// keepAlive accepts with a Server Keep Alive, in seconds.
func keepAlive(seconds uint16, on func(*packets.ControlPacket)) play {
	return after(func(p *peer) {
		p.acceptWith(&packets.Properties{ServerKeepAlive: &seconds})
		p.serve(func(packet *packets.ControlPacket) bool {
			if on != nil {
				on(packet)
			}
			return false
		})
	})
}

// A session whose packets vanish is declared dead in time: by TCP's user
// timeout where there is traffic, and by the pinger where there is none.
func TestVanishingPackets(t *testing.T) {
	t.Parallel()
	const stall, interval, keep, slack = 3 * time.Second, time.Second, 4 * time.Second, time.Second
	for name, c := range map[string]struct {
		play     play
		settings map[string]string
		cause    string
		within   time.Duration
		says     string
	}{
		"with traffic": {
			online, map[string]string{"cloud.stall": `"3s"`, "telemetry.interval": `"1s"`},
			"network", interval + stall + slack, "nothing that was sent is acknowledged",
		},
		"idle":           {keepAlive(4, nil), nil, "keepalive", keep*3/2 + slack, "ping"},
		"idle and stall": {keepAlive(10, nil), map[string]string{"cloud.stall": `"3s"`}, "network", 10*time.Second + stall + slack, "nothing that was sent is acknowledged"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			_, g := l.online(t, c.play, c.settings)
			at := time.Now()
			l.Vanish()
			noticed, _ := g.await(soon, c.cause, 0)
			took := noticed.At.Sub(at)
			t.Logf("noticed after %v", took.Round(time.Millisecond))
			if took > c.within {
				t.Errorf("noticed after %v; want at most %v", took, c.within)
			}
			says(t, "the log", noticed.Message, c.says)
			if noticed.State != "offline" || noticed.Phase != "session" {
				t.Errorf("state %s, phase %s; want offline, session", noticed.State, noticed.Phase)
			}
		})
	}
}

// SYNs that nobody answers.
func TestNoAnswerToSYN(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	srv := startServer(t, l.server+":0", online)
	g := newGateway(t, srv.Settings())
	l.Vanish()
	l.start(g)
	g.judge(connecting("network"), "tcp", waits["network"].first, 0, []string{"no answer in time while connecting"}, []string{"firewall"})
}

// The gateway is back soon after an outage, however long it was.
func TestOutage(t *testing.T) {
	t.Parallel()
	outage, within := 15*time.Second, 20*time.Second
	if os.Getenv(slowTests) != "" {
		outage, within = 310*time.Second, 72*time.Second // the longest wait, and a dial that began before its end
	}
	l := newLab(t)
	srv, g := l.online(t, online, map[string]string{"cloud.stall": `"3s"`, "telemetry.interval": `"1s"`})
	l.Vanish()
	before := len(srv.Met())
	<-time.After(outage)
	if n := len(srv.Met()) - before; n != 0 {
		t.Fatalf("%d connections came through where no packet does", n)
	}
	_, skip := g.await(soon, "network", 0)
	l.Appear()
	at := time.Now()
	back, _ := g.await(within+soon, "online", skip)
	took := back.At.Sub(at)
	t.Logf("back %v after an outage of %v", took.Round(time.Millisecond), outage)
	if took > within {
		t.Errorf("back after %v; want at most %v", took, within)
	}
}

// A link that comes up is answered at once, however long the wait was.
func TestLinkUp(t *testing.T) {
	t.Parallel()
	const far, within = 15 * time.Second, 3 * time.Second
	l := newLab(t)
	srv := startServer(t, l.server+":0", online)
	g := newGateway(t, srv.Settings())
	l.inside("link", "set", l.far, "down")
	l.start(g)
	g.await(soon, "network", 0)
	rig.Eventually(t, time.Minute, func() error {
		in, ok := g.Status()["next"].(map[string]any)
		if ok && in["in_ms"].(float64) > float64(far.Milliseconds()) {
			return nil
		}
		g.retry() // the next wait is longer, or at least another one
		return errors.New("the next try is soon enough without any news")
	})
	l.inside("link", "set", l.far, "up")
	at := time.Now()
	g.await(soon, "online", 0)
	took := srv.Met()[0].Sub(at)
	t.Logf("dialled %v after the link came up", took.Round(time.Millisecond))
	if took > within {
		t.Errorf("dialled after %v; want at most %v", took, within)
	}
}

// What an idle gateway costs: a ping each interval, and nothing else. The
// numbers in docs/dead-links.md are from here.
func TestIdleCost(t *testing.T) {
	t.Parallel()
	settings := map[string]string{"cloud.stall": `"3s"`, "shadow.enabled": "false"}
	measure := func(t *testing.T, p func(count func(*packets.ControlPacket)) play, kind byte, n int, settings map[string]string) (packet, bytes float64) {
		t.Helper()
		l := newLab(t)
		type reading struct{ packets, bytes int64 }
		readings := make(chan reading, 100)
		_, g := l.online(t, p(func(packet *packets.ControlPacket) {
			if packet.Type == kind {
				packets, bytes := l.traffic()
				readings <- reading{packets, bytes}
			}
		}), settings)
		_, bytes0 := l.traffic()
		t.Logf("%.0f bytes to get in", float64(bytes0))
		var first, last reading
		for i := range n + 1 {
			select {
			case last = <-readings:
			case <-time.After(soon):
				t.Fatalf("only %d packets of that kind came", i)
			}
			if i == 0 {
				first = last
			}
		}
		g.Stop()
		return float64(last.packets-first.packets) / float64(n), float64(last.bytes-first.bytes) / float64(n)
	}
	const month = 30 * 24 * time.Hour
	perMonth := func(bytes float64, interval time.Duration) float64 { return bytes * float64(month/interval) / 1e6 }

	t.Run("pings", func(t *testing.T) {
		t.Parallel()
		packet, bytes := measure(t, func(on func(*packets.ControlPacket)) play { return keepAlive(8, on) }, packets.PINGREQ, 2, settings)
		t.Logf("a ping costs %.1f packets, %.0f bytes: %.1f MB a month at 60s, %.2f MB at 20m", packet, bytes, perMonth(bytes, time.Minute), perMonth(bytes, 20*time.Minute))
		if packet > 4 || bytes > 300 {
			t.Errorf("a ping interval costs %.1f packets and %.0f bytes; want PINGREQ, PINGRESP and their ACKs", packet, bytes)
		}
	})
	t.Run("telemetry", func(t *testing.T) {
		t.Parallel()
		packet, bytes := measure(t, func(on func(*packets.ControlPacket)) play { return keepAlive(60, on) }, packets.PUBLISH, 6, with(settings, "telemetry.interval", `"1s"`))
		t.Logf("a telemetry message costs %.1f packets, %.0f bytes: %.1f MB a month at 60s", packet, bytes, perMonth(bytes, time.Minute))
		if packet > 5 || bytes > 1000 {
			t.Errorf("a message costs %.1f packets and %.0f bytes", packet, bytes)
		}
	})
}
