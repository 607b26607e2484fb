package broker

import (
	"math/rand/v2"
	"time"
)

// end is how a connection ends.
type end int

const (
	beforeConnack end = iota // after the CONNECT, without a word
	between                  // all is answered, then closed
	reset                    // the same with a reset
	swallowed                // the last messages are read and not answered
	halfRead                 // in the middle of a packet of the client
	halfWritten              // in the middle of a PUBACK
	goodbye                  // DISCONNECT 0x8B, server shutting down
	ends
)

// fate is what a connection is going to meet. Counts are in messages of this
// connection, from 1 on.
type fate struct {
	end            end
	after          int           // the end comes with this message ...
	within         time.Duration // ... or after this time, whichever is first
	unanswered     int           // swallowed: so many before the end get no PUBACK,
	silent         time.Duration // and none from so long before it
	receiveMaximum int
	forget         bool // the session that the server had for this client
	muteAt         int  // from this message on no PUBACK goes out ...
	mute           time.Duration
	busy           float64 // share of messages that get 0x97
}

// calm is the fate of connections when there are no faults.
var calm = fate{end: ends, receiveMaximum: 100}

// draw makes a fate. The numbers let a connection live for a second or three at
// some 100 messages a second, and reach each way to fail many times in a run.
func draw(random *rand.Rand, spillAfter time.Duration) fate {
	f := fate{
		end:            end(random.IntN(int(ends))),
		after:          1 + random.IntN([]int{100, 2000}[random.IntN(2)]), // within a backlog, or behind it
		within:         time.Second/2 + time.Duration(random.Int64N(int64(3*time.Second))),
		unanswered:     random.IntN(120),
		silent:         time.Duration(random.Int64N(int64(spillAfter))),
		receiveMaximum: []int{1, 5, 20, 100, 100}[random.IntN(5)],
		forget:         random.IntN(2) == 0,
	}
	if random.IntN(3) == 0 { // more often than the others: it leaves most to be done again
		f.end = swallowed
	}
	if random.IntN(4) == 0 { // mute for longer than the gateway keeps messages in memory
		f.muteAt = 1 + random.IntN(100)
		f.mute = spillAfter + time.Duration(random.Int64N(int64(spillAfter)))
		f.within += f.mute
	}
	if random.IntN(2) == 0 {
		f.busy = 0.05
	}
	return f
}
