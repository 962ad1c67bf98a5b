package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// NewHook is a hook to make: when, and exactly one of Webhook, Command and Alarm.
type NewHook struct {
	Name    string        `json:"name" minLength:"1" maxLength:"64" pattern:"^[a-z0-9_-]+$"`
	On      HookOn        `json:"on,omitempty"`
	Webhook *HookReceiver `json:"webhook,omitempty" doc:"tell a program over HTTP"`
	Command *HookCommand  `json:"command,omitempty" doc:"send a command to the same device"`
	Alarm   *HookAlarm    `json:"alarm,omitempty" doc:"an event of type alarm, and a line in the server's log"`
}

// HookOn says which ends of commands a hook is for. All conditions that are given
// must hold; none at all means every end.
type HookOn struct {
	States  []State  `json:"states,omitempty" maxItems:"64" doc:"ends, or timed_out; absent: all of them"`
	Reasons []string `json:"reasons,omitempty" maxItems:"64"`
	Types   []string `json:"types,omitempty" maxItems:"64" doc:"names of commands; valve.* means all that begin with valve."`
	Groups  []string `json:"groups,omitempty" maxItems:"64"`
}

// HookReceiver is a program that is told over HTTP.
type HookReceiver struct {
	URL          string `json:"url" maxLength:"2048" doc:"http or https; redirects are not followed"`
	AllowPrivate bool   `json:"allowPrivate,omitempty" doc:"it may be at an address that is not of the public internet"`
}

// HookCommand is a follow-up command.
type HookCommand struct {
	Name   string          `json:"name"`
	Params json.RawMessage `json:"params,omitempty" doc:"any JSON value; strings may have placeholders like ${result.position}"`
}

// HookAlarm is an alarm.
type HookAlarm struct {
	Text string `json:"text,omitempty" maxLength:"256"`
}

// Hook is a hook as the server has it.
type Hook struct {
	NewHook
	Secret  string    `json:"secret,omitempty" doc:"key of the signatures; only in the answer that made it"`
	Created time.Time `json:"created"`
	Since   int64     `json:"since" doc:"the hook is for events behind this one"`
	Waiting int       `json:"waiting" doc:"deliveries that are still to be made"`

	Delivered uint64 `json:"delivered" doc:"since the server's start"`
	Failed    uint64 `json:"failed" doc:"tries that failed, since the server's start"`
	Died      uint64 `json:"died" doc:"deliveries given up, since the server's start"`
}

// HookSecret is the new secret of a webhook.
type HookSecret struct {
	Secret string `json:"secret" doc:"key of the signatures; kept nowhere else"`
}

// HookList is all hooks, by name.
type HookList struct {
	Items []Hook `json:"items"`
}

// DeadDelivery is one that was given up.
type DeadDelivery struct {
	ID       string    `json:"id"`
	Event    int64     `json:"event"`
	Device   string    `json:"device"`
	TID      string    `json:"tid"`
	Name     string    `json:"name"`
	State    State     `json:"state"`
	Created  time.Time `json:"created"`
	Attempts int       `json:"attempts"`
	Problem  string    `json:"problem" doc:"why the last try failed"`
}

// DeadPage is a piece of the dead deliveries of a hook.
type DeadPage struct {
	Items []DeadDelivery `json:"items"`
	Next  int64          `json:"next,omitempty" doc:"after of the next page; absent: this one is empty"`
}

// Redriven says how many deliveries are tried again.
type Redriven struct {
	Count int  `json:"count"`
	More  bool `json:"more,omitempty" doc:"there are more; ask again"`
}

// HookMessage is the body of a webhook: the end of a command.
type HookMessage struct {
	ID          string          `json:"id"` // the same at every try; what came before may come again
	Hook        string          `json:"hook"`
	Event       int64           `json:"event"` // rises for the hook and device
	At          time.Time       `json:"at"`
	Device      string          `json:"device"`
	TID         string          `json:"tid"`
	Name        string          `json:"name"`
	From        State           `json:"from,omitempty"`
	State       State           `json:"state"`
	Reason      string          `json:"reason"`
	By          string          `json:"by,omitempty"`
	Detail      string          `json:"detail,omitempty"`
	Attempt     int             `json:"attempt,omitempty"` // publications of the command
	RequestedBy string          `json:"requestedBy,omitempty"`
	Created     time.Time       `json:"created,omitzero"`
	Params      json.RawMessage `json:"params,omitempty"`
	Result      json.RawMessage `json:"result,omitempty"`
	DeviceState json.RawMessage `json:"deviceState,omitempty"`
}

// AddHook makes a hook. The answer's Secret is told this once. It is not repeated
// after a failure of the network, because the secret would be lost. Errors:
// "exists", "invalid", "conflict" when there are 64.
func (c *Client) AddHook(ctx context.Context, h NewHook) (*Hook, error) {
	out := &Hook{}
	if _, err := c.do(ctx, call{method: http.MethodPost, path: "/v1/hooks", body: h, out: out, once: true}); err != nil {
		return nil, err
	}
	return out, nil
}

// Hooks lists the hooks.
func (c *Client) Hooks(ctx context.Context) ([]Hook, error) {
	out := &HookList{}
	_, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/hooks", out: out})
	return out.Items, err
}

// RemoveHook removes a hook and forgets what it had still to deliver. Errors:
// "not_found".
func (c *Client) RemoveHook(ctx context.Context, name string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: "/v1/hooks/" + url.PathEscape(name), gone: true})
	return err
}

// RotateHook gives a webhook another secret and returns it. For a day the server
// signs with the one before too, so that its receiver can be changed without a gap.
// It is not repeated after a failure of the network, because the secret would be
// lost: rotate again. Errors: "not_found", "invalid" for a hook that is no webhook.
func (c *Client) RotateHook(ctx context.Context, name string) (string, error) {
	out := &HookSecret{}
	_, err := c.do(ctx, call{method: http.MethodPost, path: "/v1/hooks/" + url.PathEscape(name) + "/rotate", out: out, once: true})
	return out.Secret, err
}

// DeadDeliveries lists deliveries that were given up, the oldest first: those behind
// the event after. Limit is 1 to 1000; 0 means 100. Errors: "not_found".
func (c *Client) DeadDeliveries(ctx context.Context, hook string, after int64, limit int) (*DeadPage, error) {
	q := url.Values{}
	if after > 0 {
		q.Set("after", strconv.FormatInt(after, 10))
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	out := &DeadPage{}
	if _, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/hooks/" + url.PathEscape(hook) + "/dead", query: q, out: out}); err != nil {
		return nil, err
	}
	return out, nil
}

// Redrive tries dead deliveries of a hook again: that of one event, or, when event
// is 0, the oldest, up to 200 at a time. Errors: "not_found".
func (c *Client) Redrive(ctx context.Context, hook string, event int64) (*Redriven, error) {
	q := url.Values{}
	if event > 0 {
		q.Set("event", strconv.FormatInt(event, 10))
	}
	out := &Redriven{}
	if _, err := c.do(ctx, call{method: http.MethodPost, path: "/v1/hooks/" + url.PathEscape(hook) + "/redrive", query: q, out: out}); err != nil {
		return nil, err
	}
	return out, nil
}
