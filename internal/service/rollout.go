package service

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"github.com/wilco-iot/wilco/internal/audit"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/engine"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/rollout"
	rplan "github.com/wilco-iot/wilco/internal/rollout/plan"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/internal/undo"
	"github.com/wilco-iot/wilco/wire"
)

// Acts on roll-outs, as the audit log has them. Stored; never change.
const (
	actStartRollout = "rollout.start"
	actUndoRollout  = "rollout.rollback"
	actRollout      = "rollout." // and the kind of the event
)

// RolloutPlan is what a roll-out would do.
type RolloutPlan struct {
	Rollout   rplan.Rollout // as it would begin
	Targets   []wire.Address
	Conflicts []Conflict
	Forecast  rplan.Forecast
	// Foretold says that there is a Forecast: some are too long to play.
	Foretold bool
}

// Conflict is what may be in the way of a target. None of them stops a roll-out.
type Conflict struct {
	Device wire.Address
	Kind   ConflictKind
	With   string // the roll-out, "" for one that who asks may not see, or the tid
}

// ConflictKind is of a closed set. Sent to clients; never change.
type ConflictKind string

// The kinds.
const (
	ConflictOffline     ConflictKind = "offline"       // not known to be online: it gets the command when it comes
	ConflictUnsupported ConflictKind = "unsupported"   // it has told which commands it knows: it will be skipped
	ConflictOpen        ConflictKind = "open_command"  // a command of the name is under way there
	ConflictRollout     ConflictKind = "other_rollout" // it is to be started, or under way, in another one
)

// PlanRollout says what StartRollout would do for p now. It changes nothing.
func (a *Audited) PlanRollout(ctx context.Context, p Principal, spec rplan.Spec) (RolloutPlan, error) {
	d, err := a.draft(p, spec)
	if err != nil {
		return RolloutPlan{}, err
	}
	out := RolloutPlan{Targets: d.Targets}
	if out.Rollout, err = a.rollouts.New(&d); err != nil {
		return out, err
	}
	if out.Conflicts, err = a.conflicts(ctx, p, &d); err != nil {
		return out, done(err)
	}
	out.Forecast, out.Foretold = rplan.Predict(out.Rollout, time.Now())
	return out, nil
}

// StartRollout begins a roll-out, or holds it as a whole when the command's type
// asks for approval of so many targets. Its name is a key: the same again gives the
// one that there is, and existed. Errors: Exists; Conflict when too
// many are under way; those of an order.
func (a *Audited) StartRollout(ctx context.Context, p Principal, spec rplan.Spec) (begun rplan.Rollout, existed bool, err error) {
	e := entryOf(p, actStartRollout, spec.Name, spec.Command)
	d, err := a.draft(p, spec)
	if err != nil {
		return rplan.Rollout{}, false, a.record(ctx, e, err)
	}
	return a.begin(ctx, e, d)
}

func (a *Audited) begin(ctx context.Context, e audit.Entry, d rollout.Draft) (begun rplan.Rollout, existed bool, err error) {
	committed := false
	begun, existed, err = a.rollouts.Begin(ctx, d, func(docs []store.DocumentWrite, events []store.Event) error {
		e.Target, e.Count, e.Digest = docs[0].Key, len(d.Targets), d.Digest
		committed = true
		return a.commit(ctx, e, docs, events...)
	})
	if err != nil && !committed {
		err = a.record(ctx, e, done(err))
	}
	return begun, existed, err
}

// draft checks what is asked for and finds its targets, policy, terms and approval.
func (a *Audited) draft(p Principal, spec rplan.Spec) (d rollout.Draft, err error) {
	if err := must(p, Operator); err != nil {
		return d, err
	}
	if !validName(spec.Command) || spec.Command == "" {
		return d, fault.Field("command", "must be 1 to %d of the characters A-Z a-z 0-9 . _ : -", MaxName)
	}
	if err := rollout.Check(&spec, time.Now()); err != nil {
		return d, err
	}
	if err := params(spec.Params); err != nil {
		return d, err
	}
	scope, err := scopeOf(p, spec.Command, spec.Targets.Group)
	if err != nil {
		return d, err
	}
	d.Rollout = rplan.Rollout{ID: spec.Name, Spec: spec, By: p.Name, Answers: a.partyOf(p), Scope: scope}
	if d.Targets, err = a.rollouts.Select(&spec.Targets, scope); err != nil {
		return d, err
	}
	switch {
	case len(d.Targets) > rollout.MaxTargets:
		return d, fault.Field("targets", "match %d devices; at most %d", len(d.Targets), rollout.MaxTargets)
	case len(d.Targets) == 0 && !spec.Dynamic:
		return d, fault.Field("targets", "match no device; see wilco device list")
	}
	o := Order{Name: spec.Command, Params: spec.Params, Policy: spec.Policy, Priority: spec.Priority}
	planner := planner{s: a.Service}
	by, err := planner.of(&o, &store.Device{})
	if err != nil {
		return d, err
	}
	d.Policy, d.Terms = by.policy, by.terms
	d.Approval = a.holdRollout(&o, &d)
	d.Digest, err = digestOf(&d)
	return d, err
}

// scopeOf are the groups in which p may send the command; none: all. Group is the
// one that is asked for, or "".
func scopeOf(p Principal, command, group string) ([]string, error) {
	if group != "" {
		return []string{group}, may(p, Operator, group, command)
	}
	if p.May(Operator, "", command) {
		return nil, nil
	}
	groups, _ := p.Groups(Operator)
	groups = slices.DeleteFunc(groups, func(g string) bool { return !p.May(Operator, g, command) })
	if len(groups) == 0 {
		return nil, fault.New(fault.Forbidden, "%q may send the command %s to no group", p.Name, command)
	}
	return groups, nil
}

// holdRollout is the approval that a roll-out waits for: that of the first target
// whose command would wait for one, sent together with all the others. Who will be
// taken in later is not known: then a rule for some devices, or for many, is asked too.
func (s *Service) holdRollout(o *Order, d *rollout.Draft) *command.Approval {
	item, ok := s.opt.Types.Version(o.Name, 0)
	if !ok || item.Approval == nil {
		return nil
	}
	if d.Spec.Dynamic {
		rule := *item.Approval
		if len(rule.Groups) > 0 && len(d.Scope) > 0 && !slices.ContainsFunc(rule.Groups, func(g string) bool { return slices.Contains(d.Scope, g) }) {
			return nil
		}
		rule.Groups, rule.Tags, rule.Targets = nil, nil, 0
		asked := *item
		asked.Approval = &rule
		return s.hold(&asked, o, &store.Device{}, 0)
	}
	for _, t := range d.Targets {
		o.Device = t
		device, _ := s.opt.Fleet.Device(t)
		if held := s.hold(item, o, &device, len(d.Targets)); held != nil {
			return held
		}
	}
	return nil
}

// digestOf is that of all that a person who approves a roll-out agrees to: command,
// plan and targets.
func digestOf(d *rollout.Draft) (string, error) {
	spec := d.Spec
	spec.Targets.Devices = nil // Targets has them
	var compact bytes.Buffer
	if len(spec.Params) > 0 && json.Compact(&compact, spec.Params) == nil {
		spec.Params = compact.Bytes()
	}
	h := sha256.New()
	err := json.NewEncoder(h).Encode(struct {
		Spec   rplan.Spec
		Undoes string
		Policy command.Policy
		Terms  *command.Terms
	}{spec, d.Undoes, d.Policy, d.Terms})
	for _, t := range d.Targets {
		h.Write([]byte(t.String() + "\n"))
	}
	return hex.EncodeToString(h.Sum(nil)), err
}

// conflicts finds what may be in the way. Another roll-out is named to who may see it.
func (a *Audited) conflicts(ctx context.Context, p Principal, d *rollout.Draft) (list []Conflict, err error) {
	others := a.rollouts.InActive(d.Targets)
	seen := map[string]bool{}
	for _, id := range others {
		if _, asked := seen[id]; asked {
			continue
		}
		r, err := a.rollouts.Get(ctx, id)
		if err != nil && fault.CodeOf(err) != fault.NotFound {
			return nil, err
		}
		seen[id] = err == nil && seesRollout(p, &r)
	}
	open, err := a.openOf(ctx, d.Spec.Command)
	if err != nil {
		return nil, err
	}
	for _, t := range d.Targets {
		add := func(k ConflictKind, with string) { list = append(list, Conflict{t, k, with}) }
		if !a.opt.Engine.Presence(t).Online {
			add(ConflictOffline, "")
		}
		if ok, _ := a.Supports(t, d.Spec.Command); !ok {
			add(ConflictUnsupported, "")
		}
		if tid, ok := open[t]; ok {
			add(ConflictOpen, tid.String())
		}
		if id, ok := others[t]; ok {
			if !seen[id] {
				id = ""
			}
			add(ConflictRollout, id)
		}
	}
	return list, nil
}

// openOf are the devices at which a command of the name has not ended.
func (a *Audited) openOf(ctx context.Context, name string) (map[wire.Address]command.TID, error) {
	open := map[wire.Address]command.TID{}
	q := store.Query{Name: name, Limit: MaxPage}
	for _, s := range command.States {
		if !s.Final() && s != command.TimedOut {
			q.States = append(q.States, s)
		}
	}
	for {
		page, next, err := a.opt.Store.List(ctx, q)
		if err != nil {
			return nil, err
		}
		for i := range page {
			open[page[i].Device] = page[i].TID
		}
		if next == "" {
			return open, nil
		}
		q.Cursor = next
	}
}

// Rollouts lists the roll-outs that p may look at, the newest first.
func (a *Audited) Rollouts(ctx context.Context, p Principal) ([]rplan.Rollout, error) {
	if err := must(p, Viewer); err != nil {
		return nil, err
	}
	list, err := a.rollouts.List(ctx)
	return slices.DeleteFunc(list, func(r rplan.Rollout) bool { return !seesRollout(p, &r) }), done(err)
}

// Rollout looks at one roll-out. Errors: NotFound, also for one with devices in a
// group that p may not look at.
func (a *Audited) Rollout(ctx context.Context, p Principal, id string) (rplan.Rollout, error) {
	if err := must(p, Viewer); err != nil {
		return rplan.Rollout{}, err
	}
	r, err := a.rollouts.Get(ctx, id)
	if err == nil && !seesRollout(p, &r) {
		// Not Forbidden: that would tell other groups which there are.
		err = &fault.Error{Code: fault.NotFound, Field: "id", Message: "there is no roll-out " + id + "; list them with wilco rollout list"}
	}
	return r, done(err)
}

func seesRollout(p Principal, r *rplan.Rollout) bool {
	return seesAll(p, r.Places())
}

// seesAll says whether p may look at all these groups; none: at every one there is.
func seesAll(p Principal, groups []string) bool {
	return !slices.ContainsFunc(orEvery(groups), func(g string) bool { return !p.May(Viewer, g, "") })
}

// orEvery are groups; where there are none, "", which stands for every one.
func orEvery(groups []string) []string {
	if len(groups) == 0 {
		return []string{""}
	}
	return groups
}

// RolloutTargets lists targets of a roll-out from number from on, up to limit (0
// means 100): those in one of the states, or all.
func (a *Audited) RolloutTargets(ctx context.Context, p Principal, id string, states []rplan.Cell, from, limit int) ([]rollout.Target, error) {
	if _, err := a.Rollout(ctx, p, id); err != nil {
		return nil, err
	}
	if limit < 0 || limit > MaxPage {
		return nil, fault.Field("limit", "%d is not between 1 and %d", limit, MaxPage)
	}
	if limit == 0 {
		limit = 100
	}
	list, err := a.rollouts.Targets(ctx, id, states, from, limit)
	return list, done(err)
}

// AskRollout pauses, resumes or aborts a roll-out, or decides about one that is held:
// the kind of ev says which. Approve needs the digest of what p has looked at, and
// BreakGlass a reason. Errors: NotFound, Forbidden; Conflict when its state forbids it.
func (a *Audited) AskRollout(ctx context.Context, p Principal, id string, ev rplan.Event) (rplan.Rollout, error) {
	e := entryOf(p, actRollout+string(ev.Kind), id, ev.Text)
	if err := a.mayAsk(ctx, p, id, &ev); err != nil {
		return rplan.Rollout{}, a.record(ctx, e, err)
	}
	ev.By, ev.User = p.Name, a.partyOf(p).User
	committed := false
	r, err := a.rollouts.Ask(ctx, id, ev, func(docs []store.DocumentWrite, events []store.Event) error {
		committed = true
		return a.commit(ctx, e, docs, events...)
	})
	if err != nil && !committed {
		err = a.record(ctx, e, done(err))
	}
	if err == nil && ev.Kind == rplan.BreakGlass {
		a.opt.Logger.Warn("a roll-out was let go without its approval", "id", id, "by", p.Name, "why", ev.Text)
	}
	return r, err
}

func (a *Audited) mayAsk(ctx context.Context, p Principal, id string, ev *rplan.Event) error {
	role := Operator
	if ev.Kind == rplan.Approve || ev.Kind == rplan.Deny || ev.Kind == rplan.BreakGlass {
		role = Approver
	}
	if err := must(p, role); err != nil {
		return err
	}
	r, err := a.Rollout(ctx, p, id)
	if err != nil {
		return err
	}
	for _, g := range orEvery(r.Places()) {
		if err := may(p, role, g, r.Spec.Command); err != nil {
			return err
		}
	}
	switch {
	case len(ev.Text) > maxWhy:
		return fault.Field("reason", "is longer than %d bytes", maxWhy)
	case ev.Kind == rplan.BreakGlass && ev.Text == "":
		return fault.Field("reason", "missing; say what the emergency is")
	case ev.Kind == rplan.Approve && ev.Digest == "":
		return fault.Field("digest", "missing; it is in the roll-out's approval, and says what you have looked at")
	case ev.Kind == rplan.Approve && r.By == p.Name:
		return fault.New(fault.Forbidden, "%q has requested it, and cannot approve it; somebody else must", p.Name)
	}
	return nil
}

// RollbackRollout begins a roll-out that takes back another one that has ended: the
// last target first, only where it was executed, within the same rate, windows,
// concurrency and threshold. Errors: NotFound, Forbidden; Conflict when it has not
// ended, is one that takes back itself, was taken back, or took effect nowhere.
func (a *Audited) RollbackRollout(ctx context.Context, p Principal, id, why string) (rplan.Rollout, error) {
	e := entryOf(p, actUndoRollout, id, why)
	d, err := a.undoDraft(ctx, p, id, why)
	if err != nil {
		return rplan.Rollout{}, a.record(ctx, e, done(err))
	}
	begun, _, err := a.begin(ctx, e, d)
	return begun, err
}

func (a *Audited) undoDraft(ctx context.Context, p Principal, id, why string) (d rollout.Draft, err error) {
	if err := must(p, Operator); err != nil {
		return d, err
	}
	r, err := a.Rollout(ctx, p, id)
	if err != nil {
		return d, err
	}
	for _, g := range r.Groups {
		if err := may(p, Operator, g, r.Spec.Command); err != nil {
			return d, err
		}
	}
	switch {
	case len(why) > maxWhy:
		return d, fault.Field("reason", "is longer than %d bytes", maxWhy)
	case r.Undoes != "":
		return d, fault.New(fault.Conflict, "it takes back %s itself; begin that one anew", r.Undoes)
	}
	if d.Targets, d.Of, err = a.rollouts.Executed(ctx, id); err != nil {
		return d, err
	}
	if len(d.Targets) == 0 {
		return d, fault.New(fault.Conflict, "it took effect nowhere: there is nothing to take back")
	}
	desires := true
	for _, g := range rollout.GroupsOf(d.Targets) { // a dynamic one may have come to more than it began with
		if err := may(p, Operator, g, r.Spec.Command); err != nil {
			return d, err
		}
		desires = desires && p.May(Operator, g, undo.StateDesired)
	}
	s := r.Spec
	d.Rollout = rplan.Rollout{By: p.Name, Answers: a.partyOf(p), Undoes: id, Detail: why, Desires: desires, Policy: r.Policy, Spec: rplan.Spec{Command: s.Command, Params: s.Params,
		Rate: s.Rate, Concurrency: s.Concurrency, Abort: s.Abort, Windows: s.Windows, Targets: rplan.Targets{Listed: true}}}
	// Each device gets its own former values as params: what a rule asks of them is not known here.
	d.Approval = a.holdRollout(&Order{Name: s.Command}, &d)
	d.Digest, err = digestOf(&d)
	return d, err
}

// partyOf is p as the one who answers for a roll-out.
func (s *Service) partyOf(p Principal) rplan.Party {
	_, user := s.opt.Fleet.User(p.Name)
	return rplan.Party{Name: p.Name, User: user}
}

// Absent says why a party cannot answer for what goes on in its name; "": it can. A
// token that ends takes nothing away: it is people who leave.
func (s *Service) Absent(p rplan.Party) string {
	switch u, there := s.opt.Fleet.User(p.Name); {
	case there && u.Disabled:
		return "the user " + p.Name + " is disabled"
	case !there && p.User:
		return "the user " + p.Name + " is removed"
	}
	return ""
}

// CreateForRollout makes commands of a roll-out: its maker's rights, the type and
// the approval were asked for when it was made.
func (s *Service) CreateForRollout(ctx context.Context, orders []rollout.Order) ([]rollout.Outcome, error) {
	out := make([]rollout.Outcome, len(orders))
	reqs, at := make([]Request, 0, len(orders)), make([]int, 0, len(orders))
	for i := range orders {
		o := &orders[i]
		order := Order{Device: o.Device, Name: o.Name, Params: o.Params}
		d, _ := s.opt.Fleet.Device(o.Device)
		err := s.supported(&order)
		if err == nil {
			o.Terms, err = s.fits(&order, &d, o.Terms)
		}
		if err != nil {
			out[i].Err = err
			continue
		}
		reqs, at = append(reqs, Request{Device: o.Device, Name: o.Name, Params: o.Params, Policy: o.Policy, Terms: o.Terms, Key: o.Key,
			Digest: o.Digest, By: o.By, Rollout: o.Rollout}), append(at, i)
	}
	made, err := s.opt.Engine.Create(ctx, reqs)
	if err != nil {
		return nil, done(err)
	}
	for i := range made {
		out[at[i]] = rollout.Outcome{Command: made[i].Command, Err: done(made[i].Err)}
	}
	return out, nil
}

// UndoForRollout makes the command of a roll-out that takes tid back.
func (s *Service) UndoForRollout(ctx context.Context, tid command.TID, o rollout.Order, why string) (command.Command, error) {
	c, err := s.opt.Store.Command(ctx, tid)
	if err != nil {
		return c, done(err)
	}
	how := func(plan undo.Plan) (engine.How, error) {
		if plan.Name != c.Name && !o.Desires {
			return engine.How{}, fault.New(fault.Forbidden, "%q may not send %s there, which would take it back", o.By, plan.Name)
		}
		h, err := s.howToUndo(&c, &plan)
		h.Hold = nil // the roll-out was held as a whole
		h.Policy.DeliverBy = min(h.Policy.DeliverBy, o.Policy.DeliverBy)
		return h, err
	}
	made, err := s.opt.Engine.Undo(ctx, engine.UndoRequest{TID: tid, By: o.By, Why: why, Key: o.Key, Rollout: o.Rollout, How: how})
	return made.Command, done(err)
}
