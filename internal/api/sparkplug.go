package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/service"
	"github.com/wilco-iot/wilco/internal/spjson"
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
	a.plain(&huma.Operation{Method: http.MethodGet, Path: "/v1/sparkplug/events", OperationID: "sparkplugEvents", Tags: tags,
		Summary: "Follow edge nodes (server-sent events)",
		Description: "Each event is a SparkplugEvent document: births, deaths, gaps and so on, and DATA where values is true. The stream is " +
			"live only: it begins with what happens next, nothing of it is kept, and a reader who is too slow is told how much was missed.",
		Parameters: []*huma.Param{
			param("group", "only of this group", &huma.Schema{Type: huma.TypeString}),
			param("node", "only of this edge node; needs group", &huma.Schema{Type: huma.TypeString}),
			param("values", "true: DATA as well, with its values", &huma.Schema{Type: huma.TypeBoolean}),
		},
		Responses: map[string]*huma.Response{"200": {Description: "The stream",
			Content: map[string]*huma.MediaType{"text/event-stream": {Schema: schemaOf[client.SparkplugEvent](a)}}}},
	}, a.followEdges)
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
		Devices: n.Devices, Births: n.Births, Rebirths: n.Asked, Gaps: n.Gaps, Missing: n.Missing, Late: n.Late,
		Reordered: n.Reordered}
	for _, r := range n.Rebirths {
		if doc.RebirthsFor == nil {
			doc.RebirthsFor = map[string]uint64{}
		}
		doc.RebirthsFor[r.Reason.String()] = r.N
	}
	if n.Quarantine.After(time.Now()) {
		doc.Quarantine = n.Quarantine.UTC()
	}
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
		doc.Value = spjson.Metric(&sparkplug.Metric{Value: m.Value, DataSet: m.DataSet, Template: m.Template}, m.Datatype)
	}
	doc.Properties = spjson.Properties(m.Properties)
	return doc
}
