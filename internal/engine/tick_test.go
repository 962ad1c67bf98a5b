package engine

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/wire"
)

// A clock that was put back between the timer and the turn finds nothing due.
func TestATickThatComesTooEarlyComesAgain(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		c := r.send(valve, "open", command.Policy{DeliverBy: command.Duration(time.Minute)})
		s := r.e.shard(valve)
		s.timers.remove(c.TID)
		s.add(&tickJob{tid: c.TID, device: s.devices[valve]})
		synctest.Wait()
		r.expect(c.TID, command.Created, command.Requested)
		r.pass(2 * time.Minute)
		r.expect(c.TID, command.Expired, command.DeliverByPassed)
	})
}

// A thousand commands for one device, with those of another behind them: each
// device has its order, and neither keeps the other waiting for its window.
func TestAThousandForOneDeviceDoNotHoldUpAnother(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.register(lamp, 2)
		r.online(valve, "b1")
		r.online(lamp, "b1")
		reqs := make([]Request, 1000, 1001)
		for i := range reqs {
			reqs[i] = Request{Device: valve, Name: "open"}
		}
		made, err := r.e.Create(t.Context(), append(reqs, Request{Device: lamp, Name: "on"}))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		docs := r.link.take()
		if len(docs) != 2 {
			t.Fatalf("%d publications", len(docs))
		}
		r.expect(made[1000].Command.TID, command.Sent, command.TurnCame)
		for i := range 1000 {
			if i > 0 {
				if docs = r.link.take(); len(docs) != 1 {
					t.Fatalf("%d publications after the end of %d", len(docs), i-1)
				}
			} else if docs[0].Cmd != "open" {
				docs[0] = docs[1]
			}
			if docs[0].TID != made[i].Command.TID.String() || docs[0].Seq != int64(i+1) {
				t.Fatalf("%d: %+v, want %s", i, docs[0], made[i].Command.TID)
			}
			r.answer(valve, docs[0].TID, "result", "SUCCESS")
		}
	})
}

// The cache is bounded also while nothing is written: repeated old results are
// only looked up.
func TestTheCacheIsBoundedByWhatIsRead(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		var tids []string
		for range 60 {
			tids = append(tids, r.send(valve, "open", command.Policy{}).TID.String())
		}
		for _, tid := range tids {
			r.answer(valve, tid, "result", "SUCCESS")
		}
		s := r.e.shard(valve)
		r.e.opt.Cache = 10 * len(r.e.shards)
		for i := range tids {
			for _, tid := range tids[i:min(i+2, len(tids))] { // two are read together
				r.e.Receive(Message{Topic: "wilco/plant/valve-1/ack", Payload: []byte(`{"tid":"` + tid + `","status":"RECEIVED"}`), Ack: func() {}})
			}
			r.pass(ackPatience)
		}
		if n := len(s.cache); n > 10 {
			t.Errorf("%d commands are cached", n)
		}
	})
}

func TestADamagedCommandHoldsUpNeitherTheOthersNorTheLog(t *testing.T) {
	second := wire.Address{Group: "plant", Device: "valve-2"}
	bubble(t, func(t *testing.T, r *rig) {
		r.register(second, 1)
		r.online(valve, "b1")
		r.online(second, "b1")
		c := r.send(valve, "open", command.Policy{})
		r.stop()
		var log countingHandler
		r.log = &log
		r.store.damage(c.TID)
		r.restart() // nothing is cached
		r.answer(valve, c.TID.String(), "ack", "RECEIVED")
		r.pass(10 * time.Second)
		other := r.send(second, "open", command.Policy{})
		r.answer(second, other.TID.String(), "result", "SUCCESS")
		r.expect(other.TID, command.Executed, command.DeviceSucceeded)
		if r.acked["RECEIVED"] != 0 || r.acked["SUCCESS"] != 1 {
			t.Errorf("acknowledged %v", r.acked)
		}
		if n := log.n.Load(); n == 0 || n > 12 {
			t.Errorf("%d lines in the log", n)
		}
		r.store.damage(command.TID{})
		r.pass(time.Second)
		if r.acked["RECEIVED"] != 1 {
			t.Errorf("acknowledged %v after the repair", r.acked)
		}
	})
}

type countingHandler struct {
	slog.Handler
	n atomic.Int64
}

func (h *countingHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h *countingHandler) Handle(context.Context, slog.Record) error {
	h.n.Add(1)
	return nil
}
