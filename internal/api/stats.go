package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/service"
)

type statsInput struct {
	Group string    `query:"group"`
	Type  string    `query:"type" doc:"name of a command"`
	Since time.Time `query:"since" doc:"of those made then or later, RFC 3339; at most 31 days ago, default 24 hours ago"`
}

func (a *API) stats() {
	typed(a, huma.Operation{Method: http.MethodGet, Path: "/v1/stats", OperationID: "stats", Tags: []string{"commands"},
		Summary:     "What became of commands: ends by reason, how long they took, the worst devices",
		Description: "Counted from the newest back, at most 100,000 commands: cut says that there were more. A percentile is a time that was measured."}, a.getStats)
}

func (a *API) getStats(ctx context.Context, in *statsInput) (*struct{ Body client.Stats }, error) {
	if in.Since.IsZero() {
		in.Since = time.Now().Add(-24 * time.Hour)
	}
	s, err := a.svc.Stats(ctx, caller(ctx), service.StatsQuery{Group: in.Group, Type: in.Type, Since: in.Since})
	if err != nil {
		return nil, err
	}
	return &struct{ Body client.Stats }{client.Stats{From: s.From.UTC(), Until: s.Until.UTC(), Commands: s.Commands, Cut: s.Cut,
		Types: mapped(s.Types, typeStatsDoc), MostFailed: mapped(s.MostFailed, deviceStatsDoc), Slowest: mapped(s.Slowest, deviceStatsDoc)}}, nil
}

func typeStatsDoc(t *service.TypeStats) client.TypeStats {
	return client.TypeStats{Name: t.Name, Commands: t.Commands, Open: t.Open,
		Ends: mapped(t.Ends, func(e *service.EndStats) client.EndStats {
			return client.EndStats{State: client.State(e.State), Reason: string(e.Reason), Count: e.Count}
		}),
		CreatedToSent: spreadDoc(t.CreatedToSent), SentToAcked: spreadDoc(t.SentToAcked),
		SentToEnded: spreadDoc(t.SentToEnded), CreatedToEnded: spreadDoc(t.CreatedToEnded)}
}

func spreadDoc(s service.Spread) client.Spread {
	return client.Spread{Count: s.Count, P50: client.Duration(s.P50), P90: client.Duration(s.P90), P99: client.Duration(s.P99), Max: client.Duration(s.Max)}
}

func deviceStatsDoc(d *service.DeviceStats) client.DeviceStats {
	return client.DeviceStats{Device: d.Device, Commands: d.Commands, Failed: d.Failed, Mean: client.Duration(d.Mean)}
}
