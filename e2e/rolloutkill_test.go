package e2e

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/sim"
)

// TestRolloutAfterKill kills the server again and again while a roll-out is under way,
// over networks that lose and repeat and to devices that lose power. It comes to its
// end, every device gets exactly one command, and does it once at most.
func TestRolloutAfterKill(t *testing.T) {
	t.Parallel()
	devices, rounds := 60, 25
	if testing.Short() {
		devices, rounds = 30, 6
	}
	seed := seedOf(t)
	rnd := rand.New(rand.NewPCG(seed, 31))
	data, web, tcp, start := restartable(t)
	srv := start()
	t.Cleanup(func() { srv.kill() })
	s := newSite(t, seed, web, adminToken(t, data), devices)
	s.powerOn(tcp)
	spec := client.RolloutSpec{Name: "kill", Command: sim.Move, Targets: client.RolloutTargets{All: true},
		Waves: []client.RolloutWave{{Share: 0.2, Soak: client.Duration(200 * time.Millisecond)}, {Share: 0.5}},
		Rate:  &client.RolloutRate{PerMinute: 1200}, Concurrency: 8}
	if _, err := s.api.StartRollout(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	cut := 0
	for range rounds {
		<-time.After(time.Duration(rnd.Int64N(int64(700 * time.Millisecond))))
		srv.kill()
		srv = start()
		r, err := s.api.Rollout(t.Context(), "kill")
		if err != nil {
			t.Fatal(err)
		}
		if !r.Final() {
			cut++
		}
	}
	if cut == 0 {
		t.Error("it had ended before the first kill: the test has shown nothing")
	}
	s.fleet.Calm()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := s.api.Rollout(ctx, "kill")
	for err == nil && !r.Final() {
		select {
		case <-ctx.Done():
			t.Fatalf("it is %s, waits for %q: %v", r.State, r.Hold, r.Counts)
		case <-time.After(100 * time.Millisecond):
		}
		r, err = s.api.Rollout(ctx, "kill")
	}
	if err != nil || r.State != "finished" || r.Started != devices {
		t.Fatalf("%v, %s with %d of %d started: %v", err, r.State, r.Started, devices, r.Counts)
	}
	s.oneEach("kill", devices)
}

// oneEach compares the targets of a roll-out, the commands that are known, and what
// the devices did.
func (s *site) oneEach(id string, devices int) {
	s.t.Helper()
	tids := map[string]string{} // to device
	for target, err := range s.api.RolloutTargets(s.t.Context(), id) {
		if err != nil {
			s.t.Fatal(err)
		}
		tids[target.TID] = target.Device
	}
	if len(tids) != devices || tids[""] != "" {
		s.t.Errorf("%d commands for %d devices", len(tids), devices)
	}
	n := 0
	for c, err := range s.api.All(s.t.Context(), client.ListOptions{Limit: 1000}) {
		if err != nil {
			s.t.Fatal(err)
		}
		if n++; c.Rollout != id || tids[c.TID] != c.Device {
			s.t.Errorf("the command %s to %s is no target's", c.TID, c.Device)
		}
	}
	if n != devices {
		s.t.Errorf("%d commands were made for %d devices", n, devices)
	}
	for _, log := range s.fleet.Logs() {
		if len(log.Effects) > 1 {
			s.t.Errorf("%s did %v", log.Address, log.Effects)
		}
	}
}
