package node

import (
	"fmt"
	"testing"

	"github.com/wilco-iot/wilco/sparkplug"
)

// BenchmarkUpdate is one sample that goes out at once, by alias, of a node with
// a thousand metrics.
func BenchmarkUpdate(b *testing.B) {
	var metrics []Metric
	for i := range 1000 {
		metrics = append(metrics, Metric{Metric: metricOf(fmt.Sprintf("area/line/metric-%d", i), sparkplug.TypeDouble, "0")})
	}
	c, err := New(Config{Group: "G", Node: "N", History: 100, Aliases: true}, metrics)
	if err != nil {
		b.Fatal(err)
	}
	publish := func(sparkplug.Message) error { return nil }
	c.Connecting(0, start)
	c.Connected(0, start)
	if err := c.Send(start, publish); err != nil {
		b.Fatal(err)
	}
	c.Written()
	sample := []sparkplug.Metric{metrics[500].Metric}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		sample[0].Value, _ = sparkplug.NewFloat(sparkplug.TypeDouble, float64(i+1))
		if err := c.Update("", sample, start); err != nil {
			b.Fatal(err)
		}
		if err := c.Send(start, publish); err != nil {
			b.Fatal(err)
		}
		c.Written()
	}
}
