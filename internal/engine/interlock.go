package engine

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/wire"
)

// interlocks are the places of all shards. What a command has in there is never
// less than what the store says of it:
//
//	in a turn     the places are taken, or the command stands in line
//	the commit    makes it Sent; one that fails gives them back
//	after it      the places of what has ended are given to those in line, and
//	              each of their shards is told, to send or to leave the line
//
// So no place is given twice, whenever the process dies: Start takes them anew for
// what the store has as outstanding. And none is lost: whoever is given one is told
// by a job, which is kept until it is decided.
type interlocks struct {
	mu sync.Mutex
	*places
}

// asked is a command that has asked for places in a turn.
type asked struct {
	device *device
	tid    command.TID
	took   bool // it has them; else it waits, if its terms say so
}

// place takes the places that c, which waits for its turn, needs; or says who has
// them.
func (t *turn) place(d *device, c *command.Command) (why string, ok bool) {
	e := t.s.e
	claim := e.claim(c)
	if len(claim.needs) == 0 {
		return "", true // its bound is of other devices
	}
	e.locks.mu.Lock()
	why, given := e.locks.ask(claim, c.Terms.Unmet == command.Hold, t.leaving())
	e.locks.mu.Unlock()
	e.tellGiven(given)
	t.asked = append(t.asked, asked{d, c.TID, why == ""})
	return why, why == ""
}

func (e *Engine) claim(c *command.Command) claim {
	dev, _ := e.opt.Directory.Device(c.Device)
	return claim{tid: c.TID, device: c.Device, priority: c.Priority(), needs: needsOf(c, dev.Tags)}
}

// leaving lists the commands that this turn has ended: their places may pass to
// others of the same turn, as both are committed or neither is.
func (t *turn) leaving() (tids []command.TID) {
	for _, ch := range t.order {
		if ch.is.Interlocked() && ch.was.Outstanding() && !ch.is.Outstanding() {
			tids = append(tids, ch.is.TID)
		}
	}
	return tids
}

// keepPlaces frees, after the commit, the places of what has ended, and takes out of
// the lines what cannot be sent now: its device is away, or busy otherwise.
func (t *turn) keepPlaces() {
	var gone []command.TID
	for _, ch := range t.order {
		if is := &ch.is; is.Interlocked() && !is.Outstanding() && is.State != command.Created {
			gone = append(gone, is.TID)
		}
	}
	for d := range t.touched {
		for _, tid := range d.inLine {
			if !slices.ContainsFunc(t.asked, func(a asked) bool { return a.tid == tid }) {
				gone = append(gone, tid)
			}
		}
		d.inLine = nil
	}
	for _, a := range t.asked {
		switch ch := t.dirty[a.tid]; {
		case !a.took:
			a.device.inLine = append(a.device.inLine, a.tid)
		case ch == nil || !ch.is.Outstanding():
			gone = append(gone, a.tid) // it could not be sent after all
		}
	}
	t.s.e.leave(gone)
}

// losePlaces takes back what an undone turn has asked for. What existed before
// stands in line until its device is looked at again.
func (t *turn) losePlaces() {
	var gone, back []command.TID
	for _, a := range t.asked {
		if ch := t.dirty[a.tid]; ch != nil && ch.was.Version == 0 {
			gone = append(gone, a.tid)
			continue
		}
		if a.took {
			back = append(back, a.tid)
		}
		if !slices.Contains(a.device.inLine, a.tid) {
			a.device.inLine = append(a.device.inLine, a.tid)
		}
	}
	e := t.s.e
	e.leave(gone)
	if len(back) == 0 {
		return
	}
	var given []*claim
	e.locks.mu.Lock()
	for _, tid := range back {
		given = append(given, e.locks.back(tid)...)
	}
	e.locks.mu.Unlock()
	e.tellGiven(given)
}

// leave takes commands out of the interlocks.
func (e *Engine) leave(tids []command.TID) {
	if len(tids) == 0 {
		return
	}
	var given []*claim
	e.locks.mu.Lock()
	for _, tid := range tids {
		given = append(given, e.locks.leave(tid)...)
	}
	e.locks.mu.Unlock()
	e.tellGiven(given)
}

func (e *Engine) tellGiven(list []*claim) {
	for _, c := range list {
		e.shard(c.device).add(&givenJob{c.device})
	}
}

// takeUp takes, at the start, the places of commands that are outstanding. What cannot
// be read may be in any place: until it is, none is given.
func (e *Engine) takeUp(tids []command.TID) {
	if tids = e.tookUp(tids); len(tids) == 0 {
		return
	}
	e.locks.shut = fmt.Sprintf("no place is given: %s is outstanding, cannot be read, and may have it", tids[0])
	e.wg.Go(func() { e.takeUpLater(tids) })
}

// takeUpLater tries again until every command is read.
func (e *Engine) takeUpLater(tids []command.TID) {
	const longest = 10 * time.Second
	for pause := 100 * time.Millisecond; len(tids) > 0; pause = min(2*pause, longest) {
		select {
		case <-e.ctx.Done():
			return
		case <-time.After(pause):
		}
		tids = e.tookUp(tids)
	}
	e.locks.mu.Lock()
	given := e.locks.open()
	e.locks.mu.Unlock()
	e.tellGiven(given)
	e.log.Info("every outstanding command has been read; places are given")
}

// tookUp takes the places of those commands that can be read, and returns the others.
// It reads under the lock: one that ends meanwhile leaves after it has been taken up.
func (e *Engine) tookUp(tids []command.TID) (unread []command.TID) {
	e.locks.mu.Lock()
	defer e.locks.mu.Unlock()
	var failed error
	for _, tid := range tids {
		c, err := e.opt.Store.Command(e.ctx, tid)
		switch {
		case fault.CodeOf(err) == fault.NotFound: // it has ended, and was purged
		case err != nil:
			failed = err
			unread = append(unread, tid)
		case c.Interlocked() && c.Outstanding():
			e.locks.take(e.claim(&c))
		}
	}
	if failed != nil {
		e.log.Error("outstanding commands cannot be read; until they are, none that is interlocked gets a place",
			"commands", len(unread), "one of them", unread[0], "error", failed)
	}
	return unread
}

// givenJob looks at a device one of whose commands has been given places: it is
// sent, or gives them on.
type givenJob struct{ device wire.Address }

func (j *givenJob) needs(func(command.TID)) {}

func (j *givenJob) run(t *turn) { t.touch(t.s.device(j.device)) }

func (j *givenJob) failed(error) bool { return true }
