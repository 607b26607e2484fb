package report

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
)

// stuckAfter is how long a loop may take to come round before it counts as
// stuck. The connection loop looks around every minute; the longest it can be
// busy is one dial, CONNECT and TPM signature with all their time limits, a
// minute more.
const stuckAfter = 5 * time.Minute

// notify tells systemd, where it runs us (sd_notify(3)).
func (r *Report) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		r.cfg.Log.Debug("systemd was not notified", zap.Error(err))
	}
}

// Ready tells systemd that the service runs. It says nothing about the
// connection: a boot must not wait for an operator.
func (r *Report) Ready() { r.notify(daemon.SdNotifyReady) }

// FeedWatchdog keeps systemd's watchdog quiet until ctx ends, as long as ages
// (of the loops' last beats) say that all loops go round. Whether there is a
// connection plays no part: a gateway may wait for months.
func (r *Report) FeedWatchdog(ctx context.Context, ages ...func() time.Duration) {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil || limit == 0 {
		return // no watchdog is set for us
	}
	feed(ctx, limit, ages, func() { r.notify(daemon.SdNotifyWatchdog) })
}

func feed(ctx context.Context, limit time.Duration, ages []func() time.Duration, pat func()) {
	tick := time.NewTicker(limit / 3)
	defer tick.Stop()
	for {
		if alive(ages) {
			pat()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func alive(ages []func() time.Duration) bool {
	for _, age := range ages {
		if age() > stuckAfter {
			return false
		}
	}
	return true
}
