package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Stats is what became of commands.
type Stats struct {
	From       time.Time     `json:"from" doc:"since when commands are counted, by when they were made"`
	Until      time.Time     `json:"until"`
	Commands   int           `json:"commands"`
	Cut        bool          `json:"cut,omitempty" doc:"there were more: from is when the oldest that was counted was made"`
	Types      []TypeStats   `json:"types"`
	MostFailed []DeviceStats `json:"mostFailed" doc:"devices most of whose commands failed, were rejected, expired or are of unknown outcome; at most 10"`
	Slowest    []DeviceStats `json:"slowest" doc:"devices by mean, the longest first; at most 10"`
}

// TypeStats is what became of the commands of one name.
type TypeStats struct {
	Name           string     `json:"name" doc:"empty: all names beyond 200"`
	Commands       int        `json:"commands"`
	Open           int        `json:"open" doc:"have not ended"`
	Ends           []EndStats `json:"ends,omitempty" doc:"the most frequent first"`
	CreatedToSent  Spread     `json:"createdToSent"`
	SentToAcked    Spread     `json:"sentToAcked"`
	SentToEnded    Spread     `json:"sentToEnded"`
	CreatedToEnded Spread     `json:"createdToEnded"`
}

// EndStats counts the commands that ended in one way.
type EndStats struct {
	State  State  `json:"state"`
	Reason string `json:"reason"`
	Count  int    `json:"count"`
}

// Spread is how long something took. Each is a time that was measured.
type Spread struct {
	Count int      `json:"count" doc:"how many were measured; 0: the rest says nothing"`
	P50   Duration `json:"p50"`
	P90   Duration `json:"p90"`
	P99   Duration `json:"p99"`
	Max   Duration `json:"max"`
}

// DeviceStats is what became of the commands to one device.
type DeviceStats struct {
	Device   string   `json:"device"`
	Commands int      `json:"commands"`
	Failed   int      `json:"failed"`
	Mean     Duration `json:"mean" doc:"from the first publication to the end"`
}

// StatsOptions select the commands that are counted. Zero fields select all, but
// for Since: at most 31 days ago; zero means 24 hours ago.
type StatsOptions struct {
	Group, Type string
	Since       time.Time
}

// Stats counts what became of commands, the newest 100,000 at most. It may take
// seconds. Errors: "invalid", "forbidden".
func (c *Client) Stats(ctx context.Context, o StatsOptions) (*Stats, error) {
	q := url.Values{}
	set(q, "group", o.Group)
	set(q, "type", o.Type)
	if !o.Since.IsZero() {
		q.Set("since", o.Since.UTC().Format(time.RFC3339Nano))
	}
	out := &Stats{}
	if _, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/stats", query: q, out: out}); err != nil {
		return nil, err
	}
	return out, nil
}
