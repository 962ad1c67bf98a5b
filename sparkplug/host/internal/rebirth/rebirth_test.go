package rebirth_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/sparkplug/host/internal/rebirth"
)

var start = time.Unix(1_000_000, 0)

// run lets time pass until end and returns when each ask came, in seconds.
func run(s *rebirth.Scheduler[string], from, end time.Time, each func(k string, at time.Time)) {
	for now := from; ; {
		for {
			ask, ok := s.Next(now)
			if !ok {
				break
			}
			each(ask.Key, now)
		}
		d := s.Deadline(now)
		if d.IsZero() || d.After(end) {
			return
		}
		if !d.After(now) {
			d = now.Add(time.Microsecond)
		}
		now = d
	}
}

func seconds(list []time.Time) (out []int) {
	for _, t := range list {
		out = append(out, int(t.Sub(start)/time.Second))
	}
	return out
}

// plain has no jitter: every cooldown is three quarters of what it says.
func plain() rebirth.Config {
	return rebirth.Config{Cooldown: 4 * time.Second, MaxCooldown: 400 * time.Second}
}

// A node that does not answer and says nothing is asked three times.
func TestSilentNode(t *testing.T) {
	s := rebirth.New[string](plain())
	s.Want("n", 1, 0, start)
	var asks []time.Time
	run(s, start, start.Add(24*time.Hour), func(_ string, at time.Time) { asks = append(asks, at) })
	if got := seconds(asks); !slices.Equal(got, []int{0, 3, 9}) {
		t.Error(got)
	}
}

// Case 75: one that does not answer and goes on to send is asked for ever, with
// a cooldown that doubles up to the most.
func TestNasty75IgnoresRebirth(t *testing.T) {
	s := rebirth.New[string](plain())
	var asks []time.Time
	for now := start; now.Before(start.Add(2000 * time.Second)); now = now.Add(500 * time.Millisecond) {
		s.Want("n", 1, 0, now)
		if _, ok := s.Next(now); ok {
			asks = append(asks, now)
		}
	}
	if got := seconds(asks); !slices.Equal(got, []int{0, 3, 9, 21, 45, 93, 189, 381, 681, 981, 1281, 1581, 1881}) {
		t.Error(got)
	}
}

// Cases 12 and 74: a node that answers each ask, and is wrong again at once. An
// NBIRTH alone does not end the back-off.
func TestNasty74WrongAfterEachRebirth(t *testing.T) {
	s := rebirth.New[string](plain())
	var asks []time.Time
	for now := start; now.Before(start.Add(1000 * time.Second)); now = now.Add(time.Second) {
		s.Want("n", 1, 0, now)
		if _, ok := s.Next(now); ok {
			asks = append(asks, now)
			s.Born("n", 1, now)
		}
	}
	if got := seconds(asks); !slices.Equal(got, []int{0, 3, 9, 21, 45, 93, 189, 381, 681, 981}) {
		t.Error(got)
	}
	// After a good while it is trusted again.
	s.Born("n", 1, start.Add(1000*time.Second))
	now := start.Add(time.Hour)
	s.Want("n", 1, 0, now)
	if _, ok := s.Next(now); !ok {
		t.Error("a node that did well for an hour still waits")
	}
	s.Born("n", 1, now)
	now = now.Add(10 * time.Second)
	s.Want("n", 1, 0, now)
	if _, ok := s.Next(now); !ok {
		t.Error("and its cooldown is still long")
	}
}

// A birth or a death ends what was waiting.
func TestAnsweredOrDead(t *testing.T) {
	for name, end := range map[string]func(*rebirth.Scheduler[string]){
		"born":      func(s *rebirth.Scheduler[string]) { s.Born("n", 1, start) },
		"dead":      func(s *rebirth.Scheduler[string]) { s.Dead("n") },
		"cleared":   func(s *rebirth.Scheduler[string]) { s.Clear() },
		"forgotten": func(s *rebirth.Scheduler[string]) { s.Forget("n") },
	} {
		for _, asked := range []bool{false, true} {
			s := rebirth.New[string](plain())
			s.Want("n", 1, 0, start)
			if asked {
				if _, ok := s.Next(start); !ok {
					t.Fatal("not asked")
				}
			}
			end(s)
			if _, ok := s.Next(start.Add(time.Hour)); ok || s.Waiting() > 0 {
				t.Errorf("%s, asked %v: asked all the same", name, asked)
			}
		}
	}
}

// Case 72: ten thousand nodes at once. The rate holds, nobody is asked twice
// before all were asked once, and those born meanwhile not at all.
func TestNasty72NoStorm(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	s := rebirth.New[string](rebirth.Config{Rand: r.Float64})
	const nodes = 10_000
	for i := range nodes {
		s.Want(fmt.Sprint(i), 1, 10*time.Second, start)
	}
	for i := range nodes / 2 {
		s.Born(fmt.Sprint(i), 0, start.Add(5*time.Second))
	}
	perSecond, asked := map[int]int{}, map[string]int{}
	end := start.Add(time.Hour)
	run(s, start, end, func(k string, at time.Time) {
		perSecond[int(at.Sub(start)/time.Second)]++
		asked[k]++
		s.Born(k, 0, at)
	})
	for sec, n := range perSecond {
		if n > 61 || sec < 10 {
			t.Errorf("%d asks in second %d", n, sec)
		}
	}
	if len(asked) != nodes/2 {
		t.Errorf("%d nodes asked, want %d", len(asked), nodes/2)
	}
	for k, n := range asked {
		if n != 1 {
			t.Errorf("node %s was asked %d times", k, n)
		}
	}
}

// Two nodes with one name: their bdSeq alternates, or their births are too many.
// Neither is asked during the quarantine; one that dies in between is one node.
func TestDuplicateDescriptor(t *testing.T) {
	births := func(step time.Duration, death bool, bdSeqs ...int) (alarms int, s *rebirth.Scheduler[string], now time.Time) {
		s, now = rebirth.New[string](plain()), start
		for _, b := range bdSeqs {
			if s.Born("n", b, now) {
				alarms++
			}
			if death {
				s.Dead("n")
			}
			now = now.Add(step)
		}
		return alarms, s, now
	}
	if n, s, now := births(time.Second, false, 7, 40, 7, 40, 7, 40); n != 1 || !now.Before(s.Quarantine("n")) {
		t.Errorf("alternating: %d alarms", n)
	} else {
		s.Want("n", 1, 0, now)
		if _, ok := s.Next(now.Add(9 * time.Minute)); ok {
			t.Error("asked in quarantine")
		}
		if _, ok := s.Next(now.Add(11 * time.Minute)); !ok {
			t.Error("never asked again")
		}
	}
	if n, _, _ := births(time.Second, false, 0, 0, 0, 0, 0, 0, 0, 0); n != 1 {
		t.Errorf("eight births in eight seconds: %d alarms", n)
	}
	if n, _, _ := births(10*time.Second, false, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0); n != 0 {
		t.Errorf("a birth each ten seconds: %d alarms", n)
	}
	if n, _, _ := births(10*time.Second, true, 1, 2, 1, 2, 1, 2); n != 0 {
		t.Errorf("with a death between: %d alarms", n)
	}
	if n, _, _ := births(time.Minute+time.Second, false, 1, 2, 1, 2, 1, 2); n != 0 {
		t.Errorf("slowly: %d alarms", n)
	}
}

// Whatever happens: never more asks than the rate allows, never two of a node
// within its first cooldown, never one of a node that is not wanted.
func TestRandom(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 3))
		s := rebirth.New[int](rebirth.Config{Rate: 5, Burst: 3, Rand: r.Float64})
		wanted, last := map[int]bool{}, map[int]time.Time{}
		var asks []time.Time
		now := start
		for range 5000 {
			now = now.Add(time.Duration(r.IntN(500)) * time.Millisecond)
			k := r.IntN(20)
			switch r.IntN(4) {
			case 0, 1:
				s.Want(k, 1, 0, now)
				wanted[k] = true
			case 2:
				s.Born(k, r.IntN(3), now)
				delete(wanted, k)
			case 3:
				s.Dead(k)
				delete(wanted, k)
			}
			for {
				ask, ok := s.Next(now)
				if !ok {
					break
				}
				if !wanted[ask.Key] {
					t.Fatalf("seed %d: %d was asked and nobody wanted it", seed, ask.Key)
				}
				if at, ok := last[ask.Key]; ok && now.Sub(at) < 3750*time.Millisecond {
					t.Fatalf("seed %d: %d was asked again after %v", seed, ask.Key, now.Sub(at))
				}
				if now.Before(s.Quarantine(ask.Key)) {
					t.Fatalf("seed %d: %d was asked in quarantine", seed, ask.Key)
				}
				last[ask.Key] = now
				asks = append(asks, now)
				if k := len(asks); k > 8 && now.Sub(asks[k-9]) < time.Second {
					t.Fatalf("seed %d: nine asks within %v", seed, now.Sub(asks[k-9]))
				}
			}
		}
		if len(asks) < 100 {
			t.Errorf("seed %d: too tame, %d asks", seed, len(asks))
		}
	}
}
