package app

import (
	"github.com/prometheus/client_golang/prometheus"
)

// collector gives the parts' own counters to Prometheus when it asks. Labels are
// of closed sets; no client id, topic or device is ever one.
type collector struct {
	s *Server

	open, created, ended, timedOut, published, retries, received, duplicates, reboots, anomalies, failedTurns *prometheus.Desc
	transactions, rows, syncing, queued, fileBytes, walBytes                                                  *prometheus.Desc
	connections, sessions, publishIn, publishOut, dropped                                                     *prometheus.Desc
}

func newCollector(s *Server) *collector {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("wilco_"+name, help, labels, nil)
	}
	return &collector{s: s,
		open:        d("commands_open", "Commands that have not ended."),
		created:     d("commands_created_total", "Commands made."),
		ended:       d("commands_ended_total", "Commands that ended, by end state.", "state"),
		timedOut:    d("commands_timed_out_total", "Commands whose outcome was unknown for a time or for ever."),
		published:   d("publications_total", "Publications to devices."),
		retries:     d("retries_total", "Publications of a request after the first."),
		received:    d("messages_received_total", "Messages of devices."),
		duplicates:  d("messages_duplicate_total", "Messages of devices that told nothing new."),
		reboots:     d("device_reboots_total", "Changes of a device's boot id."),
		anomalies:   d("anomalies_total", "What devices said and was not obeyed, by kind.", "kind"),
		failedTurns: d("commit_failures_total", "Turns of the engine whose commit failed."),

		transactions: d("store_transactions_total", "Transactions written."),
		rows:         d("store_rows_total", "Rows written."),
		syncing:      d("store_sync_seconds_total", "Time spent making commits durable."),
		queued:       d("store_queue", "Batches that wait for the writer."),
		fileBytes:    d("store_file_bytes", "Size of the database file."),
		walBytes:     d("store_wal_bytes", "Size of the write-ahead log."),

		connections: d("broker_connections", "Connections of the embedded broker."),
		sessions:    d("broker_sessions", "Sessions of the embedded broker."),
		publishIn:   d("broker_publish_in_total", "PUBLISH packets received."),
		publishOut:  d("broker_publish_out_total", "PUBLISH packets sent."),
		dropped:     d("broker_dropped_total", "Messages dropped, by reason.", "reason"),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	level := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	e := c.s.Engine.Stats()
	level(c.open, float64(e.Open))
	count(c.created, float64(e.Created))
	count(c.timedOut, float64(e.TimedOut))
	count(c.published, float64(e.Published))
	count(c.retries, float64(e.Retries))
	count(c.received, float64(e.Received))
	count(c.duplicates, float64(e.Duplicates))
	count(c.reboots, float64(e.Reboots))
	count(c.failedTurns, float64(e.FailedTurns))
	for state, n := range e.Ended {
		count(c.ended, float64(n), string(state))
	}
	for kind, n := range e.Anomalies {
		count(c.anomalies, float64(n), kind)
	}
	db := c.s.Store.Stats()
	count(c.transactions, float64(db.Transactions))
	count(c.rows, float64(db.Rows))
	count(c.syncing, db.Syncing.Seconds())
	level(c.queued, float64(db.Queued))
	level(c.fileBytes, float64(db.FileBytes))
	level(c.walBytes, float64(db.WALBytes))
	if c.s.Broker == nil {
		return
	}
	b := c.s.Broker.Stats()
	level(c.connections, float64(b.Connections))
	level(c.sessions, float64(b.Sessions))
	count(c.publishIn, float64(b.PublishIn))
	count(c.publishOut, float64(b.PublishOut))
	for reason, n := range b.Dropped {
		count(c.dropped, float64(n), reason.String())
	}
}
