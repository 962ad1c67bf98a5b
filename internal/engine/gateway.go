package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/replica"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
	"github.com/wilco-iot/wilco/wire/state"
)

// AnomalyGateway is a gateway's command that contradicts what people wanted here
// while it could not be reached. Stored; never change.
const AnomalyGateway = "gateway_conflict"

// gatewaySaid takes note of what a device that may be a gateway says of itself.
// Those behind one that is gone cannot be reached, whatever their own last status
// was. It is decided in the order of the messages, before the shards share them
// out: a status that a device says later, when its gateway is back, stays behind
// the loss.
func (e *Engine) gatewaySaid(a wire.Address, online bool) {
	behind := e.opt.Directory.Behind(a)
	if len(behind) == 0 {
		return
	}
	e.reach.Store(a, online)
	if online {
		return
	}
	for _, d := range behind {
		e.Gone(d)
	}
}

// wasReachable says whether there is a gateway, or none is needed, as the
// directory knew it at the start.
func (e *Engine) wasReachable(gateway wire.Address) bool {
	if gateway == (wire.Address{}) {
		return true
	}
	d, ok := e.opt.Directory.Device(gateway)
	return ok && d.Presence.Online && !e.opt.NobodyConnected
}

// reachable says whether what d's gateway has said last lets d be reached.
func (e *Engine) reachable(d *device) bool {
	reg, ok := e.opt.Directory.Device(d.address)
	if !ok || reg.Via == (wire.Address{}) {
		return true
	}
	if said, ok := e.reach.Load(reg.Via); ok {
		return said.(bool)
	}
	return e.wasReachable(reg.Via)
}

// gatewayAct takes into the history what a gateway did for a device behind it, and
// shows what of that contradicts what was wanted here meanwhile. It says whether
// the message has been dealt with.
func (t *turn) gatewayAct(j *upJob) bool {
	gateway, act := j.up.Address, &j.up.Act
	reg, ok := t.s.e.opt.Directory.Device(act.Device)
	if !ok || reg.Via != gateway {
		t.anomaly(j, AnomalyWrongDevice, "", fmt.Sprintf("device: %s is not registered behind %s", act.Device, gateway))
		return true
	}
	c, err := readAct(act, gateway)
	if err != nil {
		t.anomaly(j, AnomalyMalformed, "", err.Error())
		return true
	}
	d := t.s.device(act.Device)
	switch _, err := t.command(c.TID); {
	case err == nil:
		t.s.e.stats.duplicates.Add(1)
		return true
	case fault.CodeOf(err) != fault.NotFound:
		return j.waits(t, d, err)
	}
	clashes, err := t.mergeDesired(d, &c, act.Seen, gateway)
	if err != nil {
		return j.waits(t, d, err)
	}
	ended, err := t.endedSince(&c, act.Seen, gateway)
	if err != nil {
		return j.waits(t, d, err)
	}
	t.create(d, c)
	t.undoneThere(d, &c)
	t.overtaken(d, &c, act.Seen)
	clashes = append(clashes, ended...)
	for _, text := range clashes {
		t.gatewayConflict(d, &c, text)
	}
	return true
}

// undoneThere notes on the command that c has taken back, if it is known here, that
// it did.
func (t *turn) undoneThere(d *device, c *command.Command) {
	if c.Undoes == nil {
		return
	}
	was, err := t.command(*c.Undoes)
	if err != nil || was.Device != d.address {
		return // purged: c names it all the same
	}
	if _, err := t.apply(d, was, command.Event{Kind: command.Undo, By: c.RequestedBy, UndoneBy: &c.TID}); err != nil {
		t.s.e.log.Warn("a command that a gateway has taken back does not take the link", "tid", was.TID, "by", c.TID, "error", err)
	}
}

// maxAct bounds a command that is taken in, in bytes: more than any of this server's has.
const maxAct = 512 << 10

// readAct gives the command of an act as this server keeps it: under the names of
// who asked for it and of the gateway, and without what only meant something there.
func readAct(act *wire.Act, gateway wire.Address) (command.Command, error) {
	var c command.Command
	if err := json.Unmarshal(act.Command, &c); err != nil {
		return c, fmt.Errorf("command: %w", err)
	}
	switch {
	case c.TID == command.TID{}:
		return c, fmt.Errorf("command.tid: is missing")
	case c.Device != act.Device:
		return c, fmt.Errorf("command.device: is another device than %s", act.Device)
	case !c.Final():
		return c, fmt.Errorf("command.state: %q is no end", c.State)
	case c.Name == "" || len(c.Name) > wire.MaxCmd:
		return c, fmt.Errorf("command.name: must have 1 to %d bytes", wire.MaxCmd)
	case len(act.Command) > maxAct:
		return c, fmt.Errorf("command: has more than %d bytes", maxAct)
	case len(c.Timeline) == 0 || c.Ended.IsZero() || c.Version < 1:
		return c, fmt.Errorf("command: has no history")
	}
	c.RequestedBy = at(c.RequestedBy, gateway)
	for i := range c.Timeline {
		if by := &c.Timeline[i].By; *by != "device" && *by != "clock" {
			*by = at(*by, gateway)
		}
	}
	c.Key, c.Digest, c.RetryOf = "", "", nil
	return c, nil
}

// at names somebody at a gateway.
func at(who string, gateway wire.Address) string {
	if who == "" {
		return gateway.String()
	}
	return who + " at " + gateway.String()
}

// mergeDesired takes what the gateway desired of d into what is desired here, but
// for the paths that somebody has changed here since the gateway last heard of it:
// these stay, and are returned, in words. What the gateway itself set before it may
// set anew.
func (t *turn) mergeDesired(d *device, c *command.Command, seen string, gateway wire.Address) (clashes []string, err error) {
	if c.Name != StateDesired || c.State == command.Denied {
		return nil, nil
	}
	patch, err := state.Parse(c.Params)
	if err != nil {
		return []string{"what the gateway desired cannot be read: " + err.Error()}, nil
	}
	ch, err := t.replica(d)
	if err != nil {
		return nil, err
	}
	merged := state.Object{}
	for path, v := range patch.Leaves() {
		now, there := ch.Desired.Get(path)
		last := ch.DesiredMeta[path]
		if since(last.TID, seen) && !strings.HasSuffix(last.By, at("", gateway)) && !(there && state.Equal(now, v)) {
			clashes = append(clashes, fmt.Sprintf("%s: the gateway set %s, but %s is desired here since; that stays",
				path, valueText(v), valueText(now)))
			continue
		}
		leaf, err := state.At(path, v)
		if err != nil {
			return nil, err
		}
		join(merged, leaf)
	}
	if len(merged) == 0 {
		return clashes, nil
	}
	r, rev, err := ch.Desire(replica.Change{Patch: merged, By: c.RequestedBy, TID: c.TID.String()}, t.now)
	if err != nil {
		return append(clashes, "what the gateway desired cannot be taken in: "+err.Error()), nil
	}
	if rev != nil {
		t.revise(ch, r, rev)
	}
	return clashes, nil
}

// join puts more into patch, nulls kept.
func join(patch, more state.Object) {
	for name, v := range more {
		a, isA := patch[name].(state.Object)
		b, isB := v.(state.Object)
		if isA && isB {
			join(a, b)
		} else {
			patch[name] = v
		}
	}
}

// since says whether a command of this server is younger than the last one that
// the gateway had. TIDs of one server rise; no clock of the gateway is asked.
func since(tid, seen string) bool {
	a, err := uuid.Parse(tid)
	if err != nil {
		return false
	}
	b, err := uuid.Parse(seen)
	return err != nil || strings.Compare(a.String(), b.String()) > 0
}

func valueText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "?"
	}
	return string(b)
}

// overtaken notes on each command that was asked for here, and that the gateway
// did not have when it made c, that c went before it.
func (t *turn) overtaken(d *device, c *command.Command, seen string) {
	var open []command.TID
	for _, list := range [][]command.TID{d.lane.Queued(), d.lane.InFlight(), d.lane.Unsettled()} {
		open = append(open, list...)
	}
	for _, tid := range open {
		if !since(tid.String(), seen) {
			continue
		}
		other, err := t.command(tid)
		if err != nil {
			t.s.e.log.Error("a command that a gateway may have overtaken cannot be read", "tid", tid, "error", err)
			continue
		}
		common, ok := meet(c, &other)
		if !ok {
			continue
		}
		ev := command.Event{Kind: command.Overtaken, By: c.RequestedBy,
			Text: fmt.Sprintf("%s was done before it, as %s%s", c.Name, c.TID, common)}
		if _, err := t.apply(d, other, ev); err != nil {
			t.s.e.log.Error("what a gateway did could not be noted", "tid", tid, "error", err)
		}
	}
}

// endedSince says, in words, which commands of this server the device has carried out
// after c, that the gateway did not have when it made c: what they say has come up
// before the act. At most 100 are looked at.
func (t *turn) endedSince(c *command.Command, seen string, gateway wire.Address) (list []string, err error) {
	if seen == "" {
		return nil, nil // it had none of this server's, so nothing tells the old ones from those since
	}
	page, _, err := t.s.e.opt.Store.List(context.Background(), store.Query{Group: c.Device.Group, Device: c.Device.Device, Limit: 100})
	if err != nil {
		return nil, err
	}
	for i := range page {
		if !since(page[i].TID.String(), seen) || strings.HasSuffix(page[i].RequestedBy, at("", gateway)) {
			continue
		}
		other, err := t.command(page[i].TID) // as this turn has it
		if err != nil {
			return nil, err
		}
		if other.State != command.Executed && other.State != command.Failed {
			continue
		}
		if common, ok := meet(c, &other); ok {
			list = append(list, fmt.Sprintf("%s %s has ended since; the gateway had not got it when it did %s%s", other.Name, other.TID, c.Name, common))
		}
	}
	return list, nil
}

// meet says whether two commands may touch the same: paths that both change, or
// one of them does not say what it changes.
func meet(a, b *command.Command) (common string, ok bool) {
	of, with := effects(a), effects(b)
	if len(of) == 0 || len(with) == 0 {
		return "", true
	}
	for _, x := range of {
		for _, y := range with {
			if x == y || strings.HasPrefix(x, y+".") || strings.HasPrefix(y, x+".") {
				return "; both change " + x, true
			}
		}
	}
	return "", false
}

// gatewayConflict records one contradiction of the gateway's command c.
func (t *turn) gatewayConflict(d *device, c *command.Command, text string) {
	t.s.e.stats.anomaly(AnomalyGateway)
	t.s.e.log.Warn("a gateway did what contradicts what is wanted here", "device", d.address, "tid", c.TID, "by", c.RequestedBy, "what", text)
	now := t.now.UTC().Truncate(time.Millisecond)
	detail := strings.ToValidUTF8(text[:min(len(text), maxDetail)], "")
	t.batch.Anomalies = append(t.batch.Anomalies, store.Anomaly{At: now, Device: d.address, Kind: AnomalyGateway, TID: c.TID.String(), Detail: detail})
	t.batch.Events = append(t.batch.Events, store.Event{Type: store.EventAnomaly, At: now, Device: d.address, TID: &c.TID, Name: c.Name,
		By: c.RequestedBy, Detail: AnomalyGateway + ": " + detail})
}
