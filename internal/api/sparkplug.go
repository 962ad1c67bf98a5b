package api

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/service"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/host"
)

// NodeInPath is the name of an edge node in a path. It is exported because huma
// sees no others.
type NodeInPath struct {
	Group string `path:"group" doc:"group of the edge node"`
	Node  string `path:"node" doc:"name of the edge node within its group"`
}

func (n NodeInPath) id() host.NodeID { return host.NodeID{Group: n.Group, Node: n.Node} }

type nodesInput struct {
	Group  string `query:"group"`
	Status string `query:"status" enum:"unborn,online,unsure,offline"`
	Cursor string `query:"cursor" doc:"next of the last page"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" doc:"items a page; default 100"`
}

func (a *API) sparkplug() {
	tags := []string{"sparkplug"}
	const all, one = "/v1/sparkplug/nodes", "/v1/sparkplug/nodes/{group}/{node}"
	typed(a, huma.Operation{Method: http.MethodGet, Path: all, OperationID: "listSparkplugNodes", Tags: tags,
		Summary: "List edge nodes"}, a.listNodes)
	typed(a, huma.Operation{Method: http.MethodGet, Path: one, OperationID: "getSparkplugNode", Tags: tags,
		Summary: "Look at an edge node, its devices and all values"}, a.getNode)
	typed(a, huma.Operation{Method: http.MethodPost, Path: one + "/rebirth", OperationID: "rebirthSparkplugNode", Tags: tags,
		Summary: "Ask an edge node for its births", DefaultStatus: http.StatusAccepted,
		Description: "Each node is asked within bounds: soon, or after the cooldown that it is in. The answer does not wait for the births."}, a.rebirth)
}

func (a *API) listNodes(ctx context.Context, in *nodesInput) (*struct{ Body client.SparkplugNodePage }, error) {
	page, next, err := a.svc.SparkplugNodes(ctx, caller(ctx), service.NodeQuery{Group: in.Group, Status: in.Status, Cursor: in.Cursor, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	return &struct{ Body client.SparkplugNodePage }{client.SparkplugNodePage{Items: mapped(page, nodeDoc), Next: next}}, nil
}

func (a *API) getNode(ctx context.Context, in *NodeInPath) (*struct{ Body client.SparkplugDetails }, error) {
	n, units, err := a.svc.SparkplugNode(ctx, caller(ctx), in.id())
	if err != nil {
		return nil, err
	}
	doc := client.SparkplugDetails{SparkplugNode: nodeDoc(&n), Metrics: []client.SparkplugMetric{}, Behind: []client.SparkplugDevice{}}
	for i := range units {
		metrics := mapped(units[i].Metrics, metricDoc)
		if units[i].Device == "" {
			doc.Metrics = metrics
			continue
		}
		doc.Behind = append(doc.Behind, client.SparkplugDevice{Device: units[i].Device, Online: units[i].Online, Since: units[i].Since, Metrics: metrics})
	}
	return &struct{ Body client.SparkplugDetails }{doc}, nil
}

func (a *API) rebirth(ctx context.Context, in *NodeInPath) (*struct{}, error) {
	return nil, a.svc.SparkplugRebirth(ctx, caller(ctx), in.id())
}

func nodeDoc(n *host.Node) client.SparkplugNode {
	doc := client.SparkplugNode{Node: n.ID.String(), Status: n.Status.String(), Reason: n.Reason.String(), Since: n.Since.UTC(), SkewMS: n.Skew().Milliseconds(),
		Devices: n.Devices, Births: n.Births, Rebirths: n.Asked, Gaps: n.Gaps, Missing: n.Missing, Late: n.Late}
	if !n.Born.IsZero() {
		doc.Born = n.Born.UTC()
	}
	if n.BdSeq >= 0 {
		doc.BdSeq = &n.BdSeq
	}
	return doc
}

// lastTime is the end of the year 9999 in milliseconds, after which a time has no
// place in JSON.
const lastTime = 253402300799999

func metricDoc(m *host.Metric) client.SparkplugMetric {
	doc := client.SparkplugMetric{Name: m.Name, Datatype: m.Datatype.String(), Quality: m.Quality.String(), Known: m.Known, Null: m.Null}
	if m.HasAlias {
		doc.Alias = &m.Alias
	}
	if m.HasTimestamp && m.Timestamp <= lastTime {
		doc.Time = time.UnixMilli(int64(m.Timestamp)).UTC()
	}
	if !m.Received.IsZero() {
		doc.Received = m.Received.UTC()
	}
	if m.Known && !m.Null {
		doc.Value = valueJSON(m.Value, m.Datatype)
	}
	return doc
}

// valueJSON writes a value; nil when it is nested, or none.
func valueJSON(v sparkplug.Value, d sparkplug.Datatype) json.RawMessage {
	var x any
	var err error
	switch d.Form() {
	case sparkplug.FormInt, sparkplug.FormLong:
		// DateTime is a time to Value, and a number here: its range is wider.
		switch d {
		case sparkplug.TypeInt8, sparkplug.TypeInt16, sparkplug.TypeInt32, sparkplug.TypeInt64:
			x, err = v.Int(d)
		case sparkplug.TypeDateTime:
			x = v.Raw()
		default:
			x, err = v.Uint(d)
		}
	case sparkplug.FormFloat, sparkplug.FormDouble:
		var f float64
		if f, err = v.Float(d); math.IsNaN(f) || math.IsInf(f, 0) {
			x = strconv.FormatFloat(f, 'g', -1, 64)
		} else {
			x = f
		}
	case sparkplug.FormBool:
		x, err = v.Bool()
	case sparkplug.FormString:
		var text []byte
		text, err = v.Text()
		x = string(text)
	case sparkplug.FormBytes:
		x, err = v.Bytes()
	default:
		return nil
	}
	if err != nil {
		return nil
	}
	out, err := json.Marshal(x)
	if err != nil {
		return nil
	}
	return out
}
