package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// loadedRate is the load of a gateway that works hard: AWS IoT takes 100
// messages a second from a connection.
const loadedRate = 100

// steady is what a service costs over a while, idle and under load.
type steady struct {
	name          string
	idle, loaded  time.Duration // CPU time in a minute
	idleRSS, peak int64         // bytes, at the end of the idle time and ever
	loadedRSS     int64
}

// keptUp measures services side by side, at the same time: for d idle, then
// for d at loadedRate each.
func keptUp(ctx context.Context, d time.Duration, names []string, paths []*path) ([]steady, error) {
	all := make([]steady, len(paths))
	spent := func(set func(s *steady, perMinute time.Duration), during func() error) error {
		before := make([]time.Duration, len(paths))
		began := time.Now()
		for i, p := range paths {
			var err error
			if before[i], err = p.cpu(); err != nil {
				return err
			}
		}
		if err := during(); err != nil {
			return err
		}
		for i, p := range paths {
			after, err := p.cpu()
			if err != nil {
				return err
			}
			set(&all[i], time.Duration(float64(after-before[i])/time.Since(began).Minutes()))
		}
		return nil
	}
	for i := range paths {
		all[i].name = names[i]
	}
	wait := func() error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := spent(func(s *steady, used time.Duration) { s.idle = used }, wait); err != nil {
		return nil, err
	}
	for i, p := range paths {
		all[i].idleRSS = p.memory("VmRSS")
	}
	err := spent(func(s *steady, used time.Duration) { s.loaded = used }, func() error { return load(ctx, d, paths) })
	for i, p := range paths {
		all[i].loadedRSS, all[i].peak = p.memory("VmRSS"), p.memory("VmHWM")
	}
	return all, err
}

// load publishes loadedRate messages a second on each path for d.
func load(ctx context.Context, d time.Duration, paths []*path) error {
	line := strings.Repeat("x", messageSize) + "\n"
	var inputs []io.WriteCloser
	var producers []*process
	for _, p := range paths {
		cmd := command(ctx, "mosquitto_pub", "--unix", p.socket, "-V", "mqttv5", "-q", "1", "-t", "telemetry/bench", "-l")
		in, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		producer, err := start(cmd)
		if err != nil {
			return err
		}
		defer producer.stop()
		inputs, producers = append(inputs, in), append(producers, producer)
	}
	tick := time.NewTicker(time.Second / loadedRate)
	defer tick.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		for _, in := range inputs {
			if _, err := io.WriteString(in, line); err != nil {
				return err
			}
		}
	}
	for i, in := range inputs {
		in.Close()
		select {
		case <-producers[i].exited:
		case <-time.After(patience):
			return fmt.Errorf("%s got no PUBACKs for its last messages", paths[i].thing)
		}
		if err := producers[i].err; err != nil {
			return err
		}
	}
	return nil
}
