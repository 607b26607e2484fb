package main

import (
	"context"
	"errors"
	"os"
	"strconv"
	"time"
)

// path is a service that takes messages on a unix socket and brings them to the
// cloud: our agent, or a mosquitto with a bridge.
type path struct {
	*process

	lab    *lab
	thing  string // telemetry/x comes out on dt/THING/x
	socket string
	marks  int
}

// publish hands in one message with mosquitto_pub.
func (p *path) publish(ctx context.Context, topic, message string) error {
	_, err := output(ctx, "mosquitto_pub", "--unix", p.socket, "-V", "mqttv5", "-q", "1", "-t", "telemetry/"+topic, "-m", message)
	return err
}

// mark sends a message through the path and says when it came out at the cloud:
// what was handed in before is there too, or lost. One that is lost itself is
// sent again.
func (p *path) mark(ctx context.Context) (time.Time, error) {
	for range 5 {
		p.marks++
		payload := strconv.Itoa(p.cmd.Process.Pid) + "-" + strconv.Itoa(p.marks)
		if err := p.publish(ctx, "end", payload); err != nil {
			return time.Time{}, err
		}
		if at, err := p.lab.broker.watch.at(ctx, patience, "dt/"+p.thing+"/end", payload); err == nil {
			return at, nil
		}
	}
	return time.Time{}, errors.New("no message comes through")
}

// awaitThrough waits until messages come through.
func (p *path) awaitThrough(ctx context.Context) error {
	err := p.await(ctx, "take a message", func(ctx context.Context) bool {
		_, err := os.Stat(p.socket)
		return err == nil && p.publish(ctx, "ready", "ready") == nil
	})
	if err == nil {
		_, err = p.mark(ctx)
	}
	return err
}

// produce hands messages in with as many mosquitto_pub -l as it takes, at the
// same time, and returns when all have their PUBACKs.
func (p *path) produce(ctx context.Context, messages int) error {
	var producers []*process
	defer func() {
		for _, producer := range producers {
			producer.stop()
		}
	}()
	for left := messages; left > 0; left -= pubLines {
		cmd := command(ctx, "mosquitto_pub", "--unix", p.socket, "-V", "mqttv5", "-q", "1", "-t", "telemetry/bench",
			"-M", strconv.Itoa(window), "-l")
		lines, err := p.lab.lines(min(left, pubLines))
		if err != nil {
			return err
		}
		defer lines.Close()
		cmd.Stdin = lines
		producer, err := start(cmd)
		if err != nil {
			return err
		}
		producers = append(producers, producer)
	}
	for _, producer := range producers {
		select {
		case <-producer.exited:
			if producer.err != nil {
				return producer.err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// through measures a path from a program's socket to the cloud, from the start
// of the producers to the message behind its last one.
func (l *lab) through(name string, messages int, open func(ctx context.Context) (*path, error)) contender {
	return contender{name: name, messages: messages, run: func(ctx context.Context, messages int) (c cost, err error) {
		p, err := open(ctx)
		if err != nil {
			return c, err
		}
		defer p.stop()
		if err := p.awaitThrough(ctx); err != nil {
			return c, err
		}
		before, err := l.broker.watch.counted(ctx)
		if err != nil {
			return c, err
		}
		cpu, err := p.cpu()
		if err != nil {
			return c, err
		}
		brokerBefore, err := l.broker.cpu()
		if err != nil {
			return c, err
		}
		began := time.Now()
		if err := p.produce(ctx, messages); err != nil {
			return c, err
		}
		end, err := p.mark(ctx)
		if err != nil {
			return c, err
		}
		c.wall = end.Sub(began)
		after, err := p.cpu()
		if err != nil {
			return c, err
		}
		c.cpu, c.rss = after-cpu, p.memory("VmHWM")
		_, err = l.complete(ctx, &c, messages, before, brokerBefore)
		return c, err
	}}
}
