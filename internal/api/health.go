package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/service"
)

func (a *API) health() {
	tags := []string{"server"}
	type output struct {
		Status int
		Body   client.Health
	}
	typed(a, huma.Operation{Method: http.MethodGet, Path: "/v1/health", OperationID: "health", Tags: tags,
		Summary: "How the server is", Description: "200 when all parts are ready, else 503 with the same document. " +
			"Who sends a token is told why a part is down."},
		func(ctx context.Context, _ *struct{}) (*output, error) {
			h := a.svc.Health(caller(ctx).MaySome(service.Viewer))
			if !h.Ready {
				return &output{http.StatusServiceUnavailable, healthDoc(h)}, nil
			}
			return &output{http.StatusOK, healthDoc(h)}, nil
		}, withoutToken)

	metrics := promhttp.HandlerFor(a.opt.Metrics, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
	a.plain(&huma.Operation{Method: http.MethodGet, Path: "/metrics", OperationID: "metrics", Tags: tags,
		Summary:   "Metrics for Prometheus",
		Responses: map[string]*huma.Response{"200": {Description: "Text format", Content: map[string]*huma.MediaType{"text/plain": {}}}},
	}, metrics.ServeHTTP)
}

// counters are the API's own metrics. Their labels come from the closed sets of
// routes and statuses, never from what a client sent.
type counters struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	streams  prometheus.Gauge
	created  prometheus.Counter
}

func newCounters(r prometheus.Registerer) *counters {
	c := &counters{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "wilco_http_requests_total",
			Help: "Answered HTTP requests by route and status."}, []string{"route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "wilco_http_request_seconds",
			Help: "Time to answer by route, waits included.", Buckets: []float64{.001, .005, .025, .1, .5, 2.5, 10, 60}}, []string{"route"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{Name: "wilco_http_event_streams",
			Help: "Open event streams."}),
		created: prometheus.NewCounter(prometheus.CounterOpts{Name: "wilco_http_bulk_commands_total",
			Help: "Items of bulk requests."}),
	}
	r.MustRegister(c.requests, c.seconds, c.streams, c.created)
	return c
}

func (c *counters) request(pattern string, status int, took time.Duration) {
	if pattern == "" {
		pattern = "none"
	}
	c.requests.WithLabelValues(pattern, strconv.Itoa(status)).Inc()
	c.seconds.WithLabelValues(pattern).Observe(took.Seconds())
}
