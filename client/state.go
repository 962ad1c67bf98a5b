package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// DeviceState is what is desired of a device and what it has reported.
type DeviceState struct {
	Device         string           `json:"device"`
	Version        int64            `json:"version" doc:"rises by one with each change of a value"`
	DesiredVersion int64            `json:"desiredVersion" doc:"of the last change of what is desired; also the ETag"`
	Desired        json.RawMessage  `json:"desired"`
	Reported       json.RawMessage  `json:"reported"`
	Delta          json.RawMessage  `json:"delta" doc:"what is desired and not reported"`
	Pending        []string         `json:"pending" doc:"paths of the leaves of delta"`
	DesiredMeta    map[string]Stamp `json:"desiredMeta,omitempty" doc:"by the path of each leaf"`
	ReportedMeta   map[string]Stamp `json:"reportedMeta,omitempty" doc:"by the path of each leaf"`
}

// Stamp is where the value of a leaf comes from.
type Stamp struct {
	Version int64     `json:"version" doc:"since which it has this value"`
	At      time.Time `json:"at" doc:"when it was last said, by the server's clock"`
	TS      time.Time `json:"ts,omitzero" doc:"the same by the device's clock, if it told"`
	Boot    string    `json:"boot,omitempty"`
	By      string    `json:"by,omitempty" doc:"who wants it"`
	TID     string    `json:"tid,omitempty" doc:"of the command that it was said with"`
}

// Revision is one change of a device's state.
type Revision struct {
	Version int64           `json:"version"`
	At      time.Time       `json:"at"`
	Side    string          `json:"side" enum:"desired,reported"`
	Patch   json.RawMessage `json:"patch" doc:"what became different, and no more"`
	By      string          `json:"by,omitempty"`
	TID     string          `json:"tid,omitempty"`
	TS      time.Time       `json:"ts,omitzero"`
	Boot    string          `json:"boot,omitempty"`
}

// StateHistory is the last changes of a device's state, newest first.
type StateHistory struct {
	Items []Revision `json:"items"`
}

// State looks at a device's state; with meta also at where each value comes from.
// Errors: "not_found".
func (c *Client) State(ctx context.Context, device string, meta bool) (*DeviceState, error) {
	q := url.Values{}
	if meta {
		q.Set("meta", "true")
	}
	out := &DeviceState{}
	if _, err := c.do(ctx, call{method: http.MethodGet, path: devicePath(device, "/state"), query: q, out: out}); err != nil {
		return nil, err
	}
	return out, nil
}

// Desire is a change of what is desired of a device.
type Desire struct {
	Patch json.RawMessage // merge patch (RFC 7396) of the desired document
	// IfVersion is the DesiredVersion that the patch was made for; nil: any.
	IfVersion *int64
	Key       string // idempotency key; "": one is made
}

// SetDesired changes what is desired of a device, and returns the command that
// tells it as soon as that is durable on the server. [Client.Await] waits until
// the device has reported it. Errors: "invalid", "not_found", "changed" when
// somebody else has changed it since IfVersion, "key_reused", "conflict".
func (c *Client) SetDesired(ctx context.Context, device string, d Desire) (*Command, error) {
	if d.Key == "" {
		d.Key = newKey()
	}
	h := http.Header{"Idempotency-Key": {d.Key}, "Content-Type": {"application/merge-patch+json"}}
	if d.IfVersion != nil {
		h.Set("If-Match", strconv.Quote(strconv.FormatInt(*d.IfVersion, 10)))
	}
	return c.command(ctx, call{method: http.MethodPatch, path: devicePath(device, "/state/desired"), raw: d.Patch, header: h})
}

// StateHistory lists the last changes of a device's state, newest first; at most
// limit, 0 means all that are kept.
func (c *Client) StateHistory(ctx context.Context, device string, limit int) ([]Revision, error) {
	q := url.Values{}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	out := &StateHistory{}
	_, err := c.do(ctx, call{method: http.MethodGet, path: devicePath(device, "/state/history"), query: q, out: out})
	return out.Items, err
}
