package client

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/url"
	"time"
)

// SparkplugEvent is something that happened to an edge node.
type SparkplugEvent struct {
	Node    string           `json:"node" doc:"group/node"`
	Device  string           `json:"device,omitempty" doc:"behind the node; absent for the node itself"`
	Server  string           `json:"server,omitempty" doc:"by way of which it came; broker is the server's own"`
	Kind    string           `json:"kind" enum:"node_birth,node_death,device_birth,device_death,data,stale,gap,late,ignored,malformed,rebirth_wanted" doc:"stale: its values can no longer be trusted; late, ignored: a message left out"`
	Reason  string           `json:"reason,omitempty" doc:"why"`
	Detail  string           `json:"detail,omitempty" doc:"what is wrong with a message"`
	At      time.Time        `json:"at"`
	Missing int              `json:"missing,omitempty" doc:"of gap: messages at least"`
	Metrics int              `json:"metrics,omitempty" doc:"of births: how many are declared"`
	Values  []SparkplugValue `json:"values,omitempty" doc:"of data"`
	Missed  int              `json:"missed,omitempty" doc:"events of all nodes that this stream has missed before this one, because it was not read fast enough"`
}

// Kinds of events that the client makes itself.
const (
	// Connected: what happens from now on is told.
	Connected = "connected"
	// ConnectionLost: what happens until Connected is not known. Detail says why, if
	// there is more to say than that the stream has ended.
	ConnectionLost = "connection_lost"
)

// SparkplugValue is a value in DATA.
type SparkplugValue struct {
	Name       string          `json:"name"`
	Datatype   string          `json:"datatype"`
	Value      json.RawMessage `json:"value,omitempty" doc:"as that of a SparkplugMetric"`
	Quality    string          `json:"quality" enum:"stale,good,bad" doc:"in the edge node's own word"`
	Historical bool            `json:"historical,omitempty" doc:"it is not the present value"`
	Time       time.Time       `json:"time,omitzero" doc:"by the clock of the edge node"`
}

// SparkplugEventOptions select events. Zero fields select all but DATA.
type SparkplugEventOptions struct {
	Group, Node string // Node is the name within Group
	Values      bool   // DATA as well
}

// SparkplugEvents follows edge nodes from now on until ctx ends or the loop is left.
// The stream is live only. It begins with Connected; when the connection breaks it is
// made again, and between ConnectionLost and the next Connected something may be
// missing. ConnectionLost is also what comes first while the server does not answer.
//
// The error is the last item: that of ctx, or an *Error that asking again would not
// change, "conflict" when the server is no Sparkplug host.
func (c *Client) SparkplugEvents(ctx context.Context, o SparkplugEventOptions) iter.Seq2[SparkplugEvent, error] {
	return func(yield func(SparkplugEvent, error) bool) {
		q := url.Values{}
		set(q, "group", o.Group)
		set(q, "node", o.Node)
		if o.Values {
			q.Set("values", "true")
		}
		f := &follower{c: c, path: "/v1/sparkplug/events", query: func() url.Values { return q },
			begun: func() bool { return yield(SparkplugEvent{Kind: Connected, At: time.Now()}, nil) },
			broken: func(err error) bool {
				e := SparkplugEvent{Kind: ConnectionLost, At: time.Now()}
				if err != nil {
					e.Detail = err.Error()
				}
				return yield(e, nil)
			},
			take: func(_, data, _ string) (bool, error) {
				var e SparkplugEvent
				if err := json.Unmarshal([]byte(data), &e); err != nil {
					return false, fmt.Errorf("client: Sparkplug event: %w", err)
				}
				return yield(e, nil), nil
			}}
		if err := f.run(ctx); err != nil {
			yield(SparkplugEvent{}, err)
		}
	}
}
