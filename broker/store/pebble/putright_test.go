package pebblestore

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
)

// damage spoils the payload of one record, so that it alone is lost.
func (h *history) damage(t *testing.T, record int) {
	t.Helper()
	h.b[h.records[record].to-1] ^= 1
	if err := os.WriteFile(h.file, h.b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func step(client string, kind session.ChangeKind, id uint16, seq uint64) store.Op {
	return store.Op{Kind: store.Step, Client: client, Change: session.Change{Kind: kind, ID: id, Seq: seq}}
}

func exactly(seq uint64, clients ...string) store.Op {
	op := appendOp(seq, message("t", fmt.Sprint(seq)), clients...)
	for i := range op.Targets {
		op.Targets[i].QoS = mqtt.ExactlyOnce
	}
	return op
}

// TestLostGroup loses one group of several, of each kind, and looks what that
// means for the others. The group that is lost is the one after nil; in want, 2#9
// is the message 2 with the packet id 9.
// Shows [B4f].
func TestLostGroup(t *testing.T) {
	type ops = []store.Op
	subscribe := func(filter string) store.Op {
		return store.Op{Kind: store.PutSubscription, Client: "a", Subscription: &store.Subscription{Subscription: mqtt.Subscription{Filter: filter}}}
	}
	withWill := putSession("a", false)
	withWill.Record.Will = &mqtt.Will{Topic: "w"}
	for _, c := range []struct {
		name   string
		groups []ops
		want   string
	}{
		{"append", []ops{{putSession("a", false)}, {appendOp(1, message("t", "1"), "a")}, nil, {appendOp(2, message("t", "2"), "a")},
			{appendOp(3, message("t", "3"), "a")}}, "a: 1 3 lost 1; last 3"},
		{"append to several", []ops{{putSession("a", false), putSession("b", true)}, {appendOp(1, message("t", "1"), "a", "b")}, nil,
			{appendOp(2, message("t", "2"), "a", "b")}, {removed("a", 2), appendOp(3, message("t", "3"), "a", "b")}, {removed("b", 2)}},
			"a: 1 3; b: 1 3; last 3"}, // what was removed since is no loss
		{"removal out of order", []ops{{putSession("a", false)}, {appendOp(1, message("t", "1"), "a"), appendOp(2, message("t", "2"), "a")}, nil,
			{removed("a", 2)}, {appendOp(3, message("t", "3"), "a")}}, "a: 1 2 3; last 3"},
		{"removal in order", []ops{{putSession("a", false)}, {appendOp(1, message("t", "1"), "a"), appendOp(2, message("t", "2"), "a")}, nil,
			{removed("a", 1)}, {appendOp(3, message("t", "3"), "a")}}, "a: 2 3; last 3"},
		{"session", []ops{{putSession("z", true)}, nil, {putSession("a", false), subscribe("x")},
			{appendOp(1, message("t", "1"), "a", "z"), step("a", session.Received, 4, 0), exactly(2, "a"), step("a", session.Reserved, 9, 2)},
			{putSession("b", true)}}, "b:; z: 1; last 2"},
		{"session, written again", []ops{{putSession("z", true)}, nil, {putSession("a", false)},
			{appendOp(1, message("t", "1"), "a")}, {putSession("a", true)}}, "a: 1; z:; last 1"},
		{"end of a session", []ops{{putSession("a", true), appendOp(1, message("t", "1"), "a")}, nil,
			{store.Op{Kind: store.DeleteSession, Client: "a"}}, {putSession("b", true)}}, "a: 1; b:; last 1"},
		{"end of a session that began anew", []ops{{putSession("a", true), appendOp(1, message("t", "1"), "a")}, nil,
			{store.Op{Kind: store.DeleteSession, Client: "a"}}, {putSession("a", false)}, {appendOp(2, message("t", "2"), "a")}}, "a: 2; last 2"},
		{"subscription", []ops{{putSession("a", false), subscribe("x")}, nil, {subscribe("y")}, {subscribe("z")}}, "a: subscribed x z; last 0"},
		{"end of a subscription", []ops{{putSession("a", false), subscribe("x")}, nil, {store.Op{Kind: store.DeleteSubscription, Client: "a",
			Subscription: &store.Subscription{Subscription: mqtt.Subscription{Filter: "x"}}}}, {subscribe("z")}}, "a: subscribed x z; last 0"},
		{"retained", []ops{{store.Op{Kind: store.PutRetained, Message: message("r", "old")}}, nil,
			{store.Op{Kind: store.PutRetained, Message: message("r", "new")}}, {putSession("b", true)}}, "b:; last 0; retained old"},
		{"will", []ops{{putSession("b", true)}, nil, {withWill}, {putSession("a", true)}}, "a:; b:; last 0"},
		{"end of a will", []ops{{withWill}, nil, {putSession("a", true)}, {putSession("b", true)}}, "a: will w; b:; last 0"},
		{"losses", []ops{{putSession("a", true)}, nil, {step("a", session.Lost, uint16(session.DropExpired), 1)},
			{step("a", session.Lost, uint16(session.DropExpired), 3)}, {putSession("b", true)}}, "a: lost 3; b:; last 0"},

		{"message at QoS 2 from the client", []ops{{putSession("a", false)}, nil, {step("a", session.Received, 7, 0), appendOp(1, message("t", "1"), "a")},
			{step("a", session.Received, 8, 0)}, {putSession("a", false)}}, "a: received 8; last 0"},
		{"end of it", []ops{{putSession("a", false)}, {step("a", session.Received, 7, 0)}, nil, {step("a", session.Forgotten, 7, 0)},
			{step("a", session.Received, 8, 0)}, {putSession("a", false)}}, "a: received 8 doubtful 7; last 0"},
		{"end of it, of another client", []ops{{putSession("a", true), putSession("b", false)}, {step("a", session.Received, 7, 0)}, nil,
			{putSession("b", true)}, {putSession("b", false)}}, "a: received 7; b:; last 0"},

		{"id at QoS 2", []ops{{putSession("a", false)}, {exactly(1, "a"), exactly(2, "a"), exactly(3, "a")}, nil, {step("a", session.Reserved, 1, 1)},
			{step("a", session.Reserved, 2, 2)}, {putSession("a", false)}}, "a: 2#2 3 lost 1; last 3"},
		{"PUBREC", []ops{{putSession("a", false)}, {exactly(1, "a"), exactly(2, "a"), step("a", session.Reserved, 1, 1)}, nil,
			{step("a", session.Released, 1, 1)}, {step("a", session.Reserved, 2, 2)}, {putSession("a", false)}}, "a: 2#2 released 1; last 2"},
		{"PUBREC, of another client", []ops{{putSession("a", true), putSession("b", false)}, {exactly(1, "a"), step("a", session.Reserved, 1, 1)}, nil,
			{appendOp(2, message("t", "2"), "b")}, {putSession("b", false)}}, "a: 1#1; b:; last 1"},
		{"PUBREC and PUBCOMP", []ops{{putSession("a", false)}, {exactly(1, "a"), exactly(2, "a"), step("a", session.Reserved, 1, 1)}, nil,
			{step("a", session.Released, 1, 1), step("a", session.Removed, 1, 0)}, {step("a", session.Reserved, 1, 2)}, {putSession("a", false)}},
			"a: 2#1; last 2"},
		{"PUBCOMP", []ops{{putSession("a", false)}, {exactly(1, "a"), exactly(2, "a"), step("a", session.Reserved, 1, 1)}, {step("a", session.Released, 1, 1)},
			nil, {step("a", session.Removed, 1, 0)}, {putSession("a", false)}}, "a: 2 released 1; last 2"},
		{"PUBCOMP, and the id again", []ops{{putSession("a", false)}, {exactly(1, "a"), exactly(2, "a"), step("a", session.Reserved, 1, 1)},
			{step("a", session.Released, 1, 1)}, nil, {step("a", session.Removed, 1, 0)}, {step("a", session.Reserved, 1, 2)}}, "a: 2#1; last 2"},

		{"a message of a share is lent", []ops{{putSession("\x00share", false), putSession("a", false)}, {exactly(1, "\x00share")}, nil,
			{step("\x00share", session.Reserved, 1, 1), exactly(2, "a")}, {exactly(3, "\x00share")}}, "\x00share: 1 3; a:; last 3"},
		{"a lent message is done with", []ops{{putSession("\x00share", false), putSession("a", false)}, {exactly(1, "\x00share")},
			{step("\x00share", session.Reserved, 1, 1)}, nil, {removed("\x00share", 1)}, {exactly(3, "\x00share")}}, "\x00share: 3; a:; last 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := slices.IndexFunc(c.groups, func(g ops) bool { return g == nil })
			h := write(t, slices.Delete(slices.Clone(c.groups), at, at+1))
			h.damage(t, at)
			for range 2 { // what was put right stays so
				s := mustOpen(t, h.dir, Options{})
				if got := inShort(t, s); got != c.want {
					t.Errorf("got  %q\nwant %q", got, c.want)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// inShort is what a store has, in one line.
func inShort(t *testing.T, s *Store) string {
	t.Helper()
	var all []string
	for v, err := range s.Sessions() {
		if err != nil {
			t.Fatal(err)
		}
		line := v.ClientID + ":"
		list, err := s.Queue(nil, v.ClientID, 0, 100)
		if err != nil || len(list) != v.Saved.Count {
			t.Error(v.ClientID, len(list), v.Saved.Count, err)
		}
		for _, d := range list {
			if line += fmt.Sprint(" ", d.Seq); d.ID != 0 {
				line += fmt.Sprint("#", d.ID)
			}
			d.Message.Release()
		}
		add := func(what string, has bool, x any) {
			if has {
				line += fmt.Sprint(" ", what, " ", x)
			}
		}
		for _, r := range v.Saved.Released {
			add("released", true, r.ID)
		}
		for _, id := range v.Saved.Received {
			add("received", true, id)
		}
		for _, id := range v.Saved.Doubtful {
			add("doubtful", true, id)
		}
		for _, n := range v.Saved.Lost {
			add("lost", n > 0, n)
		}
		var filters []string
		for _, sub := range v.Subscriptions {
			filters = append(filters, sub.Filter)
		}
		slices.Sort(filters)
		add("subscribed", len(filters) > 0, strings.Join(filters, " "))
		if v.Will != nil {
			add("will", true, v.Will.Topic)
		}
		all = append(all, line)
	}
	slices.Sort(all)
	all = append(all, fmt.Sprint("last ", s.LastSeq()))
	for m, err := range s.Retained() {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, "retained "+string(m.Payload))
		m.Release()
	}
	return strings.Join(all, "; ")
}

// TestNumbersAreNotGivenAgain has a session whose record was lost: the next new
// one inherits nothing of it.
func TestNumbersAreNotGivenAgain(t *testing.T) {
	h := write(t, [][]store.Op{{putSession("z", true)}, {putSession("a", false)},
		{appendOp(1, message("t", "1"), "a", "z"), step("a", session.Received, 3, 0)}, {putSession("z", true)}})
	h.damage(t, 1)
	s := mustOpen(t, h.dir, Options{})
	commit(t, s, putSession("new", true))
	if got, want := inShort(t, s), "new:; z: 1; last 1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCrashWhileSalvaging cuts the power before every write of a start that finds
// damage: the next start ends with the same.
// Shows [B4f].
func TestCrashWhileSalvaging(t *testing.T) {
	h := write(t, [][]store.Op{{putSession("a", false)}, {exactly(1, "a"), exactly(2, "a"), step("a", session.Reserved, 1, 1)},
		{step("a", session.Released, 1, 1), appendOp(3, message("t", "3"), "a")}, {step("a", session.Reserved, 2, 2)}, {putSession("a", false)}})
	h.damage(t, 2)
	const want = "a: 2#2 released 1; last 2"
	for percent := 0; percent <= 100; percent += 50 {
		fs := vfs.NewCrashableMem()
		if ok, err := vfs.Clone(vfs.Default, fs, h.dir, "data", vfs.CloneSync); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if err := syncDir(fs, ""); err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(uint64(percent), 1))
		var mu sync.Mutex
		var cuts []*vfs.MemFS
		started := false
		s := mustOpen(t, "data", Options{Reserve: -1, fs: errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
			mu.Lock()
			defer mu.Unlock()
			if percent == 50 && strings.Contains(op.Path, "MANIFEST") {
				started = true // Pebble counts on a directory that keeps the order of its entries
			}
			if !started && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
				cuts = append(cuts, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng}))
			}
			return nil
		}))})
		mu.Lock()
		started = true
		mu.Unlock()
		if got := inShort(t, s); got != want {
			t.Errorf("undisturbed: %q", got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if len(cuts) < 10 {
			t.Errorf("only %d cuts", len(cuts))
		}
		for i, cut := range some(cuts) {
			s := mustOpen(t, "data", Options{Reserve: -1, fs: cut})
			if got := inShort(t, s); got != want {
				t.Errorf("%d%%, cut %d of %d: %q", percent, i, len(cuts), got)
			}
			if _, err := cut.Stat("data/" + filepath.Base(h.file) + damagedSuffix); err != nil {
				t.Errorf("%d%%, cut %d of %d: %v", percent, i, len(cuts), err)
			}
			if _, err := cut.Stat("data/" + salvageFile); err == nil {
				t.Errorf("%d%%, cut %d of %d: not brought to an end", percent, i, len(cuts))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("%d cuts", len(cuts))
	}
}
