package gateway

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/engine"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/wire"
	"github.com/wilco-iot/wilco/wire/state"
)

// The server above keeps the clocks of its commands; these only bound how long the
// gateway remembers one that its device never answers.
const patience = command.Duration(30 * 24 * time.Hour)

// arriving is since when messages of the server above have been dealt with without a
// pause: none of those has waited here for longer. Only fromAbove touches it.
type arriving struct{ busy, ended time.Time }

// idle is a pause between two messages that says that none was waiting.
const idle = 20 * time.Millisecond

// fromAbove takes one message of the server above, in their order. It returns when
// what the message means is durable, and acknowledges it then; while nothing can be
// kept here it blocks, so that the server above is held back.
func (g *Gateway) fromAbove(d *client.Delivery) {
	device, ok := g.commandTopic(d.Topic)
	if began := time.Now(); began.Sub(g.above.ended) > idle {
		g.above.busy = began // nothing has waited: this has just come
	}
	defer func() { g.above.ended = time.Now() }()
	if !ok {
		g.mirrorDown(d)
		return
	}
	if d.Retain {
		g.log.Error("a command is retained at the server above; it is not obeyed", "topic", d.Topic)
		d.Ack()
		return
	}
	doc, err := g.profile.ParseCommand(d.Payload)
	if err != nil {
		g.log.Error("a command of the server above cannot be read", "topic", d.Topic, "error", err)
		g.refuse(device, doc.TID, wire.ReasonBadDocument, err.Error())
		d.Ack()
		return
	}
	for !g.obey(device, &doc, d) {
		if g.wait(pause); g.ctx.Err() != nil {
			return // not acknowledged: it comes again
		}
	}
	d.Ack()
}

// commandTopic says whose commands come on the topic.
func (g *Gateway) commandTopic(topic string) (wire.Address, bool) {
	levels := strings.Split(topic, "/")
	if n := len(levels); n >= 3 {
		a := wire.Address{Group: levels[n-3], Device: levels[n-2]}
		return a, a.Valid() == nil && g.profile.Topic(a) == topic
	}
	return wire.Address{}, false
}

// obey does what a document asks for; false: it could not be kept now.
func (g *Gateway) obey(device wire.Address, doc *wire.Command, d *client.Delivery) bool {
	tid, err := uuid.Parse(doc.TID)
	if err != nil {
		g.refuse(device, doc.TID, wire.ReasonBadDocument, "tid: a gateway takes UUIDs only")
		return true
	}
	var c command.Command
	switch doc.Status {
	case wire.Request:
		return g.request(device, tid, doc, d)
	case wire.Cancel:
		c, err = g.server.Engine.Cancel(g.ctx, tid, Upstream, "asked for by the server above")
		if fault.CodeOf(err) == fault.Conflict {
			c, err = g.server.Store.Command(g.ctx, tid)
		}
	default:
		c, err = g.server.Store.Command(g.ctx, tid)
	}
	switch {
	case err == nil:
		g.answer(&c)
		return true
	case fault.CodeOf(err) == fault.NotFound:
		return g.askDevice(device, d)
	}
	g.log.Error("what the server above says of a command cannot be dealt with now", "tid", tid, "error", err)
	return false
}

// request makes the command of the server above one of this server, under its tid.
func (g *Gateway) request(device wire.Address, tid command.TID, doc *wire.Command, d *client.Delivery) bool {
	policy := g.cfg.Server.Policy.Command()
	policy.Heartbeat, policy.FinishBy, policy.Settle, policy.Supersede = 0, patience, patience, false
	if !doc.NotAfter.IsZero() {
		left := timeLeft(doc.NotAfter, d.Expiry, g.above.busy, time.Now())
		if left < 10*time.Millisecond {
			g.refuse(device, doc.TID, wire.ReasonExpired, "it came to the gateway too late")
			return true
		}
		policy.DeliverBy = command.Duration(left)
	}
	terms, err := termsOf(doc)
	if err != nil {
		g.refuse(device, doc.TID, wire.ReasonBadDocument, "if: "+err.Error())
		return true
	}
	out, err := g.server.Engine.Create(g.ctx, []engine.Request{{Device: device, TID: &tid, Name: doc.Cmd, Params: doc.Params,
		Policy: policy, Terms: terms, By: Upstream}})
	if err == nil {
		err = out[0].Err
	}
	switch code := fault.CodeOf(err); {
	case err == nil:
		if out[0].Existed {
			g.answer(&out[0].Command)
		}
	case code == fault.NotFound:
		g.refuse(device, doc.TID, wire.ReasonUnknownCommand, "the gateway has no such device")
	case code == fault.Invalid:
		g.refuse(device, doc.TID, wire.ReasonBadParams, fault.From(err).Public())
	default:
		g.log.Error("a command of the server above cannot be kept now; it waits", "tid", tid, "device", device, "error", err)
		return false
	}
	return true
}

// timeLeft is how long a command may still wait that came at the time came or later.
// notAfter is of the clock of the server above; expiry, what its broker has counted
// down, in whole seconds, is of none: where the two do not agree so far, the clocks
// differ, and it counts.
func timeLeft(notAfter time.Time, expiry time.Duration, came, now time.Time) time.Duration {
	left, waited := notAfter.Sub(now).Truncate(time.Millisecond), now.Sub(came)
	if off := left + waited - expiry; expiry > 0 && (off < -2*time.Second || off > 2*time.Second) {
		return expiry - waited
	}
	return left
}

// termsOf is the condition of a command, which is asked here of younger reports than
// those that the server above has, and goes on to the device.
func termsOf(doc *wire.Command) (*command.Terms, error) {
	if len(doc.If) == 0 {
		return nil, nil
	}
	t := &command.Terms{If: new(state.Condition), Unmet: command.Refuse}
	return t, json.Unmarshal(doc.If, t.If)
}

// answer tells the server above how a command has ended that it asks about, or
// asks for again. One that has not ended will tell itself.
func (g *Gateway) answer(c *command.Command) {
	if payload := g.outcome(c); payload != nil {
		g.say(g.profile.ResultTopic(c.Device), payload)
	}
}

// outcome is the end of a command in a device's words; nil when it has none.
func (g *Gateway) outcome(c *command.Command) []byte {
	r := wire.Result{TID: c.TID.String(), Result: c.Result, State: c.DeviceState}
	code := ""
	switch c.State {
	case command.Executed:
		r.Status = wire.Success
	case command.Failed:
		r.Status, code = wire.Failure, wire.ReasonHandlerError
	case command.Rejected:
		r.Status, code = wire.Rejected, wire.ReasonBusy
	case command.Expired, command.Denied:
		r.Status, code = wire.Rejected, wire.ReasonExpired
	case command.Cancelled:
		r.Status, code = wire.Cancelled, wire.ReasonCancelled
	default:
		return nil
	}
	switch c.Reason {
	case command.DeviceInterrupted:
		code = wire.ReasonInterrupted
	case command.DeviceTooLate:
		code = wire.ReasonExpired
	case command.DeviceNeverGotIt:
		code = wire.ReasonNotReceived
	case command.PreconditionUnmet:
		code = wire.ReasonPreconditionUnmet
	}
	if code != "" {
		r.Reason = &wire.Reason{Code: code, Text: c.Detail}
	}
	payload, err := g.profile.AppendResult(nil, r)
	if err != nil {
		g.log.Error("the end of a command cannot be told above", "tid", c.TID, "error", err)
		return nil
	}
	return payload
}

// endedHere says whether a command of the server above has ended without a word of
// its device, which would have gone up by itself.
func endedHere(c *command.Command) bool {
	return c.State == command.Expired || c.State == command.Denied ||
		c.State == command.Cancelled && c.Reason != command.DeviceCancelled
}

// refuse tells the server above that a command is not even tried.
func (g *Gateway) refuse(device wire.Address, tid, code, text string) {
	if len(text) > wire.MaxText {
		text = text[:wire.MaxText]
	}
	payload, err := g.profile.AppendAck(nil, wire.Ack{TID: tid, Status: wire.Rejected, Reason: &wire.Reason{Code: code, Text: text}})
	if err != nil {
		return // there is no tid to answer to
	}
	g.say(g.profile.AckTopic(device), payload)
}

// say publishes above what need not be durable: the server above asks again.
func (g *Gateway) say(topic string, payload []byte) {
	err := g.link.PublishAsync(client.Message{Topic: topic, Payload: payload, QoS: mqtt.AtLeastOnce, ContentType: "application/json"}, nil)
	if err != nil {
		g.log.Warn("an answer was not told above; it will be asked for again", "topic", topic, "error", err)
	}
}

// askDevice hands on a CANCEL or QUERY of a command that was never here: only the
// device can know, and it refuses the tid from now on.
func (g *Gateway) askDevice(device wire.Address, d *client.Delivery) bool {
	if _, ok := g.server.Fleet.Device(device); !ok {
		return true
	}
	done := make(chan error, 1)
	g.server.Link.Publish(engine.Publication{Topic: g.profile.Topic(device), Payload: d.Payload, Correlation: d.CorrelationData,
		ResponseTopic: d.ResponseTopic, Expiry: d.Expiry}, func(err error) { done <- err })
	select {
	case err := <-done:
		return err == nil
	case <-g.ctx.Done():
		return false
	}
}
