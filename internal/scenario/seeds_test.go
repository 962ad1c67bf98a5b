package scenario

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/sim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestSeeds draws a scenario of everything that can happen out of each seed, and
// runs it over a whole server. WILCO_SIM_SEEDS is how many (default 50), and
// WILCO_SIM_FIRST the first.
func TestSeeds(t *testing.T) {
	first, seeds := number(t, "WILCO_SIM_FIRST", 1), number(t, "WILCO_SIM_SEEDS", 50)
	if testing.Short() {
		seeds = min(seeds, 5)
	}
	began, passed := time.Now(), time.Duration(0)
	for seed := first; seed < first+seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := drawn(t, seed)
			r := inVirtualTime(t, s, seed)
			if r != nil {
				passed += time.Duration(r.Seconds * float64(time.Second))
			}
			if r != nil && r.Good() && !t.Failed() {
				return
			}
			text, _ := json.MarshalIndent(s, "", "  ")
			t.Logf("%s", text)
			if r != nil {
				r.Print(t.Output())
			}
			t.Errorf("again: WILCO_SIM_FIRST=%d WILCO_SIM_SEEDS=1 go test ./internal/scenario -run TestSeeds", seed)
		})
	}
	t.Logf("%d seeds, %s of virtual time in %s", seeds, passed.Round(time.Second), time.Since(began).Round(time.Millisecond))
}

func number(t *testing.T, name string, def uint64) uint64 {
	v := os.Getenv(name)
	if v == "" {
		return def
	}
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// drawn is a scenario out of a seed.
func drawn(t *testing.T, seed uint64) *Scenario {
	d := &drawer{rand.New(rand.NewPCG(seed, 3))}
	s := &Scenario{Name: "drawn", Seed: seed, Duration: Duration(time.Duration(30+d.IntN(300)) * time.Second), Network: d.network()}
	for i := range 1 + d.IntN(3) {
		s.Devices = append(s.Devices, d.devices(i, s.Duration))
	}
	at := time.Duration(0)
	for range d.IntN(3) {
		p := Phase{From: Duration(at), To: Duration(at + s.Duration.D()/4), Network: d.network()}
		at = p.To.D() + s.Duration.D()/16
		s.Phases = append(s.Phases, p)
	}
	for range 1 + d.IntN(2) {
		s.Load = append(s.Load, d.load(s.Duration))
	}
	for range d.IntN(3) {
		s.Server.Restarts = append(s.Server.Restarts, d.moment(s.Duration))
	}
	for range d.IntN(3) {
		s.Server.Kills = append(s.Server.Kills, d.moment(s.Duration))
	}
	s.Server.Down = Duration(time.Duration(d.IntN(8000)) * time.Millisecond)
	if path, why := s.check(); why != "" {
		t.Fatalf("%s %s", path, why)
	}
	s.complete()
	return s
}

type drawer struct{ *rand.Rand }

// share is 0 half of the times, else up to most.
func (d *drawer) share(most float64) float64 { return d.maybe() * most * d.Float64() }

func (d *drawer) maybe() float64 { return float64(d.IntN(2)) }

func (d *drawer) span(most time.Duration) sim.Span {
	from := time.Duration(d.Int64N(int64(most)))
	return sim.Span{Min: from, Max: from + time.Duration(d.Int64N(int64(most)))}
}

func (d *drawer) moment(before Duration) Duration { return 1 + Duration(d.Int64N(int64(before)-1)) }

func (d *drawer) network() Network {
	way := func() sim.Direction {
		return sim.Direction{Lose: d.share(0.2), Duplicate: d.share(0.3), Reorder: d.share(0.3), Delay: d.span(300 * time.Millisecond)}
	}
	return Network{Down: way(), Up: way(), Cut: d.share(0.03)}
}

func (d *drawer) devices(i int, duration Duration) Devices {
	out := Devices{Group: fmt.Sprintf("g%d", i), Count: 1 + d.IntN(4), Work: d.span(3 * time.Second),
		Fail: d.share(0.3), Reject: d.share(0.2), NeverAnswer: d.share(0.1)}
	if d.IntN(4) == 0 {
		out.Window = 2 + d.IntN(5)
	}
	if i == 0 && d.IntN(4) == 0 {
		out.Group, out.Profile = "default", "atlas"
	}
	if d.IntN(2) == 0 {
		out.Reboots = Reboots{Every: Duration(d.maybe()) * Duration(10+d.IntN(60)) * Duration(time.Second), MidCommand: d.share(0.2), Off: d.span(20 * time.Second)}
		for range d.IntN(3) {
			out.Reboots.At = append(out.Reboots.At, d.moment(duration))
		}
	}
	out.Clock = Clock{Offset: Duration(d.share(float64(90 * time.Second))), Drift: d.share(0.01)}
	return out
}

func (d *drawer) load(duration Duration) Load {
	l := Load{Names: []string{"set", "move", "open"}, Rate: 50 / duration.D().Seconds(), Cancel: d.share(0.3), CancelAfter: d.span(10 * time.Second),
		Params: map[string]any{"n": "$n", "to": "$random"}}
	if d.IntN(4) == 0 {
		l.Priority = d.IntN(19) - 9
	}
	l.Policy = command.Policy{Supersede: d.IntN(4) == 0, Backoff: []command.Backoff{"", command.NoRetry, command.Linear, command.Exponential}[d.IntN(4)],
		MaxAttempts: 1 + d.IntN(6), AckBy: Duration(500+d.IntN(5000)) * Duration(time.Millisecond), DeliverBy: Duration(5+d.IntN(120)) * Duration(time.Second),
		FinishBy: Duration(5+d.IntN(60)) * Duration(time.Second), Settle: Duration(5+d.IntN(60)) * Duration(time.Second)}
	return l
}
