package replica

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wilco-iot/wilco/wire/state"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.UTC)

func object(t testing.TB, s string) state.Object {
	t.Helper()
	o, err := state.Parse([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func report(t testing.TB, r Replica, patch string, now time.Time) Replica {
	t.Helper()
	r, _, err := r.Report(Report{Patch: object(t, patch), Boot: "b1"}, now)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestDesireAndReport(t *testing.T) {
	var r Replica
	r, rev, err := r.Desire(Change{Patch: object(t, `{"valve":{"position":40},"mode":"auto"}`), By: "ada", Why: "dry", TID: "t1"}, start)
	if err != nil || rev == nil || rev.Version != 1 || rev.Side != Desired || rev.By != "ada" || rev.Why != "dry" || rev.TID != "t1" {
		t.Fatalf("%+v, %v", rev, err)
	}
	if rev.At != start.Truncate(time.Millisecond) {
		t.Errorf("at %v", rev.At)
	}
	if got := r.Pending(); !reflect.DeepEqual(got, []string{"mode", "valve.position"}) {
		t.Errorf("pending %v", got)
	}
	if len(r.Reported) != 0 {
		t.Errorf("reported %v though the device has said nothing", r.Reported)
	}
	r = report(t, r, `{"valve":{"position":40,"temp":21}}`, start.Add(time.Second))
	if got := r.Delta().String(); got != `{"mode":"auto"}` {
		t.Errorf("delta %s", got)
	}
	if r.Version != 2 || r.DesiredVersion != 1 {
		t.Errorf("versions %d, %d", r.Version, r.DesiredVersion)
	}

	same, rev, err := r.Desire(Change{Patch: object(t, `{"mode":"auto","nothing":null}`), By: "bob"}, start)
	if err != nil || rev != nil || !reflect.DeepEqual(same, r) {
		t.Errorf("no change became %+v, %+v, %v", same, rev, err)
	}
	want := int64(2)
	_, _, err = r.Desire(Change{Patch: object(t, `{"mode":"off"}`), IfVersion: &want}, start)
	var conflict *ConflictError
	if !errors.As(err, &conflict) || conflict.Have != 1 || conflict.Want != 2 {
		t.Errorf("a patch for another version: %v", err)
	}
	want = 1
	if _, rev, err = r.Desire(Change{Patch: object(t, `{"mode":null}`), IfVersion: &want}, start); err != nil || rev.Patch.String() != `{"mode":null}` {
		t.Errorf("%+v, %v", rev, err)
	}

	// The same again is no change, but it is younger.
	again, rev, err := r.Report(Report{Patch: object(t, `{"valve":{"temp":21.0}}`), Boot: "b2"}, start.Add(time.Minute))
	if err != nil || rev != nil || again.Version != 2 {
		t.Errorf("said again: %+v, %v", rev, err)
	}
	if s := again.ReportedMeta["valve.temp"]; s.Version != 2 || !s.At.Equal(milliseconds(start.Add(time.Minute))) || s.Boot != "b2" {
		t.Errorf("stamp %+v", s)
	}
	if s := again.ReportedMeta["valve.position"]; !s.At.Equal(milliseconds(start.Add(time.Second))) {
		t.Errorf("what was not said again became younger: %+v", s)
	}
}

func TestTooLarge(t *testing.T) {
	var r Replica
	r = report(t, r, `{"a":"`+strings.Repeat("x", 40<<10)+`"}`, start)
	next, rev, err := r.Report(Report{Patch: object(t, `{"b":"`+strings.Repeat("x", 40<<10)+`"}`)}, start)
	var e *state.Error
	if !errors.As(err, &e) || rev != nil || !reflect.DeepEqual(next, r) {
		t.Errorf("%v", err)
	}
	if _, _, err = r.Desire(Change{Patch: object(t, `{"b":"`+strings.Repeat("x", 40<<10)+`"}`)}, start); err != nil {
		t.Errorf("each document has its own limit: %v", err)
	}
}

func TestAsOf(t *testing.T) {
	var r Replica
	r = report(t, r, `{"tank":{"level":1,"temp":2},"door":"open"}`, start)
	r = report(t, r, `{"tank":{"level":3}}`, start.Add(10*time.Second))
	seen := r.AsOf(milliseconds(start).Add(15 * time.Second))
	for path, want := range map[string]time.Duration{"tank.level": 5 * time.Second, "tank.temp": 15 * time.Second,
		"tank": 15 * time.Second, "door": 15 * time.Second} {
		if _, age, ok := seen.Value(path); !ok || age != want {
			t.Errorf("%s is %v old, %v", path, age, ok)
		}
	}
	if _, _, ok := seen.Value("lid"); ok {
		t.Error("there is a lid")
	}
}

func TestFormer(t *testing.T) {
	var r Replica
	r = report(t, r, `{"valve":{"position":10},"pump":{"rpm":5,"on":true}}`, start)
	r = report(t, r, `{"pump":{"rpm":6}}`, start)
	f := r.Former([]string{"valve.position", "lid", "pump"})
	raw, err := json.Marshal(f)
	const want = `{"version":2,"values":[{"path":"valve.position","value":10},{"path":"lid","absent":true},{"path":"pump","value":{"on":true,"rpm":6}}]}`
	if err != nil || string(raw) != want {
		t.Fatalf("got  %s, %v\nwant %s", raw, err, want)
	}
	var read Former
	if err := json.Unmarshal(raw, &read); err != nil || !reflect.DeepEqual(read, f) {
		t.Errorf("%s comes back as %+v, %v", raw, read, err)
	}
	for _, v := range read.Values {
		now, there := r.Reported.Get(v.Path)
		if !v.Is(now, there) || v.Is("else", true) || v.Is(nil, false) != v.Absent {
			t.Errorf("%s is %v %v", v.Path, now, there)
		}
	}
	for path, version := range map[string]int64{"pump": 2, "pump.on": 1, "valve": 1, "lid": 0, "pum": 0} {
		if s := Latest(r.ReportedMeta, path); s.Version != version {
			t.Errorf("%s was last changed at version %d, want %d", path, s.Version, version)
		}
	}
}

// TestHistory plays random patches against an oracle that looks at whole
// documents: the stamp of a leaf is that of the last report that said it, its
// version that of the last one that made it different.
func TestHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r Replica
		stamps := map[string]Stamp{}
		base := state.Object{}
		var revisions []*Revision
		for i := range rapid.IntRange(1, 12).Draw(t, "steps") {
			now := milliseconds(start).Add(time.Duration(i) * time.Second)
			patch := drawPatch(t, 3)
			before := r
			next, rev, err := r.Report(Report{Patch: patch, Boot: "b"}, now)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(before, r) {
				t.Fatal("the old replica was written to")
			}
			stamps = oracle(before.Reported, next.Reported, patch, stamps, now, next.Version)
			if !reflect.DeepEqual(next.ReportedMeta, stamps) {
				t.Fatalf("%s with %s: stamps %v, want %v", before.Reported, patch, next.ReportedMeta, stamps)
			}
			if (rev == nil) != state.Equal(before.Reported, next.Reported) || rev != nil && rev.Version != before.Version+1 {
				t.Fatalf("revision %+v", rev)
			}
			if rev != nil {
				revisions = append(revisions, rev)
			}
			r = next
		}
		for _, rev := range revisions {
			base = state.Merge(base, rev.Patch)
		}
		if !state.Equal(base, state.Merge(nil, r.Reported)) {
			t.Fatalf("the revisions make %s of %s", base, r.Reported)
		}
		raw, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var read Replica
		if err := json.Unmarshal(raw, &read); err != nil || !reflect.DeepEqual(read.ReportedMeta, r.ReportedMeta) && len(r.ReportedMeta) > 0 || !state.Equal(read.Reported, r.Reported) {
			t.Fatalf("%s comes back as %+v, %v", raw, read, err)
		}
	})
}

func oracle(before, after, patch state.Object, was map[string]Stamp, now time.Time, version int64) map[string]Stamp {
	old := map[string]any{}
	for path, v := range before.Leaves() {
		old[path] = v
	}
	said := map[string]bool{}
	for path := range patch.Leaves() {
		for ; path != ""; path = path[:max(strings.LastIndex(path, "."), 0)] {
			said[path] = true // and of {"a": {"b": null}} also "a", when nothing else is in it
		}
	}
	out := map[string]Stamp{}
	for path, v := range after.Leaves() {
		o, there := old[path]
		s, same := was[path], there && state.Equal(o, v)
		if !same {
			s = Stamp{Version: version}
		}
		if said[path] || !same {
			s.At, s.Boot = now, "b"
		}
		out[path] = s
	}
	return out
}

func drawPatch(t *rapid.T, depth int) state.Object {
	o := state.Object{}
	for range rapid.IntRange(0, 3).Draw(t, "members") {
		name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name")
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0, 1:
			if depth > 1 {
				o[name] = drawPatch(t, depth-1)
			} else {
				o[name] = "leaf"
			}
		case 2:
			o[name] = nil
		default:
			o[name] = rapid.SampledFrom([]any{json.Number("1"), json.Number("1.0"), json.Number("2")}).Draw(t, "value")
		}
	}
	return o
}

func BenchmarkReport(b *testing.B) {
	r := report(b, Replica{}, `{"valve":{"position":40,"mode":"auto"},"pump":{"rpm":1450,"on":true},"door":"closed","alarms":[]}`, start)
	patch := object(b, `{"valve":{"position":41},"pump":{"rpm":1460}}`)
	b.ReportAllocs()
	for b.Loop() {
		r, _, _ = r.Report(Report{Patch: patch, Boot: "b"}, start)
	}
}
