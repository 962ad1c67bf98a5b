package device_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/device"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/wire"
)

func TestResultsProducedOfflineAreHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &server{t: t}, new(device.MemoryJournal), nil, func(d *device.Device) { d.Handle("x", until(5*time.Second)) })
		for i := range 40 { // more than may be on their way at a time
			b.request(fmt.Sprint("t", i), "x")
		}
		b.expect("t0", "ack RECEIVED")
		b.set(func(s *server) { s.down = true })
		b.cut()
		wait(39*5*time.Second + time.Second)
		b.expect("t0")
		b.statuses()
		b.set(func(s *server) { s.down = false })
		wait(2 * time.Minute)
		for i := range 40 {
			got := b.log(fmt.Sprint("t", i))
			if !slices.Contains(got, `result SUCCESS "done"`) {
				t.Errorf("t%d: %q", i, got)
			}
		}
		if st := b.statuses(); len(st) == 0 || !st[0].Online {
			t.Errorf("statuses %+v", st)
		}
		// What the server has taken over is not said again.
		b.cut()
		wait(time.Minute)
		b.expect("t0")
		b.end(nil, nil)
		b.run()
		wait(time.Minute)
		b.expect("t39")
		b.end(nil, nil)
	})
}

// Without its PUBACK a result is not handed over, and comes again after a
// reboot; with it, it does not.
func TestResultIsKeptUntilTheServerHasIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &server{t: t}, new(device.MemoryJournal), nil, func(d *device.Device) { d.Handle("x", ok) })
		b.set(func(s *server) { s.deaf = true })
		b.request("a", "x")
		b.expect("a", "ack RECEIVED", "result SUCCESS 1")
		b.end(device.ErrPowerLoss, device.ErrPowerLoss)
		b.set(func(s *server) { s.deaf = false })
		b.run()
		b.expect("a", "result SUCCESS 1")
		b.end(nil, nil)
		b.run()
		b.expect("a")
		b.end(nil, nil)
	})
}

// A server that refuses an answer is asked again later.
func TestAnswerRefusedByTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &server{t: t}, new(device.MemoryJournal), nil, func(d *device.Device) { d.Handle("x", ok) })
		b.set(func(s *server) { s.code = mqtt.QuotaExceeded })
		b.request("a", "x")
		b.expect("a", "ack RECEIVED", "result SUCCESS 1")
		wait(device.DefaultPresence + time.Second)
		b.expect("a", "result SUCCESS 1")
		b.set(func(s *server) { s.code = mqtt.Success })
		wait(device.DefaultPresence)
		b.expect("a", "result SUCCESS 1")
		wait(device.DefaultPresence)
		b.expect("a")
		b.end(nil, nil)
	})
}

func TestPowerLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		journal := new(device.MemoryJournal)
		b := start(t, &server{t: t}, journal, nil, func(d *device.Device) {
			d.Handle("x", func(ctx context.Context, r *device.Request) (any, error) {
				calls.Add(1)
				<-ctx.Done()
				if !errors.Is(context.Cause(ctx), device.ErrPowerLoss) {
					t.Errorf("the handler's cause is %v", context.Cause(ctx))
				}
				return "too late to count", nil
			})
			d.Handle("y", ok)
		})
		b.request("running", "x")
		b.request("waiting", "y")
		b.expect("running", "ack RECEIVED")
		b.expect("waiting", "ack RECEIVED")
		b.end(device.ErrPowerLoss, device.ErrPowerLoss)
		b.set(func(s *server) {
			if s.wills != 1 {
				t.Errorf("%d wills, want 1: the power was lost", s.wills)
			}
		})
		b.run()
		b.expect("running", "result FAILURE (interrupted)")
		if got := b.log("waiting"); len(got) == 0 || got[len(got)-1] != "result SUCCESS 1" { // never started, so it is safe
			t.Errorf("about a command that waited: %q", got)
		}
		b.request("running", "x")
		b.expect("running", "result FAILURE (interrupted)")
		if calls.Load() != 1 {
			t.Errorf("executed %d times", calls.Load())
		}
		b.end(nil, nil)
	})
}

func TestCleanStopInterrupts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &server{t: t}, new(device.MemoryJournal), nil, func(d *device.Device) {
			d.Handle("x", until(time.Minute))
			d.Handle("quick", func(ctx context.Context, r *device.Request) (any, error) {
				<-ctx.Done()
				return "made safe", nil
			})
		})
		b.request("a", "x")
		b.request("b", "quick")
		b.expect("a", "ack RECEIVED")
		b.expect("b", "ack RECEIVED")
		b.end(nil, nil)
		b.expect("a", "result FAILURE (interrupted)")
		b.expect("b") // was not started, and waits for the next start
		b.run()
		b.expect("b", "ack RECEIVED")
		b.end(nil, nil)
		b.expect("b", `result SUCCESS "made safe"`)
	})
}

func TestHandlerThatDoesNotStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &server{t: t}, new(device.MemoryJournal), func(c *device.Config) { c.StopTimeout = time.Second }, func(d *device.Device) {
			d.Handle("x", func(context.Context, *device.Request) (any, error) { time.Sleep(time.Minute); return nil, nil })
		})
		b.request("a", "x")
		b.expect("a", "ack RECEIVED")
		b.stop(nil)
		if err := <-b.result; err == nil || !strings.Contains(err.Error(), "1 handlers") {
			t.Errorf("Run returned %v, want a complaint about the handler", err)
		}
		wait(time.Minute)
		b.run()
		b.expect("a", "result FAILURE (interrupted)")
		b.end(nil, nil)
	})
}

func TestResumable(t *testing.T) {
	for _, how := range []error{nil, device.ErrPowerLoss} {
		synctest.Test(t, func(t *testing.T) {
			var first, again atomic.Int32
			b := start(t, &server{t: t}, new(device.MemoryJournal), nil, func(d *device.Device) {
				d.Handle("x", func(ctx context.Context, r *device.Request) (any, error) {
					first.Add(1)
					return until(time.Hour)(ctx, r)
				}, device.Resumable(func(ctx context.Context, r *device.Request) (any, error) {
					again.Add(1)
					return until(10*time.Second)(ctx, r)
				}))
				d.Handle("deaf", func(context.Context, *device.Request) (any, error) {
					time.Sleep(time.Hour)
					return nil, nil
				}, device.Resumable(until(time.Minute)))
			})
			b.request("a", "x")
			b.expect("a", "ack RECEIVED")
			b.end(how, how)
			b.run()
			b.expect("a", "ack RECEIVED")
			wait(11 * time.Second)
			if got := b.log("a"); len(got) == 0 || got[len(got)-1] != `result SUCCESS "done"` {
				t.Errorf("after resuming: %q", got)
			}
			if first.Load() != 1 || again.Load() != 1 {
				t.Errorf("run %d times and resumed %d times", first.Load(), again.Load())
			}

			// Asked to stop just before the power fails: it resumes as cancelled.
			b.request("b", "deaf")
			b.expect("b", "ack RECEIVED")
			b.cancel("b")
			b.expect("b", "ack RECEIVED")
			b.end(device.ErrPowerLoss, device.ErrPowerLoss)
			b.run()
			if got := b.log("b"); len(got) == 0 || got[len(got)-1] != "result CANCELLED (cancelled)" {
				t.Errorf("after a cancel and a restart: %q", got)
			}
			b.end(nil, nil)
			wait(time.Hour) // for the handler that was abandoned
		})
	}
}

// The server sends again what was not acknowledged; nothing is done twice.
func TestRedeliveryAfterReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		b := start(t, &server{t: t}, new(device.MemoryJournal), nil, func(d *device.Device) {
			d.Handle("x", func(context.Context, *device.Request) (any, error) { return calls.Add(1), nil })
		})
		for i := range 20 {
			b.set(func(s *server) { s.down = true })
			b.cut()
			b.request(fmt.Sprint("t", i), "x")
			wait(time.Second)
			b.set(func(s *server) { s.down = false })
			wait(time.Minute)
		}
		b.set(func(s *server) {
			if len(s.unacked) != 0 {
				t.Errorf("%d commands were not acknowledged", len(s.unacked))
			}
		})
		if calls.Load() != 20 {
			t.Errorf("executed %d times, want 20", calls.Load())
		}
		b.end(nil, nil)
	})
}

// When the journal fails, nothing that depends on it happens: no PUBACK, no
// execution, no answer; and the device stops.
func TestJournalFailure(t *testing.T) {
	for n := 1; n <= 3; n++ {
		synctest.Test(t, func(t *testing.T) {
			var calls atomic.Int32
			var observed []string
			errDisk := errors.New("disk full")
			journal := new(device.MemoryJournal)
			b := start(t, &server{t: t}, journal, func(c *device.Config) {
				c.Observer = observer(&observed)
			}, func(d *device.Device) {
				d.Handle("x", func(ctx context.Context, r *device.Request) (any, error) {
					calls.Add(1)
					return until(time.Second)(ctx, r)
				})
			})
			writes := 0
			journal.Fault = func() error {
				if writes++; writes >= n {
					return errDisk
				}
				return nil
			}
			b.request("a", "x")
			wait(5 * time.Second)
			if n <= 2 {
				if err := <-b.result; !errors.Is(err, device.ErrJournal) || !errors.Is(err, errDisk) {
					t.Errorf("fault %d: Run returned %v", n, err)
				}
			} else {
				b.stop(nil)
				<-b.result // what was still to be noted is lost: it is told twice
			}
			synctest.Wait()
			want := [][]string{nil, {"ack RECEIVED"}, {"ack RECEIVED", `result SUCCESS "done"`}}[n-1]
			if got := b.log("a"); !slices.Equal(got, want) {
				t.Errorf("fault %d: the device said %q, want %q", n, got, want)
			}
			b.set(func(s *server) {
				if acked := len(s.unacked) == 0; acked != (n > 1) {
					t.Errorf("fault %d: acknowledged %v", n, acked)
				}
			})
			if executed := calls.Load() > 0; executed != (n > 1) {
				t.Errorf("fault %d: executed %v: %v", n, executed, observed)
			}
			journal.Fault = nil
			b.run()
			wait(5 * time.Second)
			again := b.log("a")
			want = [][]string{{"ack RECEIVED", `result SUCCESS "done"`}, {"result FAILURE (interrupted)"}, {`result SUCCESS "done"`}}[n-1]
			if !slices.Equal(again, want) {
				t.Errorf("fault %d: after a restart the device said %q, want %q", n, again, want)
			}
			if calls.Load() != 1 {
				t.Errorf("fault %d: executed %d times", n, calls.Load())
			}
			b.end(nil, nil)
		})
	}
}

func observer(log *[]string) device.Observer {
	note := func(format string, args ...any) { *log = append(*log, fmt.Sprintf(format, args...)) }
	return device.Observer{
		Received:  func(c wire.Command) { note("received %s %s", c.TID, c.Status) },
		Refused:   func(tid string, r wire.Reason) { note("refused %s %s", tid, r.Code) },
		Executing: func(tid, cmd string) { note("executing %s %s", tid, cmd) },
		Executed:  func(r wire.Result) { note("executed %s %s", r.TID, r.Status) },
		Answered:  func(r wire.Result) { note("answered %s %s", r.TID, r.Status) },
	}
}

func TestObserver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log []string
		b := start(t, &server{t: t}, new(device.MemoryJournal), func(c *device.Config) { c.Observer = observer(&log) },
			func(d *device.Device) { d.Handle("x", ok); d.Handle("long", until(time.Hour)) })
		b.request("a", "x")
		synctest.Wait()
		b.request("b", "y")
		synctest.Wait()
		b.request("c", "long")
		synctest.Wait()
		b.end(device.ErrPowerLoss, device.ErrPowerLoss)
		b.run()
		b.end(nil, nil)
		want := []string{"received a REQUEST", "executing a x", "executed a SUCCESS", "answered a SUCCESS",
			"received b REQUEST", "refused b unknown_command", "answered b REJECTED",
			"received c REQUEST", "executing c long",
			"executed c FAILURE", "answered c FAILURE"}
		// What was handed over just before the power failed may be told again.
		rest := slices.DeleteFunc(slices.Clone(log[min(9, len(log)):]), func(s string) bool {
			return s == "answered a SUCCESS" || s == "answered b REJECTED"
		})
		if got := append(log[:min(9, len(log))], rest...); !slices.Equal(got, want) {
			t.Errorf("observed\n  %q, want\n  %q", got, want)
		}
	})
}

// Compaction loses nothing that counts, and the highest seq never.
func TestCompaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		journal := new(device.MemoryJournal)
		b := start(t, &server{t: t}, journal, func(c *device.Config) { c.Keep = 10 }, func(d *device.Device) { d.Handle("x", ok) })
		for i := range 1000 {
			b.request(fmt.Sprint("t", i), "x")
			synctest.Wait()
		}
		records, err := journal.Load()
		if err != nil || len(records) > 2100 {
			t.Fatalf("after 1000 commands the journal holds %d records, %v", len(records), err)
		}
		b.end(device.ErrPowerLoss, device.ErrPowerLoss)
		b.run()
		b.log("t0")
		b.send(wire.Command{TID: "t0", Cmd: "x", Status: wire.Request, Epoch: 1, Seq: 1})
		b.expect("t0", "ack REJECTED (stale_seq)")
		b.log("t999")
		b.request("t999", "x")
		b.expect("t999", "result SUCCESS 1")
		b.end(nil, nil)
	})
}

// Another journal, or one that was tampered with, is an error at the start.
func TestJournalThatMakesNoSense(t *testing.T) {
	for _, records := range [][]string{{"rubbish"}, {`{"kind":"started","tid":"a"}`}, {`{"kind":"tomorrow","tid":"a"}`}} {
		journal := new(device.MemoryJournal)
		for _, r := range records {
			if err := journal.Append([]byte(r)); err != nil {
				t.Fatal(err)
			}
		}
		d, err := device.New(device.Config{Address: address, Servers: []string{"mqtt://127.0.0.1:1"}, Journal: journal})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Run(t.Context()); !errors.Is(err, device.ErrJournal) {
			t.Errorf("%q: %v, want ErrJournal", records, err)
		}
	}
}
