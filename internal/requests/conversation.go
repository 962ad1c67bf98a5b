package requests

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
)

// conversation tells one requester of one command.
type conversation struct {
	tid command.TID
	of  string // the requester; "" for none that is known

	mu      sync.Mutex
	to      address
	version int64 // of the document
	over    bool  // no more is told
	// heard ends the present wait of converse; nil while it does not wait.
	heard context.CancelFunc
	// repeat says that the present state must be told, though it was.
	repeat bool

	// of converse alone
	told int           // lines of the timeline
	last command.State // that was told
	seen int64         // version of the command
}

// again has the present state told once more. The lock is held.
func (t *conversation) again() {
	t.repeat = true
	if t.heard != nil {
		t.heard()
	}
}

// pauseAfter a failure of the store or of the broker.
const pauseAfter = time.Second

// converse tells all that happens to the command, until its end was told.
func (r *Runner) converse(t *conversation) {
	for r.ctx.Err() == nil {
		ended, err := r.next(t)
		if err != nil && r.ctx.Err() == nil {
			r.log.Warn("a requester could not be told; tried again", "tid", t.tid, "error", err)
			select {
			case <-time.After(pauseAfter):
			case <-r.ctx.Done():
			}
		}
		if ended {
			return
		}
	}
}

// next waits for news, tells them, and says whether that was all.
func (r *Runner) next(t *conversation) (ended bool, err error) {
	c, err := r.await(t)
	if fault.CodeOf(err) == fault.NotFound {
		return r.end(t) // purged: nobody can be told of it any more
	}
	if err != nil {
		return false, err
	}
	t.mu.Lock()
	lines, to := t.news(&c), t.to
	t.repeat = false
	t.mu.Unlock()
	if err := r.tell(&c, lines, to); err != nil {
		return false, err
	}
	t.told, t.last, t.seen = len(c.Timeline), c.State, c.Version
	if !c.Final() {
		return false, nil
	}
	return r.end(t)
}

// await gives the command when it has changed, or somebody asks again.
func (r *Runner) await(t *conversation) (command.Command, error) {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	t.mu.Lock()
	again := t.repeat
	t.heard = cancel
	t.mu.Unlock()
	c, err := r.opt.Engine.Wait(ctx, t.tid, func(c *command.Command) bool { return again || c.Version > t.seen || c.Final() })
	t.mu.Lock()
	t.heard = nil
	asked := t.repeat
	t.mu.Unlock()
	if err != nil && asked && r.ctx.Err() == nil && errors.Is(err, context.Canceled) {
		return c, nil // as it is; only the wait was broken off
	}
	return c, err
}

// line is one change of state.
type line struct {
	step  int
	entry command.Entry
}

// news are the changes of state that were not told, or, when there are none and
// somebody asks, the last one. The lock is held.
func (t *conversation) news(c *command.Command) (lines []line) {
	last := t.last
	for i := t.told; i < len(c.Timeline); i++ {
		if e := c.Timeline[i]; e.State != last {
			last = e.State
			lines = append(lines, line{i + 1, e})
		}
	}
	// The last line of a long timeline is replaced, and is news again.
	if n := len(c.Timeline); n > 0 && len(lines) == 0 && (t.repeat || c.State != t.last) {
		lines = append(lines, line{n, c.Timeline[n-1]})
	}
	return lines
}

// tell publishes lines in their order and waits until the broker has all. What it
// refuses for good is lost: the requester has given away its right to it.
func (r *Runner) tell(c *command.Command, lines []line, to address) error {
	var waits []<-chan client.Result
	for i := range lines {
		done, err := r.publish(answerMessage(to, c, &lines[i], i == len(lines)-1))
		if err != nil {
			return err
		}
		waits = append(waits, done)
	}
	for _, done := range waits {
		select {
		case result := <-done:
			if err := r.tally(result); err != nil {
				return err
			}
		case <-r.ctx.Done():
			return r.ctx.Err()
		}
	}
	return nil
}

// publish sends a message. The channel tells what became of it.
func (r *Runner) publish(m client.Message) (<-chan client.Result, error) {
	done := make(chan client.Result, 1)
	err := r.client.PublishAsync(m, func(result client.Result) { done <- result })
	return done, err
}

// tally counts an answer, and returns an error when it is worth telling again.
func (r *Runner) tally(result client.Result) error {
	var reason *client.ReasonError
	switch {
	case result.Err == nil:
		r.count.answers.Add(1)
		return nil
	case errors.As(result.Err, &reason) && reason.Code != mqtt.QuotaExceeded, errors.Is(result.Err, client.ErrSize):
		if n := r.count.lost.Add(1); n&(n-1) == 0 {
			r.log.Warn("the broker refuses an answer to a request", "error", result.Err, "so far", n)
		}
		return nil
	}
	return result.Err
}

// end forgets the address, unless somebody has asked again meanwhile.
func (r *Runner) end(t *conversation) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.repeat {
		return false, nil
	}
	gone := store.DocumentWrite{DocumentID: idOf(t.tid), Was: t.version}
	if _, err := r.opt.Store.Commit(r.ctx, &store.Batch{Documents: []store.DocumentWrite{gone}}); err != nil {
		return false, err
	}
	t.over = true
	r.forget(t)
	return true, nil
}

// answer is one answer. Sent; never change the names.
type answer struct {
	TID     string          `json:"tid"`
	Device  string          `json:"device"`
	Name    string          `json:"name"`
	State   command.State   `json:"state"`
	Reason  command.Reason  `json:"reason"`
	Detail  string          `json:"detail,omitempty"`
	By      string          `json:"by,omitempty"`
	At      time.Time       `json:"at"`
	Attempt int             `json:"attempt,omitempty"`
	Step    int             `json:"step"`              // rises with each answer about the command; one that comes again has the same
	Version int64           `json:"version,omitempty"` // of the command, in the last of several answers
	Ended   bool            `json:"ended"`             // there are no more
	Result  json.RawMessage `json:"result,omitempty"`
	Digest  string          `json:"digest,omitempty"` // of what people are asked to approve
}

// answerMessage is the answer about one line; of the last one, how the command is.
func answerMessage(to address, c *command.Command, l *line, last bool) client.Message {
	a := answer{TID: c.TID.String(), Device: c.Device.String(), Name: c.Name, State: l.entry.State, Reason: l.entry.Reason,
		Detail: l.entry.Detail, By: l.entry.By, At: l.entry.At, Attempt: l.entry.Attempt, Step: l.step}
	if last {
		a.Version, a.Ended, a.Result = c.Version, c.Final(), c.Result
	}
	if l.entry.State == command.AwaitingApproval && c.Approval != nil {
		a.Digest = c.Approval.Digest
	}
	return message(to, "application/json", a)
}

// problem is a refusal, as the HTTP API has it (RFC 9457).
type problem struct {
	Type   string     `json:"type"`
	Title  string     `json:"title"`
	Status int        `json:"status"`
	Code   fault.Code `json:"code"`
	Detail string     `json:"detail"`
	Field  string     `json:"field,omitempty"`
	Cure   string     `json:"cure,omitempty"`
}

func problemMessage(to address, f *fault.Error) client.Message {
	m := f.Code.Of()
	return message(to, "application/problem+json", problem{Type: "urn:wilco:error:" + string(f.Code), Title: http.StatusText(m.HTTP), Status: m.HTTP, Code: f.Code, Detail: f.Public(), Field: f.Field, Cure: m.Cure})
}

func message(to address, contentType string, doc any) client.Message {
	b, err := json.Marshal(doc)
	if err != nil {
		panic(err) // of texts, numbers and JSON that was checked when it came
	}
	return client.Message{Topic: to.Topic, Payload: b, QoS: mqtt.AtLeastOnce, ContentType: contentType, CorrelationData: to.Correlation}
}
