package app

import (
	"github.com/prometheus/client_golang/prometheus"
)

// collector gives the server's parts' own counters to Prometheus when it asks. Labels are
// of closed sets; no client id, topic or device is ever one.
type collector struct {
	s *Server

	open, created, ended, timedOut, published, retries, received, duplicates, reboots, anomalies, failedTurns *prometheus.Desc
	transactions, rows, syncing, queued, fileBytes, walBytes                                                  *prometheus.Desc
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
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	e := c.s.Engine.Stats()
	level(ch, c.open, float64(e.Open))
	count(ch, c.created, float64(e.Created))
	count(ch, c.timedOut, float64(e.TimedOut))
	count(ch, c.published, float64(e.Published))
	count(ch, c.retries, float64(e.Retries))
	count(ch, c.received, float64(e.Received))
	count(ch, c.duplicates, float64(e.Duplicates))
	count(ch, c.reboots, float64(e.Reboots))
	count(ch, c.failedTurns, float64(e.FailedTurns))
	for state, n := range e.Ended {
		count(ch, c.ended, float64(n), string(state))
	}
	for kind, n := range e.Anomalies {
		count(ch, c.anomalies, float64(n), kind)
	}
	db := c.s.Store.Stats()
	count(ch, c.transactions, float64(db.Transactions))
	count(ch, c.rows, float64(db.Rows))
	count(ch, c.syncing, db.Syncing.Seconds())
	level(ch, c.queued, float64(db.Queued))
	level(ch, c.fileBytes, float64(db.FileBytes))
	level(ch, c.walBytes, float64(db.WALBytes))
}
