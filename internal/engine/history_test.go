package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/internal/store/sqlite"
	"github.com/wilco-iot/wilco/wire"
)

// TestRandomHistories plays histories of people, devices, clocks, broker and
// disk against an engine that is restarted in between, and checks after each step
// what must hold always, and at the end, when all is well again, that everything
// has come to its end.
func TestRandomHistories(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		path := filepath.Join(dir, fmt.Sprint(n, ".db"))
		// Rapid's draws panic to end a history; they must not do so inside the
		// bubble, so that the steps are drawn first.
		steps := rapid.SliceOfN(drawStep, 1, 40).Draw(rt, "steps")
		windows := rapid.SliceOfN(rapid.IntRange(1, 3), len(cast), len(cast)).Draw(rt, "windows")
		var problem string
		synctest.Test(t, func(t *testing.T) { problem = play(t, path, steps, windows) })
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}

// cast is the devices of a history; the last speaks a profile without presence.
var cast = []wire.Address{valve, {Group: "plant", Device: "valve-2"}, {Group: "mill", Device: "saw"}, lamp}

// step is one thing that happens; a and b choose among what there is.
type step struct {
	Do   string
	A, B int
}

var drawStep = rapid.Custom(func(t *rapid.T) step {
	return step{
		Do: rapid.SampledFrom([]string{"create", "create", "create", "bulk", "keyed", "supersede", "cancel", "retry", "wait",
			"received", "received", "running", "succeeded", "succeeded", "failed", "rejected", "cancelled", "nonsense",
			"online", "online", "offline", "gone", "link down", "link up", "tick", "tick", "long tick",
			"disk full", "one commit fails", "disk well", "restart", "disable", "enable"}).Draw(t, "do"),
		A: rapid.IntRange(0, 1<<10).Draw(t, "a"),
		B: rapid.IntRange(0, 1<<10).Draw(t, "b"),
	}
})

// history is a run, and what the test knows of it without asking the engine.
type history struct {
	*rig
	mu        sync.Mutex // guards all that the engine's goroutines see
	full      bool
	failNext  bool
	committed map[command.TID]int64 // version of what the store has taken
	made      []command.TID         // that somebody was told of
	boots     map[wire.Address]int
	seqs      map[wire.Address][2]int64 // epoch and seq of the last REQUEST
	messages  map[string]int            // acknowledgements by message
	problems  []string
	waiting   int // calls of Wait under way
	told      chan error
}

var quick = command.Policy{DeliverBy: command.Duration(time.Minute), AckBy: command.Duration(2 * time.Second),
	FinishBy: command.Duration(30 * time.Second), Heartbeat: command.Duration(10 * time.Second),
	Settle: command.Duration(time.Minute), MaxAttempts: 3}

func play(t *testing.T, path string, steps []step, windows []int) string {
	db, err := sqlite.Open(path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	h := &history{rig: &rig{t: t, store: &faulty{Store: db}, acked: map[string]int{}, dir: &directory{devices: map[wire.Address]store.Device{}}},
		committed: map[command.TID]int64{}, boots: map[wire.Address]int{}, seqs: map[wire.Address][2]int64{},
		messages: map[string]int{}, told: make(chan error, len(steps))}
	h.store.after = h.commit
	h.store.setHook(func(*store.Batch) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.full || h.failNext {
			h.failNext = false
			return fault.New(fault.StorageFull, "disk full")
		}
		return nil
	})
	for i, a := range cast {
		h.register(a, windows[i])
	}
	h.change(lamp, func(d *store.Device) { d.Profile = "atlas" })
	h.seen = h.published
	h.start()
	for i, s := range steps {
		h.do(s, i)
		synctest.Wait()
		if h.check(); len(h.problems) > 0 {
			h.stop()
			return fmt.Sprintf("step %d, %+v: %s", i, s, h.problems[0])
		}
	}
	h.calm()
	h.stop()
	for range h.waiting {
		if err := <-h.told; err != nil && !errors.Is(err, ErrStopped) && !errors.Is(err, context.DeadlineExceeded) {
			h.problem("wait: %v", err)
		}
	}
	if len(h.problems) > 0 {
		return "at the end: " + h.problems[0]
	}
	return ""
}

func (h *history) problem(format string, args ...any) {
	h.problems = append(h.problems, fmt.Sprintf(format, args...))
}

// commit is told of every batch that the store has taken.
func (h *history) commit(b *store.Batch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range b.Commands {
		h.committed[w.Command.TID] = w.Command.Version
	}
}

// published checks a publication at the moment that it is made: what it says is
// durable, in order, and within the window.
func (h *history) published(p Publication, c wire.Command) {
	tid := uuid.MustParse(c.TID)
	h.mu.Lock()
	defer h.mu.Unlock()
	stored, err := h.store.Command(context.Background(), tid)
	if err != nil {
		h.problem("published %s, which the store has not: %v", tid, err)
		return
	}
	// The atlas profile has no word for the attempt.
	if h.committed[tid] == 0 || stored.Attempt < max(c.Attempt, 1) {
		h.problem("published attempt %d of %s before its commit", c.Attempt, tid)
	}
	if d, _ := h.dir.Device(stored.Device); d.Disabled {
		h.problem("published %s to a device that is disabled", tid)
	}
	if c.Status != wire.Request || stored.Device == lamp {
		return
	}
	last := h.seqs[stored.Device]
	if c.Epoch < last[0] || c.Epoch == last[0] && c.Seq <= last[1] {
		h.problem("REQUEST %d/%d to %s after %d/%d", c.Epoch, c.Seq, stored.Device, last[0], last[1])
	}
	h.seqs[stored.Device] = [2]int64{c.Epoch, c.Seq}
}

func (h *history) pick(n int) (command.TID, bool) {
	if len(h.made) == 0 {
		return command.TID{}, false
	}
	return h.made[len(h.made)-1-n%min(len(h.made), 8)], true
}

func (h *history) create(reqs ...Request) {
	out, err := h.e.Create(h.t.Context(), reqs)
	if err != nil {
		h.problem("create: %v", err)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	last := map[wire.Address]string{}
	for i, c := range out {
		switch {
		case c.Err == nil && h.committed[c.Command.TID] == 0:
			h.problem("%s was given out before its commit", c.Command.TID)
		case c.Err != nil && !h.full && fault.CodeOf(c.Err) != fault.StorageFull && fault.CodeOf(c.Err) != fault.KeyReused:
			h.problem("create: %v", c.Err)
		case c.Err == nil && !c.Existed:
			h.made = append(h.made, c.Command.TID)
			if tid := c.Command.TID.String(); tid <= last[reqs[i].Device] {
				h.problem("%s is not above the one before it", tid)
			} else {
				last[reqs[i].Device] = tid
			}
		}
	}
}

func (h *history) do(s step, i int) {
	a := cast[s.A%len(cast)]
	req := Request{Device: a, Name: "set", Policy: quick, By: "ann", Params: json.RawMessage(`1`)}
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	tid, some := h.pick(s.B)
	switch s.Do {
	case "create":
		h.create(req)
	case "bulk":
		other := req
		other.Device = cast[s.B%len(cast)]
		h.create(req, other, req, other, req)
	case "keyed":
		req.Key, req.Digest = fmt.Sprint("k", s.B%3), fmt.Sprint("d", s.B%2)
		h.create(req, req)
	case "supersede":
		req.Policy.Supersede = true
		before := len(h.made)
		h.create(req, req)
		if len(h.made) == before+2 {
			h.alone(a, h.made[before+1])
		}
	case "cancel":
		if some {
			_, _ = h.e.Cancel(ctx, tid, "ann", "") // refused in some states; the checks look at what follows
		}
	case "retry":
		if some {
			_, _ = h.e.Retry(ctx, tid, "ann", "")
		}
	case "wait":
		if some {
			h.waiting++
			e := h.e
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(s.A)*time.Millisecond)
				defer cancel()
				_, err := e.Wait(ctx, tid, func(c *command.Command) bool { return c.Final() })
				h.told <- err
			}()
		}
	case "received", "running", "succeeded", "failed", "rejected", "cancelled", "nonsense":
		h.says(s.Do, tid, i)
	case "online":
		h.boots[a] += s.B % 2
		h.status(a, true, i)
	case "offline":
		h.status(a, false, i)
	case "gone":
		h.e.Gone(a)
	case "link down":
		h.e.LinkDown()
	case "link up":
		h.e.LinkUp()
	case "tick":
		h.pass(time.Duration(s.B) * 5 * time.Millisecond)
	case "long tick":
		h.pass(time.Duration(s.B) * 100 * time.Millisecond)
	case "disk full":
		h.set(func() { h.full = true })
	case "one commit fails":
		h.set(func() { h.failNext = true })
	case "disk well":
		h.set(func() { h.full = false })
	case "restart":
		h.stop()
		h.boots[a]++
		h.set(func() { h.full = false })
		h.nobody = s.B%2 == 0
		h.restart()
	case "disable", "enable":
		h.change(a, func(d *store.Device) { d.Disabled = s.Do == "disable" })
		if s.Do == "disable" {
			h.e.Gone(a)
		}
	}
}

// alone checks that nothing older than tid waits for a any more: all commands
// here have one name.
func (h *history) alone(a wire.Address, tid command.TID) {
	synctest.Wait()
	for _, other := range h.e.shard(a).devices[a].lane.Queued() {
		if other.String() < tid.String() {
			h.problem("%s waits still, and is superseded by %s", other, tid)
		}
	}
}

// says brings what the device of tid says about it.
func (h *history) says(what string, tid command.TID, i int) {
	c, err := h.store.Command(context.Background(), tid)
	if err != nil {
		return
	}
	topic, status := "result", map[string]string{"running": "RUNNING", "succeeded": "SUCCESS", "failed": "FAILURE",
		"rejected": "REJECTED", "cancelled": "CANCELLED", "received": "RECEIVED"}[what]
	if what == "received" {
		topic = "ack"
	}
	m := Message{Topic: "wilco/" + c.Device.String() + "/" + topic}
	if c.Device == lamp {
		m.Topic = "commands/lamp/ack"
	}
	m.Payload = []byte(`{"tid":"` + tid.String() + `","status":"` + status + `"}`)
	if what == "nonsense" {
		m.Payload = m.Payload[:10]
	}
	version, sent := c.Version, !c.FirstSent.IsZero() // else it is an anomaly, whatever comes after
	h.message(m, i, func() {
		// An end that is acknowledged is in the store.
		now, err := h.store.Command(context.Background(), tid)
		if err != nil || now.Version < version {
			h.problem("%s acknowledged over version %d of %d: %v", what, now.Version, version, err)
		}
		if (what == "succeeded" || what == "failed") && !now.Final() && sent {
			h.problem("%s acknowledged, and the store says %s", what, now.State)
		}
	})
}

func (h *history) status(a wire.Address, online bool, i int) {
	if d, _ := h.dir.Device(a); a == lamp || d.Disabled {
		return
	}
	boot := fmt.Sprint("b", h.boots[a])
	h.message(Message{Topic: "wilco/" + a.String() + "/status", Payload: fmt.Appendf(nil, `{"online":%t,"boot":%q}`, online, boot)}, i, func() {})
}

func (h *history) message(m Message, i int, acked func()) {
	id := fmt.Sprint(i)
	h.set(func() { h.messages[id] = 0 })
	m.Ack = func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.messages[id]++; h.messages[id] > 1 {
			h.problem("message %s acknowledged %d times", id, h.messages[id])
		}
		acked()
	}
	h.e.Receive(m)
	h.pass(ackPatience)
}

// check compares the engine's memory with the store.
func (h *history) check() {
	h.mu.Lock()
	defer h.mu.Unlock()
	open := 0
	lanes := map[command.TID]string{}
	for _, s := range h.e.shards {
		for _, d := range s.devices {
			for _, l := range []struct {
				place string
				tids  []command.TID
			}{{"waiting", d.lane.Queued()}, {"in flight", d.lane.InFlight()}, {"unsettled", d.lane.Unsettled()}} {
				for _, tid := range l.tids {
					if lanes[tid] != "" {
						h.problem("%s is %s and %s", tid, lanes[tid], l.place)
					}
					lanes[tid] = l.place
				}
			}
			reg, _ := h.dir.Device(d.address)
			if n := len(d.lane.InFlight()); n > max(reg.Window, 1)+h.recalled(d) {
				h.problem("%d in flight to %s, whose window is %d", n, d.address, reg.Window)
			}
		}
		for tid, c := range s.cache {
			if c.Version != h.committed[tid] {
				h.problem("the cache has version %d of %s, the store %d", c.Version, tid, h.committed[tid])
			}
		}
	}
	for tid := range h.committed {
		c, err := h.store.Command(context.Background(), tid)
		if err != nil {
			h.problem("lost %s: %v", tid, err)
			return
		}
		want := ""
		switch {
		case c.Final():
		case c.State == command.Created:
			want = "waiting"
		case c.State.InFlight():
			want = "in flight"
		case c.State == command.TimedOut:
			want = "unsettled"
		}
		if lanes[tid] != want {
			h.problem("%s is %s, and %q in its lane", tid, c.State, lanes[tid])
		}
		delete(lanes, tid)
		s := h.e.shard(c.Device)
		_, timed := s.timers.at[tid]
		if held := slices.ContainsFunc(s.pending, func(j job) bool { tick, ok := j.(*tickJob); return ok && tick.tid == tid }); timed || held {
			if c.Final() && !held {
				h.problem("%s is %s and has a timer", tid, c.State)
			}
		} else if !c.Wake.IsZero() {
			h.problem("%s is %s and has lost its timer", tid, c.State)
		}
		if !c.Final() {
			open++
		}
	}
	if len(lanes) > 0 {
		h.problem("in lanes and not in the store: %v", lanes)
	}
	if got := h.e.Stats().Open; got != int64(open) {
		h.problem("%d are counted open, %d are", got, open)
	}
	for _, s := range h.e.shards {
		s.mu.Lock() // and so the race detector knows that this was before the next turn
		if s.closed {
			h.problem("a shard has ended")
		}
		s.mu.Unlock()
	}
}

// recalled is how many commands of d came back into flight from timed_out, by a
// retry, a cancel or a late word of the device: no place was free for them, and
// none may be taken from them.
func (h *history) recalled(d *device) int {
	n := 0
	for _, tid := range d.lane.InFlight() {
		c, err := h.store.Command(context.Background(), tid)
		if err == nil && !c.TimedOutAt.IsZero() {
			n++
		}
	}
	return n
}

// calm makes all well again, and everything comes to an end.
func (h *history) calm() {
	h.set(func() { h.full, h.failNext = false, false })
	h.e.LinkUp()
	for i, a := range cast {
		h.change(a, func(d *store.Device) { d.Disabled = false })
		h.boots[a]++
		h.status(a, true, 1<<20+i)
	}
	h.pass(30 * time.Minute)
	h.check()
	if n := h.e.Stats().Open; n != 0 {
		h.problem("%d commands have not ended", n)
	}
	for _, s := range h.e.shards {
		if n := len(s.timers.heap) + len(s.timers.at) + len(s.pending) + len(s.inbox) + len(s.waiters); n != 0 {
			h.problem("%d timers, jobs and waiters are left", n)
		}
	}
}

func (h *history) set(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}
