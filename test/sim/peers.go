package main

import (
	"math/rand/v2"
	"time"
)

// peer is another client's schedule, as its source has it.
type peer struct {
	name string
	// source is where it stands.
	source string
	rule   string // in words
	// first is the schedule of a client that was never online, later the one
	// after a session. n counts the failures in a row from 0.
	first, later func(n int, random *rand.Rand) time.Duration
}

// peers are compared with the agent. Numbers are the sources' defaults.
var peers = []peer{
	{
		name: "1 s loop", source: "a shell: `until publish; do sleep 1; done`",
		rule:  "1 s",
		first: fixed(time.Second), later: fixed(time.Second),
	},
	{
		name: "aws-iot-device-client", source: "aws-iot-device-client@2e20e21 source/main.cpp:185, @2f2f918 source/util/Retry.cpp:35-57; aws-c-mqtt source/client.c:276",
		rule:  "first 10 s ×2 to 900 s, once online 15 s ×2 to 240 s; no jitter",
		first: doubling(10*time.Second, 900*time.Second), later: doubling(15*time.Second, 240*time.Second),
	},
	{
		name: "AWS CRT MQTT 5", source: "aws-c-mqtt source/v5/mqtt5_client.c:1322-1370",
		rule:  "1 s ×2 to 120 s, full jitter",
		first: fullJitter(time.Second, 120*time.Second), later: fullJitter(time.Second, 120*time.Second),
	},
	{
		name: "thin-edge bridge", source: "thin-edge.io@c6cc23d tedge_config.rs:1200, @1e90f49 crates/extensions/tedge_mqtt_bridge/src/backoff.rs:30-39",
		rule:  "5 s ×2 to 600 s, ±50 % applied after the cap",
		first: around(doubling(5*time.Second, 600*time.Second)), later: around(doubling(5*time.Second, 600*time.Second)),
	},
	{
		name: "greengrass-lite", source: "aws-greengrass-lite@326e992 modules/iotcored/src/mqtt.c:356; aws-greengrass-component-sdk@378bcea src/backoff.c:46-72",
		rule:  "5 s ×2 to 300 s, full jitter; at once after a session",
		first: fullJitter(5*time.Second, 300*time.Second), later: atOnce(fullJitter(5*time.Second, 300*time.Second)),
	},
	{
		name: "autopaho", source: "paho.golang v0.23.0 autopaho/backoff.go:83-127, autopaho/net.go:47-50",
		rule:  "from 5 s to (10 s ×1.5 to 600 s); at once after a session",
		first: autopaho, later: atOnce(autopaho),
	},
}

func fixed(d time.Duration) func(int, *rand.Rand) time.Duration {
	return func(int, *rand.Rand) time.Duration { return d }
}

func doubling(base, limit time.Duration) func(int, *rand.Rand) time.Duration {
	return func(n int, _ *rand.Rand) time.Duration {
		d := base
		for i := 0; i < n && d < limit; i++ {
			d *= 2
		}
		return min(d, limit)
	}
}

func fullJitter(base, limit time.Duration) func(int, *rand.Rand) time.Duration {
	step := doubling(base, limit)
	return func(n int, random *rand.Rand) time.Duration {
		return time.Duration(random.Float64() * float64(step(n, nil)))
	}
}

func around(step func(int, *rand.Rand) time.Duration) func(int, *rand.Rand) time.Duration {
	return func(n int, random *rand.Rand) time.Duration {
		return time.Duration((0.5 + random.Float64()) * float64(step(n, nil)))
	}
}

func autopaho(n int, random *rand.Rand) time.Duration {
	high := 10 * time.Second
	for i := 0; i < n && high < 10*time.Minute; i++ {
		high = high * 3 / 2
	}
	high = min(high, 10*time.Minute)
	const low = 5 * time.Second
	return low + time.Duration(random.Float64()*float64(high-low))
}

// atOnce: the first dial after a session does not wait, and the schedule
// begins with the next one.
func atOnce(then func(int, *rand.Rand) time.Duration) func(int, *rand.Rand) time.Duration {
	return func(n int, random *rand.Rand) time.Duration {
		if n == 0 {
			return 0
		}
		return then(n-1, random)
	}
}

// peerClient walks along a peer's schedule.
type peerClient struct {
	wait   func(int, *rand.Rand) time.Duration
	later  func(int, *rand.Rand) time.Duration
	random *rand.Rand
	n      int
}

func (p *peer) new(random *rand.Rand, _ bool) client {
	return &peerClient{wait: p.first, later: p.later, random: random}
}

func (c *peerClient) sent(time.Duration) {}

func (c *peerClient) lost(time.Duration, time.Duration) time.Duration {
	c.wait, c.n = c.later, 0
	return c.refused(nil, 0)
}

func (c *peerClient) refused(error, time.Duration) time.Duration {
	d := c.wait(c.n, c.random)
	c.n++
	return d
}
