package device_test

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/device"
	"github.com/wilco-iot/wilco/wire"
)

// requestIf sends a command with a condition.
func (s *server) requestIf(tid, cmd, condition string) {
	s.send(wire.Command{TID: tid, Cmd: cmd, Status: wire.Request, If: json.RawMessage(condition)})
}

const (
	doorClosed = `{"path":"door","eq":"closed"}`
	justClosed = `{"path":"door","eq":"closed","maxAge":"10s"}`
)

// TestAConditionIsAskedWhenTheCommandBegins, of what the replica has reported, and
// not when it arrives.
func TestAConditionIsAskedWhenTheCommandBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r *device.Replica[map[string]any]
		b := start(t, &server{t: t}, new(device.MemoryJournal), nil, func(d *device.Device) {
			r = device.NewReplica[map[string]any](d)
			d.Handle("x", until(time.Minute))
		})
		report := func(v any) {
			t.Helper()
			if err := r.Report(map[string]any{"door": v}); err != nil {
				t.Fatal(err)
			}
		}
		b.requestIf("unknown", "x", doorClosed)
		b.expect("unknown", "ack RECEIVED", "result REJECTED (precondition_unmet)")
		report("closed")
		b.requestIf("runs", "x", doorClosed)
		b.requestIf("waits", "x", doorClosed)
		wait(30 * time.Second)
		report("open")
		wait(31 * time.Second)
		b.expect("waits", "ack RECEIVED", "result REJECTED (precondition_unmet)")
		report("closed")
		b.requestIf("fresh", "x", justClosed)
		b.requestIf("aged", "x", justClosed)
		wait(61 * time.Second)
		b.expect("aged", "ack RECEIVED", "result REJECTED (precondition_unmet)")
		wait(61 * time.Second)
		if got := b.log("fresh"); got[len(got)-1] != `result SUCCESS "done"` {
			t.Errorf("%q", got)
		}
		b.end(nil, nil)
	})
}

// TestAConditionAfterARestart: what goes on is not asked about again; of what had not
// begun, a kept report tells the value, and nobody knows its age.
func TestAConditionAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		journal, s := new(device.MemoryJournal), &server{t: t}
		var r *device.Replica[map[string]any]
		boot := func() *bench {
			return start(t, s, journal, nil, func(d *device.Device) {
				r = device.NewReplica[map[string]any](d, device.KeepReports())
				d.Handle("x", until(time.Hour), device.Resumable(until(time.Second)))
				d.Handle("y", until(time.Second))
			})
		}
		b := boot()
		if err := r.Report(map[string]any{"door": "closed"}); err != nil {
			t.Fatal(err)
		}
		b.requestIf("goes-on", "x", justClosed)
		b.requestIf("waits", "y", doorClosed)
		b.requestIf("aged", "y", justClosed)
		b.expect("goes-on", "ack RECEIVED")
		b.end(device.ErrPowerLoss, device.ErrPowerLoss)
		b = boot()
		wait(3 * time.Second)
		b.expect("goes-on", "ack RECEIVED", `result SUCCESS "done"`)
		b.expect("waits", "ack RECEIVED", "ack RECEIVED", `result SUCCESS "done"`)
		b.expect("aged", "ack RECEIVED", "ack RECEIVED", "result REJECTED (precondition_unmet)")
		b.end(nil, nil)
	})
}

// door is a program without a replica that knows of a door.
type door struct {
	v   any
	age time.Duration
}

func (d door) Value(path string) (any, time.Duration, bool) { return d.v, d.age, path == "door" }

func TestAConditionOfAProgramWithoutReplica(t *testing.T) {
	for name, c := range map[string]struct {
		reported  *door
		condition string
		runs      bool
	}{
		"holds":                {&door{v: "closed"}, justClosed, true},
		"is otherwise":         {&door{v: "open"}, doorClosed, false},
		"is too old":           {&door{v: "closed", age: time.Minute}, justClosed, false},
		"a number":             {&door{v: 3.0}, `{"path":"door","ge":3}`, true},
		"no JSON":              {&door{v: make(chan int)}, `{"path":"door","exists":true}`, false},
		"another path":         {&door{v: 1}, `{"path":"window","eq":1}`, false},
		"cannot be read":       {&door{v: 1}, `{"path":"door","newer":1}`, false},
		"nothing can be asked": {nil, doorClosed, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, &server{t: t}, new(device.MemoryJournal), func(cfg *device.Config) {
					if c.reported != nil {
						cfg.Reported = *c.reported
					}
				}, func(d *device.Device) {
					d.Handle("x", func(context.Context, *device.Request) (any, error) { return nil, nil })
				})
				b.requestIf("a", "x", c.condition)
				want := "result REJECTED (precondition_unmet)"
				if c.runs {
					want = "result SUCCESS"
				}
				b.expect("a", "ack RECEIVED", want)
				b.end(nil, nil)
			})
		})
	}
}
