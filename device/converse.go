package device

import (
	"fmt"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/wire"
	"github.com/wilco-iot/wilco/wire/state"
)

// stateTopics are those on which the server is heard about the state. Whether a
// report was taken over is known by its PUBACK; why it was not is told.
var stateTopics = []wire.StateTopic{wire.StateReportRejected, wire.StateDelta, wire.StateAskAccepted, wire.StateAskRejected}

// talk is what a run knows of the conversation about the state. It belongs to the
// goroutine of Device.Run.
type talk struct {
	busy     bool   // a report is on its way
	asked    bool   // this connection's question is out, and not answered
	bringing int    // goroutines that bring about a delta
	tried    string // the last that was tried to bring about, in this connection
}

// stateSubscriptions are those of a device that has a state.
func (r *run) stateSubscriptions() (subs []mqtt.Subscription) {
	if r.replica == nil {
		return nil
	}
	p := r.cfg.Profile.(wire.StateProfile)
	for _, t := range stateTopics {
		subs = append(subs, mqtt.Subscription{Filter: p.StateTopic(r.cfg.Address, t), QoS: mqtt.AtLeastOnce})
	}
	return subs
}

// onState takes a message about the state; false: it is none.
func (r *run) onState(d *client.Delivery) bool {
	p, ok := r.cfg.Profile.(wire.StateProfile)
	if !ok || r.replica == nil {
		return false
	}
	on, ok := p.StateReplyTopic(r.cfg.Address, d.Topic)
	if !ok {
		return false
	}
	reply, err := p.ParseStateReply(on, d.Payload)
	if d.Retain {
		err = fmt.Errorf("%w: it is retained", errNoState)
	}
	d.Ack() // what is lost of it is asked for with the next connection
	r.posted.put(func() {
		if err == nil {
			err = r.heardOfState(on, &reply)
		}
		if err != nil {
			r.cfg.Logger.Warn("device: an answer about the state is not obeyed", "topic", on, "error", err)
		}
	})
	return true
}

func (r *run) heardOfState(on wire.StateTopic, reply *wire.StateReply) error {
	switch on {
	case wire.StateReportRejected, wire.StateAskRejected:
		return fmt.Errorf("%s: %s: %s", reply.Code, reply.Field, reply.Text)
	case wire.StateDelta:
		if reply.TID != "" {
			return nil // it comes as a command too
		}
		return r.bring(reply.State, reply.DesiredVersion)
	case wire.StateAskAccepted:
		if !r.talk.asked {
			return nil // of a connection before
		}
		r.talk.asked = false
		server := state.Object{}
		if reply.Reported != nil {
			var err error
			if server, err = state.Parse(reply.Reported); err != nil {
				return err
			}
		}
		r.replica.differs(server)
		if reply.Delta == nil {
			return nil
		}
		return r.bring(reply.Delta, reply.DesiredVersion)
	}
	return nil
}

// bring brings about a delta, in a goroutine of its own. The same one is tried
// once in a connection: a device that cannot do it must not try for ever.
func (r *run) bring(raw []byte, version int64) error {
	delta, err := state.Parse(raw)
	if err != nil || len(delta) == 0 || r.stopping {
		return err
	}
	key := fmt.Sprint(version, delta)
	if key == r.talk.tried {
		return nil
	}
	r.talk.tried = key
	r.talk.bringing++
	r.handlers.Go(func() {
		defer r.posted.put(func() { r.talk.bringing-- })
		if err := r.replica.safely(r.life, delta); err != nil {
			r.cfg.Logger.Warn("device: what is desired cannot be brought about now", "error", err)
		}
	})
	return nil
}

// askState asks how the device should be; with each connection, and before it
// reports anything.
func (r *run) askState() {
	if r.replica == nil {
		return
	}
	r.talk = talk{busy: r.talk.busy, bringing: r.talk.bringing, asked: true}
	p := r.cfg.Profile.(wire.StateProfile)
	b, err := p.AppendStateGet(nil, wire.StateGet{})
	r.say(p.StateTopic(r.cfg.Address, wire.StateAsk), "", b, err)
}

// pumpState publishes what is to be reported, one report at a time.
func (r *run) pumpState() {
	if r.replica == nil || !r.up || r.talk.busy {
		return
	}
	patch := r.replica.take()
	if len(patch) == 0 {
		return
	}
	p := r.cfg.Profile.(wire.StateProfile)
	b, err := p.AppendStateUpdate(nil, wire.StateUpdate{State: patch.Append(nil), TS: r.cfg.Clock(), Boot: r.boot})
	if err != nil {
		r.cfg.Logger.Error("device: a report cannot be written; it is left out", "error", err)
		return
	}
	r.talk.busy = true
	told := func(res client.Result) {
		r.posted.put(func() {
			r.talk.busy = false
			if res.Err != nil {
				r.replica.giveBack(patch)
				r.cfg.Logger.Warn("device: the server did not take a report; it is tried again", "error", res.Err)
				return
			}
			r.pumpState()
		})
	}
	if err := r.publish(p.StateTopic(r.cfg.Address, wire.StateReport), "", b, told); err != nil {
		r.talk.busy = false
		r.replica.giveBack(patch)
		r.cfg.Logger.Warn("device: a report cannot be published; it is tried again", "error", err)
	}
}

// keepState puts what was reported into the batch, for the journal.
func (r *run) keepState() {
	if r.replica == nil {
		return
	}
	if kept, ok := r.replica.toKeep(); ok {
		r.ledger.Report(&r.batch, kept)
	}
}
