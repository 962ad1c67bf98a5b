package device

import (
	"errors"
	"time"

	"github.com/wilco-iot/wilco/device/internal/ledger"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/wire"
)

// window is how many answers may be on their way to the server at a time.
const window = 32

// answer is the end of a command to be told to the server. It is tried again
// until the server has taken it over.
type answer struct {
	tid   string
	query bool // asked for: a result document, even if the command was refused
}

// act takes one action. What the server can do without (an ack, RUNNING) is
// said now or not at all; ends of commands go through the outbox.
func (r *run) act(a ledger.Action) {
	switch a.Act {
	case ledger.Acknowledge:
		r.sayAck(wire.Ack{TID: a.TID, Status: wire.Received})
	case ledger.Decline:
		r.sayAck(wire.Ack{TID: a.TID, Status: wire.Rejected, Reason: a.Reason})
	case ledger.Report:
		if j := r.job(a.TID); j != nil {
			r.sayRunning(j, time.Now())
		}
	case ledger.Answer:
		r.owe(answer{tid: a.TID})
	case ledger.AnswerQuery:
		r.owe(answer{tid: a.TID, query: true})
	case ledger.Execute:
		r.execute(a.TID, false)
	case ledger.Resume:
		r.execute(a.TID, true)
	case ledger.Interrupt:
		if j := r.job(a.TID); j != nil {
			j.cancel(errCancelled)
		}
	}
}

// owe puts an answer into the outbox, unless it is there or on its way.
func (r *run) owe(a answer) {
	if r.queued[a.tid] {
		return
	}
	r.queued[a.tid] = true
	r.outbox = append(r.outbox, a)
}

// oweAll does so for all answers that the server may not have.
func (r *run) oweAll() {
	for _, tid := range r.ledger.Owed() {
		r.owe(answer{tid: tid})
	}
}

// pump publishes from the outbox what may be on its way now.
func (r *run) pump() {
	for r.up && len(r.outbox) > 0 && r.onTheWay < window {
		a := r.outbox[0]
		r.outbox = r.outbox[1:]
		if err := r.publishEnd(a); err != nil {
			// It stays owed, and is tried again with the next presence.
			delete(r.queued, a.tid)
			r.cfg.Logger.Warn("device: cannot publish an answer", "tid", a.tid, "error", err)
		}
	}
	// An answer waits for its turn, or the stop for the end of all of them.
	r.posted.setKeen(r.stopping || len(r.outbox) > 0)
}

// publishEnd publishes the end of a command. A refusal is an ack; when it
// carries the device's state, a result with the state follows.
func (r *run) publishEnd(a answer) error {
	e := r.ledger.Get(a.tid)
	if e == nil { // forgotten meanwhile, so the server has it
		delete(r.queued, a.tid)
		return nil
	}
	p := r.cfg.Profile
	doc := resultOf(a.tid, e.Final)
	if r.shrunk[a.tid] {
		doc.Result, doc.State = nil, nil
		doc.Reason = &wire.Reason{Code: wire.ReasonBadResult, Text: "the result is larger than the server takes"}
	}
	asAck := e.Final.Refused && !a.query
	told := func(res client.Result) {
		put := r.posted.put
		if res.Err == nil && r.cfg.Observer.Answered == nil {
			put = r.posted.putLater // its note in the journal waits for company anyway
		}
		put(func() { r.told(a, doc, res) })
	}
	if asAck {
		b, err := p.AppendAck(nil, wire.Ack{TID: a.tid, Status: wire.Rejected, Reason: e.Final.Reason})
		if err != nil {
			return err
		}
		alone := doc.State == nil || p.AckTopic(r.cfg.Address) == p.ResultTopic(r.cfg.Address)
		var done func(client.Result)
		if alone {
			done = told
		}
		if err := r.publish(p.AckTopic(r.cfg.Address), a.tid, b, done); err != nil {
			return err
		}
		if alone {
			r.onTheWay++
			return nil
		}
	}
	b, err := p.AppendResult(nil, doc)
	if err != nil {
		return err
	}
	if err := r.publish(p.ResultTopic(r.cfg.Address), a.tid, b, told); err != nil {
		return err
	}
	r.onTheWay++
	return nil
}

// told notes how the publication of an answer ended.
func (r *run) told(a answer, doc wire.Result, res client.Result) {
	r.onTheWay--
	delete(r.queued, a.tid)
	switch {
	case res.Err == nil:
		delete(r.shrunk, a.tid)
		if r.cfg.Observer.Answered != nil {
			r.cfg.Observer.Answered(doc)
		}
		r.ledger.Told(&r.batch, a.tid)
	case errors.Is(res.Err, client.ErrSize) && !r.shrunk[a.tid]:
		r.shrunk[a.tid] = true
		r.owe(a)
	case !errors.Is(res.Err, client.ErrStopped):
		r.cfg.Logger.Warn("device: the server did not take an answer", "tid", a.tid, "error", res.Err)
	}
}

func (r *run) sayAck(doc wire.Ack) {
	b, err := r.cfg.Profile.AppendAck(nil, doc)
	r.say(r.cfg.Profile.AckTopic(r.cfg.Address), doc.TID, b, err)
}

// sayRunning says that a command is being executed, with its last progress.
func (r *run) sayRunning(j *job, now time.Time) {
	j.said, j.beat = now, now
	b, err := r.cfg.Profile.AppendResult(nil, j.running())
	r.say(r.cfg.Profile.ResultTopic(r.cfg.Address), j.tid, b, err)
}

// say publishes what loses its worth when it cannot be sent now.
func (r *run) say(topic, tid string, b []byte, err error) {
	if err == nil && r.up {
		err = r.publish(topic, tid, b, nil)
	}
	if err != nil {
		r.cfg.Logger.Warn("device: cannot publish", "topic", topic, "tid", tid, "error", err)
	}
}

func (r *run) publish(topic, tid string, b []byte, done func(client.Result)) error {
	return r.client.PublishAsync(client.Message{
		Topic: topic, Payload: b, QoS: mqtt.AtLeastOnce,
		ContentType: "application/json", CorrelationData: []byte(tid),
	}, done)
}
