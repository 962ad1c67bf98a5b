package app

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/wilco-iot/wilco/internal/catalog/shelf"
	"github.com/wilco-iot/wilco/internal/command"
)

// typeMetrics counts the ends of commands by their type. The labels are bounded by
// the types that there are: commands of other names are "other".
type typeMetrics struct {
	types *shelf.Shelf
	ends  *prometheus.CounterVec
	took  *prometheus.HistogramVec
}

func newTypeMetrics(types *shelf.Shelf) *typeMetrics {
	return &typeMetrics{types: types,
		ends: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "wilco_command_end_total",
			Help: "Commands that ended, by type and end state."}, []string{"type", "state"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "wilco_command_duration_seconds",
			Help:    "From the first publication of a command to its end, by type.",
			Buckets: []float64{.01, .03, .1, .3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000}}, []string{"type"}),
	}
}

// ended counts a command. It does not block.
func (m *typeMetrics) ended(c *command.Command) {
	name := c.Name
	if _, ok := m.types.Newest(name); !ok {
		name = "other"
	}
	m.ends.WithLabelValues(name, string(c.State)).Inc()
	if !c.FirstSent.IsZero() {
		m.took.WithLabelValues(name).Observe(c.Ended.Sub(c.FirstSent).Seconds())
	}
}
