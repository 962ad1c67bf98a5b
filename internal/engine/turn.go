package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
)

// turn is what a shard decides between two commits.
type turn struct {
	s        *shard
	now      time.Time
	dirty    map[command.TID]*change
	keys     map[keyOf]command.TID // of the commands made in this turn
	order    []*change
	batch    store.Batch
	sends    []send
	linked   bool // before the turn
	empty    bool // before the turn
	look     bool // somebody else has written: keys are looked up in the store
	touched  map[*device]devicePast
	replicas map[*device]*replicaChange // looked at, changed or not
	asked    []asked                    // for places
	after    []func()                   // once committed, in order; the acknowledgements among them
}

// change is a command as it was before the turn and as it has become.
type change struct {
	device *device
	was    command.Command // Version 0: it did not exist
	is     command.Command
}

// devicePast is what a turn may change in a device, as it was.
type devicePast struct {
	presence store.Presence
	oldBoots []string
}

// send is a publication that waits for the commit.
type send struct {
	device *device
	c      command.Command
	effect command.Effect
}

// turn runs the jobs, lets every device that was touched send what it may,
// commits, and acts.
func (s *shard) turn(jobs []job) {
	t := &turn{s: s, now: time.Now(), linked: s.linked, empty: s.empty, look: s.conflicts > 0, dirty: make(map[command.TID]*change),
		keys: make(map[keyOf]command.TID), touched: make(map[*device]devicePast)}
	t.load(jobs)
	for _, j := range jobs {
		j.run(t)
	}
	for d := range t.touched {
		t.pump(d)
	}
	t.batch.Commands = make([]store.CommandWrite, 0, len(t.order))
	for _, ch := range t.order {
		if ch.is.Version != ch.was.Version {
			t.batch.Commands = append(t.batch.Commands, store.CommandWrite{Command: ch.is, Was: ch.was.Version})
		}
	}
	if err := t.writeReplicas(); err != nil {
		t.undo(jobs, err)
		return
	}
	if !t.batch.Empty() {
		if _, err := s.e.opt.Store.Commit(context.Background(), &t.batch); err != nil {
			t.undo(jobs, err)
			return
		}
	}
	s.failing, s.conflicts = 0, 0
	s.broken.Store(nil)
	t.act()
}

// load reads the commands that the jobs need and the cache has not, at once.
func (t *turn) load(jobs []job) {
	var needed []command.TID
	for _, j := range jobs {
		j.needs(func(tid command.TID) { needed = append(needed, tid) })
	}
	_ = t.fetch(needed) // each job meets the error by itself
}

// fetch takes those of tids that it has not into the cache, with one reading.
func (t *turn) fetch(tids []command.TID) error {
	var missing []command.TID
	for _, tid := range tids {
		if _, ok := t.s.cache[tid]; !ok {
			missing = append(missing, tid)
		}
	}
	if len(missing) < 2 {
		return nil // one is read when it is asked for
	}
	found, err := t.s.e.opt.Store.Commands(context.Background(), missing)
	if err != nil {
		return err
	}
	t.s.trim(len(found)) // what is loaded stays for the turn, whatever the limit
	for _, c := range found {
		t.s.cache[c.TID] = c
	}
	return nil
}

// command gives the command as this turn has it so far.
func (t *turn) command(tid command.TID) (command.Command, error) {
	if ch, ok := t.dirty[tid]; ok {
		return ch.is, nil
	}
	if c, ok := t.s.cache[tid]; ok {
		return c, nil
	}
	return t.s.e.opt.Store.Command(context.Background(), tid) // Stop lets the turn finish
}

// touch notes that d takes part in this turn, and how it was before; and learns
// what people have changed of it since it last did.
func (t *turn) touch(d *device) {
	if _, ok := t.touched[d]; !ok {
		t.touched[d] = devicePast{presence: d.presence, oldBoots: d.oldBoots}
		d.learn(t.s.e)
	}
}

// sendable says whether d, which has been touched, may be sent to now.
func (t *turn) sendable(d *device) bool {
	return t.s.linked && !d.barred && (d.presence.Online || !d.profile.ReportsPresence())
}

// create puts a new command into the turn.
func (t *turn) create(d *device, c command.Command) {
	t.touch(d)
	ch := &change{device: d, is: c}
	ch.was.TID, ch.was.Device = c.TID, c.Device
	t.dirty[c.TID] = ch
	t.order = append(t.order, ch)
	d.lane.Track(&c)
	d.remember(c.TID, c.Name)
	t.event(&c, "")
}

// apply moves a command by the machine and collects what follows from it.
func (t *turn) apply(d *device, c command.Command, ev command.Event) (command.Command, error) {
	t.touch(d)
	if err := t.shown(d, &c, &ev); err != nil {
		return c, err
	}
	ev.DeviceOnline = t.sendable(d)
	ev.Boot = d.presence.Boot
	ev.Epoch, ev.Seq = t.s.e.opt.Epoch, d.seq+1
	next, effects, err := command.Apply(c, ev, t.now)
	if err != nil {
		return c, err
	}
	if next.Version == c.Version {
		if ev.Kind.FromDevice() {
			t.s.e.stats.duplicates.Add(1)
		}
		return c, nil
	}
	if err := t.record(d, &c, &next); err != nil {
		return c, err
	}
	ch, ok := t.dirty[c.TID]
	if !ok {
		ch = &change{device: d, was: c}
		t.dirty[c.TID] = ch
		t.order = append(t.order, ch)
	}
	ch.is = next
	d.lane.Track(&next)
	if n, m := len(next.Timeline), len(c.Timeline); n != m || n > 0 && next.Timeline[n-1].Count != c.Timeline[m-1].Count {
		t.event(&next, c.State)
	}
	for _, e := range effects {
		if e == command.SendRequest {
			d.seq++
			t.deltaOf(d, &next)
		}
		t.sends = append(t.sends, send{d, next, e})
	}
	return next, nil
}

// event tells of the last line of c's timeline.
func (t *turn) event(c *command.Command, from command.State) {
	line := c.Timeline[len(c.Timeline)-1]
	ev := store.Event{Type: store.EventCommand, At: t.now.UTC().Truncate(time.Millisecond), Device: c.Device, TID: &c.TID, Name: c.Name,
		Kind: line.Kind, From: from, State: line.State, Reason: line.Reason, By: line.By, Detail: line.Detail, Attempt: line.Attempt}
	if c.Progress != nil {
		ev.Percent = c.Progress.Percent
	}
	if line.Anomaly {
		ev.Type = store.EventAnomaly
		t.s.e.stats.anomaly(string(line.Reason))
		t.batch.Anomalies = append(t.batch.Anomalies, store.Anomaly{At: ev.At, Device: c.Device,
			Kind: string(line.Reason), TID: c.TID.String(), Detail: anomalyText(c, &line)})
	}
	t.batch.Events = append(t.batch.Events, ev)
	if line.Kind == command.BreakGlass {
		t.batch.Events = append(t.batch.Events, store.Event{Type: store.EventAlarm, At: ev.At, Device: c.Device, TID: &c.TID, Name: c.Name,
			State: line.State, Reason: line.Reason, By: line.By, Detail: "let go without the approval that it needs: " + line.Detail})
	}
}

func anomalyText(c *command.Command, line *command.Entry) string {
	if line.Kind == command.Misfit || line.Kind == command.Overtaken {
		return line.Detail
	}
	return string(line.Kind) + " while " + string(c.State)
}

// pump sends the waiting commands of d that its window has places for.
func (t *turn) pump(d *device) {
	if d.barred && !d.idle() {
		t.s.barred[d] = struct{}{}
	}
	if !t.sendable(d) {
		return
	}
	// What has happened in this turn may be what they have waited for.
	for _, tid := range slices.Clone(d.lane.Held()) {
		d.lane.Unhold(tid)
	}
	for {
		tid, ok := d.lane.Next()
		if !ok {
			return
		}
		c, err := t.command(tid)
		ev := command.Event{Kind: command.Dispatch}
		if err == nil {
			var over bool
			if ev, over, err = t.overruled(d, &c); err == nil && !over {
				ev, ok, err = t.hindered(d, &c)
			}
			if err == nil && !ok {
				return // the head of the queue waits, and what is behind it with it
			}
		}
		if err == nil {
			if c, err = t.apply(d, c, ev); err == nil {
				d.lane.Track(&c) // one that is held as before has not moved, but for Unhold
			}
		}
		if err != nil {
			if !errors.Is(err, command.ErrNotAllowed) && fault.CodeOf(err) != fault.NotFound {
				t.s.e.log.Error("a waiting command cannot be read; it stays", "tid", tid, "device", d.address, "error", err)
				return
			}
			// The lane believed a command to wait which does not: the store is right.
			c.TID = tid
			d.lane.Track(&c)
		}
	}
}

// act does what the commit has made true.
func (t *turn) act() {
	s := t.s
	t.keepReplicas()
	t.keepPlaces()
	for _, ch := range t.order {
		s.timers.set(ch.is.TID, ch.device, ch.is.Wake)
		s.keep(ch.is)
		s.e.stats.moved(&ch.was, &ch.is)
		if s.e.opt.Ended != nil && ch.is.Final() && !ch.was.Final() {
			s.e.opt.Ended(&ch.is)
		}
		s.tell(&ch.is)
	}
	if len(t.batch.Presence) > 0 {
		s.mu.Lock()
		for _, p := range t.batch.Presence {
			s.seen[p.Device] = p
		}
		s.mu.Unlock()
	}
	for i := range t.sends {
		s.publish(&t.sends[i])
	}
	for _, f := range t.after {
		f()
	}
}

// undo takes the turn back and decides which jobs are kept.
func (t *turn) undo(jobs []job, err error) {
	s := t.s
	s.linked, s.empty = t.linked, t.empty
	for d, past := range t.touched {
		d.presence, d.oldBoots = past.presence, past.oldBoots
	}
	for _, ch := range t.order {
		ch.device.lane.Track(&ch.was)
		ch.device.named = nil // those that were superseded wait again
	}
	t.losePlaces()
	var conflict *store.ConflictError
	if errors.As(err, &conflict) {
		t.relearn(conflict.TIDs)
		t.relearnReplicas(conflict.Documents)
		if s.conflicts++; s.conflicts < maxConflicts {
			s.pending = append(s.pending, jobs...)
			return // the next turn reads anew, and knows better
		}
		err = fault.Wrap(err, fault.Unavailable, "somebody else goes on changing the same commands; does another server use this store?")
	}
	s.failing++
	s.broken.Store(&err)
	for _, j := range jobs {
		if j.failed(err) {
			s.pending = append(s.pending, j)
		}
	}
	s.e.stats.failedTurns.Add(1)
	if s.failing == 1 || s.failing%20 == 0 {
		s.e.log.Error("commit failed; nothing of it has happened, what came from devices is kept and tried again",
			"error", err, "kept", len(s.pending), "failures", s.failing)
	}
}

// maxConflicts in a row are taken for bad luck; from then on it is a failure. One
// is ordinary: it is how a key that is taken is found out.
const maxConflicts = 4

// relearn takes from the store what somebody else has written: what is in memory
// of these commands is out of date.
func (t *turn) relearn(tids []command.TID) {
	for _, tid := range tids {
		delete(t.s.cache, tid)
		ch := t.dirty[tid]
		if ch == nil || ch.was.Version == 0 {
			continue // a new command, whose key is taken
		}
		c, err := t.s.e.opt.Store.Command(context.Background(), tid)
		if fault.CodeOf(err) == fault.NotFound {
			c, err = command.Command{TID: tid}, nil // in no state: it leaves the lane
		}
		if err == nil {
			ch.device.lane.Track(&c)
			t.s.timers.set(tid, ch.device, c.Wake)
		}
	}
}
