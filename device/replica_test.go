package device_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/device"
	"github.com/wilco-iot/wilco/wire"
)

type valve struct {
	Position int    `json:"position,omitempty"`
	Mode     string `json:"mode,omitempty"`
}

// talks gives what the device said about its state since the last call.
func (b *bench) talks(want ...string) {
	b.t.Helper()
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	var got []string
	var rest []wire.Up
	for _, up := range b.said {
		switch up.Kind {
		case wire.UpStateUpdate:
			got = append(got, "update "+string(up.Update.State))
			if up.Update.Boot == "" || up.Update.TS.IsZero() {
				b.t.Errorf("a report without boot or time: %+v", up.Update)
			}
		case wire.UpStateGet:
			got = append(got, "get")
		default:
			rest = append(rest, up)
		}
	}
	b.said = rest
	if !slices.Equal(got, want) {
		b.t.Errorf("about its state the device said\n  %q, want\n  %q", got, want)
	}
}

// tell publishes an answer about the state.
func (b *bench) tell(on wire.StateTopic, r wire.StateReply) {
	b.t.Helper()
	p := profile.(wire.StateProfile)
	doc, err := p.AppendStateReply(nil, on, r)
	if err != nil {
		b.t.Fatal(err)
	}
	b.publishOn(p.StateTopic(address, on), string(doc), false)
	synctest.Wait()
}

// whole is the answer to state/get.
func (b *bench) whole(reported, delta string) {
	b.t.Helper()
	b.tell(wire.StateAskAccepted, wire.StateReply{Reported: json.RawMessage(reported), Delta: json.RawMessage(delta), DesiredVersion: 1})
}

// finalState is the state that came with the end of a command.
func (b *bench) finalState(tid string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, up := range b.said {
		if up.Kind == wire.UpResult && up.Result.TID == tid && wire.Final(up.Result.Status) {
			return string(up.Result.State)
		}
	}
	return ""
}

func TestDesiredIsACommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r *device.Replica[valve]
		var calls []string
		b := start(t, &server{t: t}, new(device.MemoryJournal), nil, func(d *device.Device) {
			r = device.NewReplica[valve](d)
			r.OnDesired("position", func(_ context.Context, v json.RawMessage) error {
				calls = append(calls, "position "+string(v))
				switch string(v) {
				case "101":
					return device.Reject("range", "at most 100")
				case "13":
					return errors.New("stuck")
				case "50":
					return r.Report(map[string]int{"position": 49})
				}
				return nil
			})
			r.OnDesired("motor.speed", func(_ context.Context, v json.RawMessage) error {
				calls = append(calls, "speed "+string(v))
				return nil
			})
		})
		b.talks("get")
		b.whole(`{}`, `{}`)
		for i, tt := range []struct{ params, end, state, want string }{
			{`{"position":40}`, "result SUCCESS", `{"position":40}`, `[position 40]`},
			{`{"motor":{"speed":null},"position":41}`, "result SUCCESS", `{"motor":{"speed":null},"position":41}`, `[position 41 speed null]`},
			{`{"motor":1}`, "result SUCCESS", `{"motor":1}`, `[]`},
			{`{"position":101}`, "result REJECTED (range)", ``, `[position 101]`},
			{`{"position":13}`, "result FAILURE (handler_error)", ``, `[position 13]`},
			{`{"other":1,"position":1}`, "result REJECTED (bad_params)", ``, `[]`},
			{`[]`, "result REJECTED (bad_params)", ``, `[]`},
			{`{"position":50}`, "result SUCCESS", `{"position":49}`, `[position 50]`},
		} {
			calls = nil
			tid := fmt.Sprint("t", i)
			b.send(wire.Command{TID: tid, Cmd: wire.StateDesired, Status: wire.Request, Params: json.RawMessage(tt.params)})
			synctest.Wait()
			if got := b.finalState(tid); got != tt.state {
				t.Errorf("%s: with the state %s, want %s", tt.params, got, tt.state)
			}
			b.expect(tid, "ack RECEIVED", tt.end)
			if got := fmt.Sprint(calls); got != tt.want {
				t.Errorf("%s: called %s, want %s", tt.params, got, tt.want)
			}
		}
		b.talks(`update {"position":49}`)
		if got, err := r.Reported(); err != nil || got.Position != 49 {
			t.Errorf("%+v %v", got, err)
		}
		b.end(nil, nil)
	})
}

func TestReportsAreOrderedAndJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r *device.Replica[map[string]any]
		s := &server{t: t}
		b := start(t, s, new(device.MemoryJournal), nil, func(d *device.Device) {
			r = device.NewReplica[map[string]any](d)
			if err := r.Report(map[string]any{"early": 1}); err != nil {
				t.Fatal(err)
			}
		})
		b.talks("get")
		b.whole(`{"old":1}`, `{}`)
		b.talks(`update {"early":1}`)
		b.set(func(s *server) { s.down = true })
		b.cut()
		synctest.Wait()
		for i := range 3 {
			if err := r.Report(map[string]any{"n": i, "gone": i}); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Report(json.RawMessage(`{"gone":null}`)); err != nil {
			t.Fatal(err)
		}
		b.talks()
		b.set(func(s *server) { s.down = false })
		wait(time.Minute)
		b.talks("get")
		b.whole(`{"gone":7}`, `{}`)
		b.talks(`update {"early":1,"gone":null,"n":2}`)
		for _, bad := range []any{1, make(chan int), json.RawMessage(`{"a":1,"a":2}`)} {
			if err := r.Report(bad); err == nil {
				t.Errorf("%v was reported", bad)
			}
		}
		b.end(nil, nil)
	})
}

// A server that never answers must not silence a device.
func TestAReportDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r *device.Replica[valve]
		b := start(t, &server{t: t}, new(device.MemoryJournal), nil, func(d *device.Device) { r = device.NewReplica[valve](d) })
		if err := r.Report(valve{Position: 1}); err != nil {
			t.Fatal(err)
		}
		b.talks("get")
		wait(device.DefaultPresence)
		b.talks(`update {"position":1}`)
		b.end(nil, nil)
	})
}

func TestWhatIsOutstandingIsBroughtAbout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		b := start(t, &server{t: t}, new(device.MemoryJournal), nil, func(d *device.Device) {
			r := device.NewReplica[valve](d)
			r.OnChange(func(_ context.Context, change valve) error {
				if calls++; change.Position == 13 {
					return errors.New("stuck")
				}
				return nil
			})
		})
		b.tell(wire.StateDelta, wire.StateReply{State: json.RawMessage(`{"position":30}`), DesiredVersion: 1, TID: "t-1"})
		if calls != 0 {
			t.Error("a delta that comes as a command too was obeyed")
		}
		b.talks("get")
		b.whole(`{}`, `{"position":40}`)
		b.talks(`update {"position":40}`)
		b.tell(wire.StateDelta, wire.StateReply{State: json.RawMessage(`{"position":40}`), DesiredVersion: 1})
		for range 3 {
			b.tell(wire.StateDelta, wire.StateReply{State: json.RawMessage(`{"position":13}`), DesiredVersion: 2})
		}
		if calls != 2 {
			t.Errorf("%d calls, want one for each that is new", calls)
		}
		b.cut()
		wait(time.Minute)
		b.whole(`{"position":40}`, `{"position":13}`)
		if calls != 3 {
			t.Errorf("%d calls, want one more with the new connection", calls)
		}
		b.talks("get")
		b.publishOn("wilco/north/valve-1/state/update/delta", `{"state":{"position":99}}`, true)
		b.publishOn("wilco/north/valve-1/state/update/delta", `nonsense`, false)
		synctest.Wait()
		if calls != 3 {
			t.Error("a retained or damaged delta was obeyed")
		}
		b.end(nil, nil)
	})
}

func TestReportsSurviveALossOfPower(t *testing.T) {
	for keep, want := range map[bool]string{true: `update {"a":1,"old":null}`, false: `update {"b":2}`} {
		synctest.Test(t, func(t *testing.T) {
			var r *device.Replica[map[string]int]
			journal := new(device.MemoryJournal)
			boot := func(s *server) *bench {
				return start(t, s, journal, nil, func(d *device.Device) {
					var o []device.ReplicaOption
					if keep {
						o = append(o, device.KeepReports())
					}
					r = device.NewReplica[map[string]int](d, o...)
				})
			}
			s := &server{t: t, down: true}
			b := boot(s)
			for i := range 2 {
				if err := r.Report(map[string]int{"a": i}); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			b.end(device.ErrPowerLoss, device.ErrPowerLoss)
			b = boot(&server{t: t})
			b.talks("get")
			if !keep {
				if err := r.Report(map[string]int{"b": 2}); err != nil {
					t.Fatal(err)
				}
			}
			b.whole(`{"old":7}`, `{}`)
			b.talks(want)
			b.end(nil, nil)
		})
	}
}
