package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/device/internal/ledger"
	"github.com/wilco-iot/wilco/wire"
)

// progressEvery is the shortest time between two RUNNING of one command.
const progressEvery = time.Second

// job is one running handler.
type job struct {
	tid, cmd string
	cancel   context.CancelCauseFunc
	wake     func() // tells the run that there is progress

	beat, said time.Time // last RUNNING, or start; last RUNNING, or zero. Of the run.

	mu       sync.Mutex
	progress *wire.Progress
	state    json.RawMessage
	fresh    bool // progress that was not said yet
	over     bool // the handler has returned
}

func (j *job) setProgress(percent float64, note string) {
	p := &wire.Progress{Note: clean(note)}
	if !math.IsNaN(percent) {
		percent = min(max(percent, 0), 100)
		p.Percent = &percent
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.over {
		return
	}
	j.progress = p
	if !j.fresh {
		j.fresh = true
		j.wake()
	}
}

func (j *job) setState(state json.RawMessage) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.over {
		j.state = state
	}
}

// running returns the RUNNING document, and counts its progress as said.
func (j *job) running() wire.Result {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.fresh = false
	return wire.Result{TID: j.tid, Status: wire.Running, Progress: j.progress, State: j.state}
}

// due returns when the next RUNNING is to be said.
func (j *job) due(heartbeat time.Duration) time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	due := j.beat.Add(heartbeat)
	if j.fresh {
		if soon := j.said.Add(min(progressEvery, heartbeat)); soon.Before(due) {
			due = soon
		}
	}
	return due
}

func (r *run) job(tid string) *job {
	for _, j := range r.jobs {
		if j.tid == tid {
			return j
		}
	}
	return nil
}

// execute runs the handler of a command that is durably started.
func (r *run) execute(tid string, resumed bool) {
	e := r.ledger.Get(tid)
	h := r.commands[e.Cmd]
	handler := h.run
	if resumed {
		handler = h.resume
	}
	ctx, cancel := context.WithCancelCause(r.life)
	if e.Cancelling {
		cancel(errCancelled)
	}
	j := &job{tid: tid, cmd: e.Cmd, cancel: cancel, beat: time.Now()}
	j.wake = func() { r.posted.put(func() {}) }
	r.jobs = append(r.jobs, j)
	request := &Request{TID: tid, Name: e.Cmd, Params: slices.Clone(e.Params), job: j}
	if r.cfg.Observer.Executing != nil {
		r.cfg.Observer.Executing(tid, e.Cmd)
	}
	r.handlers.Go(func() {
		r.call(ctx, handler, request, func(f ledger.Final, unfinished bool) {
			cancel(nil)
			r.posted.put(func() { r.ended(j, f, unfinished) })
		})
	})
}

// call calls a handler and ends with exactly one call of done, also when the
// handler panics or ends its goroutine. Unfinished: the handler gave up because
// the device stops.
func (r *run) call(ctx context.Context, h Handler, q *Request, done func(f ledger.Final, unfinished bool)) {
	f := failure(wire.ReasonHandlerPanic, "the handler has ended its goroutine")
	unfinished := false
	defer func() {
		if p := recover(); p != nil {
			r.cfg.Logger.Error("device: a handler panicked", "cmd", q.Name, "tid", q.TID, "panic", p, "stack", string(debug.Stack()))
			f = failure(wire.ReasonHandlerPanic, fmt.Sprint(p))
		}
		q.job.mu.Lock()
		q.job.over = true
		f.State = q.job.state
		q.job.mu.Unlock()
		done(f, unfinished)
	}()
	result, err := h(ctx, q)
	f = finalOf(ctx, result, err)
	unfinished = gaveUp(ctx, err) && !errors.Is(context.Cause(ctx), errCancelled)
}

// gaveUp tells whether a handler returned because it was asked to.
func gaveUp(ctx context.Context, err error) bool {
	var o *outcome
	return err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) && !errors.As(err, &o)
}

// finalOf puts what a handler has returned into an answer.
func finalOf(ctx context.Context, result any, err error) ledger.Final {
	var o *outcome
	switch {
	case err == nil:
		b, err := encodeValue(result)
		if err != nil { // what was done is done
			return ledger.Final{Status: wire.Success, Reason: &wire.Reason{Code: wire.ReasonBadResult, Text: clean(err.Error())}}
		}
		return ledger.Final{Status: wire.Success, Result: b}
	case errors.As(err, &o):
		return ledger.Final{Status: o.status, Reason: &wire.Reason{Code: clean(o.code), Text: clean(o.text)}}
	case gaveUp(ctx, err):
		if errors.Is(context.Cause(ctx), errCancelled) {
			return ledger.Final{Status: wire.Cancelled, Reason: &wire.Reason{Code: wire.ReasonCancelled}}
		}
		return failure(wire.ReasonInterrupted, "the device stopped while the command was running")
	}
	return failure(wire.ReasonHandlerError, err.Error())
}

func failure(code, text string) ledger.Final {
	return ledger.Final{Status: wire.Failure, Reason: &wire.Reason{Code: code, Text: clean(text)}}
}

// clean makes a text fit for a document: UTF-8 without NUL, not too long.
func clean(text string) string {
	if len(text) > wire.MaxText {
		text = text[:wire.MaxText]
	}
	return strings.ReplaceAll(strings.ToValidUTF8(text, ""), "\x00", "")
}

// ended decides what the end of a handler means.
func (r *run) ended(j *job, f ledger.Final, unfinished bool) {
	r.jobs = slices.DeleteFunc(r.jobs, func(x *job) bool { return x == j })
	if unfinished && r.commands[j.cmd].resume != nil {
		return // it goes on after the restart
	}
	if r.ledger.End(&r.batch, j.tid, f, r.cfg.Clock()) {
		r.ran[j.tid] = true
	}
}
