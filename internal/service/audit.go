package service

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/internal/audit"
	"github.com/wilco-iot/wilco/internal/catalog"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/engine"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/hook"
	"github.com/wilco-iot/wilco/internal/rollout"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// Audited is a Service whose acts are recorded in the audit log before they are
// answered: those that were done, those that failed, and those that somebody was
// not allowed. What is wrong in itself (Invalid, TooLarge, TooMany) is no act.
//
// Every method of Service that changes something is made anew here; a test says
// which is not.
type Audited struct {
	*Service
	log      *audit.Log
	hooks    *hook.Runner
	rollouts *rollout.Runner
}

// NewAudited makes one over s, an open log, the hooks, whose Send is to be its
// FollowUp, and the roll-outs.
func NewAudited(s *Service, l *audit.Log, h *hook.Runner, r *rollout.Runner) *Audited {
	return &Audited{Service: s, log: l, hooks: h, rollouts: r}
}

// What was done, as the audit log has it. Stored; never change.
const (
	actSend         = "command.create"
	actCancel       = "command.cancel"
	actRetry        = "command.retry"
	actApprove      = "command.approve"
	actDeny         = "command.deny"
	actRollback     = "command.rollback"
	actBreakGlass   = "command.break_glass"
	actAddDevice    = "device.add"
	actRotateDevice = "device.rotate"
	actChangeDevice = "device.change"
	actRemoveDevice = "device.remove"
	actCreateToken  = "token.create"
	actRemoveToken  = "token.remove"
	actApplyType    = "type.apply"
	actDeprecate    = "type.deprecate"
	actRebirth      = "sparkplug.rebirth"
)

// entryOf begins an entry about p: the highest of its roles, and its groups.
func entryOf(p Principal, act, target, detail string) audit.Entry {
	groups, _ := p.Groups(Viewer)
	return audit.Entry{Who: p.Name, Role: string(p.Role()), Group: strings.Join(groups, ","), Act: act, Target: target, Detail: detail}
}

// record keeps e with the outcome err and returns err, or why e could not be kept.
func (a *Audited) record(ctx context.Context, e audit.Entry, err error) error {
	e.Outcome = audit.OK
	if err != nil {
		code := fault.CodeOf(err)
		switch code {
		case fault.Invalid, fault.TooLarge, fault.TooMany:
			return err
		}
		e.Outcome = string(code)
	}
	if failed := a.log.Record(ctx, e); failed != nil && err == nil {
		return unrecorded(failed)
	}
	return err
}

// unrecorded is the answer to an act that is done and not in the log: its caller
// must look before asking again.
func unrecorded(err error) error {
	return fault.Wrap(err, fault.Unavailable, "it was done, and could not be recorded in the audit log; look before you ask again")
}

// Send makes one command.
func (a *Audited) Send(ctx context.Context, p Principal, o Order) (Created, error) {
	out, err := a.Service.Send(ctx, p, o)
	e := entryOf(p, actSend, o.Device.String(), o.Name)
	if err == nil {
		if out.Existed {
			return out, nil // nothing was done
		}
		seal(&e, []Created{out})
	}
	return out, a.record(ctx, e, err)
}

// SendBulk makes commands; the log gets one entry for all of them.
func (a *Audited) SendBulk(ctx context.Context, p Principal, orders []Order) ([]Created, error) {
	out, err := a.Service.SendBulk(ctx, p, orders)
	e := entryOf(p, actSend, targetOf(orders), namesOf(orders))
	if err != nil {
		return nil, a.record(ctx, e, err)
	}
	var refused error
	for i := range out {
		if code := fault.CodeOf(out[i].Err); refused == nil && code != "" && code != fault.Invalid {
			refused = out[i].Err
		}
	}
	if seal(&e, out); e.Count > 0 {
		refused = nil
	} else if refused == nil {
		return out, nil // nothing was done, and nobody was stopped
	}
	if err := a.record(ctx, e, refused); refused == nil && err != nil {
		return nil, err
	}
	return out, nil
}

// seal puts into e how many commands were made, and which.
func seal(e *audit.Entry, made []Created) {
	h := sha256.New()
	for i := range made {
		if c := &made[i]; c.Err == nil && !c.Existed {
			h.Write(c.Command.TID[:])
			e.Count++
		}
	}
	if e.Count > 0 {
		e.Digest = hex.EncodeToString(h.Sum(nil))
	}
}

// targetOf is the device of all orders, their group, or nothing.
func targetOf(orders []Order) string {
	if len(orders) == 0 {
		return ""
	}
	target := orders[0].Device.String()
	for i := range orders {
		switch d := orders[i].Device; {
		case d == orders[0].Device:
		case d.Group != orders[0].Device.Group:
			return ""
		default:
			target = d.Group
		}
	}
	return target
}

func namesOf(orders []Order) string {
	if len(orders) == 0 {
		return ""
	}
	for i := range orders {
		if orders[i].Name != orders[0].Name {
			return orders[0].Name + " and others"
		}
	}
	return orders[0].Name
}

// Cancel asks that a command be not done.
func (a *Audited) Cancel(ctx context.Context, p Principal, tid command.TID, why string) (command.Command, error) {
	c, err := a.Service.Cancel(ctx, p, tid, why)
	return c, a.record(ctx, entryOf(p, actCancel, tid.String(), why), err)
}

// Approve counts p's agreement to a held command.
func (a *Audited) Approve(ctx context.Context, p Principal, tid command.TID, digest, why string) (command.Command, error) {
	c, err := a.Service.Approve(ctx, p, tid, digest, why)
	return c, a.record(ctx, entryOf(p, actApprove, tid.String(), why), err)
}

// Deny ends a held command.
func (a *Audited) Deny(ctx context.Context, p Principal, tid command.TID, why string) (command.Command, error) {
	c, err := a.Service.Deny(ctx, p, tid, why)
	return c, a.record(ctx, entryOf(p, actDeny, tid.String(), why), err)
}

// BreakGlass lets a held command go without the votes that it needs.
func (a *Audited) BreakGlass(ctx context.Context, p Principal, tid command.TID, why string) (command.Command, error) {
	c, err := a.Service.BreakGlass(ctx, p, tid, why)
	return c, a.record(ctx, entryOf(p, actBreakGlass, tid.String(), why), err)
}

// Rollback takes a command back.
func (a *Audited) Rollback(ctx context.Context, p Principal, tid command.TID, o RollbackOptions) (Created, error) {
	made, err := a.Service.Rollback(ctx, p, tid, o)
	e := entryOf(p, actRollback, tid.String(), o.Why)
	if o.Force {
		e.Detail = "forced: " + o.Why
	}
	if err == nil {
		if made.Existed {
			return made, nil // nothing was done
		}
		seal(&e, []Created{made})
	}
	return made, a.record(ctx, e, err)
}

// Retry tries a command again.
func (a *Audited) Retry(ctx context.Context, p Principal, tid command.TID, why string) (command.Command, bool, error) {
	c, isNew, err := a.Service.Retry(ctx, p, tid, why)
	e := entryOf(p, actRetry, tid.String(), why)
	if err == nil && isNew {
		seal(&e, []Created{{Created: engine.Created{Command: c}}})
	}
	return c, isNew, a.record(ctx, e, err)
}

// ApplyType makes a command type, or its next version.
func (a *Audited) ApplyType(ctx context.Context, p Principal, t catalog.Type) (catalog.Type, bool, error) {
	applied, isNew, err := a.Service.ApplyType(ctx, p, t)
	if err == nil && !isNew {
		return applied, false, nil // nothing was done
	}
	return applied, isNew, a.record(ctx, entryOf(p, actApplyType, t.Name, fmt.Sprintf("version=%d", applied.Version)), err)
}

// DeprecateType makes a version of a type that warns.
func (a *Audited) DeprecateType(ctx context.Context, p Principal, name, why string) (catalog.Type, error) {
	t, err := a.Service.DeprecateType(ctx, p, name, why)
	return t, a.record(ctx, entryOf(p, actDeprecate, name, why), err)
}

// AddDevice registers a device.
func (a *Audited) AddDevice(ctx context.Context, p Principal, n NewDevice) (store.Device, string, error) {
	d, secret, err := a.Service.AddDevice(ctx, p, n)
	return d, secret, a.record(ctx, entryOf(p, actAddDevice, n.Address.String(), ""), err)
}

// RotateDevice gives a device a new secret.
func (a *Audited) RotateDevice(ctx context.Context, p Principal, d wire.Address) (store.Device, string, error) {
	got, secret, err := a.Service.RotateDevice(ctx, p, d)
	return got, secret, a.record(ctx, entryOf(p, actRotateDevice, d.String(), ""), err)
}

// ChangeDevice changes what is said of a device.
func (a *Audited) ChangeDevice(ctx context.Context, p Principal, d wire.Address, c DeviceChange) (store.Device, error) {
	got, err := a.Service.ChangeDevice(ctx, p, d, c)
	return got, a.record(ctx, entryOf(p, actChangeDevice, d.String(), changes(c)), err)
}

func changes(c DeviceChange) string {
	var said []string
	if c.Disabled != nil {
		said = append(said, fmt.Sprintf("disabled=%t", *c.Disabled))
	}
	if c.Window != nil {
		said = append(said, fmt.Sprintf("window=%d", *c.Window))
	}
	if c.Tags != nil {
		said = append(said, "tags="+strings.Join(*c.Tags, ","))
	}
	if c.Note != nil {
		said = append(said, "note="+*c.Note)
	}
	return strings.Join(said, " ")
}

// RemoveDevice forgets a device.
func (a *Audited) RemoveDevice(ctx context.Context, p Principal, d wire.Address) error {
	return a.record(ctx, entryOf(p, actRemoveDevice, d.String(), ""), a.Service.RemoveDevice(ctx, p, d))
}

// CreateToken makes a token.
func (a *Audited) CreateToken(ctx context.Context, p Principal, n NewToken) (Token, string, error) {
	t, secret, err := a.Service.CreateToken(ctx, p, n)
	detail := "name=" + n.Name
	if n.User != "" {
		detail += " user=" + n.User
	} else {
		detail += " grants=" + fleet.Text(given(t.Grants, n.Grants, err))
	}
	if n.TTL > 0 {
		detail += " ttl=" + n.TTL.Round(time.Second).String()
	}
	return t, secret, a.record(ctx, entryOf(p, actCreateToken, t.ID, detail), err)
}

// given are the grants that an act has given, which may be narrower than those that
// were asked for.
func given(got, asked []Grant, err error) []Grant {
	if err == nil {
		return got
	}
	return asked
}

// RemoveToken makes a token void at once.
func (a *Audited) RemoveToken(ctx context.Context, p Principal, id string) error {
	return a.record(ctx, entryOf(p, actRemoveToken, id, ""), a.Service.RemoveToken(ctx, p, id))
}

// Audit reads the audit log, the oldest entries first: up to limit behind the key
// after, and the head of the chain. Only an admin of everything may. Errors: Invalid for
// a key that no entry has and none can have.
func (a *Audited) Audit(ctx context.Context, p Principal, after string, limit int) ([]audit.Entry, audit.Head, error) {
	if err := mayAll(p, Admin); err != nil {
		return nil, audit.Head{}, err
	}
	if limit < 0 || limit > MaxPage {
		return nil, audit.Head{}, fault.Field("limit", "%d is not between 1 and %d", limit, MaxPage)
	}
	if known, err := a.log.IsKey(ctx, after); err != nil {
		return nil, audit.Head{}, done(err)
	} else if !known {
		return nil, audit.Head{}, fault.Field("cursor", "is not the next of a page of the audit log")
	}
	head := a.log.Head() // first: what is read then has it
	list, err := a.log.Page(ctx, after, limit)
	return list, head, done(err)
}
