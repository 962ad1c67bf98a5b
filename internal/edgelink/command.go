package edgelink

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/engine"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/spcommand"
	"github.com/wilco-iot/wilco/internal/spjson"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/host"
	"github.com/wilco-iot/wilco/wire"
)

// What confirmed a command, in its result. Stored; never change.
const (
	byData    = "data"
	byBirth   = "birth"
	byPresent = "present_value"
)

// reasonWritten is the code of the word that a command went out. Stored; never change.
const reasonWritten = "written"

// errUnknown is why nothing is sent to a device that nobody has registered any more.
var errUnknown = errors.New("the device is not registered as a Sparkplug device")

// Publish implements engine.Link.
func (l *Link) Publish(p engine.Publication, done func(error)) {
	c := p.Command
	if c == nil {
		done(nil) // an answer about state, which nobody asks for
		return
	}
	name, device, _ := fleet.EdgeOf(c.Device)
	n := l.node(host.NodeID{Group: c.Device.Group, Node: name})
	if n == nil {
		done(fmt.Errorf("%w: %w", engine.ErrRefused, errUnknown))
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	_, unsent := n.unsent[c.TID.String()]
	switch {
	case p.Effect == command.SendCancel:
		n.cancel(c, unsent)
	case p.Effect == command.SendRequest && (unsent || c.Reason == command.TurnCame || c.Reason == command.AskedAgain):
		n.request(c, device, done)
		return
	default:
		n.ask(c, device)
	}
	done(nil)
}

// request writes what is asked for, and says at once what cannot be.
func (n *node) request(c *command.Command, device string, done func(error)) {
	tid := c.TID.String()
	delete(n.unsent, tid)
	ask, online, err := n.compile(c, device)
	switch {
	case err != nil:
		n.reject(c, err)
		done(nil)
		return
	case !online:
		n.refused(c, host.ErrNotOnline, done)
		return
	case c.Name == Rebirth:
		n.book.Send(ask, n.present(device))
		n.l.opt.Host.Rebirth(n.id)
		n.ack(c, wire.Ack{TID: tid, Status: wire.Received, Reason: &wire.Reason{Code: reasonWritten,
			Text: "the node is asked for its births as soon as its cooldown allows; an NBIRTH has to confirm it"}})
		done(nil)
		return
	}
	// Noted before it goes out: DATA can be here before Write has returned.
	n.book.Send(ask, n.present(device))
	was := *c
	err = n.l.opt.Host.Write(n.id, device, ask.Writes, func(err error) { n.written(&was, err, done) })
	var bad *sparkplug.Error
	switch {
	case err == nil:
		return
	case errors.As(err, &bad), errors.Is(err, host.ErrUnknownMetric), errors.Is(err, host.ErrPassive):
		n.book.Drop(tid)
		n.reject(c, err)
		done(nil)
	default:
		n.book.Drop(tid)
		n.refused(c, err, done)
	}
}

// refused says that a request did not go out: the engine asks again when the device
// is back, and then it may.
func (n *node) refused(c *command.Command, why error, done func(error)) {
	n.unsent[c.TID.String()] = c.NotAfter
	done(fmt.Errorf("%w: %w", engine.ErrRefused, why))
}

// written takes the client's word about a command.
func (n *node) written(c *command.Command, err error, done func(error)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		n.book.Drop(c.TID.String())
		n.refused(c, err, done)
		return
	}
	n.ack(c, wire.Ack{TID: c.TID.String(), Status: wire.Received, Reason: &wire.Reason{Code: reasonWritten,
		Text: "the command is with the broker, and Sparkplug has no acknowledgement; DATA or a birth has to confirm it"}})
	n.tell(n.book.Written(c.TID.String()), byPresent)
	done(nil)
}

// cancel answers a CANCEL: what went out cannot be taken back.
func (n *node) cancel(c *command.Command, unsent bool) {
	tid := c.TID.String()
	if unsent {
		delete(n.unsent, tid)
		n.result(c.Device, wire.Result{TID: tid, Status: wire.Cancelled, Reason: &wire.Reason{Code: wire.ReasonCancelled, Text: "it was never written"}})
		return
	}
	n.ack(c, wire.Ack{TID: tid, Status: wire.Rejected, Reason: &wire.Reason{Code: wire.ReasonCancelRefused,
		Text: "a Sparkplug command that was written cannot be taken back"}})
}

// ask answers what became of a command. One that this process knows nothing of was
// sent by an earlier one.
func (n *node) ask(c *command.Command, device string) {
	tid := c.TID.String()
	if _, ok := n.book.Ask(tid); !ok {
		n.resume(c, device)
	}
	v, open := n.book.Ask(tid)
	if !open {
		return
	}
	if v.Kind != 0 {
		n.tell([]spcommand.Verdict{v}, "")
	}
	// One birth after the send has said all that it can say.
	if !v.Born && !n.l.opt.Passive {
		n.l.opt.Host.Rebirth(n.id)
	}
}

func (n *node) resume(c *command.Command, device string) {
	ask, online, err := n.compile(c, device)
	if err != nil || !online {
		return // it was right when it was sent: nobody knows now
	}
	if c.Name == Rebirth {
		h, _, _ := n.l.opt.Host.Node(n.id)
		n.tell(n.book.Resume(ask, true, nil), "")
		if h.Born.After(c.FirstSent) {
			n.tell(n.book.Birth("", true, nil), byBirth)
		}
		return
	}
	n.tell(n.book.Resume(ask, c.Boot != "" && c.Boot == n.boot, func(metric string) (spcommand.Reading, bool) {
		v, ok := n.l.opt.Host.Value(n.id, device, metric)
		return reading(&v), ok && v.Received.After(c.FirstSent)
	}), byPresent)
}

// present gives the present values of a device to a Book.
func (n *node) present(device string) func(string) (spcommand.Reading, bool) {
	return func(metric string) (spcommand.Reading, bool) {
		v, ok := n.l.opt.Host.Value(n.id, device, metric)
		return reading(&v), ok && v.Known
	}
}

func reading(v *host.Metric) spcommand.Reading {
	m := &sparkplug.Metric{Datatype: v.Datatype, Null: v.Null, Value: v.Value, DataSet: v.DataSet, Template: v.Template}
	return spcommand.Reading{Metric: m, Good: v.Quality == host.Good, Time: v.Timestamp}
}

// compile makes of a command's params what its device is asked for, by the birth in
// force. The error is a *fault.Error; it is certain only where online is true.
func (n *node) compile(c *command.Command, device string) (ask spcommand.Command, online bool, err error) {
	u, online := n.l.opt.Host.Unit(n.id, device)
	ask = spcommand.Command{TID: c.TID.String(), Device: device, Until: c.FinishDue.Add(c.Policy.Settle.D() + time.Minute)}
	if !online {
		return ask, false, nil
	}
	ask.Writes, err = writes(c.Device, c.Name, c.Params, u, n.l.definitions(n.id, u))
	return ask, true, err
}

// tell says to the engine what became of commands; by is what showed it.
func (n *node) tell(list []spcommand.Verdict, by string) {
	for i := range list {
		v := &list[i]
		u := n.units[v.Device]
		if u == nil {
			continue
		}
		r := wire.Result{TID: v.TID, Status: wire.Running}
		switch v.Kind {
		case spcommand.Confirmed:
			// The state first: what a command has changed is recorded with its end.
			n.flush(u)
			r.Status, r.Result = wire.Success, confirmation(v, by)
		case spcommand.Contradicted:
			r.Progress = &wire.Progress{Note: clip(fmt.Sprintf("%s is reported as %s, not as what was asked for", v.Metric, shown(v.Value)))}
		case spcommand.Lost:
			r.Progress = &wire.Progress{Note: "the session that it was written in has ended; only a birth can confirm it now"}
		case spcommand.Superseded:
			r.Progress = &wire.Progress{Note: clip(fmt.Sprintf("%s was written anew by %s; what became of this write cannot be known any more", v.Metric, v.By))}
		}
		n.result(u.address, r)
	}
}

func confirmation(v *spcommand.Verdict, by string) json.RawMessage {
	b, err := json.Marshal(struct {
		By      string   `json:"confirmedBy"`
		Already []string `json:"already,omitempty"`
	}{by, v.Already})
	if err != nil {
		return nil // there is nothing in it that could not be written
	}
	return b
}

func shown(m *sparkplug.Metric) string {
	if raw := spjson.Metric(m, m.Datatype); raw != nil {
		return string(raw)
	}
	return "another value"
}

// clip cuts a text to what a note may have.
func clip(s string) string {
	const most = 200
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

func (n *node) reject(c *command.Command, why error) {
	n.ack(c, wire.Ack{TID: c.TID.String(), Status: wire.Rejected, Reason: &wire.Reason{Code: wire.ReasonBadParams, Text: clip(text(why))}})
}

func (n *node) ack(c *command.Command, a wire.Ack) {
	doc, err := documents.AppendAck(nil, a)
	n.send(documents.AckTopic(c.Device), doc, err)
}

func (n *node) result(a wire.Address, r wire.Result) {
	doc, err := documents.AppendResult(nil, r)
	n.send(documents.ResultTopic(a), doc, err)
}

// send gives a document to the engine, which keeps it until it is durable.
func (n *node) send(topic string, doc []byte, err error) {
	if err != nil {
		n.l.log.Error("what an edge node has said cannot be written for the engine", "node", n.id.String(), "topic", topic, "error", err)
		return
	}
	n.l.opt.Engine.Receive(engine.Message{Topic: root + topic, Payload: doc, Ack: func() {}})
}
