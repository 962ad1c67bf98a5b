package app

import (
	"context"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/rollout"
	"github.com/wilco-iot/wilco/internal/rollout/plan"
	"github.com/wilco-iot/wilco/internal/service"
)

// newRollouts makes the runner of roll-outs over the server's parts.
func (s *Server) newRollouts(svc *service.Service) *rollout.Runner {
	return rollout.New(rollout.Options{Store: s.Store, Directory: s.Fleet, Presence: s.Engine.Presence, Logger: s.log,
		Create: svc.CreateForRollout, Undo: svc.UndoForRollout, Absent: svc.Absent,
		Cancel: func(ctx context.Context, tid command.TID, by, why string) error {
			_, err := s.Engine.Cancel(ctx, tid, by, why)
			return err
		}})
}

// rolloutCollector gives the counts of roll-outs to Prometheus.
type rolloutCollector struct {
	r                       *rollout.Runner
	rollouts, ended, target *prometheus.Desc
}

func newRolloutCollector(r *rollout.Runner) *rolloutCollector {
	return &rolloutCollector{r: r,
		rollouts: prometheus.NewDesc("wilco_rollouts", "Roll-outs that have not ended or are damaged, by state.", []string{"state"}, nil),
		ended:    prometheus.NewDesc("wilco_rollouts_ended_total", "Roll-outs that ended, by end state.", []string{"state"}, nil),
		target:   prometheus.NewDesc("wilco_rollout_targets", "Targets of roll-outs that have not ended, by state.", []string{"state"}, nil)}
}

// Describe implements prometheus.Collector.
func (c *rolloutCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *rolloutCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.r.Stats()
	for _, state := range append(slices.Clip(plan.States), plan.Damaged) {
		if state.Final() {
			count(ch, c.ended, float64(s.Ended[state]), string(state))
		} else {
			level(ch, c.rollouts, float64(s.Active[state]), string(state))
		}
	}
	for cell, name := range plan.CellNames() {
		level(ch, c.target, float64(s.Targets[cell]), name)
	}
}
