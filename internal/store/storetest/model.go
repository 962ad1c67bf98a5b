package storetest

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// oracle is the simplest thing that does what a store must do.
type oracle struct {
	commands map[command.TID]command.Command
	docs     map[store.DocumentID]store.Document
	events   []store.Event
	devices  map[wire.Address]store.Device
}

// commit is the rules of package store, one by one.
func (o *oracle) commit(b store.Batch) (culprits []command.TID, ok bool) {
	next := maps.Clone(o.commands)
	for _, w := range b.Commands {
		c := w.Command
		old, exists := next[c.TID]
		ok := exists && old.Version == w.Was || !exists && w.Was == 0
		if ok && w.Was == 0 && c.Key != "" {
			for _, x := range next {
				ok = ok && (x.Device != c.Device || x.Key != c.Key)
			}
		}
		if ok {
			next[c.TID] = c
		} else if !slices.Contains(culprits, c.TID) {
			culprits = append(culprits, c.TID)
		}
	}
	docs, documents := maps.Clone(o.docs), 0
	for _, w := range b.Documents {
		switch d := docs[w.DocumentID]; {
		case d.Version != w.Was:
			documents++
		case w.Body == nil:
			delete(docs, w.DocumentID)
		default:
			docs[w.DocumentID] = store.Document{DocumentID: w.DocumentID, Version: d.Version + 1, Body: w.Body}
		}
	}
	if culprits != nil || documents > 0 {
		return culprits, false
	}
	o.commands, o.docs = next, docs
	for _, p := range b.Presence {
		if d, ok := o.devices[p.Device]; ok {
			d.Presence = p
			o.devices[p.Device] = d
		}
	}
	for _, e := range b.Events {
		e.ID = int64(len(o.events) + 1)
		o.events = append(o.events, e)
	}
	return nil, true
}

func (o *oracle) purge(before time.Time) (n int) {
	for id, c := range o.commands {
		if c.Final() && c.Ended.Before(before) {
			delete(o.commands, id)
			n++
		}
	}
	return n
}

func (o *oracle) sorted() []command.Command {
	return slices.SortedFunc(maps.Values(o.commands), func(a, b command.Command) int { return slices.Compare(a.TID[:], b.TID[:]) })
}

// model runs random operations on the store and on the oracle, and compares all
// that can be seen.
func model(s *suite) {
	rapid.Check(s.T, func(t *rapid.T) {
		// One store for all runs, emptied at the beginning of each: to make a new
		// file takes longer than a run.
		m := &run{T: t, suite: s, oracle: &oracle{commands: map[command.TID]command.Command{},
			docs: map[store.DocumentID]store.Document{}, devices: map[wire.Address]store.Device{}}}
		m.fresh()
		t.Repeat(map[string]func(*rapid.T){
			"commit": m.commitRandom, "device": m.device, "purge": m.purgeRandom, "reopen": func(*rapid.T) { m.restart() }, "": m.compare,
		})
	})
}

// run is one random run.
type run struct {
	*rapid.T
	suite *suite
	*oracle
	base int64 // events that earlier runs have left
}

// fresh empties the suite's store of what an earlier run has left.
func (m *run) fresh() {
	s := m.suite
	for d, err := range s.AllDevices(s.ctx) {
		m.must(err)
		m.must(s.RemoveDevice(s.ctx, d.Address))
	}
	for {
		var left []store.CommandWrite
		page, _, err := s.List(s.ctx, store.Query{Limit: 1000})
		m.must(err)
		for _, c := range page {
			if !c.Final() {
				left = append(left, writes(in(c, command.Executed, epoch))...)
			}
		}
		_, err = s.Commit(s.ctx, &store.Batch{Commands: left})
		m.must(err)
		if len(page) == 0 {
			break
		}
		_, err = s.Purge(s.ctx, epoch.Add(1000*time.Hour), 0)
		m.must(err)
	}
	for _, kind := range modelKinds {
		list, err := s.Store.Documents(s.ctx, kind, "", "", 0)
		m.must(err)
		for _, d := range list {
			_, err := s.Commit(s.ctx, &store.Batch{Documents: []store.DocumentWrite{{DocumentID: d.DocumentID, Was: d.Version}}})
			m.must(err)
		}
	}
	var err error
	m.base, err = s.LastEvent(s.ctx)
	m.must(err)
}

func (m *run) must(err error) {
	if err != nil {
		m.Fatal(err)
	}
}

func (m *run) restart() {
	m.must(m.suite.Close())
	m.suite.Store = m.suite.open()
}

var modelKinds = []store.Kind{kindA, kindB}

var modelDevices = []wire.Address{pump, valve, other}

// modelKeys are the idempotency keys of commands 1 to 8, which never change: 1 and
// 4 are of one device and have the same, so have 2 and 8.
var modelKeys = [...]string{1: "a", 2: "b", 4: "a", 5: "a", 8: "b"}

// commitRandom commits changes of commands that exist and new ones; some expect a
// version, or take a key, that they must not.
func (m *run) commitRandom(t *rapid.T) {
	var b store.Batch
	for range rapid.IntRange(0, 4).Draw(t, "writes") {
		n := rapid.IntRange(1, 8).Draw(t, "n")
		c := made(n, modelDevices[n%3])
		was := int64(0)
		if old, ok := m.commands[c.TID]; ok && rapid.IntRange(0, 5).Draw(t, "new") > 0 {
			c, was = old, old.Version
			// A closed one is not opened again; everything else is any state.
			if state := rapid.SampledFrom(command.States).Draw(t, "state"); !c.Final() {
				c = in(c, state, epoch.Add(time.Duration(rapid.IntRange(0, 5).Draw(t, "hour"))*time.Hour))
			} else {
				c.Version, c.Anomalies = c.Version+1, c.Anomalies+1
			}
		} else if c.Key = modelKeys[n]; c.Key != "" {
			c.Digest = "d"
		}
		if rapid.IntRange(0, 9).Draw(t, "stale") == 0 {
			was += rapid.Int64Range(-1, 1).Draw(t, "by")
			was = max(was, 0)
		}
		b.Commands = append(b.Commands, store.CommandWrite{Command: c, Was: was})
	}
	for range rapid.IntRange(0, 3).Draw(t, "documents") {
		kind := rapid.SampledFrom(modelKinds).Draw(t, "kind")
		key := rapid.SampledFrom([]string{"a", "ab", "b"}).Draw(t, "key")
		was := m.docs[store.DocumentID{Kind: kind, Key: key}].Version
		if rapid.IntRange(0, 9).Draw(t, "stale document") == 0 {
			was = rapid.Int64Range(0, 3).Draw(t, "was")
		}
		b.Documents = append(b.Documents, document(kind, key, was, rapid.SampledFrom([]string{"-", "", "x", "y"}).Draw(t, "body")))
	}
	for range rapid.IntRange(0, 3).Draw(t, "events") {
		b.Events = append(b.Events, happened(rapid.IntRange(0, 1000).Draw(t, "event")))
	}
	if a := rapid.SampledFrom(append(modelDevices, wire.Address{})).Draw(t, "presence"); a != (wire.Address{}) {
		b.Presence = append(b.Presence, store.Presence{Device: a, Known: true, Online: rapid.Bool().Draw(t, "online"), Seen: epoch})
	}
	want, ok := m.oracle.commit(b)
	last, err := m.suite.Commit(m.suite.ctx, &b)
	var conflict *store.ConflictError
	switch {
	case ok && err != nil, !ok && !errors.As(err, &conflict):
		t.Fatalf("got %v, want conflicts on %v", err, want)
	case !ok:
		order := func(a, b command.TID) int { return slices.Compare(a[:], b[:]) }
		if got := conflict.TIDs; !slices.Equal(slices.SortedFunc(slices.Values(got), order), slices.SortedFunc(slices.Values(want), order)) {
			t.Fatalf("culprits %v, want %v", got, want)
		}
	case last != m.base+int64(len(m.events)):
		t.Fatalf("last event %d, want %d", last, m.base+int64(len(m.events)))
	}
}

func (m *run) device(t *rapid.T) {
	a := rapid.SampledFrom(modelDevices).Draw(t, "device")
	s, old := m.suite, m.devices[a]
	if rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
		err := s.RemoveDevice(s.ctx, a)
		if (old.Version == 0) != (fault.CodeOf(err) == fault.NotFound) {
			t.Fatalf("remove: %v", err)
		}
		delete(m.devices, a)
		return
	}
	d := store.Device{Address: a, Note: rapid.String().Draw(t, "note"), Window: rapid.IntRange(0, 9).Draw(t, "window")}
	was := rapid.Int64Range(0, 2).Draw(t, "was")
	if err := s.PutDevice(s.ctx, d, was); (was == old.Version) != (err == nil) {
		t.Fatalf("put version %d over %d: %v", was, old.Version, err)
	} else if err == nil {
		d.Version, d.Presence = was+1, old.Presence
		d.Presence.Device = a
		m.devices[a] = d
	}
}

func (m *run) purgeRandom(t *rapid.T) {
	before := epoch.Add(time.Duration(rapid.IntRange(0, 6).Draw(t, "hour"))*time.Hour + time.Minute)
	m.oracle.purge(before)
	_, err := m.suite.Purge(m.suite.ctx, before, 0)
	m.must(err)
}

// compare asks both the same.
func (m *run) compare(t *rapid.T) {
	s, want := m.suite, m.sorted()
	got, next, err := s.List(s.ctx, store.Query{OldestFirst: true, Limit: 1000})
	m.must(err)
	if next != "" || text(got) != text(append([]command.Command{}, want...)) {
		t.Fatalf("commands\ngot  %s\nwant %s", text(got), text(want))
	}
	byDevice := map[wire.Address][]command.Command{}
	for _, c := range want {
		byDevice[c.Device] = append(byDevice[c.Device], c)
	}
	for _, a := range modelDevices {
		got := s.listed(store.Query{Group: a.Group, Device: a.Device, OldestFirst: true, Limit: 3})
		if text(got) != text(byDevice[a]) {
			t.Fatalf("commands of %s\ngot  %s\nwant %s", a, text(got), text(byDevice[a]))
		}
	}
	var open, wantOpen []store.Open
	wantCounts := map[command.State]int64{}
	for o, err := range s.OpenCommands(s.ctx) {
		m.must(err)
		open = append(open, o)
	}
	for _, c := range want {
		wantCounts[c.State]++
		if !c.Final() {
			wantOpen = append(wantOpen, store.Open{TID: c.TID, Device: c.Device, State: c.State, Wake: c.Wake, Priority: c.Priority(), Interlocked: c.Interlocked()})
		}
		if c.Key == "" {
			continue
		}
		if id, digest, err := s.CommandByKey(s.ctx, c.Device, c.Key); err != nil || id != c.TID || digest != c.Digest {
			t.Fatalf("key %s of %s: %s %v", c.Key, c.Device, id, err)
		}
	}
	if text(open) != text(wantOpen) {
		t.Fatalf("open\ngot  %s\nwant %s", text(open), text(wantOpen))
	}
	counts, err := s.Store.Counts(s.ctx, "")
	m.must(err)
	if !maps.Equal(counts, wantCounts) {
		t.Fatalf("counts %v, want %v", counts, wantCounts)
	}
	m.compareEvents(t)
	m.compareDocuments(t)
	var list []store.Device
	for d, err := range s.AllDevices(s.ctx) {
		m.must(err)
		list = append(list, d)
	}
	wantList := slices.SortedFunc(maps.Values(m.devices), func(a, b store.Device) int {
		return cmp.Compare(a.Address.String(), b.Address.String())
	})
	if text(list) != text(wantList) {
		t.Fatalf("devices\ngot  %s\nwant %s", text(list), text(wantList))
	}
}

// compareEvents compares those that have not been purged.
func (m *run) compareEvents(t *rapid.T) {
	s := m.suite
	first, err := s.FirstEvent(s.ctx)
	m.must(err)
	first = max(first, m.base+1)
	got, err := s.Store.Events(s.ctx, first-1, 10000)
	m.must(err)
	var want []store.Event
	for _, e := range m.events {
		if e.ID += m.base; e.ID >= first {
			want = append(want, e)
		}
	}
	if text(got) != text(want) {
		t.Fatalf("events from %d\ngot  %s\nwant %s", first, text(got), text(want))
	}
}

func (m *run) compareDocuments(t *rapid.T) {
	for _, kind := range modelKinds {
		got, err := m.suite.Store.Documents(m.suite.ctx, kind, "", "", 0)
		m.must(err)
		var want []store.Document
		for _, d := range m.docs {
			if d.Kind == kind {
				want = append(want, d)
			}
		}
		slices.SortFunc(want, func(a, b store.Document) int { return cmp.Compare(a.Key, b.Key) })
		if text(got) != text(want) {
			t.Fatalf("documents\ngot  %s\nwant %s", text(got), text(want))
		}
	}
}
