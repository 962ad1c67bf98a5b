package engine

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// lamp speaks a profile without presence: only the directory can hold it back.
var lamp = wire.Address{Group: wire.AtlasGroup, Device: "lamp"}

func (r *rig) change(a wire.Address, f func(*store.Device)) {
	r.dir.mu.Lock()
	defer r.dir.mu.Unlock()
	d := r.dir.devices[a]
	f(&d)
	r.dir.devices[a] = d
}

func TestADeviceWithoutPresenceThatIsDisabledGetsNothing(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.register(lamp, 1)
		r.change(lamp, func(d *store.Device) { d.Profile = "atlas" })
		policy := command.Policy{AckBy: command.Duration(time.Hour)}
		first, second := r.send(lamp, "on", policy), r.send(lamp, "off", policy)
		r.expect(first.TID, command.Sent, command.TurnCame)
		r.change(lamp, func(d *store.Device) { d.Disabled = true })
		r.e.Gone(lamp)
		r.receive(Message{Topic: "commands/lamp/ack", Payload: []byte(`{"tid":"` + first.TID.String() + `","status":"SUCCESS"}`)}, "result")
		r.pass(time.Hour)
		r.expect(second.TID, command.Created, command.Requested)
		if n := len(r.link.take()); n != 1 {
			t.Errorf("%d publications, want the one before", n)
		}
		r.change(lamp, func(d *store.Device) { d.Disabled = false })
		r.pass(2 * clockCheck)
		r.expect(second.TID, command.Sent, command.TurnCame)
	})
}

func TestADeviceWithoutPresenceThatIsRemovedGetsNothing(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.register(lamp, 1)
		r.change(lamp, func(d *store.Device) { d.Profile = "atlas" })
		policy := command.Policy{DeliverBy: command.Duration(time.Hour), FinishBy: command.Duration(time.Hour)}
		first, second := r.send(lamp, "on", policy), r.send(lamp, "off", policy)
		r.link.take()
		r.dir.remove(lamp)
		r.e.Gone(lamp)
		r.pass(2 * time.Hour)
		if docs := r.link.take(); len(docs) != 0 {
			t.Errorf("published to nobody: %+v", docs)
		}
		r.expect(second.TID, command.Expired, command.DeliverByPassed)
		if c, _ := r.store.Command(t.Context(), first.TID); c.State != command.TimedOut {
			t.Errorf("sent and never answered: %s", c.State)
		}
	})
}

func TestANewWindowHoldsFromTheNextTurnOn(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.change(valve, func(d *store.Device) { d.Window = 3 })
		for range 6 {
			r.send(valve, "open", command.Policy{})
		}
		r.online(valve, "b1")
		docs := r.link.take()
		if len(docs) != 3 {
			t.Fatalf("%d in flight", len(docs))
		}
		r.change(valve, func(d *store.Device) { d.Window = 1 })
		for _, d := range docs[:2] {
			r.answer(valve, d.TID, "result", "SUCCESS")
		}
		if more := r.link.take(); len(more) != 0 {
			t.Errorf("%d more than the window has", len(more))
		}
		r.answer(valve, docs[2].TID, "result", "SUCCESS")
		if more := r.link.take(); len(more) != 1 {
			t.Errorf("%d sent, want 1", len(more))
		}
	})
}

// After a restart of the broker nobody is connected: the store must not go on
// saying of a device that never comes back that it is there, whatever the broker
// has kept of what devices said before.
func TestNobodyIsOnlineAfterARestartOfTheBroker(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		c := r.send(valve, "open", command.Policy{})
		r.link.take()
		r.stop()
		r.nobody, r.closed = true, true
		r.restart()
		r.online(valve, "b1") // retained, or queued before the restart
		d, err := r.store.Device(t.Context(), valve)
		if err != nil {
			t.Fatal(err)
		}
		if d.Presence.Online || r.e.Presence(valve).Online {
			t.Errorf("store %+v, engine %+v", d.Presence, r.e.Presence(valve))
		}
		if docs := r.link.take(); len(docs) != 0 {
			t.Errorf("published %+v", docs)
		}
		r.e.Admit()
		r.online(valve, "b1")
		if docs := r.link.take(); len(docs) != 1 || docs[0].TID != c.TID.String() {
			t.Errorf("published %+v", docs)
		}
		events, err := r.store.Events(t.Context(), 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		var online []bool
		for _, e := range events {
			if e.Type == store.EventDevice {
				online = append(online, *e.Online)
			}
		}
		if !slices.Equal(online, []bool{true, false, true}) {
			t.Errorf("events say online %v", online)
		}
	})
}

func TestAClockPutBackBeforeARestartKeepsTheOrder(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.stop()
		future := uuid.Must(uuid.NewV7())
		setStamp(&future, stamp(future)+uint64(time.Hour/time.Millisecond)<<12)
		c, err := command.New(future, valve, "first", nil, command.Policy{}, "test", nil, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.store.Store.Commit(t.Context(), &store.Batch{Commands: []store.CommandWrite{{Command: c}}}); err != nil {
			t.Fatal(err)
		}
		r.restart()
		last := future
		for range 3 {
			next := r.send(valve, "next", command.Policy{}).TID
			if next.String() <= last.String() || next.Version() != 7 || next.Variant() != uuid.RFC4122 {
				t.Errorf("%s after %s", next, last)
			}
			last = next
		}
		r.online(valve, "b1")
		if docs := r.link.take(); len(docs) != 1 || docs[0].TID != future.String() {
			t.Errorf("published %+v", docs)
		}
	})
}

func TestNoSleepIsSoLongThatAClockPutForwardIsMissed(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		s := newShard(r.e)
		if p := s.pause(); p > clockCheck {
			t.Error(p)
		}
		s.timers.set(uuid.New(), nil, time.Now().Add(time.Hour))
		if p := s.pause(); p > clockCheck {
			t.Error(p)
		}
		synctest.Wait()
	})
}

// A commit that fails must not let what was said before a restart pass for what
// was said after it.
func TestAFailedCommitDoesNotAdmit(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.stop()
		r.nobody, r.closed = true, true
		r.restart()
		r.store.failWith(errors.New("disk full"))
		r.e.Receive(Message{Topic: "wilco/plant/valve-1/status", Payload: []byte(`{"online":true,"boot":"b1"}`), Ack: func() {}})
		r.e.Admit()
		r.pass(time.Second)
		r.store.failWith(nil)
		r.pass(10 * time.Second)
		if p := r.e.Presence(valve); !p.Known || p.Online {
			t.Errorf("%+v", p)
		}
	})
}
