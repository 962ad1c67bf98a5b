package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// Kinds of anomalies, beside the anomalous reasons of package command.
// Stored; never change.
const (
	AnomalyMalformed    = "malformed"           // a document that is not one
	AnomalyUnknownTID   = "unknown_tid"         // about a command that never was
	AnomalyWrongDevice  = "wrong_device"        // about the command of another device
	AnomalyUnregistered = "unregistered_device" // from a device that nobody has added
	AnomalyStaleStatus  = "stale_status"        // of an earlier boot, come late or replayed
	AnomalyRetained     = "retained_command"    // a retained message on a command topic: an alarm
	AnomalyForeign      = "foreign_command"     // a command that this server did not send: an alarm
)

const (
	retryTick    = time.Second
	oldBootsKept = 4
	maxDetail    = 1024
	seenEvery    = 30 * time.Second // how exact Presence.Seen is
)

// Message is what the link has received.
type Message struct {
	Topic    string
	Payload  []byte // the engine may keep it
	Retained bool
	// Ack is called once, when what the message changed is durable, or when it
	// changed nothing. It does not block.
	Ack func()
}

// Receive takes a message from the broker. It does not block: the receive
// maximum of the link bounds what is under way.
func (e *Engine) Receive(m Message) {
	e.stats.received.Add(1)
	up, err := wire.Up{}, error(wire.ErrNotUp)
	for _, p := range e.opt.Profiles {
		if up, err = p.ParseUp(m.Topic, m.Payload); !errors.Is(err, wire.ErrNotUp) {
			break
		}
	}
	j := &upJob{up: up, err: err, m: m}
	if errors.Is(err, wire.ErrNotUp) {
		addr, ok := e.commandTopic(m.Topic)
		if !ok {
			if n := e.stats.anomaly(AnomalyMalformed); n&(n-1) == 0 {
				e.log.Warn("message on a topic that means nothing here", "topic", m.Topic, "so far", n)
			}
			m.Ack()
			return
		}
		j.up.Address, j.onCommandTopic = addr, true
	}
	if err == nil && up.Kind == wire.UpStatus {
		e.gatewaySaid(up.Address, up.Status.Online)
	}
	e.shard(j.subject()).add(j)
}

// subject is the device that the message is about: who speaks, but for a gateway
// that tells of a device behind it.
func (j *upJob) subject() wire.Address {
	if j.up.Kind == wire.UpAct && j.err == nil {
		return j.up.Act.Device
	}
	return j.up.Address
}

// commandTopic says whose command topic it is, if it is one.
func (e *Engine) commandTopic(topic string) (wire.Address, bool) {
	levels := strings.Split(topic, "/")
	for _, p := range e.opt.Profiles {
		if n := len(levels); n >= 3 {
			if a := (wire.Address{Group: levels[n-3], Device: levels[n-2]}); a.Valid() == nil && p.Topic(a) == topic {
				return a, true
			}
		}
	}
	return wire.Address{}, false
}

// upJob is a message of a device.
type upJob struct {
	up             wire.Up
	err            error // of reading it
	m              Message
	onCommandTopic bool
	tries          int // in vain, to read what it is about
}

// canWait says whether the message is an acknowledgement, after which more will
// come soon.
func (j *upJob) canWait() bool {
	return j.err == nil && j.up.Kind == wire.UpAck && j.up.Ack.Status == wire.Received
}

func (j *upJob) tid() (command.TID, error) {
	switch j.up.Kind {
	case wire.UpAck:
		return uuid.Parse(j.up.Ack.TID)
	case wire.UpResult:
		return uuid.Parse(j.up.Result.TID)
	}
	return command.TID{}, errors.New("no tid")
}

func (j *upJob) needs(f func(command.TID)) {
	if j.err == nil && (j.up.Kind == wire.UpAck || j.up.Kind == wire.UpResult) {
		if tid, err := j.tid(); err == nil {
			f(tid)
		}
	}
}

func (j *upJob) failed(error) bool { return true } // unacknowledged until it is durable

func (j *upJob) run(t *turn) {
	if j.decide(t) {
		t.after = append(t.after, j.m.Ack)
		return
	}
	// The store could not be read: not decided, so not acknowledged either.
	t.after = append(t.after, func() { t.s.pending = append(t.s.pending, j); t.s.failing++ })
}

// decide says whether the message has been dealt with.
func (j *upJob) decide(t *turn) bool {
	a := j.up.Address
	if _, ok := t.s.e.opt.Directory.Device(a); !ok {
		// Kept nowhere, and logged ever more seldom: strangers must cost nothing.
		if n := t.s.e.stats.anomaly(AnomalyUnregistered); n&(n-1) == 0 {
			t.s.e.log.Warn("message of a device that is not registered", "topic", j.m.Topic, "so far", n)
		}
		return true
	}
	switch {
	case j.onCommandTopic:
		j.alarm(t)
		return true
	case j.up.Kind == wire.UpStateUpdate, j.up.Kind == wire.UpStateGet:
		return t.stateDocument(j)
	case j.up.Kind == wire.UpAct && j.err == nil:
		return t.gatewayAct(j)
	case j.err != nil:
		t.anomaly(j, AnomalyMalformed, "", j.err.Error())
		return true
	case j.up.Kind == wire.UpStatus:
		t.status(t.s.device(a), j)
		return true
	}
	said := j.up.Ack.TID
	ev := command.Event{}
	if j.up.Kind == wire.UpAck {
		ev = command.EventOfAck(j.up.Ack)
	} else {
		said, ev = j.up.Result.TID, command.EventOfResult(j.up.Result)
	}
	tid, err := uuid.Parse(said)
	if err != nil {
		t.anomaly(j, AnomalyUnknownTID, said, "tid: is not one of this server's")
		return true
	}
	c, err := t.command(tid)
	switch {
	case fault.CodeOf(err) == fault.NotFound:
		t.anomaly(j, AnomalyUnknownTID, said, "tid: there is no such command")
		return true
	case err != nil:
		if j.tries++; j.tries&(j.tries-1) == 0 { // ever more seldom
			t.s.e.log.Error("a command cannot be read; its message waits", "tid", said, "error", err, "tries", j.tries)
		}
		return false
	case c.Device != a:
		t.anomaly(j, AnomalyWrongDevice, said, "tid: is a command of another device")
		return true
	}
	d := t.s.device(a)
	if err = t.resultState(d, j, &c); err == nil {
		if c, err = t.apply(d, c, ev); err == nil && ev.Kind == command.Succeeded {
			err = t.checkResult(c)
		}
	}
	switch {
	case errors.Is(err, command.ErrNotAllowed):
		t.anomaly(j, AnomalyMalformed, said, err.Error())
	case err != nil:
		return j.waits(t, d, err)
	}
	if ch, ok := t.replicas[d]; ok {
		t.followReport(ch)
	}
	return true
}

// checkResult notes on a command that has just been executed that its result is
// not what its type promises.
func (t *turn) checkResult(c command.Command) error {
	check := t.s.e.opt.CheckResult
	if check == nil || c.TypeVersion() == 0 || c.State != command.Executed || t.dirty[c.TID] == nil {
		return nil
	}
	wrong := check(c.Name, c.TypeVersion(), c.Result)
	if wrong == nil || c.Timeline[len(c.Timeline)-1].Anomaly {
		return nil // an anomaly stands there when this was not the first word
	}
	f := fault.From(wrong)
	_, err := t.apply(t.s.device(c.Device), c, command.Event{Kind: command.Misfit, Text: f.Field + " " + f.Public()})
	return err
}

// alarm deals with a message on a command topic that the server did not send.
func (j *upJob) alarm(t *turn) {
	kind, text := AnomalyForeign, "somebody else publishes commands"
	if j.m.Retained {
		kind, text = AnomalyRetained, "a command is retained at the broker; remove it"
	}
	t.s.e.log.Error(text, "topic", j.m.Topic, "bytes", len(j.m.Payload))
	t.anomaly(j, kind, "", text)
}

// anomaly records what a device said and what was not obeyed.
func (t *turn) anomaly(j *upJob, kind, tid, detail string) {
	if len(detail) > maxDetail {
		detail = strings.ToValidUTF8(detail[:maxDetail], "")
	}
	if len(tid) > 64 {
		tid = tid[:64]
	}
	t.s.e.stats.anomaly(kind)
	if !t.s.device(j.up.Address).mayNote(t.now) {
		return
	}
	at := t.now.UTC().Truncate(time.Millisecond)
	t.batch.Anomalies = append(t.batch.Anomalies, store.Anomaly{At: at, Device: j.up.Address, Kind: kind,
		TID: tid, Topic: j.m.Topic, Detail: detail})
	t.batch.Events = append(t.batch.Events, store.Event{Type: store.EventAnomaly, At: at, Device: j.up.Address,
		By: "device", Detail: fmt.Sprintf("%s: %s", kind, detail)})
}

// status takes what a device says of itself. What belongs to an earlier boot
// is late or replayed: the Will of the connection before, or a copy.
func (t *turn) status(d *device, j *upJob) {
	st, was := j.up.Status, d.presence
	st.Online = st.Online && !t.s.empty && t.s.e.reachable(d)
	switch {
	case !st.Online && was.Online && st.Boot != was.Boot && st.Boot != "",
		st.Online && st.Boot != was.Boot && slices.Contains(d.oldBoots, st.Boot):
		t.anomaly(j, AnomalyStaleStatus, "", fmt.Sprintf("boot: %q is not the present one, %q", st.Boot, was.Boot))
		return
	}
	now := t.now.UTC().Truncate(time.Millisecond)
	p := store.Presence{Device: d.address, Known: true, Online: st.Online, Boot: st.Boot, Firmware: st.Firmware, Commands: st.Commands, Since: was.Since, Seen: now}
	if p.Firmware == "" {
		p.Firmware = was.Firmware
	}
	if p.Boot == "" || !p.Online && was.Known {
		p.Boot = was.Boot // only an online status makes a boot known
	}
	if !p.Online {
		p.Commands = was.Commands // a Will does not say
	}
	rebooted := p.Boot != was.Boot
	if was.Known && !rebooted && p.Online == was.Online && p.Firmware == was.Firmware &&
		slices.Equal(p.Commands, was.Commands) && now.Sub(was.Seen) < seenEvery {
		return // nothing new; not worth a write
	}
	if !was.Known || rebooted || p.Online != was.Online {
		p.Since = now
		t.came(p)
	}
	t.keepPresence(d, p)
	if rebooted && was.Boot != "" {
		d.oldBoots = append(slices.Clone(d.oldBoots), was.Boot)
		if n := len(d.oldBoots); n > oldBootsKept {
			d.oldBoots = d.oldBoots[n-oldBootsKept:]
		}
		t.s.e.stats.reboots.Add(1)
	}
	if p.Online && (!was.Online || rebooted) && t.s.linked {
		t.reconcile(d, st.InProgress)
		t.welcome(d)
	}
}

// reconcile makes sure of everything outstanding on a device that is there
// (again): what may have been lost is published again or asked for.
func (t *turn) reconcile(d *device, inProgress []string) {
	t.touch(d)
	for _, tid := range append(slices.Clone(d.lane.InFlight()), d.lane.Unsettled()...) {
		c, err := t.command(tid)
		if err == nil {
			_, err = t.apply(d, c, command.Event{Kind: command.Online, InProgress: slices.Contains(inProgress, tid.String())})
		}
		if err != nil {
			t.s.e.log.Error("an outstanding command cannot be reconciled now; its clocks go on", "tid", tid, "error", err)
		}
	}
}
