package cli

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/client"
)

// TestEdgeLines is what a watch of edge nodes prints; each hole has a line.
func TestEdgeLines(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		e    client.SparkplugEvent
		want string
	}{
		{client.SparkplugEvent{Kind: client.Connected}, "-- connected: what happens from now on is shown --\n"},
		{client.SparkplugEvent{Kind: client.ConnectionLost}, "-- no connection: what happens meanwhile is not known --\n"},
		{client.SparkplugEvent{Kind: client.ConnectionLost, Detail: "refused\x1b[2J"}, "-- no connection (refused [2J): what happens meanwhile is not known --\n"},
		{client.SparkplugEvent{At: at, Node: "g/n", Kind: "gap", Missing: 3, Missed: 7, Reason: "reorder_timeout"},
			"-- 7 events were missed --\n03:04:05.000 g/n gap: 3 messages at least: reorder_timeout\n"},
		{client.SparkplugEvent{At: at, Node: "g/n", Device: "d", Kind: "data", Values: []client.SparkplugValue{
			{Name: "x", Value: json.RawMessage("1"), Quality: "good"},
			{Name: "y", Value: json.RawMessage("2"), Quality: "bad", Historical: true, Time: at}}},
			"03:04:05.000 g/n:d x = 1\n03:04:05.000 g/n:d y = 2 (bad) (historical, of 2026-01-02T03:04:05.000Z)\n"},
	} {
		var out bytes.Buffer
		if err := (&app{IO: IO{Out: &out}}).printEdge(&tt.e); err != nil || out.String() != tt.want {
			t.Errorf("got %q, %v\nwant %q", out.String(), err, tt.want)
		}
	}
}
