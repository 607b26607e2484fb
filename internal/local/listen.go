package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	// Where somebody else has the port, it is tried again after 1 s, at last
	// every 30 s: the program that has it may be a copy that is just stopping.
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
	// staleDial is how long another program may take to answer on the socket.
	staleDial = time.Second
)

// endpoint is one place to listen. Server.mu guards what changes.
type endpoint struct {
	network, address string
	key              string // of the configuration

	listening bool
	why       string // it does not listen
}

// keepListening accepts clients on e until ctx ends. A place in connections is
// held by each of them.
func (s *Server) keepListening(ctx context.Context, e *endpoint, connections chan struct{}) {
	for retry := firstRetry; ; retry = min(2*retry, lastRetry) {
		l, err := e.listen(ctx)
		if err == nil {
			s.listening(e, true, "")
			s.accept(ctx, e, l, connections)
			return
		}
		s.listening(e, false, fmt.Sprintf("cannot listen on %s: %v; %s", e.address, err, e.remedy(err)))
		if !wait(ctx, retry) {
			return
		}
	}
}

// remedy is what to do about err, one of listen's.
func (e *endpoint) remedy(err error) string {
	switch {
	case errors.Is(err, errLives), errors.Is(err, syscall.EADDRINUSE):
		return "stop the program that has it; which one it is: ss -lxtnp"
	case errors.Is(err, errNoSocket):
		return "remove it: rm " + e.address
	case errors.Is(err, syscall.ENOENT):
		return "make the directory: mkdir -p " + filepath.Dir(e.address)
	}
	return fmt.Sprintf("change %s in agent.toml and restart jitr-agent", e.key)
}

// wait waits for d; it is false where ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// listening notes how e stands, and tells of a change.
func (s *Server) listening(e *endpoint, is bool, why string) {
	s.mu.Lock()
	e.listening, e.why = is, why
	st := s.status()
	changed := st.State != s.last.State || st.Why != s.last.Why
	s.last = st
	s.mu.Unlock()
	if changed && s.cfg.Changed != nil {
		s.cfg.Changed(st)
	}
}

func (e *endpoint) listen(ctx context.Context) (net.Listener, error) {
	if e.network == "unix" {
		if err := removeStale(ctx, e.address); err != nil {
			return nil, err
		}
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, e.network, e.address)
	if err != nil {
		return nil, reason(err)
	}
	if e.network == "unix" {
		// Who is in the group may hand in messages.
		if err := os.Chmod(e.address, 0o660); err != nil {
			l.Close()
			return nil, reason(err)
		}
	}
	return l, nil
}

// reason is the part of a system's error that does not repeat the address.
func reason(err error) error {
	if number, ok := errors.AsType[syscall.Errno](err); ok {
		return number
	}
	return err
}

// removeStale removes a socket that a dead process left. A living one is an
// error, and so is what is no socket.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return reason(err)
	case info.Mode()&os.ModeSocket == 0:
		return errNoSocket
	}
	dialer := net.Dialer{Timeout: staleDial}
	conn, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		conn.Close()
		return errLives
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	case errors.Is(err, os.ErrNotExist):
		return nil
	}
	return reason(err)
}

// accept serves the clients of e's listener until ctx ends; then it closes it,
// and returns when all clients are gone.
func (s *Server) accept(ctx context.Context, e *endpoint, l net.Listener, connections chan struct{}) {
	var clients sync.WaitGroup
	defer clients.Wait()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer func() {
		stop()
		l.Close()
	}()
	for {
		select {
		case connections <- struct{}{}:
		case <-ctx.Done():
			return
		}
		conn, err := l.Accept()
		if err == nil {
			s.listening(e, true, "")
			clients.Go(func() {
				defer func() { <-connections }()
				s.serve(ctx, conn)
			})
			continue
		}
		<-connections
		if ctx.Err() != nil {
			return
		}
		// No file descriptors, no memory: who is there goes on.
		s.listening(e, false, fmt.Sprintf("cannot accept clients on %s: %v; jitr-agent tries again", e.address, reason(err)))
		if !wait(ctx, firstRetry) {
			return
		}
	}
}
