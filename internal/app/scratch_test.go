package app

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/engine"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/sim"
	"github.com/wilco-iot/wilco/wire"
)

func cpu() float64 {
	var ru syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
	return float64(ru.Utime.Sec+ru.Stime.Sec) + float64(ru.Utime.Usec+ru.Stime.Usec)/1e6
}

func TestScratchBench(t *testing.T) {
	s := New(Options{Data: t.TempDir(), HTTP: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler),
		Listeners: []broker.Listener{{Name: "tcp", Network: "tcp", Address: "127.0.0.1:0"}}})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer stopServer(t, s)
	var ms []sim.Member
	for i := range 200 {
		a := wire.Address{Group: "g", Device: fmt.Sprint("d", i)}
		_, secret, err := s.Fleet.Add(t.Context(), fleet.NewDevice{Address: a})
		if err != nil {
			t.Fatal(err)
		}
		ms = append(ms, sim.Member{Address: a, Secret: secret})
	}
	f := sim.New(sim.Options{Members: ms, Dial: func(ctx context.Context, _ wire.Address) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", s.MQTTAddr("tcp").String())
	}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { f.Run(ctx); close(done) }()
	// latency, one at a time
	one := func() time.Duration {
		t0 := time.Now()
		out, _ := s.Engine.Create(ctx, []engine.Request{{Device: ms[0].Address, Name: sim.Set, Params: json.RawMessage(`{"a":1}`)}})
		s.Engine.Wait(ctx, out[0].Command.TID, func(c *command.Command) bool { return c.Final() })
		return time.Since(t0)
	}
	one()
	var lat []time.Duration
	for range 300 {
		lat = append(lat, one())
	}
	var sum time.Duration
	for _, l := range lat {
		sum += l
	}
	t.Logf("one at a time mean %v", sum/time.Duration(len(lat)))
	begin, c0 := time.Now(), cpu()
	sent := int64(301)
	st0 := s.Store.Stats()
	for time.Since(begin) < 8*time.Second {
		if sent-(s.Engine.Stats().Created-s.Engine.Stats().Open) > 2000 {
			time.Sleep(time.Millisecond)
			continue
		}
		var reqs []engine.Request
		for i := range 200 {
			reqs = append(reqs, engine.Request{Device: ms[(int(sent)+i)%len(ms)].Address, Name: sim.Set, Params: json.RawMessage(`{"a":1}`)})
		}
		if _, err := s.Engine.Create(ctx, reqs); err != nil {
			t.Fatal(err)
		}
		sent += 200
	}
	for s.Engine.Stats().Open > 0 {
		time.Sleep(time.Millisecond)
	}
	el, c := time.Since(begin), cpu()-c0
	st := s.Store.Stats()
	n := float64(sent - 301)
	t.Logf("%.0f/s, cpu %.0f us each (all in one process), tx %d rows/tx %.1f syncing %v writing %v", n/el.Seconds(), c/n*1e6, st.Transactions-st0.Transactions, float64(st.Rows-st0.Rows)/float64(st.Transactions-st0.Transactions), st.Syncing-st0.Syncing, st.Writing-st0.Writing)
	cancel()
	<-done
}
