package device_test

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/device"
	"github.com/wilco-iot/wilco/wire"
)

func ok(context.Context, *device.Request) (any, error) { return 1, nil }

// until returns a handler that lasts d, unless it is asked to stop.
func until(d time.Duration) device.Handler {
	return func(ctx context.Context, _ *device.Request) (any, error) {
		select {
		case <-time.After(d):
			return "done", nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func TestExecutesAndAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &server{t: t}, new(device.MemoryJournal), nil, func(d *device.Device) {
			d.Handle("set", func(_ context.Context, r *device.Request) (any, error) {
				var p struct{ Level int }
				if err := r.Unmarshal(&p); err != nil {
					return nil, err
				}
				r.State(map[string]int{"level": p.Level})
				return map[string]int{"was": 0}, nil
			})
		})
		b.send(wire.Command{TID: "a", Cmd: "set", Status: wire.Request, Params: json.RawMessage(`{"level":3}`)})
		b.expect("a", "ack RECEIVED", `result SUCCESS {"was":0}`)
		b.send(wire.Command{TID: "b", Cmd: "set", Status: wire.Request, Params: json.RawMessage(`{"level":"high"}`)})
		b.expect("b", "ack RECEIVED", "result REJECTED (bad_params)")
		b.set(func(s *server) {
			if len(s.unacked) != 0 {
				t.Errorf("%d commands were not acknowledged", len(s.unacked))
			}
		})
		b.end(nil, nil)
	})
}

// How the returns of a handler end a command.
func TestOutcomes(t *testing.T) {
	for name, tt := range map[string]struct {
		handler device.Handler
		want    string
	}{
		"nothing":      {func(context.Context, *device.Request) (any, error) { return nil, nil }, "result SUCCESS"},
		"a value":      {func(context.Context, *device.Request) (any, error) { return "<x>", nil }, "result SUCCESS \"\\u003cx\\u003e\""},
		"rejected":     {func(context.Context, *device.Request) (any, error) { return nil, device.Reject("no_power", "x") }, "result REJECTED (no_power)"},
		"failed":       {func(context.Context, *device.Request) (any, error) { return nil, device.Fail("jam", "x") }, "result FAILURE (jam)"},
		"error":        {func(context.Context, *device.Request) (any, error) { return nil, errors.New("a\x00\xffb") }, "result FAILURE (handler_error)"},
		"panic":        {func(context.Context, *device.Request) (any, error) { panic("oh") }, "result FAILURE (handler_panic)"},
		"goexit":       {func(context.Context, *device.Request) (any, error) { runtime.Goexit(); return nil, nil }, "result FAILURE (handler_panic)"},
		"own canceled": {func(context.Context, *device.Request) (any, error) { return nil, context.Canceled }, "result FAILURE (handler_error)"},
		"not JSON":     {func(context.Context, *device.Request) (any, error) { return make(chan int), nil }, "result SUCCESS (bad_result)"},
		"not UTF-8":    {func(context.Context, *device.Request) (any, error) { return json.RawMessage("\"\xff\""), nil }, "result SUCCESS (bad_result)"},
		"large":        {func(context.Context, *device.Request) (any, error) { return strings.Repeat("x", wire.MaxValue), nil }, "result SUCCESS (bad_result)"},
		"long text": {func(context.Context, *device.Request) (any, error) {
			return nil, errors.New(strings.Repeat("é", wire.MaxText))
		}, "result FAILURE (handler_error)"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, &server{t: t}, new(device.MemoryJournal), nil, func(d *device.Device) { d.Handle("x", tt.handler) })
				b.request("a", "x")
				b.expect("a", "ack RECEIVED", tt.want)
				b.end(nil, nil)
			})
		})
	}
}

func TestRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		b := start(t, &server{t: t, seq: 10}, new(device.MemoryJournal), func(c *device.Config) { c.Queue = 1 }, func(d *device.Device) {
			d.Handle("x", func(ctx context.Context, r *device.Request) (any, error) {
				calls.Add(1)
				return until(time.Minute)(ctx, r)
			}, device.Validate(func(p json.RawMessage) error {
				if string(p) == `"bad"` {
					return errors.New("bad")
				}
				return nil
			}))
		})
		request := func(tid string, change func(*wire.Command)) {
			c := wire.Command{TID: tid, Cmd: "x", Status: wire.Request}
			change(&c)
			b.send(c)
		}
		request("first", func(*wire.Command) {})
		b.expect("first", "ack RECEIVED")
		request("stale", func(c *wire.Command) { c.Epoch, c.Seq = 1, 11 })
		b.expect("stale", "ack REJECTED (stale_seq)")
		request("epoch", func(c *wire.Command) { c.Epoch, c.Seq = 0, 12 })
		b.expect("epoch", "ack REJECTED (stale_epoch)")
		request("late", func(c *wire.Command) { c.NotAfter = time.Now().Add(-time.Millisecond) })
		b.expect("late", "ack REJECTED (expired)")
		request("unknown", func(c *wire.Command) { c.Cmd = "y" })
		b.expect("unknown", "ack REJECTED (unknown_command)")
		request("params", func(c *wire.Command) { c.Params = json.RawMessage(`"bad"`) })
		b.expect("params", "ack REJECTED (bad_params)")
		b.publish(`{"tid":"retained","cmd":"x","status":"REQUEST","seq":99,"epoch":1}`, true)
		b.expect("retained", "ack REJECTED (retained)")
		b.publish(`{"tid":"broken","cmd":7,"status":"REQUEST"}`, false)
		b.expect("broken", "ack REJECTED (bad_document)")
		b.publish(`rubbish`, false)
		request("second", func(*wire.Command) {})
		b.expect("second", "ack RECEIVED")
		request("third", func(*wire.Command) {})
		b.expect("third", "ack REJECTED (busy)")
		// A refusal is for ever, also when the copy is in order.
		request("late", func(c *wire.Command) {})
		b.expect("late", "ack REJECTED (expired)")
		b.query("late")
		b.expect("late", "result REJECTED (expired)")
		b.query("never")
		b.expect("never", "result REJECTED (not_received)")
		request("never", func(c *wire.Command) {})
		b.expect("never", "result REJECTED (not_received)")
		if n := calls.Load(); n != 1 {
			t.Errorf("%d handlers were called, want 1", n)
		}
		b.set(func(s *server) {
			if len(s.unacked) != 0 {
				t.Errorf("%d commands were not acknowledged", len(s.unacked))
			}
		})
		b.end(nil, nil)
	})
}

func TestRefusalCarriesState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &server{t: t}, new(device.MemoryJournal), func(c *device.Config) {
			c.State = func() any { return map[string]int{"level": 3} }
		}, nil)
		b.request("a", "x")
		synctest.Wait()
		var state string
		b.set(func(s *server) {
			for _, up := range s.said {
				if up.Kind == wire.UpResult {
					state = string(up.Result.State)
				}
			}
		})
		if state != `{"level":3}` {
			t.Errorf("state %q", state)
		}
		b.expect("a", "ack REJECTED (unknown_command)", "result REJECTED (unknown_command)")
		b.end(nil, nil)
	})
}

func TestRepetitionIsAnsweredFromTheJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		journal := new(device.MemoryJournal)
		b := start(t, &server{t: t}, journal, nil, func(d *device.Device) {
			d.Handle("count", func(context.Context, *device.Request) (any, error) { return calls.Add(1), nil })
			d.Handle("long", until(time.Minute))
		})
		b.request("a", "count")
		b.expect("a", "ack RECEIVED", "result SUCCESS 1")
		b.request("a", "count")
		b.expect("a", "result SUCCESS 1")
		b.query("a")
		b.expect("a", "result SUCCESS 1")
		b.end(device.ErrPowerLoss, device.ErrPowerLoss)
		b.run()
		b.request("a", "count")
		b.expect("a", "result SUCCESS 1", "result SUCCESS 1") // once because nobody had noted it was told
		b.cancel("a")
		b.expect("a", "result SUCCESS 1")

		b.request("b", "long")
		b.expect("b", "ack RECEIVED")
		b.request("b", "long")
		b.expect("b", "ack RECEIVED", "result RUNNING")
		b.query("b")
		b.expect("b", "ack RECEIVED", "result RUNNING")
		b.end(nil, nil)
		b.expect("b", "result FAILURE (interrupted)")
		if calls.Load() != 1 {
			t.Errorf("executed %d times", calls.Load())
		}
	})
}

func TestOneAtATimeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []string
		b := start(t, &server{t: t}, new(device.MemoryJournal), nil, func(d *device.Device) {
			d.Handle("x", func(ctx context.Context, r *device.Request) (any, error) {
				order = append(order, r.TID)
				return until(time.Second)(ctx, r)
			})
		})
		for _, tid := range []string{"a", "b", "c", "d"} {
			b.request(tid, "x")
		}
		wait(2500 * time.Millisecond)
		if got := strings.Join(order, ""); got != "abc" {
			t.Errorf("after 2.5 s, %q have been started, want abc", got)
		}
		b.end(nil, nil)
	})
}

func TestParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &server{t: t}, new(device.MemoryJournal), func(c *device.Config) { c.Parallel = 3 }, func(d *device.Device) {
			d.Handle("x", until(time.Second))
		})
		for _, tid := range []string{"a", "b", "c", "d"} {
			b.request(tid, "x")
		}
		wait(1100 * time.Millisecond)
		for _, tid := range []string{"a", "b", "c"} {
			b.expect(tid, "ack RECEIVED", `result SUCCESS "done"`)
		}
		b.expect("d", "ack RECEIVED")
		b.end(nil, nil)
	})
}

func TestWaitedTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &server{t: t}, new(device.MemoryJournal), nil, func(d *device.Device) { d.Handle("x", until(time.Second)) })
		b.request("a", "x")
		b.send(wire.Command{TID: "b", Cmd: "x", Status: wire.Request, NotAfter: time.Now().Add(500 * time.Millisecond)})
		b.expect("b", "ack RECEIVED")
		wait(1100 * time.Millisecond)
		b.expect("b", "result REJECTED (expired)")
		b.end(nil, nil)
	})
}

func TestDeviceWithoutAClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &server{t: t}, new(device.MemoryJournal), func(c *device.Config) { c.Clock = func() time.Time { return time.Time{} } },
			func(d *device.Device) { d.Handle("x", ok) })
		b.send(wire.Command{TID: "a", Cmd: "x", Status: wire.Request, NotAfter: time.Now().Add(-time.Hour)})
		b.expect("a", "ack RECEIVED", "result SUCCESS 1")
		b.end(nil, nil)
	})
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &server{t: t}, new(device.MemoryJournal), nil, func(d *device.Device) {
			d.Handle("long", until(time.Minute))
			d.Handle("stubborn", until(time.Minute), device.Cancellable(false))
			d.Handle("finishing", func(ctx context.Context, _ *device.Request) (any, error) {
				<-ctx.Done()
				return "finished all the same", nil
			})
		})
		b.request("a", "long")
		b.request("waiting", "long")
		b.expect("a", "ack RECEIVED")
		b.expect("waiting", "ack RECEIVED")
		b.cancel("waiting")
		b.expect("waiting", "result CANCELLED (cancelled)")
		b.cancel("a")
		b.expect("a", "ack RECEIVED", "result CANCELLED (cancelled)")
		b.request("s", "stubborn")
		b.expect("s", "ack RECEIVED")
		b.cancel("s")
		b.expect("s", "ack REJECTED (cancel_refused)")
		wait(time.Minute)
		b.log("s")
		b.request("f", "finishing")
		b.expect("f", "ack RECEIVED")
		b.cancel("f")
		b.expect("f", "ack RECEIVED", `result SUCCESS "finished all the same"`)
		b.cancel("early")
		b.expect("early", "result CANCELLED (cancelled)")
		b.request("early", "long")
		b.expect("early", "result CANCELLED (cancelled)")
		b.publish(`{"tid":"r","status":"CANCEL"}`, true)
		b.expect("r", "ack REJECTED (retained)")
		b.request("k", "long")
		b.expect("k", "ack RECEIVED")
		b.publish(`{"tid":"k","status":"CANCEL"}`, true)
		b.expect("k", "ack RECEIVED", "result RUNNING")
		b.end(nil, nil)
	})
}

func TestRunningAndProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &server{t: t}, new(device.MemoryJournal), nil, func(d *device.Device) {
			d.Handle("move", func(ctx context.Context, r *device.Request) (any, error) {
				time.Sleep(25 * time.Second)
				r.Progress(10, "")
				r.Progress(20, "") // within the same second: not before the next
				time.Sleep(500 * time.Millisecond)
				r.Progress(30, "")
				time.Sleep(12 * time.Second)
				return nil, nil
			})
		})
		b.request("a", "move")
		b.expect("a", "ack RECEIVED")
		wait(11 * time.Second)
		b.expect("a", "result RUNNING")
		wait(10 * time.Second)
		b.expect("a", "result RUNNING")
		wait(4*time.Second + 100*time.Millisecond)
		b.expect("a", "result RUNNING 20%")
		wait(time.Second)
		b.expect("a", "result RUNNING 30%")
		wait(10 * time.Second)
		b.expect("a", "result RUNNING 30%")
		wait(10 * time.Second)
		b.expect("a", "result SUCCESS")
		b.end(nil, nil)
	})
}

func TestPresence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{t: t}
		b := start(t, s, new(device.MemoryJournal), func(c *device.Config) { c.Firmware = "1.2" }, func(d *device.Device) { d.Handle("x", until(time.Hour)) })
		first := b.statuses()
		if len(first) != 1 || !first[0].Online || first[0].Boot == "" || first[0].Firmware != "1.2" || first[0].TS.IsZero() || len(first[0].InProgress) != 0 {
			t.Errorf("after connecting: %+v", first)
		}
		if !slices.Equal(first[0].Commands, []string{"x"}) {
			t.Errorf("it says that it knows %v", first[0].Commands)
		}
		b.request("a", "x")
		wait(61 * time.Second)
		if st := b.statuses(); len(st) != 1 || len(st[0].InProgress) != 1 || st[0].InProgress[0] != "a" || st[0].Boot != first[0].Boot {
			t.Errorf("a minute later: %+v", st)
		}
		b.end(nil, nil)
		if st := b.statuses(); len(st) != 1 || st[0].Online || st[0].Boot != first[0].Boot {
			t.Errorf("at the end: %+v", st)
		}
		b.set(func(s *server) {
			for _, r := range s.retained[:1] {
				if !r {
					t.Error("the status is not retained")
				}
			}
			if s.wills != 0 {
				t.Errorf("%d wills after a clean stop", s.wills)
			}
			c := s.connects[0]
			if c.CleanStart || c.SessionExpirySeconds != 3600 || c.ClientID != "north/valve-1" {
				t.Errorf("connected with %+v", c)
			}
			want := `{"online":false,"boot":"` + first[0].Boot + `"}`
			if c.Will == nil || string(c.Will.Payload) != want || !c.Will.Retain || c.Will.QoS != 1 || c.Will.Topic != "wilco/north/valve-1/status" {
				t.Errorf("will %+v", c.Will)
			}
			if len(s.subs) != 1 || s.subs[0].Filter != "wilco/north/valve-1/command" || s.subs[0].QoS != 1 {
				t.Errorf("subscribed %+v", s.subs)
			}
		})
		b.run()
		if st := b.statuses(); len(st) != 1 || st[0].Boot == first[0].Boot {
			t.Errorf("after a restart, the same boot id: %+v", st)
		}
		b.end(nil, nil)
	})
}

func TestResultTooLargeForTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &server{t: t, limit: 1000}, new(device.MemoryJournal), nil, func(d *device.Device) {
			d.Handle("x", func(context.Context, *device.Request) (any, error) { return strings.Repeat("x", 2000), nil })
		})
		b.request("a", "x")
		b.expect("a", "ack RECEIVED", "result SUCCESS (bad_result)")
		b.end(nil, nil)
	})
}

// Firmware of the atlas kind: no seq, no status, and one topic for all answers.
func TestAtlas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		b := start(t, &server{t: t, profile: wire.Atlas()}, new(device.MemoryJournal), func(c *device.Config) { c.Profile = wire.Atlas() },
			func(d *device.Device) {
				d.Handle("MOVE", func(context.Context, *device.Request) (any, error) { calls.Add(1); return 1, nil })
			})
		b.request("a", "MOVE")
		b.expect("a", "ack RECEIVED", "result SUCCESS")
		b.request("a", "MOVE")
		b.expect("a", "result SUCCESS")
		b.request("b", "JUMP")
		b.expect("b", "ack REJECTED")
		if calls.Load() != 1 || len(b.statuses()) != 0 {
			t.Errorf("executed %d times", calls.Load())
		}
		b.set(func(s *server) {
			if s.connects[0].Will != nil {
				t.Error("a will, where nobody would understand it")
			}
		})
		b.end(nil, nil)
	})
}
