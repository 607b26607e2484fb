package local

import "sync/atomic"

// receiveMaximum is how many publishes at QoS 1 a client may have waiting for
// their PUBACK; AWS IoT Core has the same.
const receiveMaximum = 100

// window is a client's publishes at QoS 1 that have no PUBACK yet, in the
// order in which they came: the order in which MQTT wants the PUBACKs
// ([MQTT-4.6.0-2]), in whatever order the messages become safe. Its owner
// guards it.
type window struct {
	slots [receiveMaximum]slot
	first int // of those in use
	used  int
}

type slot struct {
	id      uint16
	settled bool
	code    byte
	why     string
	answer  *answer     // made once, so that a message costs none
	done    func(error) // the answer's
}

// answer is what the buffer holds of a client as long as it does not know what
// becomes of the message in a slot. That can be days: the client is not kept in
// memory for it.
type answer struct {
	client atomic.Pointer[client] // nil: it has gone
	slot   int
}

// done settles the slot, if somebody is still there to hear it.
func (a *answer) done(err error) {
	if c := a.client.Load(); c != nil {
		c.outcome(a.slot, err)
	}
}

// done is what the buffer calls when it knows what becomes of the message in
// slot i of c's window. Only one goroutine calls it, and then cutLoose.
func (w *window) done(c *client, i int) func(error) {
	s := &w.slots[i]
	if s.answer == nil {
		s.answer = &answer{slot: i}
		s.answer.client.Store(c)
		s.done = s.answer.done
	}
	return s.done
}

// cutLoose takes the client away from the answers that the buffer holds.
func (w *window) cutLoose() {
	for i := range w.slots {
		if a := w.slots[i].answer; a != nil {
			a.client.Store(nil)
		}
	}
}

func (w *window) full() bool { return w.used == len(w.slots) }

// add takes the next slot; there is one. It says which.
func (w *window) add(id uint16) int {
	i := (w.first + w.used) % len(w.slots)
	w.used++
	s := &w.slots[i]
	s.id, s.settled, s.code, s.why = id, false, 0, ""
	return i
}

// settle says how slot i is to be answered, and whether it is its turn.
func (w *window) settle(i int, code byte, why string) (turn bool) {
	s := &w.slots[i]
	s.settled, s.code, s.why = true, code, why
	return i == w.first
}

// next takes the oldest out, if it is settled.
func (w *window) next() (s *slot, ok bool) {
	s = &w.slots[w.first]
	if w.used == 0 || !s.settled {
		return nil, false
	}
	w.first = (w.first + 1) % len(w.slots)
	w.used--
	return s, true
}
