package hook

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// Delivery is what a hook has to tell or to send for one event. All that is needed
// is in it, so that every try says the same, whatever becomes of the command.
//
// The JSON form is the stored one; never change the names.
type Delivery struct {
	ID       string        `json:"id"` // the same at every try
	Hook     string        `json:"hook"`
	Event    int64         `json:"event"`
	Device   wire.Address  `json:"device"`
	TID      command.TID   `json:"tid"`
	Name     string        `json:"name"` // of the command that ended
	State    command.State `json:"state"`
	Created  time.Time     `json:"created"`
	Since    time.Time     `json:"since"` // of the first try, or when somebody asked for it anew
	Attempts int           `json:"attempts,omitempty"`
	Due      time.Time     `json:"due,omitzero"`   // of the next try
	Dead     bool          `json:"dead,omitempty"` // given up
	Problem  string        `json:"problem,omitempty"`

	Body  json.RawMessage `json:"body,omitempty"`  // of a webhook
	Order *Order          `json:"order,omitempty"` // of a follow-up
}

// Order is a follow-up command to be made.
type Order struct {
	Device wire.Address    `json:"device"`
	Name   string          `json:"name"`
	Params json.RawMessage `json:"params,omitempty"`
	By     string          `json:"by"`  // hook/NAME/DEPTH
	Key    string          `json:"key"` // idempotency key, of hook and event
}

// MaxDepth is how many follow-ups of follow-ups there may be: hooks that call each
// other in a circle end there.
const MaxDepth = 5

// byPrefix begins the name in which follow-ups are asked for. A token's name has no
// slash, and a device's has one. Stored; never change.
const byPrefix = "hook/"

// KeyPrefix begins the idempotency keys of follow-ups. Nobody else may use such keys.
// Stored; never change.
const KeyPrefix = "hook/"

func byOf(hook string, depth int) string { return byPrefix + hook + "/" + strconv.Itoa(depth) }

// depthOf is how many hooks stand before the command that was asked for by this name.
func depthOf(by string) int {
	rest, ok := strings.CutPrefix(by, byPrefix)
	if !ok {
		return 0
	}
	_, number, _ := strings.Cut(rest, "/")
	n, err := strconv.Atoi(number)
	if err != nil {
		return 0
	}
	return n
}

// newDelivery makes what the rule wants of an end. C is the command, nil when it
// is not kept any more. What can never be done is dead from the beginning.
func newDelivery(r *Rule, e *store.Event, c *command.Command, now time.Time) *Delivery {
	now = now.UTC().Truncate(time.Millisecond)
	d := &Delivery{ID: fmt.Sprintf("%s_%s_%d", r.Name, e.TID, e.ID), Hook: r.Name, Event: e.ID, Device: e.Device, TID: *e.TID,
		Name: e.Name, State: e.State, Created: now, Since: now, Due: now}
	if r.Webhook != nil {
		d.Body = messageOf(d, e, c)
		return d
	}
	if err := d.order(r, e, c); err != nil {
		d.Dead, d.Problem = true, err.Error()
	}
	return d
}

func (d *Delivery) order(r *Rule, e *store.Event, c *command.Command) error {
	d.Order = &Order{Device: e.Device, Name: r.Command.Name, Key: KeyPrefix + r.Name + "/" + strconv.FormatInt(e.ID, 10)}
	if c == nil {
		return fmt.Errorf("the command is not kept any more")
	}
	depth := depthOf(c.RequestedBy) + 1
	if depth > MaxDepth {
		return fmt.Errorf("a circle: the command is itself the follow-up of %d others", MaxDepth)
	}
	d.Order.By = byOf(r.Name, depth)
	values := map[string]any{"device": e.Device.Device, "group": e.Device.Group, "tid": e.TID.String(), "name": e.Name,
		"state": string(e.State), "reason": string(e.Reason), "detail": e.Detail}
	for name, raw := range map[string]json.RawMessage{"params": c.Params, "result": c.Result, "deviceState": c.DeviceState} {
		if len(raw) == 0 {
			continue
		}
		v, err := decodeValue(raw)
		if err != nil {
			return fmt.Errorf("the command's %s cannot be read: %w", name, err)
		}
		values[name] = v
	}
	var err error
	if d.Order.Params, err = expand(r.Command.Params, values); err != nil {
		return fmt.Errorf("params: %w", err)
	}
	return nil
}

// messageOf is the body of a webhook.
func messageOf(d *Delivery, e *store.Event, c *command.Command) json.RawMessage {
	m := client.HookMessage{ID: d.ID, Hook: d.Hook, Event: e.ID, At: e.At, Device: e.Device.String(), TID: e.TID.String(), Name: e.Name,
		From: client.State(e.From), State: client.State(e.State), Reason: string(e.Reason), By: e.By, Detail: e.Detail, Attempt: e.Attempt}
	if c != nil {
		m.RequestedBy, m.Created, m.Params, m.Result, m.DeviceState = c.RequestedBy, c.Created, c.Params, c.Result, c.DeviceState
	}
	b, err := json.Marshal(m)
	if err != nil {
		m.Params, m.Result, m.DeviceState = nil, nil, nil // the only parts that could not be JSON
		b, _ = json.Marshal(m)
	}
	return b
}

// Places of deliveries among the documents. Stored; never change.
const (
	placePending = "/pending/"
	placeDead    = "/dead/"
)

// id is the document of the delivery.
func (d *Delivery) id() store.DocumentID {
	place := placePending
	if d.Dead {
		place = placeDead
	}
	return store.DocumentID{Kind: kindDelivery, Key: d.Hook + place + fmt.Sprintf("%016x", d.Event)}
}

// write puts the delivery in place of version was of its document.
func (d *Delivery) write(was int64) (store.DocumentWrite, error) {
	body, err := json.Marshal(d)
	return store.DocumentWrite{DocumentID: d.id(), Was: was, Body: body}, err
}

func decodeDelivery(doc *store.Document) (*Delivery, error) {
	d := &Delivery{}
	if err := json.Unmarshal(doc.Body, d); err != nil {
		return nil, fmt.Errorf("%s: %w", doc.DocumentID, err)
	}
	return d, nil
}
