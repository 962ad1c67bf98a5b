package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// SparkplugNode is a Sparkplug edge node as the server's host sees it.
type SparkplugNode struct {
	Node    string    `json:"node" doc:"group/node"`
	Status  string    `json:"status" enum:"unborn,online,unsure,offline" doc:"unborn: heard of, without an NBIRTH; online: its values are good; unsure: they are stale, and a rebirth is wanted; offline: it is dead"`
	Reason  string    `json:"reason,omitempty" doc:"why it is unsure"`
	Since   time.Time `json:"since,omitzero" doc:"of the status"`
	Born    time.Time `json:"born,omitzero" doc:"when its last NBIRTH was received"`
	BdSeq   *int      `json:"bdSeq,omitempty" doc:"of its last NBIRTH"`
	SkewMS  int64     `json:"skewMs" doc:"how far its clock was ahead at its last NBIRTH, in milliseconds"`
	Devices int       `json:"devices" doc:"behind it"`

	Births   uint64 `json:"births" doc:"NBIRTHs taken"`
	Rebirths int    `json:"rebirths" doc:"rebirths that it was asked for"`
	Gaps     uint64 `json:"gaps" doc:"holes in its sequence that were not filled in time"`
	Missing  uint64 `json:"missing" doc:"messages that were missing in them, at least"`
	Late     uint64 `json:"late" doc:"messages left out, because they were repeated or too old"`

	Reordered   uint64            `json:"reordered" doc:"messages that came before their turn and were put in order"`
	RebirthsFor map[string]uint64 `json:"rebirthsFor,omitempty" doc:"of rebirths, by the reason"`
	Quarantine  time.Time         `json:"quarantine,omitzero" doc:"it is not asked for rebirths before this time, because two nodes seem to have its name; absent when it may be asked"`
}

// SparkplugNodePage is a page of edge nodes.
type SparkplugNodePage = Page[SparkplugNode]

// SparkplugMetric is a metric and its last value.
type SparkplugMetric struct {
	Name     string          `json:"name"`
	Alias    *uint64         `json:"alias,omitempty"`
	Datatype string          `json:"datatype" doc:"as Sparkplug names it: Int32, Double, String, ..."`
	Quality  string          `json:"quality" enum:"stale,good,bad" doc:"stale: it was so once; bad: the edge node says so itself"`
	Known    bool            `json:"known" doc:"false: there was no value that could be kept"`
	Null     bool            `json:"null,omitempty" doc:"the edge node says that it has none"`
	Value    json.RawMessage `json:"value,omitempty" doc:"a number, true or false, or text; NaN and infinities as text, DateTime in milliseconds since 1970, bytes in base64; of an array a list; of a DataSet {columns, types, rows}; of a Template {ref, version, members: [{name, datatype, value}], parameters}"`
	Time     time.Time       `json:"time,omitzero" doc:"by the clock of the edge node"`
	Received time.Time       `json:"received,omitzero"`

	Properties json.RawMessage `json:"properties,omitempty" doc:"by key: {datatype, value}; those that came last"`
}

// SparkplugDevice is a device behind an edge node.
type SparkplugDevice struct {
	Device  string            `json:"device"`
	Online  bool              `json:"online"`
	Since   time.Time         `json:"since,omitzero"`
	Metrics []SparkplugMetric `json:"metrics"`
}

// SparkplugDetails is an edge node with all its values, as of one moment.
type SparkplugDetails struct {
	SparkplugNode
	Metrics []SparkplugMetric `json:"metrics" doc:"its own"`
	Behind  []SparkplugDevice `json:"behind" doc:"the devices, by name"`
}

// SparkplugOptions select edge nodes. Zero fields select all.
type SparkplugOptions struct {
	Group, Status string
	Limit         int // items a page, 1 to 1000; 0 means 100
	Cursor        string
}

// SparkplugNodes gives one page of edge nodes, sorted by group and node. Errors:
// "conflict" when the server is no Sparkplug host.
func (c *Client) SparkplugNodes(ctx context.Context, o SparkplugOptions) (*SparkplugNodePage, error) {
	q := url.Values{}
	set(q, "group", o.Group)
	set(q, "status", o.Status)
	set(q, "cursor", o.Cursor)
	if o.Limit > 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	out := &SparkplugNodePage{}
	if _, err := c.do(ctx, call{method: http.MethodGet, path: sparkplugNodes, query: q, out: out}); err != nil {
		return nil, err
	}
	return out, nil
}

// SparkplugNode looks at an edge node, "group/node". Errors: "not_found".
func (c *Client) SparkplugNode(ctx context.Context, node string) (*SparkplugDetails, error) {
	out := &SparkplugDetails{}
	if _, err := c.do(ctx, call{method: http.MethodGet, path: nodePath(node, ""), out: out}); err != nil {
		return nil, err
	}
	return out, nil
}

// SparkplugRebirth has the server ask an edge node for its births: soon, or after
// the cooldown that the node is in. It does not wait for them. Errors:
// "not_found", "conflict" when the server is a passive host.
func (c *Client) SparkplugRebirth(ctx context.Context, node string) error {
	_, err := c.do(ctx, call{method: http.MethodPost, path: nodePath(node, "/rebirth")})
	return err
}

const sparkplugNodes = "/v1/sparkplug/nodes"

// nodePath is the path of an edge node, "" for what is no group/node.
func nodePath(node, rest string) string {
	group, name, _ := strings.Cut(node, "/")
	if group == "" || name == "" {
		return ""
	}
	return sparkplugNodes + "/" + url.PathEscape(group) + "/" + url.PathEscape(name) + rest
}
