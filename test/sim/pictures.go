package main

import (
	"fmt"
	"time"
)

// waits is the time axis of the waiting for an activation.
func waits(low, high time.Duration) axis {
	a := axis{low: low.Seconds(), high: high.Seconds(), log: true}
	for _, t := range []tick{
		{0.1, "0.1 s"}, {0.3, "0.3 s"}, {1, "1 s"}, {3, "3 s"}, {10, "10 s"}, {30, "30 s"}, {60, "1 min"}, {300, "5 min"},
		{900, "15 min"}, {3600, "1 h"}, {4 * 3600, "4 h"},
	} {
		if t.at >= a.low && t.at <= a.high {
			a.ticks = append(a.ticks, t)
		}
	}
	return a
}

// attemptsChart shows how often a device dials that is not activated.
func attemptsChart(seed uint64) *chart {
	const horizon = 4 * time.Hour
	c := &chart{
		title: "Attempts while the certificate is pending", x: "waited", y: "attempts so far, mean",
		left: waits(time.Second, horizon), right: decades(1, 20_000),
	}
	names, makers := contestants()
	for i, m := range makers {
		c.series = append(c.series, series{names[i], neverActive(m, horizon, seed)})
	}
	return c
}

// overshootChart shows how far behind the activation the CONNACK comes.
func overshootChart(title string, low, high time.Duration, results []pendingResult) *chart {
	share := axis{low: 0, high: 100, ticks: []tick{{0, "0 %"}, {25, "25 %"}, {50, "50 %"}, {75, "75 %"}, {95, "95 %"}}}
	c := &chart{title: title, x: "from the activation to CONNACK 0", y: "devices online", left: waits(low, high), right: share}
	for _, r := range results {
		var line []point
		for p := range 101 {
			line = append(line, point{percentile(r.overshoot, p).Seconds(), float64(p)})
		}
		c.series = append(c.series, series{r.client, line})
	}
	return c
}

// stormChart shows what the server sees.
func stormChart(title string, results []stormResult) *chart {
	minutes := axis{low: 0, high: 480}
	for s := 0; s <= 480; s += 60 {
		minutes.ticks = append(minutes.ticks, tick{float64(s), fmt.Sprintf("%d min", s/60)})
	}
	c := &chart{
		title: title, x: "since the beginning", y: "CONNECT/s",
		left: minutes, right: decades(10, 100_000), level: stormConnects, levelName: "quota, 500/s",
	}
	for _, r := range results {
		var line []point
		for second, n := range r.rate {
			if second > 480 {
				break
			}
			// One empty second is a beat between devices in step and seconds.
			pause := n == 0 && (second > 0 && r.rate[second-1] == 0 || second+1 < len(r.rate) && r.rate[second+1] == 0)
			if n > 0 || pause {
				line = append(line, point{float64(second), float64(n)})
			}
		}
		c.series = append(c.series, series{r.client, line})
	}
	return c
}
