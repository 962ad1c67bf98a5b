package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/device"
	"github.com/wilco-iot/wilco/mqtt"
	mqttclient "github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/wire"
)

// reporter is a device of raw MQTT that reports a rising number, and remembers the
// highest that it was told to be accepted.
type reporter struct {
	c        *mqttclient.Client
	next     atomic.Int64
	accepted atomic.Int64
}

func (s *site) reporter(name, secret, broker string, v mqtt.Version) *reporter {
	s.t.Helper()
	r := new(reporter)
	p := wire.NewWilco("").(wire.StateProfile)
	a, err := wire.ParseAddress(name)
	if err != nil {
		s.t.Fatal(err)
	}
	report := func() {
		n := strconv.FormatInt(r.next.Add(1), 10)
		_ = r.c.PublishAsync(mqttclient.Message{Topic: p.StateTopic(a, wire.StateReport), QoS: mqtt.AtLeastOnce,
			Payload: []byte(`{"state":{"n":` + n + `},"clientToken":"` + n + `"}`)}, nil) // an answer that never comes is no promise
	}
	r.c, err = mqttclient.New(mqttclient.Options{Servers: []string{"mqtt://" + broker}, Version: v, ClientID: name, Username: name,
		Password: []byte(secret), SessionExpiry: time.Hour,
		Subscriptions: []mqtt.Subscription{{Filter: p.StateTopic(a, wire.StateReportAccepted), QoS: mqtt.AtLeastOnce}},
		Backoff:       mqttclient.Backoff{Min: 10 * time.Millisecond, Max: 50 * time.Millisecond},
		OnUp: func(mqttclient.Up) {
			for range 4 {
				report()
			}
		},
		OnMessage: func(d *mqttclient.Delivery) {
			d.Ack()
			reply, err := p.ParseStateReply(wire.StateReportAccepted, d.Payload)
			n, err2 := strconv.ParseInt(reply.ClientToken, 10, 64)
			if err != nil || err2 != nil {
				s.t.Errorf("%s: %v %v", d.Payload, err, err2)
			}
			r.accepted.Store(max(r.accepted.Load(), n))
			report()
		}})
	if err != nil {
		s.t.Fatal(err)
	}
	r.c.Start()
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = r.c.Stop(ctx) // its server is gone by then
	})
	return r
}

// desirer changes what is desired of a device of the library, and remembers what
// the server has acknowledged.
type desirer struct {
	mu   sync.Mutex
	tids []string
	last int // the value of the last of them
	n    int
}

func (d *desirer) work(ctx context.Context, s *site, device string) {
	for ctx.Err() == nil {
		d.n++
		patch := json.RawMessage(fmt.Sprintf(`{"wish":%d}`, d.n))
		if c, err := s.api.SetDesired(ctx, device, client.Desire{Patch: patch}); err == nil {
			d.mu.Lock()
			d.tids, d.last = append(d.tids, c.TID), d.n
			d.mu.Unlock()
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestStateAfterKill kills the server again and again while a device reports, and
// people change what is desired of another. What was accepted is kept, the history
// has no gap, and what was desired comes true.
func TestStateAfterKill(t *testing.T) {
	t.Parallel()
	for name, v := range map[string]mqtt.Version{"5": mqtt.V5, "3.1.1": mqtt.V311} {
		t.Run(name, func(t *testing.T) { t.Parallel(); stateAfterKill(t, v) })
	}
}

func stateAfterKill(t *testing.T, v mqtt.Version) {
	rounds := 10
	if testing.Short() {
		rounds = 3
	}
	seed := seedOf(t)
	rnd := rand.New(rand.NewPCG(seed, 19))
	data, web, tcp, start := restartable(t)
	srv := start()
	t.Cleanup(func() { srv.kill() })
	s := newSite(t, seed, web, adminToken(t, data), 2)
	reporting, obeying := s.members[0], s.members[1]
	r := s.reporter(reporting.Address.String(), reporting.Secret, tcp, v)
	d, err := device.New(device.Config{Address: obeying.Address, Servers: []string{"mqtt://" + tcp}, Version: v,
		Password: []byte(obeying.Secret), Journal: new(device.MemoryJournal)})
	if err != nil {
		t.Fatal(err)
	}
	device.NewReplica[map[string]any](d).OnDesired("wish", func(context.Context, json.RawMessage) error { return nil })
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	var wishes desirer
	running.Go(func() {
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	working, rest := context.WithCancel(ctx)
	var worker sync.WaitGroup
	worker.Go(func() { wishes.work(working, s, obeying.Address.String()) })
	t.Cleanup(func() { rest(); worker.Wait(); stop(); running.Wait() })

	for round := range rounds {
		<-time.After(time.Duration(100+rnd.Int64N(400)) * time.Millisecond)
		srv.kill()
		promised := r.accepted.Load() // what has been told by now must be there
		srv = start()
		state, err := s.api.State(t.Context(), reporting.Address.String(), false)
		if err != nil {
			t.Fatal(err)
		}
		var got struct{ N int64 }
		if err := json.Unmarshal(state.Reported, &got); err != nil || got.N < promised {
			t.Fatalf("round %d: the state has %d after %d was accepted: %v", round, got.N, promised, err)
		}
		s.unbroken(reporting.Address.String(), state.Version)
	}
	if r.accepted.Load() == 0 {
		t.Error("nothing was accepted: the test has shown nothing")
	}
	rest()
	worker.Wait()
	s.fulfilled(obeying.Address.String(), &wishes)
}

// unbroken looks at the history: every version from the last of the state back.
func (s *site) unbroken(device string, atLeast int64) {
	s.t.Helper()
	list, err := s.api.StateHistory(s.t.Context(), device, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	for i, rev := range list {
		if want := list[0].Version - int64(i); rev.Version != want {
			s.t.Errorf("the history has %d where %d belongs", rev.Version, want)
		}
	}
	if len(list) == 0 && atLeast > 0 || len(list) > 0 && (list[0].Version < atLeast || int64(len(list)) != min(list[0].Version, 100)) {
		s.t.Errorf("%d revisions of a state at version %d or later", len(list), atLeast)
	}
}

// fulfilled waits until all acknowledged wishes have ended and the last is so.
func (s *site) fulfilled(device string, d *desirer) {
	s.t.Helper()
	if len(d.tids) == 0 {
		s.t.Fatal("nothing was wished: the test has shown nothing")
	}
	for _, tid := range d.tids {
		ctx, cancel := context.WithTimeout(s.t.Context(), patience)
		c, err := s.api.Await(ctx, tid)
		cancel()
		if err != nil {
			s.t.Fatal(err)
		}
		if c.State != client.Executed {
			s.t.Errorf("wish %s is %s (%s): %s", tid, c.State, c.Reason, c.Detail)
		}
	}
	err := within(patience, func() error {
		state, err := s.api.State(s.t.Context(), device, false)
		if err != nil {
			return err
		}
		var got struct{ Wish int }
		if err := json.Unmarshal(state.Reported, &got); err != nil {
			return err
		}
		if got.Wish < d.last || string(state.Delta) != "{}" {
			return fmt.Errorf("wished %d, reported %d, delta %s", d.last, got.Wish, state.Delta)
		}
		return nil
	})
	if err != nil {
		s.t.Error(err)
	}
	s.t.Logf("%d wishes came true", len(d.tids))
}
