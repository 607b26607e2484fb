package buffer

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// record is a gap record as the cloud reads it.
type record struct {
	Schema   int        `json:"schema"`
	Stream   string     `json:"stream"`
	From     uint64     `json:"from_seq"`
	To       uint64     `json:"to_seq"`
	Messages uint64     `json:"messages"`
	Why      string     `json:"why"`
	FromAt   *time.Time `json:"from_at"`
	ToAt     *time.Time `json:"to_at"`
}

func records(t *testing.T, l *line) []record {
	t.Helper()
	var all []record
	for _, g := range l.gaps() {
		var r record
		if err := json.Unmarshal([]byte(g), &r); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// small is a log that 5 segments fill, and a message of which 5 go into one.
func small() Limits {
	l := usual()
	l.MaxSize = 1280 << 10
	return l
}

const bulk = 48 << 10

// fill puts n messages of bulk bytes, one second apart.
func (b *bench) fill(a *answers, n int) (names []string) {
	b.t.Helper()
	for i := range n {
		name := fmt.Sprintf("%03d", i)
		names = append(names, name)
		payload := []byte(name + strings.Repeat(".", bulk))
		if err := b.Put(b.t.Context(), Message{Topic: "t", Payload: payload}, a.done(name)); err != nil {
			b.t.Fatalf("put %s: %v", name, err)
		}
		elapse(time.Second)
	}
	return names
}

func heads(l *line) []string {
	all := l.seen()
	for i := range all {
		all[i] = all[i][:3]
	}
	return all
}

// A full buffer drops the oldest, and each of them is in a gap record, which a
// crash does not lose.
func TestDropOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		b := begin(t, dir, nil, small())
		var a answers
		all := b.fill(&a, 60)
		want(t, "safe", a.list(), all)
		if s := b.Stats(); s.State != StateFull {
			t.Errorf("state %s", s.State)
		}
		dropped := int(b.lost[Full])
		if dropped < 30 || dropped > 50 {
			t.Fatalf("%d were dropped", dropped)
		}
		b = begin(t, copyDir(t, dir), nil, small()) // a crash
		l := &line{}
		b.link(l)
		want(t, "delivered", heads(l), all[dropped:])
		got := records(t, l)
		if len(got) != 1 || got[0].Messages != uint64(dropped) || got[0].From != 1 || got[0].To != uint64(dropped) ||
			got[0].Why != "full" || got[0].Schema != 1 || got[0].FromAt == nil || got[0].ToAt.Sub(*got[0].FromAt) != time.Duration(dropped-1)*time.Second {
			t.Errorf("gap records %+v; want one of %d messages", got, dropped)
		}
		if s := b.Stats(); s.State != StateOK || s.Messages != 0 {
			t.Errorf("afterwards %+v", s)
		}
		elapse(time.Second)
		b.cut()
		again := &line{}
		b.link(again)
		if n := len(again.gaps()); n != 0 {
			t.Errorf("a delivered gap record was sent %d times more", n)
		}
	})
}

// The same while a connection that answers nothing holds the oldest in flight.
func TestDropInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, t.TempDir(), nil, small())
		var a answers
		l := &line{answer: never, window: 3}
		b.link(l)
		all := b.fill(&a, 60)
		dropped := int(b.lost[Full])
		if dropped < 30 || dropped > 55 {
			t.Fatalf("%d were dropped", dropped)
		}
		l2 := &line{}
		b.link(l2)
		want(t, "delivered", heads(l2), all[dropped:])
		if b.memory != 0 || b.inFlight != 0 {
			t.Errorf("%d bytes in memory, %d in flight", b.memory, b.inFlight)
		}
	})
}

func TestRefuseNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := small()
		limits.RefuseNew = true
		b := begin(t, t.TempDir(), nil, limits)
		var a answers
		var safe []string
		for i := 0; ; i++ {
			name := fmt.Sprintf("%03d", i)
			err := b.Put(t.Context(), Message{Payload: []byte(name + strings.Repeat(".", bulk))}, a.done(name))
			elapse(time.Second)
			if err == nil {
				err = a.err(name)
			}
			if errors.Is(err, ErrFull) {
				break
			}
			if err != nil || i > 50 {
				t.Fatalf("%d: %v", i, err)
			}
			safe = append(safe, name)
		}
		if err := b.Put(t.Context(), Message{}, nil); !errors.Is(err, ErrFull) {
			t.Errorf("Put on the full buffer: %v", err)
		}
		if s := b.Stats(); s.State != StateFull || len(b.lost) != 0 {
			t.Errorf("state %s, lost %v", s.State, b.lost)
		}
		l := &line{}
		b.link(l)
		want(t, "delivered", heads(l), safe)
		b.put(&a, "one more")
		elapse(time.Minute)
		if s := b.Stats(); s.State != StateOK || !slices.Contains(a.list(), "one more") {
			t.Errorf("it does not heal: %+v", s)
		}
	})
}

// Too old is what the machine's own clock says, or two right wall clocks. No
// clock that was set, either way, ages a message.
func TestAge(t *testing.T) {
	real := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) // synctest begins at 2000-01-01
	for _, tt := range []struct {
		name    string
		floor   time.Time // at the time of Put
		wait    time.Duration
		reboot  bool
		floor2  time.Time // at the time of sending
		aged    bool
		expired bool
	}{
		{name: "young", wait: 59 * time.Minute},
		{name: "old, same boot", wait: 61 * time.Minute, aged: true},
		{name: "old, same boot, clock below the floor", floor: real, floor2: real, wait: 61 * time.Minute, aged: true},
		{name: "old, other boot", wait: 61 * time.Minute, reboot: true, aged: true},
		{name: "old, other boot, the clock was wrong then", floor: real, wait: 61 * time.Minute, reboot: true},
		{name: "old, other boot, the clock is wrong now", floor2: real, wait: 61 * time.Minute, reboot: true},
	} {
		for _, expiry := range []uint32{0, 3600} {
			t.Run(fmt.Sprintf("%s %d", tt.name, expiry), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					dir := t.TempDir()
					w := &world{start: time.Now(), bootID: "one", floor: tt.floor}
					limits := usual()
					if expiry == 0 {
						limits.MaxAge = time.Hour
					}
					b := begin(t, dir, w, limits)
					for i := range 3 {
						if err := b.Put(t.Context(), Message{Payload: fmt.Append(nil, i), Expiry: expiry}, nil); err != nil {
							t.Fatal(err)
						}
					}
					elapse(tt.wait)
					b.stop()
					w = &world{start: w.start, bootID: "one", floor: tt.floor2}
					if tt.reboot {
						w.start, w.bootID = time.Now(), "two"
					}
					b = begin(t, dir, w, limits)
					b.put(nil, "young")
					l := &line{}
					b.link(l)
					elapse(time.Second)
					sent, why := []string{"0", "1", "2", "young"}, ""
					if tt.aged {
						sent, why = []string{"young"}, string(Aged)
						if expiry > 0 {
							why = string(Expired)
						}
					}
					want(t, "sent", l.seen(), sent)
					got := records(t, l)
					if why == "" && len(got) != 0 {
						t.Errorf("gap records %+v", got)
					}
					if why != "" && (len(got) != 1 || got[0].Why != why || got[0].Messages != 3 || got[0].From != 1 || got[0].To != 3 ||
						(got[0].FromAt == nil) != !tt.floor.IsZero()) {
						t.Errorf("gap records %+v; want one of 3 messages, %s", got, why)
					}
					if s := b.Stats(); s.Messages != 0 {
						t.Errorf("stats %+v", s)
					}
				})
			})
		}
	}
}

// A message that expires in memory is counted too, and its producer is not
// left waiting.
func TestExpiresInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := usual()
		limits.SpillAfter = time.Minute
		b := begin(t, t.TempDir(), nil, limits)
		l := &line{answer: never, window: 1}
		b.link(l)
		var a answers
		b.put(&a, "before")
		if err := b.Put(t.Context(), Message{Payload: []byte("short"), Expiry: 1}, a.done("short")); err != nil {
			t.Fatal(err)
		}
		b.put(&a, "after")
		elapse(2 * time.Second)
		b.cut()
		l2 := &line{}
		b.link(l2)
		elapse(time.Second)
		want(t, "sent", l2.seen(), []string{"before", "after"})
		if got := records(t, l2); len(got) != 1 || got[0].Why != "expired" || got[0].From != 2 || got[0].To != 2 {
			t.Errorf("gap records %+v", got)
		}
		if b.memory != 0 || b.inFlight != 0 || b.Stats().Messages != 0 {
			t.Errorf("%d bytes in memory, %d in flight, %+v", b.memory, b.inFlight, b.Stats())
		}
	})
}

// Damage costs what it hit, and that is counted.
func TestDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		b := begin(t, dir, nil, usual())
		var a answers
		for i := range 20 {
			b.put(&a, fmt.Sprintf("message %02d", i))
			elapse(time.Second)
		}
		b.stop()
		files, err := filepath.Glob(filepath.Join(dir, "*.seg"))
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		data, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []string{"message 00", "message 07", "message 08"} {
			i := strings.Index(string(data), n)
			data[i] ^= 0x40
		}
		if err := os.WriteFile(files[0], data, 0o600); err != nil {
			t.Fatal(err)
		}
		b = begin(t, dir, nil, usual())
		if s := b.Stats(); s.State != StateDamaged {
			t.Errorf("state %s", s.State)
		}
		l := &line{}
		b.link(l)
		elapse(time.Second)
		if n := len(l.seen()); n != 17 {
			t.Errorf("%d messages were sent; want 17", n)
		}
		got := records(t, l)
		covered := map[uint64]bool{}
		n := uint64(0)
		for _, r := range got {
			n += r.Messages
			for s := r.From; s <= r.To; s++ {
				covered[s] = true
			}
		}
		if n != 3 || !covered[1] || !covered[8] || !covered[9] || got[0].Why != "damaged" {
			t.Errorf("gap records %+v", got)
		}
		b.put(&a, "then")
		if s := b.Stats(); s.State != StateOK || s.Messages != 0 {
			t.Errorf("afterwards %+v", s)
		}
	})
}

// Without the gap record on the disk nothing is dropped.
func TestNoDropUncounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		b := begin(t, dir, nil, small())
		if err := os.Mkdir(filepath.Join(dir, gapFileName), 0o700); err != nil { // no file can take its place
			t.Fatal(err)
		}
		if err := b.disk.gaps.save([]*gapEntry{{}}); err == nil {
			t.Fatal("the test does not hinder the gap record")
		}
		var a answers
		taken := 0
		for i := range 60 {
			name := fmt.Sprintf("%03d", i)
			if b.Put(t.Context(), Message{Payload: []byte(name + strings.Repeat(".", bulk))}, a.done(name)) == nil {
				taken++
			}
			elapse(time.Second)
		}
		safe := a.list()
		l := &line{}
		b.link(l)
		elapse(time.Minute)
		if got := heads(l); len(got) < len(safe) || !slices.Equal(got[:len(safe)], safe) {
			t.Errorf("safe were %v, delivered %v", safe, got)
		}
		if len(safe) < 10 || taken == 60 || len(b.lost) != 0 {
			t.Errorf("%d were safe, %d taken, lost %v", len(safe), taken, b.lost)
		}
	})
}

// A gap record that the server refuses stays, and is sent on the next
// connection; one that is refused for now comes again after the pause.
func TestGapRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, t.TempDir(), nil, small())
		var a answers
		b.fill(&a, 40)
		for _, tt := range []struct {
			code byte
			want int
		}{{0x87, 1}, {0x97, 2}, {0, 1}, {0, 0}} {
			n := 0
			l := &line{answer: func(m Message) (byte, bool) {
				if m.Topic != "gap" {
					return 0, true
				}
				if n++; n > 1 {
					return 0x87, true
				}
				return tt.code, true
			}}
			b.link(l)
			elapse(time.Minute)
			if n != tt.want {
				t.Errorf("code %#x: the gap record was sent %d times; want %d", tt.code, n, tt.want)
			}
		}
	})
}

func TestGapsSetAside(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, gapFileName)
	for _, content := range []string{"{", `{"version":2}`} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, setAside, err := openGaps(dir)
		if setAside == nil || err != nil {
			t.Errorf("%s: %v, %v", content, setAside, err)
		}
		if kept, err := os.ReadFile(path + ".bad"); err != nil || string(kept) != content {
			t.Errorf("%s: kept %q, %v", content, kept, err)
		}
	}
}

func TestStateOfErrors(t *testing.T) {
	b := New(Config{})
	for _, tt := range []struct {
		err  error
		want State
	}{{nil, StateOK}, {syscall.ENOSPC, StateDiskFull}, {syscall.EDQUOT, StateDiskFull}, {syscall.EROFS, StateReadOnly}, {syscall.EIO, StateDamaged}} {
		b.disk.log.err = tt.err
		if got, _ := b.stateNow(); got != tt.want {
			t.Errorf("%v: %s; want %s", tt.err, got, tt.want)
		}
	}
}
