package app

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/wilco-iot/wilco/internal/hook"
)

// hookCollector gives what became of the hooks' deliveries to Prometheus. A hook's
// name may be a label: there are [hook.MaxHooks] at most.
type hookCollector struct {
	hooks                *hook.Runner
	waiting, tries, died *prometheus.Desc
}

func newHookCollector(r *hook.Runner) *hookCollector {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("wilco_hook_"+name, help, labels, nil)
	}
	return &hookCollector{hooks: r,
		waiting: d("deliveries_waiting", "Deliveries that are still to be made, by hook.", "hook"),
		tries:   d("tries_total", "Tries of deliveries, by hook and outcome.", "hook", "outcome"),
		died:    d("deliveries_died_total", "Deliveries given up, by hook.", "hook"),
	}
}

// Describe implements prometheus.Collector.
func (c *hookCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.waiting
	ch <- c.tries
	ch <- c.died
}

// Collect implements prometheus.Collector.
func (c *hookCollector) Collect(ch chan<- prometheus.Metric) {
	for _, h := range c.hooks.Rules() {
		level(ch, c.waiting, float64(h.Waiting), h.Name)
		count(ch, c.tries, float64(h.Delivered), h.Name, "delivered")
		count(ch, c.tries, float64(h.Failed), h.Name, "failed")
		count(ch, c.died, float64(h.Died), h.Name)
	}
}
