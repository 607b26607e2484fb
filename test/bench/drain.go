package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// drainLimit is how long it may take to send what is stored.
const drainLimit = 10 * time.Minute

// drained measures how an agent that was offline for long sends what it has
// stored: from the first to the last message, as the cloud sees them.
func (l *lab) drained(name string, messages int, g *gateway) contender {
	runs := 0
	return contender{name: name, messages: messages, run: func(ctx context.Context, messages int) (c cost, err error) {
		self, err := os.Executable()
		if err != nil {
			return c, err
		}
		runs++
		mark := "drain-" + strconv.Itoa(runs)
		_, err = output(ctx, self, "fill", filepath.Join(g.state(), "buffer"), "dt/"+g.thing, mark, strconv.Itoa(messages))
		if err != nil {
			return c, err
		}
		before, err := l.broker.watch.counted(ctx)
		if err != nil {
			return c, err
		}
		brokerBefore, err := l.broker.cpu()
		if err != nil {
			return c, err
		}
		p, err := g.start(ctx)
		if err != nil {
			return c, err
		}
		defer p.stop()
		began, err := l.broker.watch.at(ctx, patience, "dt/"+g.thing+"/begin", mark)
		if err != nil {
			return c, err
		}
		cpu, err := p.cpu()
		if err != nil {
			return c, err
		}
		end, err := l.broker.watch.at(ctx, drainLimit, "dt/"+g.thing+"/end", mark)
		if err != nil {
			return c, err
		}
		after, err := p.cpu()
		if err != nil {
			return c, err
		}
		c.wall, c.cpu, c.rss = end.Sub(began), after-cpu, p.memory("VmHWM")
		_, err = l.complete(ctx, &c, messages, before, brokerBefore)
		return c, err
	}}
}
