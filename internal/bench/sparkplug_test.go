package bench

import (
	"context"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/broker"
)

// Nothing is lost, and a message that comes late is a value all the same.
func TestSparkplug(t *testing.T) {
	b, err := broker.New(broker.Options{
		Authority: broker.AllowAnonymous(),
		Listeners: []broker.Listener{{Name: "tcp", Network: "tcp", Address: "127.0.0.1:0"}},
	})
	if err == nil {
		err = b.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Stop(context.Background()) }()
	r, err := Sparkplug(t.Context(), SparkplugOptions{
		URL: "mqtt://" + b.Addr("tcp").String(), BrokerPID: os.Getpid(),
		For: 300 * time.Millisecond, Nodes: 7, Metrics: 3, Reordered: 0.1,
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Messages == 0 || r.Lost != 0 || r.Gaps != 0 || r.Rebirths != 0 || r.PurePerSecond == 0 {
		t.Errorf("%+v", r)
	}
	if got, want := r.MetricsPerSecond*r.Seconds, float64(3*r.Messages); got < want-1 || got > want+1 {
		t.Errorf("%g metrics, want %g", got, want)
	}
}

// A load whose messages are lost ends, so that the report can say it.
func TestSparkplugLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &sparkplugEdges{b: &sparkplugBench{}, more: make(chan struct{}, 1)}
		e.b.sent.Store(sparkplugLead + 1)
		signal(e.more) // something came, and not enough
		begin := time.Now()
		if err := e.write(1); err != errStalled || time.Since(begin) != sparkplugQuiet || e.b.sent.Load() != sparkplugLead+1 {
			t.Errorf("%v after %v, %d sent", err, time.Since(begin), e.b.sent.Load())
		}
	})
}

// Every number is sent once, and each tenth message comes one place late.
func TestPlace(t *testing.T) {
	seen, late := map[int]bool{}, 0
	for i := range 1000 {
		p := place(i, SparkplugOptions{Reordered: 0.1}.late())
		if seen[p] {
			t.Fatalf("%d twice", p)
		}
		seen[p] = true
		if p < i {
			late++
		}
	}
	if len(seen) != 1000 || !seen[999] || late != 100 {
		t.Errorf("%d numbers, %d late", len(seen), late)
	}
	if (SparkplugOptions{}).late() != 0 || place(100, 0) != 100 {
		t.Error("late without being asked to")
	}
}
