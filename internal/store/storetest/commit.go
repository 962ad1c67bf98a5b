package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

func commitIsWholeOrNothing(s *suite) {
	a, b := made(1, pump), made(2, pump)
	s.no(s.PutDevice(s.ctx, store.Device{Address: pump}, 0))
	s.put(a)
	late := in(b, command.Sent, epoch)
	culprits := s.conflicts(store.Batch{
		Commands:  append(writes(in(a, command.Sent, epoch), made(3, pump)), writes(late)...),
		Presence:  []store.Presence{{Device: pump, Known: true, Online: true}},
		Anomalies: []store.Anomaly{{At: epoch, Device: pump, Kind: "x"}},
		Events:    []store.Event{{Type: store.EventCommand, At: epoch}},
	})
	if !slices.Equal(culprits, []command.TID{b.TID}) {
		s.Errorf("culprits %v", culprits)
	}
	s.is(a)
	_, err := s.Command(s.ctx, made(3, pump).TID)
	s.fails(err, fault.NotFound)
	if d, err := s.Device(s.ctx, pump); err != nil || d.Presence.Known {
		s.Errorf("presence %+v, %v", d.Presence, err)
	}
	if list, err := s.Store.Anomalies(s.ctx, pump, 0); err != nil || len(list) > 0 {
		s.Errorf("anomalies %v, %v", list, err)
	}
	if last, err := s.LastEvent(s.ctx); err != nil || last != 0 {
		s.Errorf("last event %d, %v", last, err)
	}
	if last := s.commit(store.Batch{}); last != 0 {
		s.Errorf("an empty batch answers %d", last)
	}
}

func commitSwapsVersions(s *suite) {
	a := made(1, pump)
	s.put(a)
	s.is(a)
	b := in(a, command.Sent, epoch)
	s.put(b)
	s.is(b)
	for name, w := range map[string]store.CommandWrite{
		"made twice":    {Command: a, Was: 0},
		"older version": {Command: b, Was: 1},
		"newer version": {Command: b, Was: 3},
		"not there":     {Command: made(2, pump), Was: 1},
	} {
		if got := s.conflicts(store.Batch{Commands: []store.CommandWrite{w}}); !slices.Equal(got, []command.TID{w.Command.TID}) {
			s.Errorf("%s: culprits %v", name, got)
		}
		s.is(b)
	}
	// Through its end and beyond: an anomaly may be noted on a command that ended.
	c := in(b, command.Executed, epoch.Add(time.Second))
	s.put(c)
	d := c
	d.Version, d.Anomalies = d.Version+1, 1
	s.put(d)
	s.is(d)
	// Several versions of one command in a batch follow each other.
	x := made(3, pump)
	y := in(x, command.Sent, epoch)
	s.put(x, y, in(y, command.Failed, epoch))
	s.is(in(y, command.Failed, epoch))
	// A store does not decide: also a way back is swapped in.
	back := in(d, command.Created, epoch)
	back.Ended = time.Time{}
	s.put(back)
	s.is(back)
	if n, err := s.Store.Counts(s.ctx, ""); err != nil || n[command.Executed] != 0 || n[command.Created] != 1 || n[command.Failed] != 1 {
		s.Errorf("counts %v, %v", n, err)
	}
}

func conflictNamesAllCulprits(s *suite) {
	var have, want []command.Command
	for n := range 6 {
		have = append(have, made(n+1, pump))
	}
	s.put(have...)
	var culprits []command.TID
	for n, c := range have {
		c = in(c, command.Sent, epoch)
		if n%2 == 1 {
			c.Version += 5
			culprits = append(culprits, c.TID)
		}
		want = append(want, c)
	}
	got := s.conflicts(store.Batch{Commands: writes(want...)})
	slices.SortFunc(got, func(a, b command.TID) int { return slices.Compare(a[:], b[:]) })
	if !slices.Equal(got, culprits) {
		s.Errorf("got %v, want %v", got, culprits)
	}
	for _, c := range have {
		s.is(c)
	}
}

// conflictsTouchNobodyElse: many callers commit at once, a third of them what is
// refused. The others' batches are all there, and nothing of the refused ones.
func conflictsTouchNobodyElse(s *suite) {
	const callers, rounds = 9, 20
	taken := made(1, valve)
	s.put(taken)
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			for round := range rounds {
				c := made(100+caller*rounds+round, pump)
				b := store.Batch{Commands: writes(c), Events: []store.Event{{Type: store.EventCommand, At: epoch, TID: &c.TID, By: fmt.Sprint(caller)}}}
				refused := caller%3 == 0
				if refused {
					b.Commands = append(b.Commands, writes(taken)...)
				}
				_, err := s.Commit(s.ctx, &b)
				var conflict *store.ConflictError
				if errors.As(err, &conflict) != refused || !refused && err != nil {
					s.Errorf("caller %d: %v", caller, err)
				}
			}
		})
	}
	wg.Wait()
	for caller := range callers {
		for round := range rounds {
			c := made(100+caller*rounds+round, pump)
			_, err := s.Command(s.ctx, c.TID)
			if caller%3 == 0 {
				s.fails(err, fault.NotFound)
			} else if err != nil {
				s.Error(err)
			}
		}
	}
	events, err := s.Store.Events(s.ctx, 0, 1000)
	s.no(err)
	if want := rounds * callers * 2 / 3; len(events) != want || events[want-1].ID != int64(want) {
		s.Errorf("%d events, want %d without gaps", len(events), want)
	}
}

func keysAreUniquePerDevice(s *suite) {
	keyed := func(n int, device wire.Address, key string) command.Command {
		c := made(n, device)
		c.Key, c.Digest = key, "digest"+key
		return c
	}
	first := keyed(1, pump, "k")
	s.put(first, made(2, pump), made(3, pump)) // without a key nothing is unique
	if got := s.conflicts(store.Batch{Commands: writes(keyed(4, pump, "k"))}); !slices.Equal(got, []command.TID{keyed(4, pump, "k").TID}) {
		s.Errorf("culprits %v", got)
	}
	if got := s.conflicts(store.Batch{Commands: writes(keyed(5, pump, "twice"), keyed(6, pump, "twice"))}); !slices.Equal(got, []command.TID{keyed(6, pump, "twice").TID}) {
		s.Errorf("twice in a batch: culprits %v", got)
	}
	s.put(keyed(7, valve, "k"), keyed(8, pump, "K"), keyed(9, pump, "twice"))
	// The key stays taken when the command has ended.
	s.put(in(first, command.Executed, epoch))
	s.conflicts(store.Batch{Commands: writes(keyed(10, pump, "k"))})

	id, digest, err := s.CommandByKey(s.ctx, pump, "k")
	s.no(err)
	if id != first.TID || digest != "digestk" {
		s.Errorf("got %s %q", id, digest)
	}
	for _, key := range []string{"", "nobody's"} {
		_, _, err = s.CommandByKey(s.ctx, pump, key)
		s.fails(err, fault.NotFound)
	}
	_, _, err = s.CommandByKey(s.ctx, other, "k")
	s.fails(err, fault.NotFound)
}

func batchBelongsToItsCaller(s *suite) {
	a := made(1, pump)
	b := store.Batch{Commands: writes(a), Events: []store.Event{{Type: store.EventCommand, At: epoch, By: "ops"}}}
	_, err := s.Commit(s.ctx, &b)
	s.no(err)
	if b.Events[0].ID != 0 || b.Events[0].By != "ops" || text(b.Commands[0].Command) != text(a) {
		s.Error("the store changed its caller's batch")
	}
	b.Commands[0].Command.Name = "changed"
	s.is(a)
}

func reopenKeepsEverything(s *suite) {
	a, b := made(1, pump), made(2, valve)
	a.Key, a.Digest = "k", "d"
	s.no(s.PutDevice(s.ctx, store.Device{Address: pump, Tags: []string{"x"}}, 0))
	s.no(s.SetMeta(s.ctx, "m", []byte("v"), nil))
	s.commit(store.Batch{Commands: writes(a, b), Presence: []store.Presence{{Device: pump, Known: true, Seen: epoch}},
		Anomalies: []store.Anomaly{{At: epoch, Device: pump, Kind: "x"}}, Events: []store.Event{{Type: store.EventCommand, At: epoch}}})
	s.put(in(a, command.Executed, epoch))
	for range 2 {
		s.reopen()
		s.is(in(a, command.Executed, epoch))
		s.is(b)
		d, err := s.Device(s.ctx, pump)
		s.no(err)
		if !d.Presence.Known || len(d.Tags) != 1 {
			s.Errorf("device %+v", d)
		}
		if list, err := s.Store.Anomalies(s.ctx, pump, 0); err != nil || len(list) != 1 {
			s.Errorf("anomalies %v, %v", list, err)
		}
		if v, err := s.Store.Meta(s.ctx, "m"); err != nil || string(v) != "v" {
			s.Errorf("meta %q, %v", v, err)
		}
		if n, err := s.Store.Counts(s.ctx, ""); err != nil || n[command.Executed] != 1 || n[command.Created] != 1 {
			s.Errorf("counts %v, %v", n, err)
		}
		if last, err := s.LastEvent(s.ctx); err != nil || last != 1 {
			s.Errorf("last event %d, %v", last, err)
		}
	}
	if last := s.commit(store.Batch{Events: []store.Event{{Type: store.EventDevice, At: epoch}}}); last != 2 {
		s.Errorf("events go on with %d", last)
	}
}

func commandsKeepEverything(s *suite) {
	percent, by := 12.5, tid(epoch, 99)
	c := made(1, pump)
	c.Params = json.RawMessage(`{"text":"é <&> \u2028 \"quoted\"","list":[1,2.5e3,null,true]}`)
	c.RetryOf, c.SupersededBy = &by, &by
	c.Detail, c.Boot, c.RequestedBy = "Größe \x01 \"x\"", "b-1", "o'ps; DROP TABLE commands"
	c.Progress = &wire.Progress{Percent: &percent, Note: "half"}
	c.Result, c.DeviceState = json.RawMessage(`[]`), json.RawMessage(`"on"`)
	c.FirstSent, c.LastSent, c.Acked = epoch, epoch.Add(time.Millisecond), epoch.Add(time.Hour)
	c.Attempt, c.Epoch, c.Seq, c.Parked, c.CancelAsked = 3, 1<<40, 9, true, true
	c.Approval = &command.Approval{Rule: "always", Quorum: 2, Digest: "d", Expires: epoch.Add(time.Second),
		Votes: []command.Vote{{By: "bo", At: epoch, Why: "looks right"}}}
	c.State, c.Closed, c.TimedOutAt, c.Ended = command.TimedOut, true, epoch, epoch.Add(time.Minute)
	for n := range 100 {
		c.Timeline = append(c.Timeline, command.Entry{At: epoch, Kind: command.Tick, State: command.Sent, Reason: command.NoAckYet,
			Count: n, Until: epoch.Add(time.Duration(n) * time.Second), Anomaly: n%2 == 0})
	}
	s.put(c)
	s.is(c)
	found, err := s.Commands(s.ctx, []command.TID{tid(epoch, 5), c.TID, tid(epoch, 6)})
	s.no(err)
	if len(found) != 1 || text(found[0]) != text(c) {
		s.Errorf("found %d", len(found))
	}
	if found, err := s.Commands(s.ctx, nil); err != nil || len(found) != 0 {
		s.Errorf("found %v, %v", found, err)
	}
	_, err = s.Command(s.ctx, tid(epoch, 5))
	s.fails(err, fault.NotFound)
}

func endedContexts(s *suite) {
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	a := made(1, pump)
	if _, err := s.Commit(ctx, &store.Batch{Commands: writes(a)}); !errors.Is(err, context.Canceled) {
		s.Errorf("commit: %v", err)
	}
	// It may have taken effect: either way the store goes on.
	if _, err := s.Command(s.ctx, a.TID); err != nil {
		s.fails(err, fault.NotFound)
	}
	s.put(made(2, pump))
	if _, _, err := s.List(ctx, store.Query{}); !errors.Is(err, context.Canceled) {
		s.Errorf("list: %v", err)
	}
	s.is(made(2, pump))
}

func closed(s *suite) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var kept []command.Command
	started := make(chan struct{}, 8)
	for n := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				c := made(1+n*10000+i, pump)
				_, err := s.Commit(s.ctx, &store.Batch{Commands: writes(c)})
				if err != nil {
					s.fails(err, fault.Unavailable)
					return
				}
				mu.Lock()
				kept = append(kept, c)
				mu.Unlock()
				if i == 0 {
					started <- struct{}{}
				}
			}
		})
	}
	for range 8 {
		<-started
	}
	for range 3 {
		wg.Go(func() {
			if err := s.Close(); err != nil {
				s.Error(err)
			}
		})
	}
	wg.Wait()
	_, err := s.Command(s.ctx, kept[0].TID)
	s.fails(err, fault.Unavailable)
	s.fails(s.PutDevice(s.ctx, store.Device{Address: pump}, 0), fault.Unavailable)
	s.reopen()
	for _, c := range kept {
		s.is(c)
	}
}
