package app

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/requests"
	"github.com/wilco-iot/wilco/internal/service"
	"github.com/wilco-iot/wilco/mqtt/client"
)

// requestClient is the client identifier by which the server takes requests at the
// built-in broker.
const requestClient = "wilco-requests"

// startRequests takes requests over MQTT: always from the built-in broker, which
// knows who asks, and from another one when a token stands for all of them there.
// With the built-in broker it waits until it has subscribed: nobody's request goes
// nowhere.
func (s *Server) startRequests(ctx context.Context, svc *service.Audited) error {
	if s.Broker == nil && s.opt.RequestsToken == "" {
		return nil
	}
	o := requests.Options{Root: s.opt.Root, Service: svc, Engine: s.Engine, Store: s.Store, Logger: s.log}
	o.Client = client.Options{TLS: s.opt.BrokerTLS, SessionExpiry: forEver}
	if s.Broker != nil {
		o.Client.ClientID, o.Client.Dial = requestClient, s.Broker.DialHandover
		o.Signature, o.Who = broker.SignatureProperty, s.Fleet.Signed
	} else {
		id, err := instance(ctx, s.Store)
		if err != nil {
			return fmt.Errorf("client id: %w", err)
		}
		o.Client.ClientID, o.Client.Servers = requestClient+"-"+id, []string{s.opt.Broker}
		o.Who = func(string) (service.Principal, string, error) {
			p, err := s.Fleet.VerifyToken(context.Background(), s.opt.RequestsToken) // it does not block
			return p, "", err
		}
	}
	r := requests.New(o)
	s.push("requests", r.Stop)
	if err := r.Start(ctx); err != nil {
		return err
	}
	s.asked = r
	if s.Broker != nil {
		if err := r.AwaitUp(ctx); err != nil {
			return fmt.Errorf("requests: join the broker: %w", err)
		}
	}
	return nil
}

// requestCollector gives the counters of requests over MQTT to Prometheus.
type requestCollector struct {
	r                                   *requests.Runner
	open, taken, refused, answers, lost *prometheus.Desc
}

func newRequestCollector(r *requests.Runner) *requestCollector {
	d := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("wilco_requests_"+name, help, nil, nil)
	}
	return &requestCollector{r: r,
		open:    d("open", "Requests over MQTT whose commands have not ended."),
		taken:   d("taken_total", "Requests over MQTT that made a command, or found the one that they had made."),
		refused: d("refused_total", "Requests over MQTT that were answered with a problem."),
		answers: d("answers_total", "Answers to requests over MQTT that the broker has taken."),
		lost:    d("answers_lost_total", "Answers to requests over MQTT that the broker has refused."),
	}
}

// Describe implements prometheus.Collector.
func (c *requestCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *requestCollector) Collect(ch chan<- prometheus.Metric) {
	n := c.r.Stats()
	level(ch, c.open, float64(n.Open))
	count(ch, c.taken, float64(n.Taken))
	count(ch, c.refused, float64(n.Refused))
	count(ch, c.answers, float64(n.Answers))
	count(ch, c.lost, float64(n.Lost))
}
