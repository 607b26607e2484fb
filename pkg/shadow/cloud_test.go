package shadow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// cloud is a small shadow service and its session, as the developer guide has
// them, with switches to misbehave.
type cloud struct {
	shadow *Shadow

	mu      sync.Mutex
	doc     map[string]any // desired and reported; nil: there is no shadow
	version int64

	codes        []byte // of the SUBACK; nil grants all
	subscribeErr error
	publishErr   error
	mute         bool // no answers
	reject       int  // answer every request with this code
	hold         bool // keep messages back
	held         []func()
	log          []string // "subscribe 5", "update 60s", "get"
}

func (c *cloud) Subscribe(_ context.Context, filters []string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = append(c.log, fmt.Sprint("subscribe ", len(filters)))
	if c.codes != nil || c.subscribeErr != nil {
		return c.codes, c.subscribeErr
	}
	return make([]byte, len(filters)), nil
}

func (c *cloud) Publish(ctx context.Context, topic string, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	var request struct {
		State       map[string]map[string]any
		ClientToken string
		Version     *int64
	}
	if err := json.Unmarshal(payload, &request); err != nil || request.ClientToken == "" || len(request.ClientToken) > 64 || request.Version != nil {
		c.log = append(c.log, "bad request "+string(payload))
		return nil
	}
	verb := topic[strings.LastIndex(topic, "/")+1:]
	line := verb
	if verb == "update" {
		line += " " + fmt.Sprint(request.State["reported"]["telemetry"].(map[string]any)["interval"])
	}
	c.log = append(c.log, line)
	switch {
	case c.publishErr != nil:
		return c.publishErr
	case c.mute, len(c.log) > 500: // a loop of requests and answers must end, and fail the test
	case c.reject != 0:
		c.send(verb+"/rejected", map[string]any{"code": c.reject, "message": "no", "clientToken": request.ClientToken})
	case verb == "get" && c.doc == nil:
		c.send("get/rejected", map[string]any{"code": 404, "message": "No shadow exists with name: 'gw'", "clientToken": request.ClientToken})
	case verb == "get":
		c.send("get/accepted", map[string]any{"state": c.doc, "version": c.version, "clientToken": request.ClientToken})
	default:
		c.change("reported", request.State["reported"], request.ClientToken)
	}
	return nil
}

// change merges a section into the document and sends what AWS sends.
func (c *cloud) change(section string, value any, token string) {
	if c.doc == nil {
		c.doc = map[string]any{}
	}
	c.doc[section] = value
	if value == nil {
		delete(c.doc, section)
	}
	c.version++
	c.send("update/accepted", map[string]any{"state": map[string]any{section: value}, "version": c.version, "clientToken": token})
	if desired := c.doc["desired"]; desired != nil && !reflect.DeepEqual(desired, c.doc["reported"]) {
		c.send("update/delta", map[string]any{"state": desired, "version": c.version})
	}
}

func (c *cloud) send(verb string, body any) {
	payload, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	deliver := func() { c.shadow.Handle("$aws/things/gw/shadow/"+verb, payload) }
	if c.hold {
		c.held = append(c.held, deliver)
		return
	}
	deliver()
}

// desire is an operator's update of the desired section; text is JSON.
func (c *cloud) desire(text string) {
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		panic(err)
	}
	c.mu.Lock()
	c.change("desired", value, "operator")
	c.mu.Unlock()
	synctest.Wait()
}

// raw delivers a message as it is.
func (c *cloud) raw(verb, payload string) {
	c.shadow.Handle("$aws/things/gw/shadow/"+verb, []byte(payload))
	synctest.Wait()
}

func (c *cloud) set(f func()) {
	c.mu.Lock()
	f()
	c.mu.Unlock()
}

// takeLog gives what was asked of the cloud since the last call.
func (c *cloud) takeLog() string {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	text := strings.Join(c.log, ", ")
	c.log = nil
	return text
}

// device is the Shadow under test and those around it.
type device struct {
	*Shadow
	t *testing.T
	c *cloud

	mu       sync.Mutex
	applied  []time.Duration
	applyErr error
	trouble  []error
}

// with runs a test in virtual time with a running Shadow whose session has not
// begun.
func with(t *testing.T, test func(d *device)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := &device{t: t}
		d.Shadow = New(Options{
			ThingName: "gw",
			Interval:  time.Minute,
			Apply: func(_ context.Context, interval time.Duration) error {
				d.mu.Lock()
				defer d.mu.Unlock()
				if d.applyErr == nil {
					d.applied = append(d.applied, interval)
				}
				return d.applyErr
			},
			Trouble: func(err error) {
				d.mu.Lock()
				defer d.mu.Unlock()
				d.trouble = append(d.trouble, err)
			},
		})
		d.c = &cloud{shadow: d.Shadow}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); d.Run(ctx) }()
		test(d)
		cancel()
		<-done
	})
}

// connect begins a session, and returns what ends it.
func (d *device) connect() (disconnect func()) {
	ctx, cancel := context.WithCancel(d.t.Context())
	d.Start(ctx, d.c)
	synctest.Wait()
	return func() { cancel(); synctest.Wait() }
}

func (d *device) wantLog(want string) {
	d.t.Helper()
	if got := d.c.takeLog(); got != want {
		d.t.Errorf("the cloud was asked %q, want %q", got, want)
	}
}

func (d *device) wantState(want State, version int64) {
	d.t.Helper()
	synctest.Wait()
	got := int64(0)
	if v := d.Version(); v != nil {
		got = *v
	}
	if d.State() != want || got != version {
		d.t.Errorf("state is %s, version %d; want %s, %d", d.State(), got, want, version)
	}
}

func (d *device) wantApplied(want ...time.Duration) {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if fmt.Sprint(d.applied) != fmt.Sprint(want) {
		d.t.Errorf("applied %v, want %v", d.applied, want)
	}
	d.applied = nil
}

// wantTrouble checks the kinds of what was told since the last call.
func (d *device) wantTrouble(want ...error) {
	d.t.Helper()
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	ok := len(d.trouble) == len(want)
	for i := 0; ok && i < len(want); i++ {
		ok = errors.Is(d.trouble[i], want[i])
	}
	if !ok {
		d.t.Errorf("told %q, want %q", d.trouble, want)
	}
	d.trouble = nil
}

// wantReported checks what the cloud has.
func (d *device) wantReported(want string) {
	d.t.Helper()
	synctest.Wait()
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	got, _ := json.Marshal(d.c.doc["reported"])
	if string(got) != want {
		d.t.Errorf("reported is %s, want %s", got, want)
	}
}

func interval(text string) string { return `{"telemetry":{"interval":"` + text + `"}}` }
