package command

import (
	"cmp"
	"encoding/binary"
	"runtime"
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// tid makes the n-th transaction id in the order of time.
func tid(n int) (id TID) {
	id = uuid.MustParse("01900000-0000-7000-8000-000000000000")
	binary.BigEndian.PutUint32(id[12:], uint32(n))
	return id
}

// naiveLane is what a Lane promises, in the slowest and plainest way: it keeps
// every command with its state and looks through all of them for each answer.
type naiveLane struct {
	window int
	state  map[int]State
	held   map[int]bool // by their terms
	places []int        // in flight, in the order in which they took their places
	open   []int        // of unknown outcome, in the order in which they became so
}

func (l *naiveLane) track(n int, s State) {
	l.state[n] = s
	for _, list := range []struct {
		of *[]int
		in bool
	}{{&l.places, s.InFlight()}, {&l.open, s == TimedOut}} {
		if !list.in {
			*list.of = slices.DeleteFunc(*list.of, func(m int) bool { return m == n })
		} else if !slices.Contains(*list.of, n) {
			*list.of = append(*list.of, n)
		}
	}
}

// ready gives those that wait for their turn: the highest priority first.
func (l *naiveLane) ready() []TID {
	var ns []int
	for n, s := range l.state {
		if s == Created && !l.held[n] {
			ns = append(ns, n)
		}
	}
	slices.SortFunc(ns, func(a, b int) int { return cmp.Or(priorityOf(b)-priorityOf(a), a-b) })
	return tids(ns)
}

func (l *naiveLane) stopped() []TID {
	var ns []int
	for n, s := range l.state {
		if s == Created && l.held[n] {
			ns = append(ns, n)
		}
	}
	slices.Sort(ns)
	return tids(ns)
}

// priorityOf gives every number a priority for ever: most have none.
func priorityOf(n int) int { return []int{0, 0, 0, 2, 0, -1, 9}[n%7] }

func tids(ns []int) (ids []TID) {
	for _, n := range ns {
		ids = append(ids, tid(n))
	}
	return ids
}

func TestLaneAgreesWithANaiveOne(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		window := rapid.IntRange(-1, 4).Draw(rt, "window")
		lane, naive := NewLane(window), &naiveLane{window: max(window, 1), state: map[int]State{}, held: map[int]bool{}}
		next := 1000 // some are older: they were held for approval
		track := func(n int, s State) {
			naive.track(n, s)
			naive.held[n] = naive.held[n] && s == Created
			lane.Track(&Command{TID: tid(n), State: s, Held: naive.held[n], Terms: &Terms{Priority: priorityOf(n)}})
		}
		pick := func(rt *rapid.T, which func(State) bool) (int, bool) {
			var ns []int
			for n, s := range naive.state {
				if which(s) {
					ns = append(ns, n)
				}
			}
			if len(ns) == 0 {
				return 0, false
			}
			slices.Sort(ns)
			return rapid.SampledFrom(ns).Draw(rt, "which"), true
		}
		rt.Repeat(map[string]func(*rapid.T){
			"create": func(rt *rapid.T) {
				for range rapid.IntRange(1, 60).Draw(rt, "how many") {
					next++
					track(next, Created)
				}
			},
			"hold": func(*rapid.T) { next++; track(next, AwaitingApproval) },
			"approve": func(rt *rapid.T) {
				if n, ok := pick(rt, func(s State) bool { return s == AwaitingApproval }); ok {
					track(n, Created)
				}
			},
			"dispatch": func(*rapid.T) {
				for {
					id, ok := lane.Next()
					if !ok {
						return
					}
					track(int(binary.BigEndian.Uint32(id[12:])), Sent)
				}
			},
			"dispatch one": func(*rapid.T) {
				if id, ok := lane.Next(); ok {
					track(int(binary.BigEndian.Uint32(id[12:])), Sent)
				}
			},
			"move in flight": func(rt *rapid.T) {
				if n, ok := pick(rt, State.InFlight); ok {
					track(n, rapid.SampledFrom([]State{Sent, Acknowledged, Running, Cancelling}).Draw(rt, "to"))
				}
			},
			"end": func(rt *rapid.T) {
				if n, ok := pick(rt, State.InFlight); ok {
					track(n, rapid.SampledFrom([]State{Executed, Failed, TimedOut}).Draw(rt, "as"))
				}
			},
			"retry": func(rt *rapid.T) {
				if n, ok := pick(rt, func(s State) bool { return s == TimedOut }); ok {
					track(n, Sent)
				}
			},
			"cancel waiting": func(rt *rapid.T) {
				if n, ok := pick(rt, func(s State) bool { return s == Created }); ok {
					track(n, Cancelled)
				}
			},
			"stop": func(rt *rapid.T) {
				if n, ok := pick(rt, func(s State) bool { return s == Created }); ok {
					naive.held[n] = true
					track(n, Created)
				}
			},
			"look again": func(rt *rapid.T) {
				if n, ok := pick(rt, func(s State) bool { return s == Created }); ok {
					naive.held[n] = false
					lane.Unhold(tid(n))
				}
			},
			"window": func(rt *rapid.T) {
				n := rapid.IntRange(-1, 4).Draw(rt, "n")
				naive.window = max(n, 1)
				lane.SetWindow(n)
			},
			"track again": func(rt *rapid.T) {
				if n, ok := pick(rt, func(State) bool { return true }); ok {
					track(n, naive.state[n])
				}
			},
			"": func(rt *rapid.T) {
				ready, stopped := naive.ready(), naive.stopped()
				queued := slices.Concat(stopped, ready)
				if !slices.Equal(lane.Held(), stopped) {
					rt.Fatalf("held %v, want %v", lane.Held(), stopped)
				}
				if !slices.Equal(lane.Queued(), queued) || lane.Waiting() != len(queued) {
					rt.Fatalf("waiting %d, want %d, or in another order", lane.Waiting(), len(queued))
				}
				if !slices.Equal(lane.InFlight(), tids(naive.places)) {
					rt.Fatalf("in flight %v, want %v", lane.InFlight(), tids(naive.places))
				}
				if !slices.Equal(lane.Unsettled(), tids(naive.open)) {
					rt.Fatalf("unsettled %v, want %v", lane.Unsettled(), tids(naive.open))
				}
				id, ok := lane.Next()
				if want := len(naive.places) < naive.window && len(ready) > 0; ok != want || ok && id != ready[0] {
					rt.Fatalf("next %v %v, want %v", id, ok, want)
				}
			},
		})
	})
}

// A lane of a million waiting commands is 16 bytes each, is drained in linear
// time, and gives its memory back.
func TestLaneOfAMillion(t *testing.T) {
	if testing.Short() {
		t.Skip("a million commands")
	}
	const n = 1_000_000
	before := heap()
	lane := NewLane(1)
	for i := range n {
		lane.Track(&Command{TID: tid(i), State: Created})
	}
	full := heap() - before
	if perCommand := float64(full) / n; perCommand > 32 { // append keeps up to a quarter in reserve, and some
		t.Errorf("%.1f bytes a waiting command", perCommand)
	}
	for i := range n {
		id, ok := lane.Next()
		if !ok || id != tid(i) {
			t.Fatalf("next after %d: %v %v", i, id, ok)
		}
		lane.Track(&Command{TID: id, State: Sent})
		lane.Track(&Command{TID: id, State: Executed})
	}
	if left := heap() - before; left > 1<<20 {
		t.Errorf("an empty lane keeps %d bytes", left)
	}
	runtime.KeepAlive(lane)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// An old command that is tracked again, as after every change of presence, must
// not cost a move of all that wait behind it.
func TestTrackingTheFirstAgainIsCheap(t *testing.T) {
	lane := NewLane(1)
	for i := range 1_000_000 {
		lane.Track(&Command{TID: tid(i), State: Created})
	}
	first := &lane.waiting[0]
	for range 3 {
		lane.Track(&Command{TID: tid(0), State: Created})
	}
	if &lane.waiting[0] != first || lane.head != 0 || lane.Waiting() != 1_000_000 {
		t.Error("the queue was moved for a command that was in its place")
	}
}

func TestAClosedCommandIsNotUnsettled(t *testing.T) {
	lane := NewLane(1)
	lane.Track(&Command{TID: tid(1), State: TimedOut})
	if len(lane.Unsettled()) != 1 || len(lane.InFlight()) != 0 {
		t.Error("a timed out command is open and has no place in the window")
	}
	lane.Track(&Command{TID: tid(1), State: TimedOut, Closed: true})
	if len(lane.Unsettled()) != 0 {
		t.Error("it is closed")
	}
}
