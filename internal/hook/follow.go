package hook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/hook/schedule"
	"github.com/wilco-iot/wilco/internal/store"
)

const (
	eventPage = 100 // events read at once; each may bring a command of 400 KiB
	// saveEvery is after how many events that concern no hook the cursor is kept
	// anyway. Reading them again does no harm, so they need no commit of their own.
	saveEvery = 5000
	// pauseAfter an error of the store.
	pauseAfter = time.Second
)

// cursorID is where the follower has come to. Stored; never change.
var cursorID = store.DocumentID{Kind: kindCursor, Key: "hooks"}

// follower is the place in the event stream. Only its goroutine touches it.
type follower struct {
	at, saved int64 // id of the last event that was passed, and of the last one that is kept so
	version   int64 // of the cursor's document
}

// loadCursor reads the place.
func (r *Runner) loadCursor(ctx context.Context) error {
	d, err := r.opt.Store.Document(ctx, cursorID)
	if fault.CodeOf(err) == fault.NotFound {
		r.follow = follower{}
		return nil
	}
	if err != nil {
		return err
	}
	at, err := strconv.ParseInt(string(d.Body), 10, 64)
	if err != nil {
		return fmt.Errorf("the cursor of the hooks: %w", err)
	}
	r.follow = follower{at: at, saved: at, version: d.Version}
	return nil
}

// runFollower passes events until ctx ends.
func (r *Runner) runFollower(ctx context.Context) {
	for ctx.Err() == nil {
		changed := r.opt.Store.Changed() // asked before reading, so that no commit is missed between
		r.sweep(ctx)
		n, err := r.step(ctx)
		var again <-chan time.Time
		switch {
		case err != nil && ctx.Err() == nil:
			r.log.Error("the events could not be read for the hooks; tried again", "error", err)
			again, changed = time.After(pauseAfter), nil
		case n > 0:
			continue
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-again:
		case <-r.poke:
		}
	}
}

// step passes one page of events: it commits what the rules want of them together
// with the new place. It returns how many were passed.
func (r *Runner) step(ctx context.Context) (int, error) {
	rules, first := r.snapshot()
	if len(rules) == 0 {
		return 0, nil
	}
	f := &r.follow
	f.at = max(f.at, first) // no hook is for what was before
	page, err := r.opt.Store.Events(ctx, f.at, eventPage)
	if err != nil || len(page) == 0 {
		return 0, err
	}
	// Anew, after the page: a rule that was there when an event happened is in it.
	rules, _ = r.snapshot()
	if gap := page[0].ID - f.at - 1; gap > 0 {
		r.log.Error("events were purged before the hooks had seen them", "after", f.at, "count", gap)
	}
	last := page[len(page)-1].ID
	var b store.Batch
	made, err := r.wanted(ctx, rules, page, &b)
	if err != nil {
		return 0, err
	}
	if b.Empty() && last-f.saved < saveEvery {
		f.at = last
		return len(page), nil
	}
	b.Documents = append(b.Documents, store.DocumentWrite{DocumentID: cursorID, Was: f.version, Body: strconv.AppendInt(nil, last, 10)})
	if _, err := r.opt.Store.Commit(ctx, &b); err != nil {
		// A commit that was given up may have taken effect: the store knows.
		return 0, errors.Join(err, r.loadCursor(context.WithoutCancel(ctx)))
	}
	*f = follower{at: last, saved: last, version: f.version + 1}
	r.accept(made, b.Events)
	return len(page), nil
}

// wanted puts into b what the rules want of the events, and returns the deliveries.
func (r *Runner) wanted(ctx context.Context, rules []*Rule, page []store.Event, b *store.Batch) (made []*Delivery, err error) {
	type match struct {
		rule  *Rule
		event *store.Event
	}
	var matches []match
	var tids []command.TID
	for i := range page {
		for _, rule := range rules {
			if e := &page[i]; e.ID > rule.Since && rule.On.match(e) {
				matches = append(matches, match{rule, e})
				if rule.Alarm == nil && !slices.Contains(tids[max(0, len(tids)-1):], *e.TID) {
					tids = append(tids, *e.TID)
				}
			}
		}
	}
	commands := map[command.TID]*command.Command{}
	if len(tids) > 0 {
		list, err := r.opt.Store.Commands(ctx, tids)
		if err != nil {
			return nil, err
		}
		for i := range list {
			commands[list[i].TID] = &list[i]
		}
	}
	now := r.now()
	for _, m := range matches {
		if a := m.rule.Alarm; a != nil {
			b.Events = append(b.Events, store.Event{Type: store.EventAlarm, At: now.UTC().Truncate(time.Millisecond), Device: m.event.Device,
				TID: m.event.TID, Name: m.event.Name, State: m.event.State, Reason: m.event.Reason, By: byPrefix + m.rule.Name, Detail: a.Text})
			continue
		}
		d := newDelivery(m.rule, m.event, commands[*m.event.TID], now)
		w, err := d.write(0)
		if err != nil {
			return nil, err
		}
		b.Documents = append(b.Documents, w)
		made = append(made, d)
	}
	return made, nil
}

// accept takes over what was committed.
func (r *Runner) accept(made []*Delivery, alarms []store.Event) {
	for i := range alarms {
		a := &alarms[i]
		r.log.Warn("alarm", "hook", a.By[len(byPrefix):], "device", a.Device.String(), "tid", a.TID, "name", a.Name, "state", a.State,
			"reason", a.Reason, "text", a.Detail)
	}
	r.mu.Lock()
	for _, d := range made {
		switch rule := r.rules[d.Hook]; {
		case rule == nil || d.Event <= rule.Since: // removed while this was committed
			r.removed[d.Hook] = max(r.removed[d.Hook], d.Event)
		case d.Dead:
			r.log.Error("a hook's delivery can never be made; it is dead", "hook", d.Hook, "delivery", d.ID, "problem", d.Problem)
		default:
			r.queue.Add(itemOf(d), d.Due)
		}
	}
	r.mu.Unlock()
	signal(r.kick)
}

func itemOf(d *Delivery) schedule.Item {
	return schedule.Item{Hook: d.Hook, Lane: d.Device.String(), Seq: d.Event}
}

// snapshot gives the rules by name, and the lowest event that any of them is
// behind of.
func (r *Runner) snapshot() (rules []*Rule, first int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rule := range r.rules {
		if len(rules) == 0 || rule.Since < first {
			first = rule.Since
		}
		rules = append(rules, rule)
	}
	slices.SortFunc(rules, func(a, b *Rule) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return rules, first
}

// load reads the rules of the store.
func (r *Runner) load(ctx context.Context) (map[string]*Rule, error) {
	rules := map[string]*Rule{}
	docs, err := r.opt.Store.Documents(ctx, kindHook, "", "", 2*MaxHooks)
	if err != nil {
		return nil, err
	}
	for i := range docs {
		rule := &Rule{}
		if err := json.Unmarshal(docs[i].Body, rule); err != nil {
			return nil, fmt.Errorf("%s: %w", docs[i].DocumentID, err)
		}
		rule.version = docs[i].Version
		rules[rule.Name] = rule
	}
	return rules, nil
}
