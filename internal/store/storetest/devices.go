package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

func devices(s *suite) {
	d := store.Device{Address: pump, Secret: []byte{0, 1, 2}, Profile: "wilco", Window: 3, Tags: []string{"a", "é \""}, Note: "by the door", Via: other,
		Created: epoch, Rotated: epoch.Add(time.Hour)}
	s.no(s.PutDevice(s.ctx, d, 0))
	ask := func(want store.Device) {
		s.Helper()
		got, err := s.Device(s.ctx, want.Address)
		s.no(err)
		if want.Presence.Device = want.Address; text(got) != text(want) {
			s.Errorf("got  %s\nwant %s", text(got), text(want))
		}
	}
	d.Version = 1
	ask(d)
	s.fails(s.PutDevice(s.ctx, d, 0), fault.Exists)
	s.fails(s.PutDevice(s.ctx, d, 2), fault.Conflict)
	s.fails(s.PutDevice(s.ctx, store.Device{Address: valve}, 1), fault.NotFound)
	s.fails(s.PutDevice(s.ctx, store.Device{Address: wire.Address{Group: "a b", Device: "c"}}, 0), fault.Invalid)
	_, err := s.Device(s.ctx, valve)
	s.fails(err, fault.NotFound)

	d.Disabled, d.Secret, d.Tags, d.Note, d.Via = true, nil, nil, "", wire.Address{}
	s.no(s.PutDevice(s.ctx, d, 1))
	d.Version = 2
	ask(d)
	s.no(s.PutDevice(s.ctx, store.Device{Address: other}, 0))
	s.no(s.RemoveDevice(s.ctx, pump))
	s.fails(s.RemoveDevice(s.ctx, pump), fault.NotFound)
	_, err = s.Device(s.ctx, pump)
	s.fails(err, fault.NotFound)
	if _, err := s.Device(s.ctx, other); err != nil {
		s.Error(err)
	}
	s.no(s.PutDevice(s.ctx, store.Device{Address: pump}, 0)) // anew
	ask(store.Device{Address: pump, Version: 1})
}

func devicePages(s *suite) {
	var all []wire.Address
	for n := range 25 {
		a := wire.Address{Group: []string{"site", "site-2", "a"}[n%3], Device: fmt.Sprintf("d%02d", n)}
		d := store.Device{Address: a}
		if n%5 == 0 {
			d.Tags = []string{"edge", "old"}
		}
		s.no(s.PutDevice(s.ctx, d, 0))
		if n%2 == 0 {
			s.commit(store.Batch{Presence: []store.Presence{{Device: a, Known: true, Online: true}}})
		}
		all = append(all, a)
	}
	order := func(a, b wire.Address) int { return slices.Compare([]byte(a.String()), []byte(b.String())) }
	yes, no := true, false
	number := func(a wire.Address) (n int) {
		fmt.Sscanf(a.Device, "d%d", &n)
		return n
	}
	for name, c := range map[string]struct {
		q    store.DeviceQuery
		want func(wire.Address) bool
	}{
		"all":         {store.DeviceQuery{}, func(wire.Address) bool { return true }},
		"group":       {store.DeviceQuery{Group: "site"}, func(a wire.Address) bool { return a.Group == "site" }},
		"groups":      {store.DeviceQuery{Groups: []string{"none", "site"}}, func(a wire.Address) bool { return a.Group == "site" }},
		"tag":         {store.DeviceQuery{Tag: "edge"}, func(a wire.Address) bool { return number(a)%5 == 0 }},
		"part of tag": {store.DeviceQuery{Tag: "edg"}, func(wire.Address) bool { return false }},
		"online":      {store.DeviceQuery{Online: &yes}, func(a wire.Address) bool { return number(a)%2 == 0 }},
		"offline":     {store.DeviceQuery{Online: &no}, func(a wire.Address) bool { return number(a)%2 == 1 }},
		"all at once": {store.DeviceQuery{Group: "site", Tag: "old", Online: &yes}, func(a wire.Address) bool {
			return a.Group == "site" && number(a)%10 == 0
		}},
	} {
		want := slices.DeleteFunc(slices.Clone(all), func(a wire.Address) bool { return !c.want(a) })
		slices.SortFunc(want, order)
		for _, limit := range []int{0, 1, 7, 25} {
			var got []wire.Address
			for q, more := c.q, true; more; more = q.Cursor != "" {
				q.Limit = limit
				page, next, err := s.Store.Devices(s.ctx, q)
				s.no(err)
				for _, d := range page {
					got = append(got, d.Address)
				}
				q.Cursor = next
			}
			if !slices.Equal(got, want) {
				s.Errorf("%s, limit %d:\ngot  %v\nwant %v", name, limit, got, want)
			}
		}
	}
	slices.SortFunc(all, order)
	var got []wire.Address
	for d, err := range s.AllDevices(s.ctx) {
		s.no(err)
		got = append(got, d.Address)
	}
	if !slices.Equal(got, all) {
		s.Errorf("all devices: %v", got)
	}
	for range s.AllDevices(s.ctx) {
		break
	}
	if _, _, err := s.Store.Devices(s.ctx, store.DeviceQuery{Limit: 1001}); fault.CodeOf(err) != fault.Invalid {
		s.Error(err)
	}
}

func presence(s *suite) {
	s.no(s.PutDevice(s.ctx, store.Device{Address: pump, Note: "n"}, 0))
	p := store.Presence{Device: pump, Known: true, Online: true, Boot: "b2", Firmware: "1.2", Commands: []string{"move", "a \"b\""}, Since: epoch, Seen: epoch.Add(time.Second)}
	first := p
	first.Boot, first.Online, first.Commands = "b1", false, nil
	s.commit(store.Batch{Presence: []store.Presence{first, {Device: valve, Known: true}, p}})
	d, err := s.Device(s.ctx, pump)
	s.no(err)
	if text(d.Presence) != text(p) || d.Version != 1 {
		s.Errorf("got %+v, version %d", d.Presence, d.Version)
	}
	// Nobody has registered this one: passed over, and not made.
	_, err = s.Device(s.ctx, valve)
	s.fails(err, fault.NotFound)
	// Who changes a device has read its presence some time ago.
	d.Note, d.Presence = "changed", store.Presence{}
	s.no(s.PutDevice(s.ctx, d, 1))
	if d, err = s.Device(s.ctx, pump); err != nil || text(d.Presence) != text(p) || d.Note != "changed" {
		s.Errorf("got %+v, %v", d, err)
	}
	p.Commands = nil // of another boot, which says nothing of them
	s.commit(store.Batch{Presence: []store.Presence{p}})
	if d, err = s.Device(s.ctx, pump); err != nil || text(d.Presence) != text(p) {
		s.Errorf("got %+v, %v", d, err)
	}
	s.no(s.RemoveDevice(s.ctx, pump))
	s.no(s.PutDevice(s.ctx, store.Device{Address: pump}, 0))
	if d, err = s.Device(s.ctx, pump); err != nil || d.Presence.Known {
		s.Errorf("a new device has the presence of an old one: %+v, %v", d.Presence, err)
	}
}

// documentsGoWithTheirDevice: those of the kinds that are named, and no others.
func documentsGoWithTheirDevice(s *suite) {
	s.no(s.PutDevice(s.ctx, store.Device{Address: pump}, 0))
	key := pump.String()
	var b store.Batch
	for _, k := range []string{key, key + "/1", key + "/2", key + "-2", key + "0", "a/b"} {
		for _, kind := range []store.Kind{kindA, kindB} {
			b.Documents = append(b.Documents, store.DocumentWrite{DocumentID: store.DocumentID{Kind: kind, Key: k}, Body: []byte("{}")})
		}
	}
	s.commit(b)
	s.no(s.RemoveDevice(s.ctx, pump, kindA))
	for kind, want := range map[store.Kind]int{kindA: 3, kindB: 6} {
		if left, err := s.Documents(s.ctx, kind, "", "", 100); err != nil || len(left) != want {
			s.Errorf("%s: %d documents are left, want %d: %v", kind, len(left), want, err)
		}
	}
	s.fails(s.RemoveDevice(s.ctx, pump, kindB), fault.NotFound)
	if left, err := s.Documents(s.ctx, kindB, "", "", 100); err != nil || len(left) != 6 {
		s.Errorf("of a device that is not there: %d documents are left, %v", len(left), err)
	}
}

func anomalies(s *suite) {
	s.no(s.PutDevice(s.ctx, store.Device{Address: pump}, 0))
	s.no(s.PutDevice(s.ctx, store.Device{Address: other}, 0))
	odd := func(n int) store.Anomaly {
		return store.Anomaly{At: epoch.Add(time.Duration(n) * time.Second), Device: pump, Kind: "bad_document", TID: fmt.Sprint(n), Topic: "t/é", Detail: "tid: \"x\""}
	}
	const many = store.AnomaliesKept + 30
	for n := range many {
		s.commit(store.Batch{Anomalies: []store.Anomaly{odd(n)}})
	}
	got, err := s.Store.Anomalies(s.ctx, pump, 0)
	s.no(err)
	if len(got) != store.AnomaliesKept {
		s.Fatalf("%d are kept", len(got))
	}
	for i, a := range got {
		if a != odd(many-1-i) {
			s.Errorf("number %d: %+v", i, a)
		}
	}
	got, err = s.Store.Anomalies(s.ctx, pump, 3)
	s.no(err)
	if len(got) != 3 || got[0] != odd(many-1) {
		s.Errorf("the last three: %+v", got)
	}
	elsewhere := odd(1)
	elsewhere.Device = valve // not registered
	s.commit(store.Batch{Anomalies: []store.Anomaly{elsewhere, odd(500), odd(501)}})
	for a, want := range map[wire.Address]int{valve: 0, other: 0, pump: store.AnomaliesKept} {
		if got, err := s.Store.Anomalies(s.ctx, a, 1000); err != nil || len(got) != want {
			s.Errorf("%s has %d, %v", a, len(got), err)
		}
	}
	s.no(s.RemoveDevice(s.ctx, pump))
	s.no(s.PutDevice(s.ctx, store.Device{Address: pump}, 0))
	if got, err := s.Store.Anomalies(s.ctx, pump, 0); err != nil || len(got) != 0 {
		s.Errorf("a new device has the anomalies of an old one: %d, %v", len(got), err)
	}
}

func meta(s *suite) {
	ask := func(key string, want []byte) {
		s.Helper()
		got, err := s.Store.Meta(s.ctx, key)
		s.no(err)
		if (got == nil) != (want == nil) || string(got) != string(want) {
			s.Errorf("%s is %q", key, got)
		}
	}
	ask("k", nil)
	s.fails(s.SetMeta(s.ctx, "k", []byte("x"), []byte("was")), fault.Conflict)
	s.no(s.SetMeta(s.ctx, "k", []byte("one"), nil))
	s.fails(s.SetMeta(s.ctx, "k", []byte("x"), nil), fault.Conflict)
	s.fails(s.SetMeta(s.ctx, "k", []byte("x"), []byte("two")), fault.Conflict)
	ask("k", []byte("one"))
	s.no(s.SetMeta(s.ctx, "k", []byte{}, []byte("one")))
	ask("k", []byte{})
	s.fails(s.SetMeta(s.ctx, "k", []byte("x"), nil), fault.Conflict) // empty is not absent
	s.no(s.SetMeta(s.ctx, "k", []byte{0, 255}, []byte{}))
	ask("k", []byte{0, 255})
	s.no(s.SetMeta(s.ctx, "k", nil, []byte{0, 255}))
	ask("k", nil)
	ask("other", nil)
}
