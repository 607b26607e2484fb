package main

import (
	"bufio"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	uptime   = "$SYS/broker/uptime" // published in each round of counts, before the others
	received = "$SYS/broker/publish/messages/received"
)

// observer is a mosquitto_sub at the cloud: it sees the broker's own count of
// what it was sent, and the messages on the topics "begin" and "end" of things.
type observer struct {
	*process

	mu      sync.Mutex
	rounds  int                  // of counts
	count   int                  // PUBLISH packets that the broker got
	seen    map[string]time.Time // by "topic payload"
	changed chan struct{}        // closed, and made anew, with each line
	reading sync.WaitGroup
}

func observe(ctx context.Context, port string) (*observer, error) {
	cmd := command(ctx, "stdbuf", "-oL", "mosquitto_sub", "-h", "127.0.0.1", "-p", port, "-V", "mqttv5", "-q", "1", "-F", "%t %p",
		"-t", uptime, "-t", received, "-t", "dt/+/begin", "-t", "dt/+/end")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	o := &observer{seen: map[string]time.Time{}, changed: make(chan struct{})}
	if o.process, err = start(cmd); err != nil {
		return nil, err
	}
	o.reading.Go(func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			o.see(lines.Text())
		}
	})
	return o, nil
}

func (o *observer) see(line string) {
	now := time.Now()
	topic, payload, _ := strings.Cut(line, " ")
	o.mu.Lock()
	defer o.mu.Unlock()
	switch topic {
	case uptime:
		o.rounds++
	case received:
		o.count, _ = strconv.Atoi(payload)
	default:
		o.seen[line] = now
	}
	close(o.changed)
	o.changed = make(chan struct{})
}

// await waits until something is to be seen; condition is called with the lock
// held.
func (o *observer) await(ctx context.Context, within time.Duration, what string, condition func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		o.mu.Lock()
		ok, changed := condition(), o.changed
		o.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-o.exited:
			return fmt.Errorf("the observer ended: %w", o.err)
		case <-ctx.Done():
			return fmt.Errorf("%s was not seen at the cloud: %w", what, ctx.Err())
		}
	}
}

// counted is how many messages the broker has got so far. It waits until a
// whole round of counts has come.
func (o *observer) counted(ctx context.Context) (count int, err error) {
	o.mu.Lock()
	next := o.rounds + 2
	o.mu.Unlock()
	err = o.await(ctx, patience, "a round of counts", func() bool { count = o.count; return o.rounds >= next })
	return count, err
}

// at waits for a message and says when it came.
func (o *observer) at(ctx context.Context, within time.Duration, topic, payload string) (at time.Time, err error) {
	line := topic + " " + payload
	err = o.await(ctx, within, line, func() (ok bool) { at, ok = o.seen[line]; return ok })
	return at, err
}

func (o *observer) stop() {
	o.process.stop()
	o.reading.Wait()
}
