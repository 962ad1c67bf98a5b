package app

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/broker/store"
)

// brokerCollector gives a broker's counters to Prometheus when it asks, the same
// for wilco serve and wilco broker.
type brokerCollector struct {
	b      *broker.Broker
	queues store.Store

	connections, sessions, subscriptions, retained, retainedBytes, queued, queuedBytes *prometheus.Desc
	shares, shareWaiting, shareDraining, shareLent                                     *prometheus.Desc
	publishIn, publishOut, bytesIn, bytesOut, dropped, storeFailures, storeDamaged     *prometheus.Desc
}

func newBrokerCollector(b *broker.Broker, queues store.Store) *brokerCollector {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("wilco_broker_"+name, help, labels, nil)
	}
	return &brokerCollector{b: b, queues: queues,
		connections:   d("connections", "Connections of the broker."),
		sessions:      d("sessions", "Sessions of the broker, connected or not."),
		subscriptions: d("subscriptions", "Subscriptions of all sessions."),
		retained:      d("retained_messages", "Retained messages."),
		retainedBytes: d("retained_bytes", "Size of the retained messages."),
		queued:        d("queued_messages", "QoS 1 and 2 messages that sessions have not acknowledged."),
		queuedBytes:   d("queued_bytes", "Size of the queued messages."),
		shares:        d("shares", "Shared subscriptions, by the name of the share; share=\"+\" is all those that no setting names.", "share"),
		shareWaiting:  d("share_waiting_messages", "QoS 1 and 2 messages that wait in shares for a member with room.", "share"),
		shareDraining: d("share_draining_messages", "Of those, the ones whose key has a new owner, until the former one has done with what it has.", "share"),
		shareLent:     d("share_lent_messages", "QoS 1 and 2 messages that members of shares have and have not acknowledged.", "share"),
		publishIn:     d("publish_in_total", "PUBLISH packets received."),
		publishOut:    d("publish_out_total", "PUBLISH packets sent."),
		bytesIn:       d("bytes_in_total", "Bytes received."),
		bytesOut:      d("bytes_out_total", "Bytes sent."),
		dropped:       d("dropped_total", "Messages dropped, by reason.", "reason"),
		storeFailures: d("store_failures_total", "Turns that the broker's store could not keep."),
		storeDamaged:  d("store_damaged_total", "Damaged places of the broker's store, each left out and logged."),
	}
}

// Describe implements prometheus.Collector.
func (c *brokerCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *brokerCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.b.Stats()
	queued, queuedBytes := c.b.Waiting()
	level(ch, c.connections, float64(s.Connections))
	level(ch, c.sessions, float64(s.Sessions))
	level(ch, c.subscriptions, float64(s.Subscriptions))
	level(ch, c.retained, float64(s.Retained))
	level(ch, c.retainedBytes, float64(s.RetainedBytes))
	level(ch, c.queued, float64(queued))
	level(ch, c.queuedBytes, float64(queuedBytes))
	count(ch, c.publishIn, float64(s.PublishIn))
	count(ch, c.publishOut, float64(s.PublishOut))
	count(ch, c.bytesIn, float64(s.BytesIn))
	count(ch, c.bytesOut, float64(s.BytesOut))
	count(ch, c.storeFailures, float64(s.StoreFailures))
	count(ch, c.storeDamaged, float64(damagedPlaces(c.queues)))
	for name, n := range c.b.Shares() {
		if name == "" {
			name = "+" // which no share is called
		}
		level(ch, c.shares, float64(n.Shares), name)
		level(ch, c.shareWaiting, float64(n.Waiting), name)
		level(ch, c.shareDraining, float64(n.Draining), name)
		level(ch, c.shareLent, float64(n.Lent), name)
	}
	for reason, n := range s.Dropped {
		count(ch, c.dropped, float64(n), reason.String())
	}
}

func count(ch chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

func level(ch chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}
