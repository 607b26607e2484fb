package activation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"go.uber.org/zap"
)

const (
	// workers is how many certificates of a batch are worked on at once. At
	// the quota's 10 a second an activation may then take 3 s, five times
	// what its five calls take as a rule, before the quota is left unused.
	workers = 32
	// answerTime is kept back of an invocation's time for the answer: who is
	// killed by the deadline reports nothing, and does the whole batch again.
	answerTime = 2 * time.Second
	// decisionTime is what a decision may take. None is begun with less left:
	// its first call would be paid for in vain.
	decisionTime = 5 * time.Second
)

// Handle is the Lambda function: it takes an event of a pending certificate,
// an init message, or an SQS batch of them. For a batch the answer is an
// events.SQSEventResponse that names the messages to deliver again, and the
// error is nil; for a single event an error makes Lambda invoke again.
func (a *Activator) Handle(ctx context.Context, payload json.RawMessage) (any, error) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-answerTime))
		defer cancel()
	}
	s, err := parseEvent(payload)
	if err != nil {
		a.log.Error("An event was not understood.", zap.Error(err))
		return nil, err
	}
	switch {
	case s.batch != nil:
		return a.batch(ctx, s.batch), nil
	case s.init != nil:
		return nil, a.replace(ctx, s.init)
	default:
		return nil, a.registered(ctx, s.registered)
	}
}

// registered answers one event. What the event itself rules out costs no call.
func (a *Activator) registered(ctx context.Context, e *registeredEvent) error {
	if why := a.foreignTo(e); why != "" {
		a.report(Result{CertificateID: e.CertificateID, CACertificateID: e.CACertificateID, Outcome: Unknown, Why: why})
		return nil
	}
	_, err := a.Activate(ctx, Request{CertificateID: e.CertificateID, At: e.at()})
	return err
}

// foreignTo says why an event is not for us; empty: it is.
func (a *Activator) foreignTo(e *registeredEvent) string {
	switch {
	case a.cfg.Account != "" && e.AWSAccountID != a.cfg.Account:
		return fmt.Sprintf("the event is of the account %q, and not of %s", e.AWSAccountID, a.cfg.Account)
	case a.cfg.Policies[e.CACertificateID] == "":
		return "no policy is configured for the CA that signed it; deploy one with jitrctl cloud deploy --ca-id"
	}
	return ""
}

// job is what one or several messages of a batch ask for.
type job struct {
	messages []string // their ids
	run      func(context.Context) error

	registered *registeredEvent // the latest; nil: something else
}

// batch works on all messages, and names those that failed. Duplicates within
// it are one job.
func (a *Activator) batch(ctx context.Context, messages []events.SQSMessage) events.SQSEventResponse {
	var answer events.SQSEventResponse
	fail := func(id string) {
		answer.BatchItemFailures = append(answer.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: id})
	}
	var jobs []*job
	byID := map[string]*job{}
	for _, m := range messages {
		s, err := parseEvent([]byte(m.Body))
		if err == nil && s.batch != nil {
			err = fmt.Errorf("%w: a batch within a batch", ErrBadEvent)
		}
		if err != nil {
			a.log.Error("A message was not understood.", zap.String("messageId", m.MessageId), zap.Error(err))
			fail(m.MessageId)
			continue
		}
		if s.init != nil {
			jobs = append(jobs, &job{messages: []string{m.MessageId}, run: func(ctx context.Context) error { return a.replace(ctx, s.init) }})
			continue
		}
		j := byID[s.registered.CertificateID]
		if j == nil {
			j = &job{registered: s.registered}
			j.run = func(ctx context.Context) error { return a.registered(ctx, j.registered) }
			byID[s.registered.CertificateID] = j
			jobs = append(jobs, j)
		}
		j.messages = append(j.messages, m.MessageId)
		if s.registered.Timestamp > j.registered.Timestamp {
			j.registered = s.registered
		}
	}
	a.surveyFor(ctx, jobs)

	var postponed, failed int
	for i, err := range runAll(ctx, jobs) {
		if err == nil {
			continue
		}
		for _, id := range jobs[i].messages {
			fail(id)
		}
		if errors.Is(err, ErrNoTime) {
			postponed++
		} else {
			failed++
		}
	}
	a.log.Info("A batch was worked on.", zap.Int("messages", len(messages)), zap.Int("jobs", len(jobs)),
		zap.Int("postponed", postponed), zap.Int("failed", failed), zap.Int("again", len(answer.BatchItemFailures)))
	return answer
}

// surveyFor surveys for the certificates of jobs that are not remembered,
// where that is due.
func (a *Activator) surveyFor(ctx context.Context, jobs []*job) {
	if !a.surveyDue() {
		return
	}
	wanted := map[string]map[string]bool{} // by CA
	for _, j := range jobs {
		e := j.registered
		if e == nil || a.foreignTo(e) != "" || a.memory.knows(Request{CertificateID: e.CertificateID, At: e.at()}) {
			continue
		}
		if wanted[e.CACertificateID] == nil {
			wanted[e.CACertificateID] = map[string]bool{}
		}
		wanted[e.CACertificateID][e.CertificateID] = true
	}
	for ca, ids := range wanted {
		a.survey(ctx, ca, ids)
	}
}

// runAll runs the jobs, a number of them at once, and gives their errors in
// their order.
func runAll(ctx context.Context, jobs []*job) []error {
	errs := make([]error, len(jobs))
	next := make(chan int)
	var all sync.WaitGroup
	for range min(workers, len(jobs)) {
		all.Go(func() {
			for i := range next {
				errs[i] = jobs[i].run(ctx)
			}
		})
	}
	for i := range jobs {
		next <- i
	}
	close(next)
	all.Wait()
	return errs
}

// enoughTime says whether a decision should still be begun.
func enoughTime(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return !ok || time.Until(deadline) >= decisionTime
}
