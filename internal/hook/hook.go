// Package hook does what is asked for at the end of a command: it tells a program
// over HTTP (a webhook), sends another command to the same device (a follow-up), or
// raises an alarm.
//
//	events ─► follower ──one commit──► delivery documents, alarms, cursor
//	                                        │
//	             schedule.Queue ◄───────────┘
//	                  │ next, in order per device
//	                  ▼
//	             worker ─► HTTP or command ─► document removed, or kept with when
//	                                          it is tried again, or dead
//
// The follower reads the event stream behind a cursor that it keeps as a document.
// What the rules want of an event is written in the commit that moves the cursor
// past it, so a kill -9 between any two steps loses nothing and makes no delivery
// twice. A delivery is removed only after its receiver has said yes: one that was
// told and not removed is told again, with the same id. Follow-ups have an
// idempotency key made of hook and event, so the repetition makes nothing. Alarms
// are events themselves and exist exactly once.
//
// Deliveries of one device at one hook go out in the order of their events; one
// that fails holds back its device at that hook and nothing else. After
// [schedule.GiveUp] it is dead: kept until somebody sends it again or removes the
// hook.
//
// What runs: one follower, one dispatcher, and up to perHook workers a hook; all
// are waited for by Stop. A Runner is safe for concurrent use. One process owns
// the hooks of a store.
package hook

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// Kinds of documents. Stored; never change.
const (
	kindHook     store.Kind = "hook"     // by name
	kindDelivery store.Kind = "delivery" // by hook, "pending" or "dead", and event
	kindCursor   store.Kind = "cursor"   // by who reads
)

// Bounds of what is asked for.
const (
	MaxHooks  = 64
	maxName   = 64
	maxURL    = 2048
	maxParams = 16 << 10
	maxText   = 256
	maxList   = 64 // items of one condition
)

// Rule is a hook: when, and then one of Webhook, Command and Alarm. Nothing of it
// changes but a webhook's secret; who wants another one removes it and adds that.
//
// The JSON form is the stored one; never change the names.
type Rule struct {
	Name    string    `json:"name"` // [a-z0-9-_]{1,64}
	On      On        `json:"on"`
	Webhook *Webhook  `json:"webhook,omitempty"`
	Command *FollowUp `json:"command,omitempty"`
	Alarm   *Alarm    `json:"alarm,omitempty"`
	Created time.Time `json:"created"`
	Since   int64     `json:"since"` // the events after this one are the hook's

	version int64 // of its document
}

// On says which ends a hook is for: all conditions that are not empty must hold.
type On struct {
	States  []command.State  `json:"states,omitempty"` // ends, or timed_out; empty: all of them
	Reasons []command.Reason `json:"reasons,omitempty"`
	Types   []string         `json:"types,omitempty"` // command names; "valve.*" means all that begin with "valve."
	Groups  []string         `json:"groups,omitempty"`
}

// Webhook is a receiver over HTTP.
type Webhook struct {
	URL string `json:"url"`
	// AllowPrivate lets it be at an address that is not of the public internet.
	AllowPrivate bool   `json:"allowPrivate,omitempty"`
	Secret       []byte `json:"secret"` // key of the signatures
	// Former is the secret before, which signs too until FormerUntil: the receiver
	// takes up the new one when it can.
	Former      []byte    `json:"former,omitempty"`
	FormerUntil time.Time `json:"formerUntil,omitzero"`
}

// FollowUp is a command to the device of the one that ended.
type FollowUp struct {
	Name   string          `json:"name"`
	Params json.RawMessage `json:"params,omitempty"` // may have placeholders, see expand
}

// Alarm is an event of type alarm and a line in the log.
type Alarm struct {
	Text string `json:"text,omitempty"`
}

// match says whether the event is an end that the hook is for.
func (o *On) match(e *store.Event) bool {
	return isEnd(e) &&
		(len(o.States) == 0 || slices.Contains(o.States, e.State)) &&
		(len(o.Reasons) == 0 || slices.Contains(o.Reasons, e.Reason)) &&
		(len(o.Groups) == 0 || slices.Contains(o.Groups, e.Device.Group)) &&
		(len(o.Types) == 0 || slices.ContainsFunc(o.Types, func(t string) bool { return named(t, e.Name) }))
}

// isEnd says whether a command came into an end state by the event, or timed out.
func isEnd(e *store.Event) bool {
	return e.Type == store.EventCommand && e.TID != nil && e.From != e.State && (e.State.Final() || e.State == command.TimedOut)
}

func named(pattern, name string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}

// Check says what is wrong with a rule, by field as the HTTP API writes it.
func (r *Rule) Check() error {
	if !simple(r.Name, maxName, "abcdefghijklmnopqrstuvwxyz0123456789-_") {
		return fault.Field("name", "must be 1 to %d of the characters a-z 0-9 - _", maxName)
	}
	if err := r.On.check(); err != nil {
		return err
	}
	kinds := 0
	for _, there := range []bool{r.Webhook != nil, r.Command != nil, r.Alarm != nil} {
		if there {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		return fault.Field("webhook", "give exactly one of webhook, command and alarm")
	case r.Webhook != nil:
		return r.Webhook.check()
	case r.Command != nil:
		return r.Command.check()
	case len(r.Alarm.Text) > maxText:
		return fault.Field("alarm.text", "is longer than %d bytes", maxText)
	}
	return nil
}

func (o *On) check() error {
	for _, s := range o.States {
		if !s.Final() && s != command.TimedOut {
			return fault.Field("on.states", "%q is not an end, nor timed_out", s)
		}
	}
	for _, reason := range o.Reasons {
		if !slices.Contains(command.Reasons, reason) {
			return fault.Field("on.reasons", "there is no reason %q", reason)
		}
	}
	for _, t := range o.Types {
		if !simple(strings.TrimSuffix(t, "*")+"x", wire.MaxCmd, nameChars) {
			return fault.Field("on.types", "%q is not the name of a command, nor the beginning of one with * behind it", t)
		}
	}
	for _, g := range o.Groups {
		if (wire.Address{Group: g, Device: "x"}).Valid() != nil {
			return fault.Field("on.groups", "%q is not the name of a group", g)
		}
	}
	for field, n := range map[string]int{"on.states": len(o.States), "on.reasons": len(o.Reasons), "on.types": len(o.Types), "on.groups": len(o.Groups)} {
		if n > maxList {
			return fault.Field(field, "%d items; at most %d", n, maxList)
		}
	}
	return nil
}

const nameChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-"

func simple(s string, most int, chars string) bool {
	return s != "" && len(s) <= most && strings.Trim(s, chars) == ""
}

func (w *Webhook) check() error {
	u, err := url.Parse(w.URL)
	switch {
	case err != nil || len(w.URL) > maxURL || u.Host == "" || u.Hostname() == "" || u.Opaque != "":
		return fault.Field("webhook.url", "is not a URL like https://example.com/wilco")
	case u.Scheme != "https" && u.Scheme != "http":
		return fault.Field("webhook.url", "begins with neither https:// nor http://")
	case u.User != nil:
		return fault.Field("webhook.url", "must have no user and password: what is told is signed with the hook's own secret")
	case u.Fragment != "":
		return fault.Field("webhook.url", "must have no fragment")
	}
	return nil
}

func (f *FollowUp) check() error {
	if !simple(f.Name, wire.MaxCmd, nameChars) {
		return fault.Field("command.name", "must be 1 to %d of the characters A-Z a-z 0-9 . _ : -", wire.MaxCmd)
	}
	if len(f.Params) > maxParams {
		return fault.Field("command.params", "is longer than %d bytes", maxParams)
	}
	if len(f.Params) == 0 {
		return nil
	}
	if err := checkTemplate(f.Params); err != nil {
		return fault.Field("command.params", "%v", err)
	}
	return nil
}

// secretPrefix is that of the Standard Webhooks specification. Sent; never change.
const secretPrefix = "whsec_"

// Make checks a new rule and makes it ready: its secret, which is returned for the
// one who asked and for nobody after, its time and its place in the event stream.
// The write puts it into the store; call Reload when that is committed, before the
// one who asked is answered. Errors: Invalid, Exists, Conflict when there are MaxHooks,
// the store's.
func (r *Runner) Make(ctx context.Context, rule Rule) (made Rule, secret string, w store.DocumentWrite, err error) {
	if err := rule.Check(); err != nil {
		return Rule{}, "", w, err
	}
	r.mu.Lock()
	_, there := r.rules[rule.Name]
	n := len(r.rules)
	r.mu.Unlock()
	switch {
	case there:
		return Rule{}, "", w, fault.New(fault.Exists, "there is a hook %s already", rule.Name)
	case n >= MaxHooks:
		return Rule{}, "", w, fault.New(fault.Conflict, "there are %d hooks, which is all that there may be; remove one first", n)
	}
	if rule.Since, err = r.opt.Store.LastEvent(ctx); err != nil {
		return Rule{}, "", w, err
	}
	rule.Created = r.now().UTC().Truncate(time.Millisecond)
	if rule.Webhook != nil {
		hook := *rule.Webhook
		hook.Secret, secret = newSecret()
		rule.Webhook = &hook
	}
	w, err = rule.write()
	return rule, secret, w, err
}

// newSecret makes the key of signatures, and its written form.
func newSecret() (key []byte, written string) {
	key = make([]byte, 32)
	rand.Read(key)
	return key, secretPrefix + base64.StdEncoding.EncodeToString(key)
}

// write puts the rule in the place of what the store has of it.
func (r *Rule) write() (store.DocumentWrite, error) {
	body, err := json.Marshal(r)
	return store.DocumentWrite{DocumentID: store.DocumentID{Kind: kindHook, Key: r.Name}, Was: r.version, Body: body}, err
}

// FormerFor is how long a secret still signs after another has taken its place.
const FormerFor = 24 * time.Hour

// Rotate gives a webhook another secret, which is returned for the one who asked and
// for nobody after. What is told in the next FormerFor is signed with the one before
// too; one from before that, of an earlier Rotate, is good for nothing any more.
// The write puts it into the store; Reload follows its commit. Errors: NotFound,
// Invalid for a hook that is no webhook.
func (r *Runner) Rotate(name string) (secret string, w store.DocumentWrite, err error) {
	r.mu.Lock()
	rule := r.rules[name]
	r.mu.Unlock()
	switch {
	case rule == nil:
		return "", w, unknown(name)
	case rule.Webhook == nil:
		return "", w, fault.Field("name", "%s is no webhook, so it has no secret", name)
	}
	next, hook := *rule, *rule.Webhook
	hook.Former, hook.FormerUntil = hook.Secret, r.now().Add(FormerFor).UTC().Truncate(time.Second)
	hook.Secret, secret = newSecret()
	next.Webhook = &hook
	w, err = next.write()
	return secret, w, err
}

// Unmake gives the write that removes a hook; Reload follows its commit. What the
// hook had still to deliver is forgotten then. Errors: NotFound.
func (r *Runner) Unmake(name string) (store.DocumentWrite, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rule := r.rules[name]
	if rule == nil {
		return store.DocumentWrite{}, unknown(name)
	}
	return store.DocumentWrite{DocumentID: store.DocumentID{Kind: kindHook, Key: name}, Was: rule.version}, nil
}

func unknown(name string) error {
	return &fault.Error{Code: fault.NotFound, Field: "name", Message: "there is no hook " + name + "; list them with wilco hook list"}
}

// Status is a hook, how much it has still to deliver, and what it has done since
// the server's start.
type Status struct {
	Rule
	Waiting int // deliveries, those being tried included
	Tally
}

// Tally counts what became of a hook's tries.
type Tally struct {
	Delivered uint64 // told and taken, or sent
	Failed    uint64 // tries that were not
	Died      uint64 // deliveries given up
}

// Rules lists the hooks by name, without their secrets.
func (r *Runner) Rules() []Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Status, 0, len(r.rules))
	for _, rule := range r.rules {
		s := Status{Rule: *rule, Waiting: r.queue.Len(rule.Name)}
		if n := r.tallies[rule.Name]; n != nil {
			s.Tally = *n
		}
		if s.Webhook != nil {
			w := *s.Webhook
			w.Secret, w.Former = nil, nil
			s.Webhook = &w
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
	return list
}
