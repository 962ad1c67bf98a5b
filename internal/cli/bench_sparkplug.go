package cli

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/internal/fault"
)

// BenchSparkplugOptions are those of wilco bench sparkplug.
type BenchSparkplugOptions struct {
	For            time.Duration
	Nodes, Metrics int
	Reordered      float64 // share, 0 to 0.5
	JSON           bool
}

func (a *app) benchSparkplug() *cobra.Command {
	var o BenchSparkplugOptions
	var reordered string
	c := &cobra.Command{Use: "sparkplug", Short: "Measure a Sparkplug host: messages of edge nodes, in order, as values",
		Long: "It starts a broker in a process of its own, and a host in this one. Edge nodes publish data of doubles by alias, encoded\n" +
			"before, over four connections; their CPU time is told apart. Then it measures the path of a message without a network.",
		Example: "  wilco bench sparkplug --nodes 1000 --metrics 10 --reordered 1% --for 10s", Args: a.args()}
	f := c.Flags()
	f.DurationVar(&o.For, "for", 10*time.Second, "how long messages are published")
	f.IntVar(&o.Nodes, "nodes", 1000, "how many edge nodes publish")
	f.IntVar(&o.Metrics, "metrics", 10, "metrics in each message")
	f.StringVar(&reordered, "reordered", "0%", "percentage of messages that come one place late, up to 50%")
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		o.JSON = a.json
		percent, err := strconv.ParseFloat(strings.TrimSuffix(reordered, "%"), 64)
		if err != nil {
			return fault.Field("reordered", "%q is not a percentage", reordered)
		}
		o.Reordered = percent / 100
		for _, n := range []struct {
			flag       string
			value, max float64
			min        float64
		}{{"nodes", float64(o.Nodes), 1e5, 1}, {"metrics", float64(o.Metrics), 1e4, 1}, {"reordered", percent, 50, 0}} {
			if err := between(n.flag, n.value, n.min, n.max); err != nil {
				return err
			}
		}
		if a.run.BenchSparkplug == nil {
			return missing("benchmark of Sparkplug")
		}
		return a.run.BenchSparkplug(ctx, o, a.IO)
	})
	return c
}
