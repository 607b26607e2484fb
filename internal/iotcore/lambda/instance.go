package lambda

import (
	"context"
	"crypto/rand"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/iam"
)

// initTimeout is how long an instance may take until it asks for its first
// event (Lambda developer guide, init phase).
const initTimeout = 10 * time.Second

// instance is one execution environment: a process, and the runtime API that
// it speaks to. It serves one event at a time.
type instance struct {
	service  *Service
	function function // as it was when the instance began
	keys     iam.Keys
	log      *logWriter
	cmd      *exec.Cmd
	api      *http.Server
	listener net.Listener

	work     chan event
	outcomes chan outcome
	ready    chan struct{} // closed when it asks for its first event
	once     sync.Once
	exited   chan struct{} // closed when the process has ended
	exit     error         // how; to be read after exited
	ending   chan struct{} // closed by stop
	stopOnce sync.Once
	serving  sync.WaitGroup

	mu      sync.Mutex
	current string // request id of the event that it works on
}

// event is one event for an instance.
type event struct {
	id       string
	payload  []byte
	deadline time.Time
}

// outcome is how an event ended.
type outcome struct {
	payload       []byte
	functionError string // "Unhandled" where it failed
}

// failed is an outcome of the runtime, not of the function's code.
func failed(kind, format string, args ...any) outcome {
	payload, err := json.Marshal(map[string]string{"errorType": kind, "errorMessage": fmt.Sprintf(format, args...)})
	if err != nil {
		payload = []byte("{}")
	}
	return outcome{payload, "Unhandled"}
}

// entrypointError says that the bootstrap cannot be started.
type entrypointError struct{ err error }

func (e *entrypointError) Error() string { return e.err.Error() }
func (e *entrypointError) Unwrap() error { return e.err }

// startInstance starts a process. The caller must stop it.
func (s *Service) startInstance(ctx context.Context, f function) (*instance, error) {
	bootstrap := filepath.Join(s.codeDir(&f), "bootstrap")
	if err := checkBootstrap(bootstrap, f.Architectures); err != nil {
		return nil, &entrypointError{err}
	}
	keys, err := s.IAM.Assume(f.Role, f.Name)
	if err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		s.IAM.Forget(keys.AccessKey)
		return nil, fmt.Errorf("listen for the runtime API: %w", err)
	}
	in := &instance{
		service: s, function: f, keys: keys, listener: listener, log: s.newLogWriter(f),
		work: make(chan event), outcomes: make(chan outcome, 1),
		ready: make(chan struct{}), exited: make(chan struct{}), ending: make(chan struct{}),
	}
	in.cmd = exec.Command(bootstrap) //nolint:noctx // stop ends it, with all that it started
	in.cmd.Dir = s.codeDir(&f)
	in.cmd.Env = in.environment()
	in.cmd.Stdout, in.cmd.Stderr = in.log, in.log
	in.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in.cmd.WaitDelay = time.Second // for the output that a grandchild holds open
	in.api = &http.Server{Handler: in.runtimeAPI(), ReadHeaderTimeout: 10 * time.Second}
	if err := in.cmd.Start(); err != nil {
		listener.Close()
		s.IAM.Forget(keys.AccessKey)
		return nil, &entrypointError{fmt.Errorf("fork/exec /var/task/bootstrap: %w", errors.Unwrap(err))}
	}
	in.serving.Go(func() { _ = in.api.Serve(listener) }) // it ends with ErrServerClosed
	in.serving.Go(func() {
		// The group goes while its leader still is a zombie: behind Wait, its
		// number can be another program's.
		if awaitEnd(in.cmd.Process.Pid) == nil {
			_ = syscall.Kill(-in.cmd.Process.Pid, syscall.SIGKILL) // the zombie itself is beyond it
		}
		in.exit = in.cmd.Wait()
		in.log.flush()
		close(in.exited)
	})
	return in, nil
}

// awaitEnd waits for the end of a child, and leaves it to be waited for.
func awaitEnd(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// checkBootstrap says why AWS would not start a bootstrap. An architecture
// that only this host lacks is left to the kernel: it may run it all the same.
func checkBootstrap(path string, architectures []string) error {
	info, err := os.Stat(path)
	if err != nil {
		return errors.New("Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]") //nolint:staticcheck // AWS's words
	}
	if info.Mode().Perm()&0o100 == 0 {
		return errors.New("fork/exec /var/task/bootstrap: permission denied")
	}
	binary, err := elf.Open(path)
	if err != nil {
		return nil // a script
	}
	defer binary.Close()
	want := map[elf.Machine]string{elf.EM_X86_64: "x86_64", elf.EM_AARCH64: "arm64"}[binary.Machine]
	if len(architectures) == 0 || want != architectures[0] {
		return errors.New("fork/exec /var/task/bootstrap: exec format error")
	}
	return nil
}

// environment is what AWS gives a function (Lambda developer guide,
// environment variables). AWS_ENDPOINT_URL is ours: it leads the SDK back.
func (in *instance) environment() []string {
	f, region := in.function, in.service.Place.Region
	env := []string{
		"LANG=en_US.UTF-8", "TZ=:UTC", "PATH=/usr/local/bin:/usr/bin/:/bin:/opt/bin",
		"LAMBDA_TASK_ROOT=" + in.cmd.Dir, "LAMBDA_RUNTIME_DIR=/var/runtime", "_HANDLER=" + f.Handler,
		"AWS_REGION=" + region, "AWS_DEFAULT_REGION=" + region, "AWS_EXECUTION_ENV=AWS_Lambda_" + f.Runtime,
		"AWS_LAMBDA_FUNCTION_NAME=" + f.Name, "AWS_LAMBDA_FUNCTION_VERSION=$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=" + strconv.Itoa(f.MemorySize), "AWS_LAMBDA_INITIALIZATION_TYPE=on-demand",
		"AWS_LAMBDA_LOG_GROUP_NAME=" + f.LogGroup, "AWS_LAMBDA_LOG_STREAM_NAME=" + in.log.stream,
		"AWS_LAMBDA_RUNTIME_API=" + in.listener.Addr().String(),
		"AWS_ACCESS_KEY_ID=" + in.keys.AccessKey, "AWS_SECRET_ACCESS_KEY=" + in.keys.SecretKey,
		"AWS_SESSION_TOKEN=" + in.keys.SessionToken, "AWS_ENDPOINT_URL=" + in.service.Endpoint(),
	}
	for name, value := range f.Environment {
		env = append(env, name+"="+value)
	}
	return env
}

// runtimeAPI is the HTTP API that a runtime speaks, of 2018-06-01.
func (in *instance) runtimeAPI() http.Handler {
	const base = "/2018-06-01/runtime/"
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+base+"invocation/next", in.next)
	mux.HandleFunc("POST "+base+"invocation/{id}/response", func(w http.ResponseWriter, r *http.Request) { in.report(w, r, "") })
	mux.HandleFunc("POST "+base+"invocation/{id}/error", func(w http.ResponseWriter, r *http.Request) { in.report(w, r, "Unhandled") })
	mux.HandleFunc("POST "+base+"init/error", func(w http.ResponseWriter, r *http.Request) { in.initError(w, r) })
	return mux
}

func (in *instance) next(w http.ResponseWriter, r *http.Request) {
	in.once.Do(func() { close(in.ready) })
	select {
	case e := <-in.work:
		h := w.Header()
		h.Set("Lambda-Runtime-Aws-Request-Id", e.id)
		h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(e.deadline.UnixMilli(), 10))
		h.Set("Lambda-Runtime-Invoked-Function-Arn", in.service.ARN(in.function.Name))
		h.Set("Lambda-Runtime-Trace-Id", "Root=1-"+strconv.FormatInt(time.Now().Unix(), 16)+"-"+rand.Text()[:24]+";Sampled=0")
		h.Set("Content-Type", "application/json")
		_, _ = w.Write(e.payload) // a process that has gone is noticed by its end
	case <-in.ending:
	case <-r.Context().Done():
	}
}

// maxResponse is the greatest answer of a function in bytes (Lambda quotas).
const maxResponse = 6 << 20

func (in *instance) report(w http.ResponseWriter, r *http.Request, functionError string) {
	payload, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxResponse))
	o := outcome{payload, functionError}
	status := http.StatusAccepted
	if _, tooBig := errors.AsType[*http.MaxBytesError](err); tooBig {
		o = failed("Function.ResponseSizeTooLarge", "Response payload size exceeded maximum allowed payload size (%d bytes).", maxResponse)
		status = http.StatusRequestEntityTooLarge
	} else if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	in.mu.Lock()
	mine := r.PathValue("id") == in.current
	if mine {
		in.current = ""
	}
	in.mu.Unlock()
	if !mine {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	in.outcomes <- o // there is room: one event at a time, one report of each
	w.WriteHeader(status)
}

// initError is a runtime that cannot begin. Its process ends by itself.
func (in *instance) initError(w http.ResponseWriter, r *http.Request) {
	payload, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err == nil {
		in.log.line("INIT_REPORT Status: error " + string(payload))
	}
	w.WriteHeader(http.StatusAccepted)
}

// invoke gives the instance one event and waits for its outcome. alive is
// false where the instance is of no use any more.
func (in *instance) invoke(ctx context.Context, id string, payload []byte) (o outcome, alive bool) {
	begun := time.Now()
	init := time.NewTimer(initTimeout)
	defer init.Stop()
	select {
	case <-in.ready:
	case <-in.exited:
		return in.died(id), false
	case <-init.C:
		return failed("Sandbox.Timedout", "RequestId: %s Error: the init phase took longer than %v", id, initTimeout), false
	case <-ctx.Done():
		return failed("Sandbox.Failure", "RequestId: %s Error: the emulator ends", id), false
	}
	started := time.Now()
	limit := time.Duration(in.function.Timeout) * time.Second
	in.mu.Lock()
	in.current = id
	in.mu.Unlock()
	in.log.line("START RequestId: " + id + " Version: $LATEST")
	defer func() {
		in.log.line("END RequestId: " + id)
		report := fmt.Sprintf("REPORT RequestId: %s\tDuration: %.2f ms\tBilled Duration: %d ms\tMemory Size: %d MB", id,
			float64(time.Since(started).Microseconds())/1000, time.Since(started).Milliseconds()+1, in.function.MemorySize)
		if started.Sub(begun) > time.Millisecond {
			report += fmt.Sprintf("\tInit Duration: %.2f ms", float64(started.Sub(begun).Microseconds())/1000)
		}
		in.log.line(report)
	}()
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	e := event{id, payload, started.Add(limit)}
	work := in.work
	for {
		select {
		case work <- e:
			work = nil
		case o := <-in.outcomes:
			return o, true
		case <-in.exited:
			select {
			case o := <-in.outcomes: // it answered, and then ended
				return o, false
			default:
			}
			return in.died(id), false
		case <-timeout.C:
			text := fmt.Sprintf("RequestId: %s Error: Task timed out after %.2f seconds", id, limit.Seconds())
			in.log.line(text)
			return failed("Sandbox.Timedout", "%s", text), false
		case <-ctx.Done():
			return failed("Sandbox.Failure", "RequestId: %s Error: the emulator ends", id), false
		}
	}
}

// died is the outcome of an event whose process ended.
func (in *instance) died(id string) outcome {
	why := "exit status 0"
	if in.exit != nil {
		why = in.exit.Error()
	}
	text := "RequestId: " + id + " Error: Runtime exited with error: " + why
	in.log.line(text)
	return failed("Runtime.ExitError", "%s", text)
}

// stop ends the process with all that it started, and waits for it.
func (in *instance) stop() {
	in.stopOnce.Do(func() {
		close(in.ending)
		_ = in.cmd.Process.Kill() // an error says that it has ended; what it started ends with it
		<-in.exited
		in.api.Close()
		in.serving.Wait()
		in.service.IAM.Forget(in.keys.AccessKey)
	})
}
