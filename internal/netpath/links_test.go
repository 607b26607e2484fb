package netpath

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// In a network namespace of its own, the loopback interface comes up, and the
// watcher says so.
func TestWatchLinks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a network namespace needs root")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	news := make(chan struct{}, 1)
	namespace := make(chan string, 1)
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			ended <- err
			return
		}
		namespace <- fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
		ended <- WatchLinks(ctx, func() {
			select {
			case news <- struct{}{}:
			default:
			}
		})
	}()
	select {
	case err := <-ended:
		t.Fatal(err)
	case path := <-namespace:
		go func() {
			runtime.LockOSThread()
			if err := toggleLoopback(ctx, path); err != nil {
				t.Error(err)
			}
		}()
	}
	select {
	case <-news:
	case <-ctx.Done():
		t.Error("no news of an interface that came up")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// toggleLoopback takes lo down and up in the namespace until ctx ends: the
// watcher may not listen yet the first time.
func toggleLoopback(ctx context.Context, namespace string) error {
	ns, err := os.Open(namespace)
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for up := true; ; up = !up {
		lo, err := unix.NewIfreq("lo")
		if err != nil {
			return err
		}
		if up {
			lo.SetUint16(unix.IFF_UP)
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
