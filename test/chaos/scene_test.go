package chaos

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// scene is a chaos run: a gateway between three producers and a cloud, with
// faults on both sides of it.
type scene struct {
	cloud    startCloud
	gateway  startGateway
	messages int           // of all producers
	rate     int           // of each producer, messages a second
	padding  int           // bytes of each message beside its name
	away     bool          // the cloud lets nobody in until the producers are done
	killGap  time.Duration // kill -9 comes after half to one and a half of it; 0: never
	// finished is how long the producers may take beyond twice their own time, and
	// how long the gateway may take to drain after them.
	finished time.Duration
}

// verdict is what check said.
type verdict struct {
	OK     bool
	Output string
}

// number is a number of the table.
func (v verdict) number(t *testing.T, name string) int {
	t.Helper()
	for line := range strings.Lines(v.Output) {
		if rest, ok := strings.CutPrefix(line, "  "+name+" "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(rest))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("check printed no %q:\n%s", name, v.Output)
	return 0
}

// check lets the checker judge the files.
func check(t *testing.T, files ...string) verdict {
	t.Helper()
	r := rig.Run(t, "./check", files...)
	if r.Code != 0 && !strings.Contains(r.Stdout, "check: failed") {
		t.Fatal(r)
	}
	return verdict{r.Code == 0, r.Stdout}
}

// run plays the scene and lets the checker judge it.
func (s scene) run(t *testing.T, seed uint64) verdict {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 0))
	dir := runDir(t)
	producersDir := needProducers(t)
	ca, seen := rig.NewCA(t), newCapture(t, dir)
	cloud := s.cloud(t, ca, seed, seen)
	gateway := s.gateway(t, ca, cloud)

	begin := time.Now()
	p := startProducers(t, producersDir, s, gateway, dir)
	if s.away {
		cloud.Leave()
	} else {
		cloud.Storm()
	}
	s.storm(t, random, gateway, p, seen)
	produced := time.Since(begin)
	cloud.Calm()
	for _, process := range p.running {
		if code := process.Wait(soon); code != 0 {
			t.Fatalf("a producer ended with %d: %s", code, process.Stderr)
		}
	}
	s.drain(t, gateway)
	t.Logf("seed %d: produced in %.1f s, drained after %.1f s", seed, produced.Seconds(), time.Since(begin).Seconds())
	cloud.Finish(t)
	var dead strings.Builder
	for _, key := range gateway.DeadLetters() {
		fmt.Fprintf(&dead, "%d dead %s\n", time.Now().UnixNano(), key)
	}
	files := append(p.logs, seen.path, write(t, filepath.Join(dir, "dead.log"), dead.String()))
	v := check(t, files...)
	t.Logf("\n%s", v.Output)
	return v
}

// runDir is a directory for the files of a run, which go to CHAOS_KEEP before
// the test ends.
func runDir(t *testing.T) string {
	t.Helper()
	dir := rig.TempDir(t)
	t.Cleanup(func() {
		if keep := os.Getenv("CHAOS_KEEP"); keep != "" {
			if err := os.CopyFS(filepath.Join(keep, strings.ReplaceAll(t.Name(), "/", "-")), os.DirFS(dir)); err != nil {
				t.Error(err)
			}
		}
	})
	return dir
}

// storm kills and starts the gateway until the producers are done.
func (s scene) storm(t *testing.T, random *rand.Rand, g gateway, p *producers, seen *capture) {
	t.Helper()
	nudge := time.NewTicker(time.Second)
	defer nudge.Stop()
	gap := func() time.Duration {
		if s.killGap == 0 {
			return time.Hour
		}
		return s.killGap/2 + time.Duration(random.Int64N(int64(s.killGap)))
	}
	kill := time.NewTimer(gap())
	defer kill.Stop()
	limit := time.After(2*time.Duration(s.messages/3/s.rate)*time.Second + s.finished)
	for done := p.Done(); ; {
		select {
		case <-done:
			return
		case <-kill.C:
			seen.kill()
			g.Kill()
			g.Start()
			kill.Reset(gap())
		case <-g.Exited():
			t.Fatal("the gateway ended by itself")
		case <-nudge.C:
			g.Nudge()
		case <-limit:
			t.Fatalf("the producers are not done: %v", g.Drained())
		}
	}
}

// drain waits until the gateway has sent all it has.
func (s scene) drain(t *testing.T, g gateway) {
	t.Helper()
	nudge := time.NewTicker(time.Second)
	defer nudge.Stop()
	limit := time.After(s.finished)
	for {
		err := g.Drained()
		if err == nil {
			return
		}
		select {
		case <-nudge.C:
			g.Nudge()
		case <-g.Exited():
			t.Fatal("the gateway ended by itself")
		case <-limit:
			t.Fatalf("not drained after %s: %v", s.finished, err)
		}
	}
}
