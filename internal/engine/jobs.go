package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// createJob makes the commands of one Create that belong to one shard.
type createJob struct {
	reqs  []Request
	out   []Created
	index []int // of reqs and out that are this shard's
	done  func()
}

func (j *createJob) needs(func(command.TID)) {}

func (j *createJob) run(t *turn) {
	for _, i := range j.index {
		j.out[i] = t.newCommand(&j.reqs[i])
	}
	t.after = append(t.after, j.done)
}

func (j *createJob) failed(err error) bool {
	for _, i := range j.index {
		j.out[i] = Created{Err: err}
	}
	j.done()
	return false
}

// newCommand decides about one request.
func (t *turn) newCommand(r *Request) Created {
	_, ok := t.s.e.opt.Directory.Device(r.Device)
	if !ok {
		return Created{Err: fault.New(fault.NotFound, "there is no device %s; register it with: wilco device add %s", r.Device, r.Device)}
	}
	d := t.s.device(r.Device)
	t.touch(d)
	if r.Key != "" {
		if c, ok, err := t.known(r, t.look); ok || err != nil {
			return Created{Command: c, Existed: ok, Err: err}
		}
	}
	tid, err := t.s.e.newTID()
	if r.TID != nil {
		tid = *r.TID
		c, known := t.command(tid)
		if fault.CodeOf(known) != fault.NotFound {
			return Created{Command: c, Existed: known == nil, Err: known}
		}
	}
	if err != nil {
		return Created{Err: err}
	}
	c, err := command.New(tid, r.Device, r.Name, r.Params, r.Policy, r.By, r.Hold, t.now)
	if err != nil {
		return Created{Err: err}
	}
	c.Key, c.Digest, c.RetryOf, c.Rollout, c.Terms = r.Key, r.Digest, r.RetryOf, r.Rollout, r.Terms
	if r.undoes != nil {
		c.Undoing(r.undoes.TID, r.undoes.Why)
		c.Forced = r.undoes.Force
	}
	if c.Approval != nil && r.Hold.Digest == "" {
		c.Approval.Digest = c.ContentDigest() // with its terms
	}
	if c.Name == StateDesired {
		if err := t.desired(d, &c, r.IfDesired); err != nil {
			return Created{Err: err}
		}
	}
	if c.Policy.Supersede {
		t.supersede(d, &c)
	}
	if c.Key != "" {
		t.keys[keyOf{c.Device, c.Key}] = c.TID
	}
	t.create(d, c)
	return Created{Command: c}
}

// keyOf is an idempotency key with the device that it is unique in.
type keyOf struct {
	device wire.Address
	key    string
}

// known finds the command that was made with the request's idempotency key: in
// this turn or, with look, in the store. That is not asked at first, because nearly
// every key is new, and it refuses one that is not: then the turn is done again with
// a look.
func (t *turn) known(r *Request, look bool) (command.Command, bool, error) {
	tid, ok := t.keys[keyOf{r.Device, r.Key}]
	if !ok && look {
		var err error
		tid, _, err = t.s.e.opt.Store.CommandByKey(context.Background(), r.Device, r.Key)
		if err != nil && fault.CodeOf(err) != fault.NotFound {
			return command.Command{}, false, err
		}
		ok = err == nil
	}
	if !ok {
		return command.Command{}, false, nil
	}
	c, err := t.command(tid)
	if err != nil {
		return command.Command{}, false, err
	}
	return sameRequest(c, r.Digest)
}

func sameRequest(c command.Command, digest string) (command.Command, bool, error) {
	if c.Digest != digest {
		return command.Command{}, false, fault.New(fault.KeyReused,
			"the Idempotency-Key was used for another command, %s; use a new key", c.TID)
	}
	return c, true, nil
}

// personJob is what a person or program asks for: cancel, retry.
type personJob struct {
	tid    command.TID
	device wire.Address
	ev     command.Event
	reply  chan answer
}

func (j *personJob) needs(f func(command.TID)) { f(j.tid) }

func (j *personJob) run(t *turn) {
	c, err := t.command(j.tid)
	if err == nil {
		if c, err = t.apply(t.s.device(j.device), c, j.ev); err != nil {
			err = fault.Wrap(err, fault.Conflict, "%s", err)
		}
	}
	t.after = append(t.after, func() { j.reply <- answer{c, err} })
}

func (j *personJob) failed(err error) bool {
	j.reply <- answer{err: err}
	return false
}

// tickJob is a timer that has run out.
type tickJob struct {
	tid    command.TID
	device *device
}

func (j *tickJob) needs(f func(command.TID)) { f(j.tid) }

func (j *tickJob) run(t *turn) {
	c, err := t.command(j.tid)
	if fault.CodeOf(err) == fault.NotFound {
		return // purged
	}
	if err == nil {
		_, err = t.apply(j.device, c, command.Event{Kind: command.Tick})
	}
	if err != nil {
		// Not decided, so not lost: the timer comes again.
		t.s.e.log.Error("a timer could not be served", "tid", j.tid, "error", err)
		t.after = append(t.after, func() { t.s.timers.set(j.tid, j.device, t.now.Add(retryTick)) })
		return
	}
	if ch, ok := t.dirty[j.tid]; !ok || ch.is.Version == c.Version {
		// Nothing was due after all, by the clock of this turn: once more at its time.
		t.after = append(t.after, func() { t.s.timers.set(j.tid, j.device, c.Wake) })
	}
}

func (j *tickJob) failed(error) bool { return true }

// refusedJob is a publication that the broker would not take.
type refusedJob struct {
	tid    command.TID
	device *device
	why    string
}

func (j *refusedJob) needs(f func(command.TID)) { f(j.tid) }

func (j *refusedJob) run(t *turn) {
	c, err := t.command(j.tid)
	if err == nil {
		_, err = t.apply(j.device, c, command.Event{Kind: command.BrokerRefused, By: "broker", Text: j.why})
	}
	if err != nil {
		t.s.e.log.Error("a refusal of the broker could not be kept", "tid", j.tid, "why", j.why, "error", err)
	}
}

func (j *refusedJob) failed(error) bool { return true }

// linkJob: the broker can be reached, or cannot. When it can again, what was on
// its way may be lost: every device that is online is reconciled, each by a job
// of its own, so that no turn grows with the fleet.
type linkJob struct{ up bool }

func (j *linkJob) needs(func(command.TID)) {}

func (j *linkJob) run(t *turn) {
	was := t.s.linked
	t.s.linked = j.up
	if !j.up || was {
		return
	}
	t.after = append(t.after, func() {
		for _, d := range t.s.devices {
			if !d.idle() {
				t.s.add(&reconcileJob{d})
			}
		}
	})
}

func (j *linkJob) failed(error) bool { return true }

// reconcileJob makes sure of what is outstanding on a device, if it is there.
type reconcileJob struct{ device *device }

func (j *reconcileJob) needs(f func(command.TID)) {
	for _, tid := range j.device.lane.InFlight() {
		f(tid)
	}
	for _, tid := range j.device.lane.Unsettled() {
		f(tid)
	}
}

func (j *reconcileJob) run(t *turn) {
	t.touch(j.device)
	if t.sendable(j.device) {
		t.reconcile(j.device, nil)
	}
}

func (j *reconcileJob) failed(error) bool { return true }

// admitJob: devices may connect from now on.
type admitJob struct{}

func (j *admitJob) needs(func(command.TID)) {}

func (j *admitJob) run(t *turn) { t.s.empty = false }

func (j *admitJob) failed(error) bool { return true }

// goneJob: a device may not be there any more, whatever its last status said.
type goneJob struct{ device wire.Address }

func (j *goneJob) needs(func(command.TID)) {}

func (j *goneJob) run(t *turn) {
	d := t.s.device(j.device)
	t.touch(d)
	if p := d.presence; p.Online {
		p.Online = false
		p.Since = t.now.UTC().Truncate(time.Millisecond)
		t.keepPresence(d, p)
		t.came(p)
	}
}

func (j *goneJob) failed(error) bool { return true }

// removedJob forgets the state of a device that was removed. Whatever is known of one
// that was added under its name comes behind it.
type removedJob struct{ device wire.Address }

func (j *removedJob) needs(func(command.TID)) {}

func (j *removedJob) run(t *turn) {
	if err := t.s.removeReplica(j.device); err != nil {
		t.s.e.log.Error("the state of a device that was removed may still be there", "device", j.device, "error", err)
	}
}

func (j *removedJob) failed(error) bool { return true }

// waitJob registers a waiter, unless the command is there already.
type waitJob struct {
	device wire.Address
	w      *waiter
}

func (j *waitJob) needs(f func(command.TID)) { f(j.w.tid) }

func (j *waitJob) run(t *turn) {
	t.after = append(t.after, func() {
		c, err := t.command(j.w.tid)
		if err != nil || j.w.until(&c) {
			j.w.reply <- answer{c, err}
			return
		}
		t.s.waiters[j.w.tid] = append(t.s.waiters[j.w.tid], j.w)
	})
}

// failed keeps the waiter: nothing that it waits for has to do with this commit.
func (j *waitJob) failed(err error) bool {
	if !errors.Is(err, ErrStopped) {
		return true
	}
	j.w.reply <- answer{err: err}
	return false
}

// unwaitJob forgets a waiter that has gone.
type unwaitJob struct{ w *waiter }

func (j *unwaitJob) needs(func(command.TID)) {}

func (j *unwaitJob) run(t *turn) {
	// Behind the commit as the registration is, which may be of the same turn.
	t.after = append(t.after, func() {
		ws := slices.DeleteFunc(t.s.waiters[j.w.tid], func(w *waiter) bool { return w == j.w })
		if len(ws) == 0 {
			delete(t.s.waiters, j.w.tid)
			return
		}
		t.s.waiters[j.w.tid] = ws
	})
}

func (j *unwaitJob) failed(error) bool { return true }

// keepPresence makes p the presence of d.
func (t *turn) keepPresence(d *device, p store.Presence) {
	t.touch(d)
	d.presence = p
	t.batch.Presence = append(t.batch.Presence, p)
}

// came tells those who follow that a device has come, gone or rebooted.
func (t *turn) came(p store.Presence) {
	t.batch.Events = append(t.batch.Events, store.Event{Type: store.EventDevice, At: p.Since, Device: p.Device, Online: &p.Online, Boot: p.Boot})
}
