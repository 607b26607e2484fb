// Command sim is `make sim`: fleets of gateways on virtual time. The schedules
// under test are not a copy: each device is a jitr.Pacer, with the rows and the
// classifier that the agent runs. The peers' schedules are written down from
// their sources, and the servers are models (docs/first-connect.md says what
// they leave out). A seed gives the same output each time.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"time"
)

func main() {
	seed := flag.Uint64("seed", 1, "of all dice")
	docs := flag.String("docs", "", "write tables and pictures into the pages of this `directory`")
	flag.Parse()
	p, missed := simulate(*seed)
	for _, t := range p.tables {
		fmt.Printf("%s\n\n%s\n", t.name, t.text)
	}
	if *docs != "" {
		if err := p.write(*docs); err != nil {
			fmt.Fprintln(os.Stderr, "sim:", err)
			os.Exit(1)
		}
	}
	if missed > 0 {
		fmt.Fprintf(os.Stderr, "sim: %d targets are missed\n", missed)
		os.Exit(1)
	}
}

// simulate runs everything, and counts the targets that are missed although a
// schedule could reach them.
func simulate(seed uint64) (p *page, missed int) {
	p = &page{pictures: map[string]*chart{}}
	checks := targets(1, seed)
	for _, c := range checks {
		if !c.ok && c.impossible == "" {
			missed++
		}
	}
	p.table("targets", targetTable(checks))
	p.table("peers", peerTable())

	names, makers := contestants()
	p.pictures["pending-attempts.svg"] = attemptsChart(seed)
	for _, c := range pendingCases {
		var results []pendingResult
		for i, m := range makers {
			results = append(results, c.run(names[i], m, 1, seed))
		}
		p.table(c.name, pendingTable(results))
		switch c.name {
		case "seconds":
			p.pictures["overshoot-seconds.svg"] = overshootChart(c.title, 100*time.Millisecond, time.Minute, results)
		case "minutes":
			p.pictures["overshoot-minutes.svg"] = overshootChart(c.title, 300*time.Millisecond, 15*time.Minute, results)
		}
	}

	for _, s := range []struct {
		name, title string
		run         func(string, maker, int, int, error, uint64) stormResult
	}{
		{"storm", "100,000 accepted devices are cut off at once", cutOff},
		{"power", "The power comes back for 100,000 accepted devices", powerBack},
	} {
		var results []stormResult
		for i, m := range makers {
			results = append(results, s.run(names[i], m, stormDevices, stormConnects, io.EOF, seed))
		}
		p.table(s.name, stormTable(results))
		p.pictures[s.name+".svg"] = stormChart(s.title, results)
	}
	p.table("power-on", powerOnTable(seed))
	p.table("misjudged", misjudgedTable(seed))
	return p, missed
}
