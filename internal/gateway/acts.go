package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/wire"
)

// What the gateway keeps in its server's store. Stored; never change.
var (
	actsCursor = store.DocumentID{Kind: "cursor", Key: "gateway-acts"} // the last event that is dealt with
	outageDoc  = store.DocumentID{Kind: "gateway", Key: "outage"}      // a rules.State as JSON
)

const (
	eventPage = 200
	saveEvery = 2000 // events without an act, after which the cursor is kept anyway
)

// actor follows the events of the gateway's server and tells the server above of
// the commands that were made here. Only its goroutine touches it.
type actor struct {
	g         *Gateway
	at, saved int64 // the last event that is dealt with, and the last that is kept so
	version   int64 // of the cursor's document
}

// runActs tells of ended commands, in the order of their ends, and lets those go
// on who wait until all is told.
func (g *Gateway) runActs() {
	a := &actor{g: g}
	for a.load() != nil && g.ctx.Err() == nil {
		g.log.Error("the place in the events cannot be read; tried again")
		g.wait(pause)
	}
	var waiting []chan struct{}
	failing := false
	for g.ctx.Err() == nil {
		changed := g.server.Store.Changed() // before reading, so that nothing is missed between
		n, err := a.step()
		var again <-chan time.Time
		switch {
		case err != nil && g.ctx.Err() == nil:
			if !failing {
				g.log.Error("what was done here cannot be told above now; tried again", "error", err)
			}
			failing = true
			again, changed = time.After(pause), nil
		case n > 0:
			failing = false
			continue
		default:
			failing = false
			for _, w := range waiting {
				close(w)
			}
			waiting = nil
		}
		select {
		case <-g.ctx.Done():
		case <-changed:
		case <-again:
		case w := <-g.actsWanted:
			waiting = append(waiting, w)
		}
	}
}

// awaitActs waits until all that has ended here by now is told above; false: ctx
// has ended before.
func (g *Gateway) awaitActs(ctx context.Context) bool {
	told := make(chan struct{})
	select {
	case g.actsWanted <- told:
	case <-ctx.Done():
		return false
	}
	select {
	case <-told:
		return true
	case <-ctx.Done():
		return false
	}
}

func (a *actor) load() error {
	d, err := a.g.server.Store.Document(a.g.ctx, actsCursor)
	if fault.CodeOf(err) == fault.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	at, err := strconv.ParseInt(string(d.Body), 10, 64)
	if err != nil {
		return fmt.Errorf("the cursor of the acts: %w", err)
	}
	a.at, a.saved, a.version = at, at, d.Version
	return nil
}

func (a *actor) save() error {
	b := store.Batch{Documents: []store.DocumentWrite{{DocumentID: actsCursor, Was: a.version, Body: strconv.AppendInt(nil, a.at, 10)}}}
	if _, err := a.g.server.Store.Commit(a.g.ctx, &b); err != nil {
		return errors.Join(err, a.load()) // one that was given up may have taken effect
	}
	a.saved = a.at
	a.version++
	return nil
}

// step deals with one page of events and returns how many there were.
func (a *actor) step() (int, error) {
	page, err := a.g.server.Store.Events(a.g.ctx, a.at, eventPage)
	if err != nil || len(page) == 0 {
		return 0, err
	}
	if gap := page[0].ID - a.at - 1; gap > 0 && a.at > 0 {
		a.g.log.Error("events were purged before the server above was told of them", "after", a.at, "count", gap)
	}
	told := false
	for i := range page {
		e := &page[i]
		if isEnd(e) {
			done, err := a.tell(*e.TID)
			if err != nil {
				return 0, errors.Join(err, a.save())
			}
			told = told || done
		}
		a.at = e.ID
	}
	if told || a.at-a.saved >= saveEvery {
		return len(page), a.save()
	}
	return len(page), nil
}

// isEnd says whether a command has ended for good by this event.
func isEnd(e *store.Event) bool {
	return e.Type == store.EventCommand && e.TID != nil && (e.State.Final() && e.From != e.State || e.Reason == command.NeverSettled)
}

// tell tells of one command that has ended: one that was made here as an act, one of
// the server above only if its device has said nothing of it. It blocks while the
// server above is out of reach.
func (a *actor) tell(tid command.TID) (bool, error) {
	g := a.g
	c, err := g.server.Store.Command(g.ctx, tid)
	switch {
	case fault.CodeOf(err) == fault.NotFound:
		return false, nil // purged
	case err != nil:
		return false, err
	case !c.Final(), c.RequestedBy == Upstream && !endedHere(&c):
		return false, nil
	}
	topic, payload := g.profile.ResultTopic(c.Device), []byte(nil)
	if c.RequestedBy == Upstream {
		payload = g.outcome(&c)
	} else {
		topic = g.profile.ActTopic(g.cfg.Name)
		if payload, err = g.act(&c); err != nil {
			return false, err
		}
	}
	err = g.link.Publish(g.ctx, client.Message{Topic: topic, Payload: payload, QoS: mqtt.AtLeastOnce, ContentType: "application/json"})
	if errors.Is(err, client.ErrSize) {
		g.log.Error("the end of a command is too large to be told above", "tid", tid, "bytes", len(payload))
		return false, nil
	}
	return err == nil, err
}

// act is what the server above is told of a command that was made here.
func (g *Gateway) act(c *command.Command) ([]byte, error) {
	seen, err := g.seen(c)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	return g.profile.AppendAct(nil, wire.Act{Device: c.Device, Seen: seen, Command: body})
}

// seen is the last command of the server above for c's device that was here when c
// was made: what is younger, c knew nothing of. The TIDs of such commands are of the
// other clock, so only when they were made here tells.
func (g *Gateway) seen(c *command.Command) (string, error) {
	q := store.Query{Group: c.Device.Group, Device: c.Device.Device, RequestedBy: Upstream}
	for {
		page, next, err := g.server.Store.List(g.ctx, q)
		if err != nil {
			return "", err
		}
		for i := range page {
			if !page[i].Created.After(c.Created) {
				return page[i].TID.String(), nil
			}
		}
		if next == "" {
			return "", nil
		}
		q.Cursor = next
	}
}
