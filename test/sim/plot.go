package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

type point struct{ x, y float64 }

type series struct {
	name string
	line []point
}

// chart draws lines as SVG. Both axes are logarithmic where log is set.
type chart struct {
	title, x, y string
	left, right axis
	series      []series
	level       float64 // a dashed line at that height, 0 for none
	levelName   string
}

// axis is a range with its ticks.
type axis struct {
	low, high float64
	log       bool
	ticks     []tick
}

type tick struct {
	at   float64
	text string
}

// at maps v into [0, 1]; what lies outside stays at the edge.
func (a axis) at(v float64) float64 {
	low, high := a.low, a.high
	v = min(max(v, low), high)
	if a.log {
		v, low, high = math.Log(v), math.Log(low), math.Log(high)
	}
	return (v - low) / (high - low)
}

// palette is of Okabe and Ito, whose colours most eyes can tell apart. The
// first is the agent's.
var palette = []string{"#d55e00", "#777777", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#b8a000"}

func (c *chart) svg() string {
	const (
		width, height           = 760, 400
		left, top, right, below = 64, 40, 176, 48
		w, h                    = width - left - right, height - top - below
	)
	px := func(v float64) float64 { return left + w*c.left.at(v) }
	py := func(v float64) float64 { return top + h*(1-c.right.at(v)) }
	var b strings.Builder
	f := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }

	f(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`, width, height)
	f(`<rect width="%d" height="%d" fill="#ffffff"/>`, width, height)
	f(`<text x="%d" y="22" font-size="14" font-weight="bold">%s</text>`, left, c.title)
	for _, t := range c.left.ticks {
		f(`<path d="M%.1f %d V%d" stroke="#dddddd"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`, px(t.at), top, top+h, px(t.at), top+h+16, t.text)
	}
	for _, t := range c.right.ticks {
		f(`<path d="M%d %.1f H%d" stroke="#dddddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`, left, py(t.at), left+w, left-6, py(t.at)+4, t.text)
	}
	f(`<text x="%d" y="%d" text-anchor="middle">%s</text>`, left+w/2, height-10, c.x)
	f(`<text transform="translate(16 %d) rotate(-90)" text-anchor="middle">%s</text>`, top+h/2, c.y)
	if c.level > 0 {
		f(`<path d="M%d %.1f H%d" stroke="#000000" stroke-dasharray="6 4"/><text x="%d" y="%.1f">%s</text>`, left, py(c.level), left+w, left+w+8, py(c.level)+4, c.levelName)
	}
	// The agent is drawn last, on top.
	for i, s := range slices.Backward(c.series) {
		colour, thick := palette[i%len(palette)], 1.2
		if i == 0 {
			thick = 2.4
		}
		var path strings.Builder
		lastX, lastY := math.Inf(-1), math.Inf(-1)
		for _, p := range s.line {
			x, y := px(p.x), py(p.y)
			if x-lastX < 0.5 && math.Abs(y-lastY) < 0.5 {
				continue // nobody can see it
			}
			verb := "L"
			if math.IsInf(lastX, -1) {
				verb = "M"
			}
			fmt.Fprintf(&path, "%s%.1f %.1f", verb, x, y)
			lastX, lastY = x, y
		}
		f(`<path d="%s" fill="none" stroke="%s" stroke-width="%.1f" stroke-linejoin="round"/>`, path.String(), colour, thick)
		y := top + 10 + 18*i
		f(`<path d="M%d %d h16" stroke="%s" stroke-width="%.1f"/><text x="%d" y="%d">%s</text>`, left+w+8, y, colour, thick, left+w+28, y+4, s.name)
	}
	f(`</svg>`)
	return b.String()
}

// decades are ticks for a logarithmic axis of plain numbers.
func decades(low, high float64) axis {
	a := axis{low: low, high: high, log: true}
	for v := low; v <= high; v *= 10 {
		text := fmt.Sprint(v)
		if v >= 1000 {
			text = count(int(v))
		}
		a.ticks = append(a.ticks, tick{v, text})
	}
	return a
}
