package client

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Send asks a device, "group/device", to do something. It returns as soon as the
// command is durable on the server, in whatever state it is then; see
// [Client.Await] for what becomes of it. Errors: "invalid", "not_found" for a
// device that is not registered, "key_reused", "conflict" for one that is
// disabled.
func (c *Client) Send(ctx context.Context, device string, o Order) (*Command, error) {
	key := o.Key
	if key == "" {
		key = newKey()
	}
	out := &Command{}
	_, err := c.do(ctx, call{method: http.MethodPost, path: devicePath(device, "/commands"), body: o, out: out,
		header: http.Header{"Idempotency-Key": {key}}})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// SendBulk sends many orders, at most 1,000, with one request. The results stand
// in the order of the orders, each with its own error. Orders without a key get
// one, so that a repetition after a failure of the network makes no command
// twice.
func (c *Client) SendBulk(ctx context.Context, orders []BulkOrder) ([]BulkResult, error) {
	keyed := make([]BulkOrder, len(orders))
	copy(keyed, orders)
	for i := range keyed {
		if keyed[i].Key == "" {
			keyed[i].Key = newKey()
		}
	}
	var out []BulkResult
	_, err := c.do(ctx, call{method: http.MethodPost, path: "/v1/commands", body: keyed, out: &out})
	if err == nil && len(out) != len(orders) {
		err = &documentError{fmt.Errorf("%d results for %d orders", len(out), len(orders))}
	}
	return out, err
}

func commandPath(tid, rest string) string { return "/v1/commands/" + url.PathEscape(tid) + rest }

// Get looks at a command. Errors: "not_found".
func (c *Client) Get(ctx context.Context, tid string) (*Command, error) {
	return c.command(ctx, call{method: http.MethodGet, path: commandPath(tid, "")})
}

func (c *Client) command(ctx context.Context, k call) (*Command, error) {
	out := &Command{}
	k.out = out
	if _, err := c.do(ctx, k); err != nil {
		return nil, err
	}
	return out, nil
}

// pollWait is how long one request of a wait lasts at most.
const pollWait = 60 * time.Second

// Await blocks until the command has ended or its outcome is unknown
// ([Command.Settled]), or ctx ends.
func (c *Client) Await(ctx context.Context, tid string) (*Command, error) {
	for {
		cmd, err := c.command(ctx, call{method: http.MethodGet, path: commandPath(tid, ""), query: url.Values{"wait": {pollWait.String()}}})
		if err != nil || cmd.Settled() {
			return cmd, err
		}
	}
}

// Changed blocks until the command's version is above the given one, and returns
// it; or as it is after a minute without a change.
func (c *Client) Changed(ctx context.Context, tid string, version int64) (*Command, error) {
	return c.command(ctx, call{method: http.MethodGet, path: commandPath(tid, ""),
		query: url.Values{"wait": {pollWait.String()}, "after": {strconv.FormatInt(max(version, 1), 10)}}})
}

// Timeline gives the whole story of a command.
func (c *Client) Timeline(ctx context.Context, tid string) (*Timeline, error) {
	out := &Timeline{}
	if _, err := c.do(ctx, call{method: http.MethodGet, path: commandPath(tid, "/timeline"), out: out}); err != nil {
		return nil, err
	}
	return out, nil
}

type why struct {
	Reason string `json:"reason,omitempty"`
}

// Cancel asks that a command be not done; why goes to its timeline. A command
// that was never sent is cancelled when Cancel returns, others are cancelling
// until the device confirms. Errors: "conflict" when it has ended.
func (c *Client) Cancel(ctx context.Context, tid, reason string) (*Command, error) {
	return c.command(ctx, call{method: http.MethodPost, path: commandPath(tid, "/cancel"), body: why{reason}})
}

// Retry tries a command again. An open one is published once more; of one that
// has ended without having been executed a new command is made, which Retry
// returns. Retry is not repeated after a failure of the network, because it
// might then make two. Errors: "conflict" when it was executed, or is open and
// its device is offline.
func (c *Client) Retry(ctx context.Context, tid, reason string) (*Command, error) {
	return c.command(ctx, call{method: http.MethodPost, path: commandPath(tid, "/retry"), body: why{reason}, once: true})
}

// ListOptions select commands. Zero fields select all.
type ListOptions struct {
	Group, Device string // Device is the name within Group
	States        []State
	Name          string
	RequestedBy   string
	Since, Before time.Time // of creation; Since included, Before not
	OldestFirst   bool
	Limit         int // items a page, 1 to 1000; 0 means 100
	Cursor        string
}

func (o ListOptions) query() url.Values {
	q := url.Values{}
	set(q, "group", o.Group)
	set(q, "device", o.Device)
	set(q, "name", o.Name)
	set(q, "requestedBy", o.RequestedBy)
	set(q, "cursor", o.Cursor)
	for _, s := range o.States {
		q.Add("state", string(s))
	}
	if !o.Since.IsZero() {
		q.Set("since", o.Since.UTC().Format(time.RFC3339Nano))
	}
	if !o.Before.IsZero() {
		q.Set("before", o.Before.UTC().Format(time.RFC3339Nano))
	}
	if o.OldestFirst {
		q.Set("order", "oldest")
	}
	if o.Limit > 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	return q
}

func set(q url.Values, name, value string) {
	if value != "" {
		q.Set(name, value)
	}
}

// List gives one page of commands, the newest first unless asked otherwise.
func (c *Client) List(ctx context.Context, o ListOptions) (*CommandPage, error) {
	out := &CommandPage{}
	if _, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/commands", query: o.query(), out: out}); err != nil {
		return nil, err
	}
	return out, nil
}

// All gives the commands of all pages from o.Cursor on. It ends with the first
// error.
func (c *Client) All(ctx context.Context, o ListOptions) iter.Seq2[*Command, error] {
	return func(yield func(*Command, error) bool) {
		for {
			page, err := c.List(ctx, o)
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range page.Items {
				if !yield(&page.Items[i], nil) {
					return
				}
			}
			if o.Cursor = page.Next; o.Cursor == "" {
				return
			}
		}
	}
}
