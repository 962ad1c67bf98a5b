package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
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

// TestRandomRollbacks sends a device about and takes that back, while it moves by
// itself, fails, the disk fails and the server is restarted. An oracle that knows
// only where the device said it was judges what is taken back.
func TestRandomRollbacks(t *testing.T) {
	dir := t.TempDir()
	n, undone := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		path := filepath.Join(dir, fmt.Sprint(n, ".db"))
		steps := rapid.SliceOfN(drawRollback, 1, 25).Draw(rt, "steps")
		var problem string
		synctest.Test(t, func(t *testing.T) {
			db, err := sqlite.Open(path, sqlite.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			h := newWanderer(t, db)
			defer func() { h.stop() }()
			for i, s := range steps {
				if h.do(s); h.problem == "" {
					h.check()
				}
				if h.problem != "" {
					problem = fmt.Sprintf("step %d, %+v: %s", i, s, h.problem)
					return
				}
			}
			undone += h.undone
		})
		if problem != "" {
			rt.Fatal(problem)
		}
	})
	if undone == 0 {
		t.Error("nothing was ever taken back: the test has shown nothing")
	}
}

var drawRollback = rapid.Custom(func(t *rapid.T) step {
	return step{
		Do: rapid.SampledFrom([]string{"move", "move", "move", "send", "work", "work", "fail", "undo", "undo", "undo", "force", "again",
			"drift", "a commit fails", "restart", "finish-by"}).Draw(t, "do"),
		A: rapid.IntRange(0, 4).Draw(t, "a"),
		B: rapid.IntRange(0, 4).Draw(t, "b"),
	}
})

// wanderer is the valve, and what the oracle has seen of it.
type wanderer struct {
	*rig
	at       int // as it was last reported
	inbox    []wire.Command
	done     map[string]bool
	former   map[command.TID]int // where it was reported when the command was first published
	after    map[command.TID]int // where it was reported when the command had ended, or its clock ran out
	failNext atomic.Bool
	keyed    map[string]command.TID // what a key has made
	undone   int
	problem  string
}

func newWanderer(t *testing.T, db *sqlite.Store) *wanderer {
	w := &wanderer{rig: &rig{t: t, store: &faulty{Store: db}, acked: map[string]int{}, dir: &directory{devices: map[wire.Address]store.Device{}}},
		done: map[string]bool{}, former: map[command.TID]int{}, after: map[command.TID]int{}, keyed: map[string]command.TID{}}
	w.store.setHook(func(*store.Batch) error {
		if w.failNext.Swap(false) {
			return errors.New("disk")
		}
		return nil
	})
	w.register(valve, 1)
	w.start()
	w.online(valve, "b1")
	w.drift(0)
	return w
}

func (w *wanderer) drift(to int) {
	w.reports(fmt.Sprintf(`{"pos":%d}`, to))
	w.pass(2 * time.Second) // a commit that failed is tried again
	w.at = to
}

// collect takes what was published.
func (w *wanderer) collect() {
	for _, doc := range w.link.take() {
		if doc.Status != wire.Request {
			continue
		}
		w.inbox = append(w.inbox, doc)
		for _, c := range w.all() {
			if _, known := w.former[c.TID]; c.TID.String() == doc.TID && !known {
				w.former[c.TID] = w.at
			}
		}
	}
}

// work does, or fails to do, the first thing in the inbox.
func (w *wanderer) work(well bool) {
	w.collect()
	if len(w.inbox) == 0 {
		return
	}
	doc := w.inbox[0]
	w.inbox = w.inbox[1:]
	if w.done[doc.TID] {
		return
	}
	w.done[doc.TID] = true
	if !well {
		w.answer(valve, doc.TID, "result", "FAILURE")
		w.pass(2 * time.Second)
		w.after[uuid.MustParse(doc.TID)] = w.at
		return
	}
	var p struct{ To int }
	if err := json.Unmarshal(doc.Params, &p); err != nil {
		w.problem = err.Error()
		return
	}
	w.says(valve, "result", fmt.Sprintf(`{"tid":%q,"status":"SUCCESS","state":{"pos":%d}}`, doc.TID, p.To), "result")
	w.pass(2 * time.Second)
	w.at = p.To
	w.after[uuid.MustParse(doc.TID)] = w.at
}

func (w *wanderer) do(s step) {
	switch s.Do {
	case "move", "send":
		_, err := w.e.Create(w.t.Context(), []Request{{Device: valve, Name: "move", By: "ann", Terms: moves, Params: fmt.Appendf(nil, `{"to":%d}`, s.A)}})
		if err != nil {
			w.problem = err.Error()
		}
		w.pass(2 * time.Second)
		if s.Do == "move" {
			w.work(true)
		}
	case "work", "fail":
		w.work(s.Do == "work")
	case "undo", "force", "again":
		w.takeBack(s)
	case "drift":
		w.collect()
		w.drift(s.A)
	case "a commit fails":
		w.failNext.Store(true)
	case "restart":
		w.collect()
		w.stop()
		w.failNext.Store(false)
		w.restart()
		w.online(valve, fmt.Sprint("b", w.epoch))
	case "finish-by":
		w.pass(2 * time.Hour)
		for _, c := range w.all() {
			if _, known := w.after[c.TID]; c.State == command.TimedOut && !known {
				w.after[c.TID] = w.at
			}
		}
	}
	w.collect()
}

// takeBack asks for one of the last commands to be taken back, and judges the answer.
func (w *wanderer) takeBack(s step) {
	w.pass(2 * time.Second)
	w.collect()
	before := w.all()
	if len(before) == 0 {
		return
	}
	c := before[len(before)-1-s.B%min(len(before), 4)]
	req := UndoRequest{TID: c.TID, By: "bo", Force: s.Do == "force", How: byType(nil)}
	if s.Do == "again" || s.A%2 == 0 {
		req.Key = "back " + c.TID.String()
	}
	made, err := w.e.Undo(w.t.Context(), req)
	synctest.Wait()
	after := w.all()
	was, keyed := w.keyed[req.Key]
	switch {
	case err != nil || made.Existed:
		if len(after) != len(before) {
			w.problem = fmt.Sprintf("%d commands after %d, and the answer was %v", len(after), len(before), err)
		}
		if fault.CodeOf(err) == fault.Conflict && keyed || made.Existed && made.Command.TID != was {
			w.problem = fmt.Sprintf("asked again by the key of %s: %s, %v", was, made.Command.TID, err)
		}
		return
	case keyed:
		w.problem = fmt.Sprintf("the key of %s has made %s", was, made.Command.TID)
		return
	}
	if w.undone++; req.Key != "" {
		w.keyed[req.Key] = made.Command.TID
	}
	var asked, sent struct{ To int }
	if err := errors.Join(json.Unmarshal(c.Params, &asked), json.Unmarshal(made.Command.Params, &sent)); err != nil {
		w.problem = err.Error()
	}
	former, published := w.former[c.TID]
	switch {
	case !published:
		w.problem = "what was never sent is taken back"
	case sent.To != former:
		w.problem = fmt.Sprintf("it goes back to %d, and was at %d", sent.To, former)
	case w.at == former:
		w.problem = fmt.Sprintf("it is at %d still, and is sent there", former)
	case !req.Force && w.at != asked.To && w.at != w.after[c.TID]:
		w.problem = fmt.Sprintf("the command asked for %d and left %d, the device is at %d, and nobody forced that", asked.To, w.after[c.TID], w.at)
	}
}

// check looks at the links, and that the store has what the device reported.
func (w *wanderer) check() {
	all := w.all()
	last := map[command.TID]command.TID{}
	alive := map[command.TID]int{}
	for _, c := range all {
		if c.Undoes == nil {
			continue
		}
		last[*c.Undoes] = c.TID
		if !c.Final() || c.State == command.Executed {
			alive[*c.Undoes]++
		}
	}
	for _, c := range all {
		by, ok := last[c.TID]
		switch {
		case ok != (c.UndoneBy != nil) || ok && *c.UndoneBy != by:
			w.problem = fmt.Sprintf("%s is undone by %v, and the last to undo it is %s", c.TID, c.UndoneBy, by)
		case alive[c.TID] > 1:
			w.problem = fmt.Sprintf("%s is undone by %d at once", c.TID, alive[c.TID])
		}
	}
}
