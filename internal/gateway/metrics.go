package gateway

import "github.com/prometheus/client_golang/prometheus"

// collector shows what waits on its way up and down, and what was lost of it.
type collector struct{ g *Gateway }

var (
	lostDesc = prometheus.NewDesc("wilco_gateway_lost_total",
		"Messages that were not forwarded, by direction, filter (devices: of the devices) and reason; aggregated: a younger one of the topic was.", []string{"direction", "filter", "reason"}, nil)
	waitingDesc = prometheus.NewDesc("wilco_gateway_waiting",
		"Messages that wait to be forwarded, by direction and filter.", []string{"direction", "filter"}, nil)
)

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) { ch <- lostDesc; ch <- waitingDesc }

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	for _, x := range c.g.link.Counts() {
		ch <- prometheus.MustNewConstMetric(lostDesc, prometheus.CounterValue, float64(x.N), "up", x.Lane, x.Reason)
	}
	c.g.link.Lanes(func(name, client string, topics int) {
		ch <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(topics+c.g.server.Broker.Queued(client)), "up", name)
	})
	for _, l := range c.g.down {
		l.mu.Lock()
		waiting, dropped := len(l.waiting), l.dropped
		l.mu.Unlock()
		ch <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(waiting), "down", l.Filter)
		if dropped > 0 {
			ch <- prometheus.MustNewConstMetric(lostDesc, prometheus.CounterValue, float64(dropped), "down", l.Filter, "queue_full")
		}
	}
}
