package service

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/internal/catalog"
	"github.com/wilco-iot/wilco/internal/catalog/shelf"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire/state"
)

// planner finds out by what type and policy orders are made:
//
//	server's default  <  type  <  order
//
// Orders of one call mostly have the same name and the same policy, so the last
// of both is kept.
type planner struct {
	s     *Service
	count map[string]int // orders of the call by name, for approvals that ask for it

	name string
	item *shelf.Item // nil: there is no such type
	base command.Policy

	text   []byte
	policy command.Policy
	err    error
}

// plan is what a command is made by, beside its order.
type plan struct {
	item   *shelf.Item // nil: no type
	policy command.Policy
	terms  *command.Terms
	hold   *command.Approval
}

func (pl *planner) of(o *Order, d *store.Device) (plan, error) {
	if pl.name != o.Name {
		pl.name, pl.base, pl.text = o.Name, pl.s.policy, nil
		if pl.item, _ = pl.s.opt.Types.Version(o.Name, 0); pl.item != nil {
			pl.base = pl.item.PolicyOver(pl.base).WithDefaults()
		}
	}
	if pl.item == nil && pl.s.opt.KnownTypesOnly && !strings.HasPrefix(o.Name, catalog.Reserved) {
		return plan{}, fault.Field("name", "there is no command type %s, and the server takes no others (commands.unknownTypes); see wilco type list", o.Name)
	}
	p := plan{item: pl.item}
	if pl.item != nil {
		if err := pl.item.CheckParams("params", o.Params); err != nil {
			return plan{}, err
		}
		p.terms = pl.item.Terms
		p.hold = pl.s.hold(pl.item, o, d, pl.count[o.Name])
	}
	if o.Priority != nil {
		if n := *o.Priority; n < -catalog.MaxPriority || n > catalog.MaxPriority {
			return plan{}, fault.Field("priority", "%d is not between -%d and %d", n, catalog.MaxPriority, catalog.MaxPriority)
		}
		own := command.Terms{}
		if p.terms != nil {
			own = *p.terms
		}
		own.Priority = *o.Priority
		p.terms = &own
	}
	var err error
	p.policy, err = pl.over(o.Policy)
	return p, err
}

// over lays the policy of an order over that of its type.
func (pl *planner) over(text json.RawMessage) (command.Policy, error) {
	if len(text) == 0 || string(text) == "null" {
		return pl.base, nil
	}
	if pl.text == nil || !bytes.Equal(pl.text, text) {
		pl.text = text
		pl.policy, pl.err = overlay(pl.base, text)
	}
	return pl.policy, pl.err
}

func overlay(base command.Policy, text json.RawMessage) (command.Policy, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&base); err != nil {
		var te *json.UnmarshalTypeError
		if errors.As(err, &te) {
			return base, fault.Field(strings.TrimSuffix("policy."+te.Field, "."), "must not be a JSON %s", te.Value)
		}
		if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
			return base, fault.Field("policy."+strings.Trim(name, `"`), "unknown field")
		}
		return base, fault.Field("policy", "%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	var pe *command.PolicyError
	if err := base.Check(); errors.As(err, &pe) {
		return base, fault.Field("policy."+pe.Field, "%s", pe.Text)
	}
	return base, nil
}

// hold is the approval that a command of a type waits for; nil: none. What its
// condition asks for and is not there counts as if it held: not knowing is no
// reason to pass people over.
func (s *Service) hold(i *shelf.Item, o *Order, d *store.Device, targets int) *command.Approval {
	a := i.Approval
	switch {
	case a == nil,
		len(a.Groups) > 0 && !slices.Contains(a.Groups, o.Device.Group),
		len(a.Tags) > 0 && !slices.ContainsFunc(a.Tags, func(t string) bool { return slices.Contains(d.Tags, t) }),
		targets < a.Targets:
		return nil
	}
	if a.When != nil {
		if u := a.When.Check(paramsOf(o.Params)); u != nil && !u.Unknown {
			return nil
		}
	}
	held := &command.Approval{Rule: fmt.Sprintf("type %s, version %d", i.Name, i.Version), Quorum: max(a.Quorum, 1)}
	if a.Expires > 0 {
		held.Expires = time.Now().Add(a.Expires.D())
	}
	return held
}

// paramsValues are the parameters of a command, as a condition looks at them.
type paramsValues struct{ o state.Object }

func paramsOf(raw json.RawMessage) state.Reported {
	o, _ := state.Parse(raw) // what is no object has no values
	return paramsValues{o}
}

func (p paramsValues) Value(path string) (any, time.Duration, bool) {
	v, ok := p.o.Get(path)
	return v, 0, ok
}
