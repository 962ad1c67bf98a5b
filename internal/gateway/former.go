package gateway

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/engine"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/gateway/ledger"
	"github.com/wilco-iot/wilco/internal/replica"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
	"github.com/wilco-iot/wilco/wire/state"
)

// runLedger writes each change of what is desired and reported into the ledger, in
// the order of the events. While that cannot be written it waits: nothing is left
// out.
func (g *Gateway) runLedger() {
	at := g.ledger.Event()
	failing := false
	for g.ctx.Err() == nil {
		changed := g.server.Store.Changed() // before reading, so that nothing is missed between
		page, err := g.server.Store.Events(g.ctx, at, eventPage)
		var entries []ledger.Entry
		for i := range page {
			if err == nil && page[i].Type == store.EventState {
				var more []ledger.Entry
				more, err = g.former(&page[i])
				entries = append(entries, more...)
			}
		}
		if err == nil {
			err = g.ledger.Append(entries)
		}
		switch {
		case g.ctx.Err() != nil:
			return
		case err != nil:
			if !failing {
				g.log.Error("former states cannot be written; the ledger goes on when they can, and no rule acts before", "error", err)
			}
			failing = true
			g.wait(pause)
			continue
		case failing:
			failing = false
			g.log.Info("former states are written again")
		}
		if len(page) > 0 {
			at = page[len(page)-1].ID
			continue
		}
		select {
		case <-g.ctx.Done():
		case <-changed:
		}
	}
}

// former gives the entries of one change of a device's state.
func (g *Gateway) former(e *store.Event) ([]ledger.Entry, error) {
	patch, err := g.patchOf(e)
	if err != nil {
		return nil, err
	}
	base := ledger.Entry{At: e.At, Device: e.Device.String(), Side: e.Name, By: e.By, Event: e.ID}
	if e.TID != nil {
		base.TID = e.TID.String()
	}
	var list []ledger.Entry
	for path, v := range patch.Leaves() {
		if v == nil {
			for _, below := range g.ledger.Paths(base.Side, base.Device, path) {
				gone := base
				gone.Path = below
				list = append(list, gone)
			}
			continue
		}
		is := base
		is.Path = path
		if is.Value, err = json.Marshal(v); err != nil {
			return nil, err
		}
		list = append(list, is)
	}
	return list, nil
}

// patchOf is what has changed. A large patch is in the history alone, which keeps
// the last ones: one that is not there any more has no entries.
func (g *Gateway) patchOf(e *store.Event) (state.Object, error) {
	if e.Detail != "" {
		return state.Parse([]byte(e.Detail))
	}
	d, err := g.server.Store.Document(g.ctx, store.DocumentID{Kind: engine.KindRevision, Key: engine.RevisionKey(e.Device, e.Version)})
	if fault.CodeOf(err) == fault.NotFound {
		g.log.Error("a change of state is not in the history any more, and not in the ledger", "device", e.Device, "version", e.Version)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var rev replica.Revision
	err = json.Unmarshal(d.Body, &rev)
	return rev.Patch, err
}

// replicaOf is the state of a device as the gateway's server has it.
func (g *Gateway) replicaOf(a wire.Address) (replica.Replica, error) {
	var r replica.Replica
	d, err := g.server.Store.Document(g.ctx, store.DocumentID{Kind: engine.KindReplica, Key: a.String()})
	if fault.CodeOf(err) == fault.NotFound {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(d.Body, &r)
	}
	return r, err
}

// lastChange is the last command that took effect on the device and may be undone;
// those of rules, and those that undo others, are none. Errors: errNothingToUndo.
func (g *Gateway) lastChange(a wire.Address) (command.TID, error) {
	page, _, err := g.server.Store.List(g.ctx, store.Query{Group: a.Group, Device: a.Device,
		States: []command.State{command.Executed}, Limit: 1000})
	if err != nil {
		return command.TID{}, err
	}
	// Not in the order of the TIDs: two clocks made them, the end is of this one.
	var last *command.Command
	for i := range page {
		c := &page[i]
		if c.UndoneBy == nil && c.Undoes == nil && !isRule(c.RequestedBy) && (last == nil || c.Ended.After(last.Ended)) {
			last = c
		}
	}
	if last == nil {
		return command.TID{}, errNothingToUndo
	}
	return last.TID, nil
}

// errNothingToUndo says that no change is known that a rollback could take back.
var errNothingToUndo = errors.New("no executed command is known that could be undone")

func (g *Gateway) reportedOf(now time.Time) func(wire.Address) state.Reported {
	return func(a wire.Address) state.Reported {
		r, err := g.replicaOf(a)
		if err != nil {
			g.log.Error("the state of a device cannot be read; its rules do not hold", "device", a, "error", err)
		}
		return r.AsOf(now)
	}
}
