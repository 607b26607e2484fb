package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := dispatch(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// dispatch is the bench, or one of the clients that it starts as children.
func dispatch(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return bench(ctx, args)
	}
	switch args[0] {
	case "session", "buffer":
		runtime.GOMAXPROCS(1) // as jitr-agent run does
		j, err := parseJob(args[1:])
		if err != nil {
			return err
		}
		if args[0] == "session" {
			return j.session(ctx)
		}
		return j.buffer(ctx)
	case "fill":
		if len(args) != 5 {
			return errors.New("usage: fill DIR PREFIX MARK MESSAGES")
		}
		messages, err := strconv.Atoi(args[4])
		if err != nil {
			return err
		}
		return fill(ctx, args[1], args[2], args[3], messages)
	}
	return bench(ctx, args)
}

// options are the command line.
type options struct {
	bin, peers, only string
	rounds           int
	scale            float64
	steady           time.Duration
}

// wants says whether a part is to be measured.
func (o *options) wants(part string) bool {
	return o.only == "" || strings.Contains(","+o.only+",", ","+part+",")
}

// messages scales a number of messages.
func (o *options) messages(n int) int { return max(2, int(float64(n)*o.scale)) }

func bench(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.bin, "bin", "bin", "the folder with jitr-agent and jitrctl")
	flags.StringVar(&o.peers, "peers", "test/bench/peers", "the folder with the scripts of the other clients")
	flags.IntVar(&o.rounds, "n", 5, "rounds; a number is their median")
	flags.Float64Var(&o.scale, "scale", 1, "factor for the number of messages")
	flags.DurationVar(&o.steady, "steady", time.Minute, "how long idle, and how long loaded")
	flags.StringVar(&o.only, "only", "", "parts, of process,through,drain,steady; empty: all")
	if err := flags.Parse(args); err != nil {
		return err
	}
	l, err := openLab(ctx, o.bin)
	if err != nil {
		return err
	}
	defer l.close()
	printMethod(ctx, os.Stdout, &o)
	targets, err := parts(ctx, l, &o)
	if err != nil {
		return err
	}
	fmt.Println("\ntargets")
	for _, t := range targets {
		fmt.Println(t)
	}
	return ctx.Err()
}

// parts measures and prints one part after the other.
func parts(ctx context.Context, l *lab, o *options) ([]target, error) {
	var all []target
	for _, part := range []struct {
		name string
		run  func(context.Context, *lab, *options) ([]target, error)
	}{{"process", processPart}, {"through", throughPart}, {"drain", drainPart}, {"steady", steadyPart}} {
		if !o.wants(part.name) {
			continue
		}
		targets, err := part.run(ctx, l, o)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
		all = append(all, targets...)
	}
	return all, nil
}

func processPart(ctx context.Context, l *lab, o *options) ([]target, error) {
	clients, err := l.clients(ctx, o.messages, o.peers)
	if err != nil {
		return nil, err
	}
	results := measure(ctx, o.rounds, clients)
	printTable(os.Stdout, "In process: a program connects, publishes and ends when it has every PUBACK", theirPub, results)
	return []target{
		ratio("in process: speed, against mosquitto_pub -l", results, ourBuffer, theirPub, rate, false, 2),
		ratio("in process: client's CPU per message, against the same", results, ourBuffer, theirPub, clientCPU, true, 0.6),
	}, nil
}

func throughPart(ctx context.Context, l *lab, o *options) ([]target, error) {
	g, err := l.newGateway(ctx, "bench-through")
	if err != nil {
		return nil, err
	}
	bridge := func(options ...string) func(context.Context) (*path, error) {
		return func(ctx context.Context) (*path, error) { return l.startBridge(ctx, "bench-bridge", options...) }
	}
	results := measure(ctx, o.rounds, []contender{
		l.through(ourAgent, o.messages(2*pubLines), g.start),
		l.through(theirQueue, o.messages(2*pubLines), bridge("max_queued_messages 0")),
		// It drops what is over 1000 queued messages.
		l.through("mosquitto bridge at its defaults", o.messages(2*pubLines), bridge()),
		// The nearest that it has to "on the disk before the PUBACK": it
		// writes its whole queue every second.
		l.through("mosquitto bridge, saved every second", o.messages(4_000),
			bridge("max_queued_messages 0", "autosave_on_changes true", "autosave_interval 1")),
	})
	printTable(os.Stdout, "Through a service: mosquitto_pub -l on a unix socket, from there to the cloud", theirQueue, results)
	return []target{
		ratio("through the unix socket: speed, against a mosquitto bridge", results, ourAgent, theirQueue, rate, false, 0.8),
	}, nil
}

func drainPart(ctx context.Context, l *lab, o *options) ([]target, error) {
	g, err := l.newGateway(ctx, "bench-drain")
	if err != nil {
		return nil, err
	}
	messages := o.messages(1_000_000)
	results := measure(ctx, min(o.rounds, 3), []contender{
		l.drained(ourAgent, messages, g),
		l.inProcess(theirPub, o.messages(pubLines), l.mosquittoPub),
	})
	printTable(os.Stdout, "Draining: what is stored goes to the cloud, by the agent itself", theirPub, results)
	return []target{
		ratio("draining: speed, against mosquitto_pub -l", results, ourAgent, theirPub, rate, false, 1.5),
		highest("draining: highest RSS", results, ourAgent, 24),
	}, nil
}

func steadyPart(ctx context.Context, l *lab, o *options) ([]target, error) {
	g, err := l.newGateway(ctx, "bench-steady")
	if err != nil {
		return nil, err
	}
	agent, err := g.start(ctx)
	if err != nil {
		return nil, err
	}
	defer agent.stop()
	bridge, err := l.startBridge(ctx, "bench-bridge", "max_queued_messages 0")
	if err != nil {
		return nil, err
	}
	defer bridge.stop()
	paths := []*path{agent, bridge}
	for _, p := range paths {
		if err := p.awaitThrough(ctx); err != nil {
			return nil, err
		}
	}
	all, err := keptUp(ctx, o.steady, []string{ourAgent, theirQueue}, paths)
	if err != nil {
		return nil, err
	}
	printSteady(os.Stdout, o.steady, all)
	ours := all[0]
	return []target{
		{what: "idle: RSS", number: mb(ours.idleRSS), valid: true, most: true, limit: 12, unit: " MB"},
		{what: "100 messages a second: RSS", number: mb(ours.loadedRSS), valid: true, most: true, limit: 16, unit: " MB"},
	}, nil
}

// printMethod says what is measured, with what, and on what.
func printMethod(ctx context.Context, w io.Writer, o *options) {
	version := func(name string, args ...string) string {
		out, _ := output(ctx, name, args...) // mosquitto -h ends with 1
		line, _, _ := strings.Cut(strings.TrimSpace(out), "\n")
		if line == "" {
			return name + ": not installed"
		}
		return line
	}
	load, _ := os.ReadFile("/proc/loadavg")
	fmt.Fprintf(w, "peers: %d rounds, the clients in turn; numbers are medians, ratios the medians of the rounds' ratios\n", o.rounds)
	fmt.Fprintf(w, "each message: %d bytes, QoS 1, MQTT 5, mutual TLS 1.2 (ECDHE-ECDSA-AES128-GCM-SHA256), at most %d unacknowledged, loopback\n", messageSize, window)
	fmt.Fprintf(w, "machine: %d processors, %s/%s, load before: %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, load)
	for _, v := range []string{
		version(o.bin+"/jitr-agent", "version"), version("mosquitto", "-h"), version("openssl", "version"),
		version("/usr/bin/python3", "-c", "import paho.mqtt; print('paho for Python', paho.mqtt.__version__)"),
		"node " + version("node", "--version") + ", with MQTT.js and aws-crt as test/bench/peers/package.json has them",
	} {
		fmt.Fprintln(w, v)
	}
}
