package service

import (
	"context"
	"errors"
	"net/url"
	"strconv"

	"github.com/wilco-iot/wilco/internal/audit"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/hook"
	"github.com/wilco-iot/wilco/internal/store"
)

// Hook acts, as the audit log has them. Stored; never change.
const (
	actAddHook    = "hook.add"
	actRemoveHook = "hook.remove"
	actRotateHook = "hook.rotate"
	actRedrive    = "hook.redrive"
)

// AddHook makes a hook and returns the secret of its signatures, which is told to
// nobody else; "" for one that is no webhook. It is for all ends of commands that
// happen after AddHook has returned. Only an admin of everything may.
func (a *Audited) AddHook(ctx context.Context, p Principal, rule hook.Rule) (hook.Status, string, error) {
	e := entryOf(p, actAddHook, rule.Name, describe(&rule))
	if err := mayAll(p, Admin); err != nil {
		return hook.Status{}, "", a.record(ctx, e, err)
	}
	made, secret, w, err := a.hooks.Make(ctx, rule)
	if err != nil {
		return hook.Status{}, "", a.record(ctx, e, done(err))
	}
	if err := a.commit(ctx, e, []store.DocumentWrite{w}); err != nil {
		return hook.Status{}, "", err
	}
	if made.Webhook != nil {
		made.Webhook.Secret = nil
	}
	return hook.Status{Rule: made}, secret, done(a.hooks.Reload(ctx))
}

// describe says what a hook does. Of a URL only where it leads to: the rest is often a
// secret of the receiver's, and the log is kept for ever.
func describe(r *hook.Rule) string {
	switch {
	case r.Webhook != nil:
		to, err := url.Parse(r.Webhook.URL)
		if err != nil {
			return "webhook"
		}
		return "webhook " + to.Scheme + "://" + to.Host
	case r.Command != nil:
		return "command " + r.Command.Name
	case r.Alarm != nil:
		return "alarm"
	}
	return ""
}

// Hooks lists the hooks by name, without their secrets.
func (a *Audited) Hooks(_ context.Context, p Principal) ([]hook.Status, error) {
	if err := mayAll(p, Admin); err != nil {
		return nil, err
	}
	return a.hooks.Rules(), nil
}

// RemoveHook removes a hook, and forgets what it had still to deliver.
func (a *Audited) RemoveHook(ctx context.Context, p Principal, name string) error {
	e := entryOf(p, actRemoveHook, name, "")
	if err := mayAll(p, Admin); err != nil {
		return a.record(ctx, e, err)
	}
	w, err := a.hooks.Unmake(name)
	if err != nil {
		return a.record(ctx, e, err)
	}
	if err := a.commit(ctx, e, []store.DocumentWrite{w}); err != nil {
		return err
	}
	return done(a.hooks.Reload(ctx))
}

// RotateHook gives a webhook another secret and returns it, for nobody to hear again.
// The one before signs beside it for [hook.FormerFor].
func (a *Audited) RotateHook(ctx context.Context, p Principal, name string) (string, error) {
	e := entryOf(p, actRotateHook, name, "")
	if err := mayAll(p, Admin); err != nil {
		return "", a.record(ctx, e, err)
	}
	secret, w, err := a.hooks.Rotate(name)
	if err != nil {
		return "", a.record(ctx, e, err)
	}
	if err := a.commit(ctx, e, []store.DocumentWrite{w}); err != nil {
		return "", err
	}
	return secret, done(a.hooks.Reload(ctx))
}

// Deliveries lists those of a hook that were given up, the oldest first, behind
// the event after.
func (a *Audited) Deliveries(ctx context.Context, p Principal, name string, after int64, limit int) ([]hook.Delivery, error) {
	if err := mayAll(p, Admin); err != nil {
		return nil, err
	}
	if limit < 0 || limit > MaxPage {
		return nil, fault.Field("limit", "%d is not between 1 and %d", limit, MaxPage)
	}
	list, err := a.hooks.Dead(ctx, name, after, limit)
	return list, done(err)
}

// Redrive tries deliveries that were given up again: that of one event, or, when
// event is 0, the oldest. It returns how many, and whether there are more.
func (a *Audited) Redrive(ctx context.Context, p Principal, name string, event int64) (n int, more bool, err error) {
	e := entryOf(p, actRedrive, name, "")
	if event > 0 {
		e.Detail = "event " + strconv.FormatInt(event, 10)
	}
	if err := mayAll(p, Admin); err != nil {
		return 0, false, a.record(ctx, e, err)
	}
	v, err := a.hooks.Redrive(ctx, name, event)
	if err != nil {
		return 0, false, a.record(ctx, e, done(err))
	}
	if v.Count == 0 {
		return 0, false, nil
	}
	if err := a.commit(ctx, e, v.Writes); err != nil {
		return 0, false, err
	}
	a.hooks.Revive(v)
	return v.Count, v.More, nil
}

// commit keeps an act, what it changes, and the events that tell of it in one commit.
func (a *Audited) commit(ctx context.Context, e audit.Entry, docs []store.DocumentWrite, events ...store.Event) error {
	e.Outcome = audit.OK
	err := a.log.Commit(ctx, e, docs, events...)
	var conflict *store.ConflictError
	if errors.As(err, &conflict) && !hasCode(err) {
		return fault.Wrap(err, fault.Conflict, "somebody else has changed it at this moment; look and ask again")
	}
	return done(err)
}

// FollowUp makes a command that a hook asks for. Its rights are those of whoever
// made the hook: an admin of everything.
func (a *Audited) FollowUp(ctx context.Context, o hook.Order) error {
	_, err := a.Send(ctx, Principal{Name: o.By, Grants: fleet.Everywhere(Operator)}, Order{Device: o.Device, Name: o.Name, Params: o.Params,
		Key: o.Key, ours: true})
	return err
}
