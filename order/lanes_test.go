package order

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var bg = context.Background()

func stop[K comparable, T any](t testing.TB, l *Lanes[K, T]) {
	t.Helper()
	if err := l.Stop(bg); err != nil {
		t.Error(err)
	}
}

// Random keys, speeds, failures and panics: each key in order and one at a
// time, acknowledged in submit order and never past one that is not done.
func TestLanesPromises(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		workers, queue := rapid.IntRange(1, 5).Draw(rt, "workers"), rapid.IntRange(1, 20).Draw(rt, "queue")
		keys := rapid.SliceOfN(rapid.IntRange(0, 4), 1, 80).Draw(rt, "keys")
		speeds := rapid.SliceOfN(rapid.IntRange(0, 9), len(keys), len(keys)).Draw(rt, "speeds")
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			byKey, busy, done := map[int][]int{}, map[int]bool{}, map[int]bool{}
			var acked []int
			working := 0
			l := NewLanes(LaneOptions[int, int]{
				Workers: workers, Queue: queue,
				Handle: func(_ context.Context, key, i int) error {
					mu.Lock()
					working++
					if busy[key] || working > workers || i-len(acked) >= queue {
						t.Errorf("item %d: busy %v, %d working, %d acked", i, busy[key], working, len(acked))
					}
					busy[key] = true
					byKey[key] = append(byKey[key], i)
					mu.Unlock()
					time.Sleep(time.Duration(speeds[i]) * time.Millisecond)
					mu.Lock()
					defer mu.Unlock()
					working--
					busy[key], done[i] = false, true
					switch speeds[i] {
					case 7:
						return errors.New("failed")
					case 8:
						panic(i)
					case 9:
						runtime.Goexit()
					}
					return nil
				},
				Ack: func(_, i int, err error) {
					mu.Lock()
					defer mu.Unlock()
					if !done[i] || i != len(acked) || (err != nil) != (speeds[i] >= 7) || errors.Is(err, ErrExited) != (speeds[i] == 9) {
						t.Errorf("ack of %d after %d: done %v, %v", i, len(acked), done[i], err)
					}
					acked = append(acked, i)
				},
			})
			for i, key := range keys {
				if err := l.Submit(bg, key, i); err != nil {
					t.Fatal(err)
				}
			}
			stop(t, l)
			for key, list := range byKey {
				if !slices.IsSorted(list) {
					t.Errorf("key %d: %v", key, list)
				}
			}
			s := l.Stats()
			if n := uint64(len(keys)); len(acked) != len(keys) || s.Submitted != n || s.Handled != n || s.Acked != n || s.Keys != 0 {
				t.Errorf("%d acked of %d: %+v", len(acked), n, s)
			}
		})
	})
}

func TestLanesPushBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		l := NewLanes(LaneOptions[string, int]{
			Workers: 2, Queue: 2, Ack: func(string, int, error) {},
			Handle: func(context.Context, string, int) error { <-gate; return nil },
		})
		for i := range 2 {
			if err := l.TrySubmit("a", i); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.TrySubmit("b", 2); err != ErrFull {
			t.Errorf("try: %v", err)
		}
		ctx, cancel := context.WithTimeout(bg, time.Second)
		defer cancel()
		for range 2 { // waiting, and when the time is over
			if err := l.Submit(ctx, "b", 2); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("submit: %v", err)
			}
		}
		took := make(chan error, 1)
		go func() { took <- l.Submit(bg, "b", 2) }()
		synctest.Wait()
		select {
		case err := <-took:
			t.Errorf("there was no room: %v", err)
		default:
		}
		close(gate)
		if err := <-took; err != nil {
			t.Error(err)
		}
		stop(t, l)
		if s := l.Stats(); s.Submitted != 3 || s.Acked != 3 {
			t.Errorf("stats %+v", s)
		}
		if err := l.Submit(bg, "a", 0); err != ErrStopped {
			t.Errorf("submit after stop: %v", err)
		}
	})
}

// One that is slow holds back the acknowledgements behind it, and not the work.
func TestLanesAckNothingPastOneUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		l := NewLanes(LaneOptions[int, int]{
			Workers: 2, Ack: func(int, int, error) {},
			Handle: func(_ context.Context, key, _ int) error {
				if key == 0 {
					<-gate
				}
				return nil
			},
		})
		for i := range 10 {
			if err := l.Submit(bg, i, i); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if s := l.Stats(); s.Handled != 9 || s.Acked != 0 || s.Keys != 1 {
			t.Errorf("before: %+v", s)
		}
		close(gate)
		stop(t, l)
		if s := l.Stats(); s.Acked != 10 {
			t.Errorf("after: %+v", s)
		}
	})
}

func TestLanesPauseDrainResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var log []string
		say := func(s string) { mu.Lock(); log = append(log, s); mu.Unlock() }
		l := NewLanes(LaneOptions[string, int]{
			Workers: 1,
			Handle: func(_ context.Context, key string, i int) error {
				time.Sleep(time.Second)
				say(fmt.Sprint(key, i))
				return nil
			},
		})
		for i := range 2 {
			for _, key := range []string{"a", "b", "c"} {
				if err := l.Submit(bg, key, i); err != nil {
					t.Fatal(err)
				}
			}
		}
		synctest.Wait() // a0 runs
		if err := l.Pause(bg, "b"); err != nil {
			t.Error(err)
		}
		say("paused b")
		if err := l.Pause(bg, "a"); err != nil {
			t.Error(err)
		}
		say("paused a")
		ctx, cancel := context.WithTimeout(bg, 10*time.Second)
		defer cancel()
		if err := l.Drain(ctx, "b"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("drain of a paused key: %v", err)
		}
		if !l.Resume("a") || l.Resume("a") || l.Resume("nobody") {
			t.Error("resume is wrong about who was paused")
		}
		if err := l.Drain(bg, "a"); err != nil {
			t.Error(err)
		}
		say("drained a")
		l.Resume("b")
		if err := l.Drain(bg, "b"); err != nil {
			t.Error(err)
		}
		if err := l.Drain(bg, "nobody"); err != nil {
			t.Error(err)
		}
		want := []string{"paused b", "a0", "paused a", "c0", "c1", "a1", "drained a", "b0", "b1"}
		if !slices.Equal(log, want) {
			t.Errorf("got  %v\nwant %v", log, want)
		}
		stop(t, l)
		if s := l.Stats(); s.Keys != 0 {
			t.Errorf("%d keys are remembered", s.Keys)
		}
	})
}

func TestLanesStopAbandonsThePaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var acked []int
		l := NewLanes(LaneOptions[string, int]{
			Handle: func(context.Context, string, int) error { return nil },
			Ack:    func(_ string, i int, _ error) { acked = append(acked, i) },
		})
		if err := l.Pause(bg, "b"); err != nil {
			t.Fatal(err)
		}
		for i, key := range []string{"a", "b", "a"} {
			if err := l.Submit(bg, key, i); err != nil {
				t.Fatal(err)
			}
		}
		drained := make(chan error, 1)
		go func() { drained <- l.Drain(bg, "b") }()
		synctest.Wait()
		stop(t, l)
		stop(t, l)
		if err := <-drained; err != ErrStopped {
			t.Errorf("drain: %v", err)
		}
		if err := l.Drain(bg, "b"); err != ErrStopped {
			t.Errorf("drain after stop: %v", err)
		}
		if s := l.Stats(); s.Handled != 2 || !slices.Equal(acked, []int{0}) {
			t.Errorf("acked %v, %+v", acked, s)
		}
	})
}

func TestLanesStopIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		told := make(chan struct{})
		l := NewLanes(LaneOptions[string, int]{
			Workers: 2,
			Handle: func(ctx context.Context, key string, _ int) error {
				if key == "deaf" {
					<-gate
					return nil
				}
				<-ctx.Done()
				close(told)
				return ctx.Err()
			},
		})
		for i, key := range []string{"deaf", "polite", "deaf"} {
			if err := l.Submit(bg, key, i); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(bg, time.Second)
		defer cancel()
		if err := l.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stop: %v", err)
		}
		<-told
		close(gate)
		stop(t, l)
		if s := l.Stats(); s.Handled != 2 || s.Failed != 1 {
			t.Errorf("after the end nothing is started: %+v", s)
		}
	})
}

func TestLanesTellOfPanics(t *testing.T) {
	cause := errors.New("cause")
	var told []any
	l := NewLanes(LaneOptions[string, int]{
		Workers: 1,
		Handle: func(_ context.Context, _ string, i int) error {
			if i == 0 {
				panic(cause)
			}
			return nil
		},
		OnPanic: func(key string, item int, value any) { told = append(told, key, item, value) },
		Ack: func(_ string, i int, err error) {
			var p *PanicError
			if (i == 0) != errors.As(err, &p) || (i == 0) != errors.Is(err, cause) {
				t.Errorf("ack of %d: %v", i, err)
			}
		},
	})
	for i := range 2 {
		if err := l.Submit(bg, "k", i); err != nil {
			t.Fatal(err)
		}
	}
	stop(t, l)
	if s := l.Stats(); !slices.Equal(told, []any{"k", 0, cause}) || s.Panicked != 1 || s.Failed != 1 || s.Acked != 2 {
		t.Errorf("told %v, %+v", told, s)
	}
}

// Without the race detector's help nothing of this would be seen: many
// submitters, pauses and drains at the same time.
func TestLanesUnderContention(t *testing.T) {
	var mu sync.Mutex
	last := map[int]int{}
	var acked int
	l := NewLanes(LaneOptions[int, int]{
		Workers: 4, Queue: 16,
		Handle: func(_ context.Context, key, i int) error {
			mu.Lock()
			defer mu.Unlock()
			if i != last[key]+1 {
				t.Errorf("key %d: %d after %d", key, i, last[key])
			}
			last[key] = i
			return nil
		},
		Ack: func(int, int, error) { acked++ }, // no lock: calls do not overlap
	})
	const each = 2000
	var wg sync.WaitGroup
	for key := range 4 {
		wg.Go(func() {
			for i := range each {
				if err := l.Submit(bg, key, i+1); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 100 {
				if err := l.Pause(bg, key); err != nil {
					t.Error(err)
				}
				mu.Lock()
				before := last[key]
				mu.Unlock()
				runtime.Gosched()
				mu.Lock()
				if last[key] != before {
					t.Errorf("key %d was handled while it was paused", key)
				}
				mu.Unlock()
				l.Resume(key)
				if err := l.Drain(bg, key); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	stop(t, l)
	if acked != 4*each {
		t.Errorf("%d acknowledged", acked)
	}
}
