package netpath

import (
	"testing"
	"time"
)

func TestLadder(t *testing.T) {
	var l Ladder
	now := time.Duration(0)
	dial := func(reached bool) bool {
		now += time.Minute
		port443 := l.Port443(now)
		if reached {
			l.Reached()
		} else {
			l.Blocked()
		}
		return port443
	}
	expect := func(what string, want bool, got bool) {
		t.Helper()
		if got != want {
			t.Errorf("%s: 443 is %v; want %v", what, got, want)
		}
	}

	expect("first", false, dial(false))
	expect("one failure is no firewall", false, dial(false))
	expect("then 443", true, dial(false))
	expect("no rung works: they take turns", false, dial(false))
	expect("no rung works: they take turns", true, dial(true))
	if !l.On443() {
		t.Error("443 worked and is not remembered")
	}
	expect("what worked is used", true, dial(false))
	expect("one failure is no firewall", true, dial(true))

	now += rungMemory
	expect("8883 again after a day", false, dial(false))
	expect("still blocked: back to 443 at once", true, dial(true))
	now += rungMemory
	expect("8883 again after another day", false, dial(true))
	expect("8883 works", false, dial(true))
	if l.On443() {
		t.Error("8883 works, and 443 is remembered")
	}

	l.Remember(now)
	expect("after a restart", true, dial(true))
}
