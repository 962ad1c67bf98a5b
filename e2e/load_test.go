package e2e

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/sim"
	"github.com/wilco-iot/wilco/wire"
)

// site is a server in a process of its own with a fleet of devices in this one:
// what the tests that break something are made of.
type site struct {
	t       *testing.T
	seed    uint64
	base    string // URL of the server
	token   string
	api     *client.Client
	http    *http.Client
	members []sim.Member
	fleet   *sim.Fleet

	power   context.CancelFunc // of the fleet
	stopped chan struct{}      // closed when the fleet has stopped

	mu   sync.Mutex
	made map[string]made // by key
	// repeated counts requests that were made again after a failure.
	repeated atomic.Int64
}

// made is a command that the server has acknowledged to its creator.
type made struct {
	device, tid string
	order       client.Order
}

// weather is what the networks of the devices do all the time.
var weather = sim.Faults{Down: sim.Direction{Lose: 0.02, Duplicate: 0.05},
	Up: sim.Direction{Lose: 0.02, Duplicate: 0.05, Reorder: 0.05}, Cut: 0.004}

// hurried is a policy whose clocks are short enough for a test.
var hurried = client.Policy{DeliverBy: client.Duration(40 * time.Second), AckBy: client.Duration(700 * time.Millisecond),
	Heartbeat: client.Duration(2 * time.Second), FinishBy: client.Duration(10 * time.Second), Settle: client.Duration(10 * time.Second),
	Backoff: "exponential", MaxAttempts: 4, Jitter: 0.2}

// newSite registers devices with the server at address.
func newSite(t *testing.T, seed uint64, address, token string, devices int) *site {
	t.Helper()
	s := &site{t: t, seed: seed, base: "http://" + address, token: token, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}, made: map[string]made{}}
	t.Cleanup(s.http.CloseIdleConnections)
	var err error
	s.api, err = client.New(s.base, client.Token(token), client.HTTP(s.http), client.Retries(0))
	if err != nil {
		t.Fatal(err)
	}
	for i := range devices {
		d, err := s.api.AddDevice(t.Context(), client.NewDevice{Device: fmt.Sprintf("site/device-%02d", i+1), Window: windowOf(i)})
		if err != nil {
			t.Fatal(err)
		}
		a, err := wire.ParseAddress(d.Device)
		if err != nil {
			t.Fatal(err)
		}
		s.members = append(s.members, sim.Member{Address: a, Secret: d.Secret})
	}
	return s
}

// powerOn starts the devices, which find their broker at address.
func (s *site) powerOn(address string) {
	// All devices lose power now and then. That also begins their waits between
	// connections anew, which grow while the broker keeps dying.
	s.fleet = sim.New(sim.Options{Members: s.members, Seed: s.seed, Faults: weather, Crash: 1, Slow: 0.2,
		Heartbeat: 500 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
		Dial: func(ctx context.Context, _ wire.Address) (net.Conn, error) { return dialUntil(ctx, address) }})
	life, cancel := context.WithCancel(context.Background())
	s.power, s.stopped = cancel, make(chan struct{})
	go func() { s.fleet.Run(life); close(s.stopped) }()
	s.t.Cleanup(func() { cancel(); <-s.stopped })
}

// dialUntil connects as soon as somebody listens.
func dialUntil(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	for {
		c, err := d.DialContext(ctx, "tcp", address)
		if err == nil {
			return c, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// load begins to ask for commands, so many a second, and returns what ends it.
// Each is asked for until the server has acknowledged it, also after the end.
func (s *site) load(perSecond int) (stop func()) {
	const workers = 4
	var wg sync.WaitGroup
	done := make(chan struct{})
	for n := range workers {
		wg.Go(func() { s.work(done, n, time.Second*workers/time.Duration(perSecond)) })
	}
	return sync.OnceFunc(func() { close(done); wg.Wait() })
}

func (s *site) work(done <-chan struct{}, worker int, every time.Duration) {
	rnd := rand.New(rand.NewPCG(s.seed, uint64(1000+worker)))
	names := []string{sim.Set, sim.Set, sim.Move, sim.Flaky}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-done:
			return
		case <-ticker.C:
		}
		m := made{device: s.members[rnd.IntN(len(s.members))].Address.String(),
			order: client.Order{Name: names[rnd.IntN(len(names))], Policy: &hurried, Key: fmt.Sprintf("order-%d-%d", worker, n)}}
		c, err := s.create(m)
		if err != nil {
			s.t.Errorf("%s for %s: %v", m.order.Key, m.device, err)
			return
		}
		m.tid = c.TID
		s.mu.Lock()
		s.made[m.order.Key] = m
		s.mu.Unlock()
		if rnd.Float64() < 0.05 {
			s.cancel(c.TID)
		}
	}
}

// create asks until the server says that it has the command.
func (s *site) create(m made) (c *client.Command, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for first := true; ; first = false {
		if !first {
			s.repeated.Add(1)
		}
		once, cancel := context.WithTimeout(ctx, 10*time.Second)
		c, err = s.api.Send(once, m.device, m.order)
		cancel()
		var refused *client.Error
		switch {
		case err == nil, errors.As(err, &refused) && refused.Status < 500, ctx.Err() != nil:
			return c, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// cancel asks once; that it fails is part of the game.
func (s *site) cancel(tid string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, _ = s.api.Cancel(ctx, tid, "somebody changed their mind")
}

// settle ends the faults and waits until every command has ended.
func (s *site) settle() {
	s.t.Helper()
	const limit = 2 * patience // more than all clocks of hurried
	s.fleet.Calm()
	open := []client.State{client.AwaitingApproval, client.Created, client.Sent, client.Acknowledged, client.Running, client.Cancelling, client.TimedOut}
	err := within(limit, func() error {
		n, example := 0, ""
		for c, err := range s.api.All(s.t.Context(), client.ListOptions{States: open, Limit: 1000}) {
			if err != nil {
				return err
			}
			if !c.Ended {
				n++
				example = fmt.Sprintf("%s of %s is %s (%s), attempt %d", c.TID, c.Device, c.State, c.Reason, c.Attempt)
			}
		}
		if n > 0 {
			return fmt.Errorf("%d commands have not ended, like %s", n, example)
		}
		return nil
	})
	if err != nil {
		s.t.Errorf("after %s of good weather: %v", limit, err)
	}
	s.power()
	<-s.stopped
}

// audit compares what the server says with what the devices wrote down, and
// every key with its one command.
func (s *site) audit() {
	s.t.Helper()
	s.auditLoosely()
	if n := len(s.known()); n != len(s.made) {
		s.t.Errorf("%d orders were acknowledged, and the server has %d commands", len(s.made), n)
	}
}

// known is all commands that the server has.
func (s *site) known() map[string]*client.Command {
	s.t.Helper()
	known := map[string]*client.Command{}
	for c, err := range s.api.All(s.t.Context(), client.ListOptions{Limit: 1000}) {
		if err != nil {
			s.t.Fatal(err)
		}
		known[c.TID] = c
	}
	return known
}

// auditLoosely is audit for tests whose refused orders may have been taken: an
// answer that something is not available now leaves that open.
func (s *site) auditLoosely() {
	s.t.Helper()
	known := s.known()
	var claims []sim.Claim
	for _, m := range s.made {
		c, ok := known[m.tid]
		claim := sim.Claim{TID: m.tid, Known: ok}
		if ok {
			a, err := wire.ParseAddress(c.Device)
			if err != nil || c.Device != m.device || c.Key != m.order.Key || c.Name != m.order.Name {
				s.t.Errorf("%s was asked for as %+v and is %s of %s", m.tid, m, c.Name, c.Device)
			}
			claim.Device, claim.State, claim.Final, claim.Sent = a, string(c.State), c.Ended, !c.Sent.IsZero()
		}
		claims = append(claims, claim)
	}
	v := sim.Audit(claims, s.fleet.Logs())
	// With a wider window a lost command is overtaken by those in flight beside
	// it; order is promised where one waits for the other.
	v.OutOfOrder = s.outOfOrder()
	s.t.Logf("%d commands %v; %d requests repeated, %d reboots; lost %d, executed twice %d, out of order %d, untrue %d, unsettled %d",
		v.Commands, v.ByState, s.repeated.Load(), s.fleet.Reboots(), v.Lost, v.ExecutedTwice, v.OutOfOrder, v.Untrue, v.Unsettled)
	if !v.Good() {
		s.t.Errorf("the server and the devices contradict each other, e.g. %q", v.Examples)
	}
	// Devices that are there for most of the time get most of what is asked of
	// them done; honest excuses alone would not be good enough.
	if done := v.ByState["executed"] + v.ByState["failed"] + v.ByState["cancelled"]; done < v.Commands*4/5 {
		s.t.Errorf("only %d of %d commands came to their device", done, v.Commands)
	}
	s.sameAgain()
}

// outOfOrder counts among the devices that have one command in flight at a time.
func (s *site) outOfOrder() int {
	var logs []sim.Log
	for i, l := range s.fleet.Logs() {
		if windowOf(i) == 1 {
			logs = append(logs, l)
		}
	}
	v := sim.Audit(nil, logs)
	for _, e := range v.Examples {
		s.t.Error(e)
	}
	return v.OutOfOrder
}

// windowOf is the window of the i-th device: 1 for most of them.
func windowOf(i int) int { return max(1, i%5-1) }

// sameAgain repeats orders with their keys: each must give the command of before.
func (s *site) sameAgain() {
	s.t.Helper()
	n := 0
	for _, m := range s.made {
		if n++; n > 200 {
			break
		}
		if c, err := s.create(m); err != nil || c.TID != m.tid {
			s.t.Errorf("%s gave %s, and again %v, %v", m.order.Key, m.tid, c, err)
		}
	}
}

// count is how many orders were acknowledged so far.
func (s *site) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.made)
}
