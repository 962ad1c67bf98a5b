package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/engine"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/gateway/ledger"
	"github.com/wilco-iot/wilco/internal/gateway/rules"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/internal/undo"
)

// byRule begins the name of who asks for the commands of a rule. Stored; never change.
const byRule = "rule:"

func isRule(who string) bool { return strings.HasPrefix(who, byRule) }

// rulesEvery is how often the rules are looked at.
const rulesEvery = 500 * time.Millisecond

// outage is the state of the rules.
type outage struct {
	mu      sync.Mutex
	state   rules.State
	version int64 // of its document
	unkept  bool  // the store has not got state yet; nothing is done by it before
}

func (o *outage) load(ctx context.Context, s interface {
	Document(context.Context, store.DocumentID) (store.Document, error)
}) error {
	d, err := s.Document(ctx, outageDoc)
	if fault.CodeOf(err) == fault.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	o.version = d.Version
	return json.Unmarshal(d.Body, &o.state)
}

// keep makes s the state, and stores it. g.outage.mu is held.
func (g *Gateway) keep(s rules.State) error {
	g.outage.state, g.outage.unkept = s, true
	body, err := json.Marshal(&s)
	if err != nil {
		return err
	}
	b := store.Batch{Documents: []store.DocumentWrite{{DocumentID: outageDoc, Was: g.outage.version, Body: body}}}
	// Not g.ctx: one that is given up may take effect, and nobody would know.
	if _, err := g.server.Store.Commit(context.WithoutCancel(g.ctx), &b); err != nil {
		return err
	}
	g.outage.unkept = false
	g.outage.version++
	return nil
}

// setReach notes since when the server above is out of reach. What the store does
// not take now it gets with the next look at the rules: the clock runs from here.
func (g *Gateway) setReach(up bool) {
	g.outage.mu.Lock()
	defer g.outage.mu.Unlock()
	if next, changed := g.outage.state.Reach(up, time.Now()); changed {
		if err := g.keep(next); err != nil {
			g.log.Error("since when the server above is out of reach is known, and not kept", "error", err)
		}
	}
}

// firstAnswer is how long a gateway that has started waits for the server above before
// it looks at the rules.
const firstAnswer = 5 * time.Second

// ruleRetryMax bounds the wait between two tries of a rule that is refused.
const ruleRetryMax = time.Minute

// trying is a firing that did not get through.
type trying struct {
	next    time.Time     // not tried before
	wait    time.Duration // after the last refusal
	written bool          // what it intends is in the ledger
}

// after notes one more try in vain, at now. What is refused for what it is waits ever
// longer; what a disk has refused is tried with each look, since it is due.
func (t trying) after(now time.Time, err error) trying {
	var unwritten *ledgerError
	t.written = t.written || !errors.As(err, &unwritten)
	switch fault.CodeOf(err) {
	case fault.Conflict, fault.NotFound, fault.Invalid:
		t.wait = min(max(2*t.wait, rulesEvery), ruleRetryMax)
		t.next = now.Add(t.wait)
	}
	return t
}

// runRules looks at the rules, and does what is due.
func (g *Gateway) runRules() {
	// Nobody is out of reach before he has been asked: an outage that was under way when
	// the gateway stopped goes on if the server above does not answer now.
	for asked := time.Now(); g.ctx.Err() == nil && !g.inReach.Load() && time.Since(asked) < firstAnswer; {
		g.wait(pause / 20)
	}
	failing := map[string]trying{}
	var was error
	for g.ctx.Err() == nil {
		err := g.stepRules(failing)
		if err != nil && was == nil && g.ctx.Err() == nil {
			g.log.Error("the state of the rules cannot be kept; no rule acts before it can", "error", err)
		}
		was = err
		g.wait(rulesEvery)
	}
}

// stepRules is one look. failing has what is due and did not get through, by its key.
func (g *Gateway) stepRules(failing map[string]trying) error {
	g.outage.mu.Lock()
	defer g.outage.mu.Unlock()
	now := time.Now()
	is, back := g.outage.state, false
	if g.inReach.Load() {
		is, back = is.Reach(true, now) // what setReach will say too
	}
	next, changed, due := is.Step(g.cfg.Rules, g.reportedOf(now), now)
	if changed || back || g.outage.unkept {
		if err := g.keep(next); err != nil {
			return err
		}
	}
	maps.DeleteFunc(failing, func(key string, _ trying) bool {
		return !slices.ContainsFunc(due, func(f rules.Firing) bool { return f.Key == key })
	})
	for _, f := range due {
		try, again := failing[f.Key]
		if now.Before(try.next) {
			continue
		}
		if err := g.fire(f, now, try.written); err != nil {
			if !again && g.ctx.Err() == nil {
				g.log.Error("a rule is due and cannot act; tried again", "rule", f.Rule.Name, "error", err)
			}
			failing[f.Key] = try.after(now, err)
			continue
		}
		delete(failing, f.Key)
		if err := g.keep(g.outage.state.Done(f, now)); err != nil {
			return err
		}
	}
	return nil
}

// fire makes the command of a rule that is due, once for each key. What it is
// about to do is in the ledger before, and with written is there already.
func (g *Gateway) fire(f rules.Firing, now time.Time, written bool) error {
	do := &f.Rule.Do
	// Made before a kill: what is to be taken back would be another command by now.
	switch _, _, err := g.server.Store.CommandByKey(g.ctx, do.Device, f.Key); {
	case err == nil:
		return nil
	case fault.CodeOf(err) != fault.NotFound:
		return err
	}
	who := byRule + f.Rule.Name
	r := engine.Request{Device: do.Device, Name: do.Command, Params: do.Params, Policy: g.cfg.Server.Policy.Command(),
		By: who, Key: f.Key, Digest: f.Key}
	if do.Desired != nil {
		r.Name, r.Params = engine.StateDesired, do.Desired.Append(nil)
	}
	intent := map[string]any{"command": r.Name, "key": f.Key}
	var undone command.TID
	switch {
	case do.Rollback:
		var err error
		undone, err = g.lastChange(do.Device)
		if errors.Is(err, errNothingToUndo) {
			g.log.Warn("a rule is due and there is nothing to take back", "rule", f.Rule.Name, "device", do.Device)
			return nil
		}
		if err != nil {
			return err
		}
		intent["command"], intent["undoes"] = "rollback", undone
	case len(r.Params) > 0:
		intent["params"] = r.Params
	}
	value, err := json.Marshal(intent)
	if err != nil {
		return err
	}
	if !written {
		intends := ledger.Entry{At: now, Device: do.Device.String(), Side: ledger.Rule, Path: f.Rule.Name, Value: value, By: who}
		if err := g.ledger.Append([]ledger.Entry{intends}); err != nil {
			return &ledgerError{err}
		}
	}
	made, err := g.make(r, undone)
	if err != nil {
		return fmt.Errorf("%s: %w", do.Device, err)
	}
	g.log.Warn("a rule has acted", "rule", f.Rule.Name, "device", do.Device, "tid", made.TID, "command", made.Name, "params", string(made.Params))
	return nil
}

// ledgerError is that an act could not be written down, and so was not done.
type ledgerError struct{ error }

// make makes the command of a rule: r, or what takes undone back.
func (g *Gateway) make(r engine.Request, undone command.TID) (command.Command, error) {
	if undone != (command.TID{}) {
		made, err := g.server.Engine.Undo(g.ctx, engine.UndoRequest{TID: undone, By: r.By, Why: "the rule was due", Key: r.Key,
			How: func(undo.Plan) (engine.How, error) { return engine.How{Policy: r.Policy}, nil }})
		return made.Command, err
	}
	out, err := g.server.Engine.Create(g.ctx, []engine.Request{r})
	if err != nil {
		return command.Command{}, err
	}
	return out[0].Command, out[0].Err
}
