package main

import (
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/event"
	"github.com/jitr-agent/jitr-agent/internal/settings"
)

// live are the settings that take effect without a restart.
var live = []string{
	"log.level", "log.format", "telemetry.topic", "telemetry.interval", "telemetry.sources", "shadow.names",
	"buffer.max_size", "buffer.max_age", "buffer.keep_free", "buffer.when_full", "buffer.spill_after", "cloud.publish_rate",
}

// reload reads the configuration again: what can change takes effect, what
// needs a restart is named, and a configuration that is wrong changes nothing.
func (a *agent) reload() {
	next, _, err := settings.Load(a.opts.config, os.Environ())
	if err != nil {
		a.report.Emit("configuration-invalid", event.Fields{event.Why: strings.ReplaceAll(err.Error(), "\n", "; ")})
		return
	}
	endpoint, err := endpointOf(next)
	if err != nil {
		a.report.Emit("configuration-invalid", event.Fields{event.Why: err.Error()})
		return
	}
	last := a.settings.Load()
	first := last.Cloud.Endpoint == "" && next.Cloud.Endpoint != ""
	var stay []string
	for _, key := range settings.Changed(last, next) {
		if !slices.Contains(live, key) && (!first || !strings.HasPrefix(key, "cloud.")) {
			stay = append(stay, key)
		}
	}

	merged := *last
	merged.Log, merged.Telemetry, merged.Shadow.Names = next.Log, next.Telemetry, next.Shadow.Names
	gapTopic := last.Buffer.GapTopic
	merged.Buffer = next.Buffer
	merged.Buffer.GapTopic = gapTopic
	merged.Cloud.PublishRate = next.Cloud.PublishRate
	if first {
		merged.Cloud = next.Cloud
		a.endpoint.Store(&endpoint)
	}
	a.settings.Store(&merged)
	a.level.SetLevel(logLevel(&merged))
	a.format(merged.Log.Format)
	if !slices.Equal(last.Telemetry.Sources, merged.Telemetry.Sources) {
		a.telemetry.SetSources(sources(&merged, a.opts.stateDir))
	}
	a.buffer.SetLimits(bufferLimits(&merged))
	if current := a.shadow.current(); current != nil {
		current.SetInterval(time.Duration(merged.Telemetry.Interval))
	} else {
		a.telemetry.SetInterval(time.Duration(merged.Telemetry.Interval))
	}
	a.report.Emit("configuration-reloaded", nil)
	if len(stay) > 0 {
		a.report.Emit("restart-to-apply", event.Fields{event.Object: strings.Join(stay, ", ")})
	}
	if first {
		a.loop.Wake()
	}
}
