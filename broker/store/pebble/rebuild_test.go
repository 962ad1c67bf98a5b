package pebblestore

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
)

// lived is the files of a store with several tables, a log with what is newer, queues,
// subscriptions, retained messages, and a QoS 2 handshake that has not ended.
type lived struct {
	dir      string
	all      fates
	groups   int
	retained int
}

func live(t *testing.T) lived {
	t.Helper()
	rng := rand.New(rand.NewPCG(5, 5))
	groups, all := traffic(rng)
	l := lived{dir: t.TempDir(), all: all, groups: len(groups), retained: 200}
	s := mustOpen(t, l.dir, Options{})
	for i, g := range groups {
		if i == 1 {
			for n := range l.retained {
				m := message(fmt.Sprint("r/", n), fmt.Sprint(n, ":", strings.Repeat("y", 200)))
				g = append(g, store.Op{Kind: store.PutRetained, Message: m})
			}
			for _, q := range queues {
				sub := store.Subscription{Subscription: mqtt.Subscription{Filter: q + "/#", QoS: 2}}
				g = append(g, store.Op{Kind: store.PutSubscription, Client: q, Subscription: &sub})
			}
			g = append(g, step("a", session.Received, 7, 0))
		}
		commit(t, s, g...)
		if i%30 == 29 {
			if err := s.db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	copied := liveCopy(t, l.dir)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	l.dir = copied
	return l
}

// check opens a store that was damaged and looks that all that it has is right. It
// returns how many messages, queued and retained, are missing, and how many are back.
func (l lived) check(t *testing.T, dir string) (missing, back int, damaged uint64, said string) {
	t.Helper()
	var log bytes.Buffer
	s, err := Open(dir, Options{Logger: logTo(&log)})
	if err != nil {
		t.Fatal(err)
	}
	var queued [3]int
	for v, err := range s.Sessions() {
		if err != nil {
			t.Fatal(err)
		}
		for i, q := range queues {
			if v.ClientID == q {
				queued[i] = v.Saved.Count
			}
		}
		if len(v.Subscriptions) > 1 || len(v.Subscriptions) == 1 && v.Subscriptions[0].Filter != v.ClientID+"/#" {
			t.Errorf("%s has the subscriptions %v", v.ClientID, v.Subscriptions)
		}
	}
	if missing, err = l.all.missing(t, s); err != nil {
		t.Fatal(err)
	}
	for i, q := range queues {
		list, err := s.Queue(nil, q, 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if s.Stats().Damaged == 0 && len(list) != queued[i] {
			t.Errorf("%s: %d are counted, and %d there", q, queued[i], len(list))
		}
		for _, d := range list {
			if f := l.all[d.Seq]; f != nil && f.removed[q] > 0 { // the others are from here
				back++
			}
			d.Message.Release()
		}
	}
	kept := 0
	for m, err := range s.Retained() {
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.TrimPrefix(m.Topic, "r/"); !strings.HasPrefix(string(m.Payload), n+":") {
			t.Errorf("%s is %.10q", m.Topic, m.Payload)
		}
		m.Release()
		kept++
	}
	damaged = s.Stats().Damaged
	next := s.LastSeq() + 1
	commit(t, s, putSession("a", true), appendOp(next, message("t", fmt.Sprint(next, ":new")), "a"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return missing + l.retained - kept, back, damaged, log.String()
}

// TestDamageOfEveryFile flips bits of every file of a store, and takes away those that
// are about the others. The store starts: what it has is right, what it has lost is
// reported, by a file, and nothing is lost by a file that holds no messages. How much a
// bit can cost say TestDamagedTable, of tables, and TestDamageAnywhere, of logs.
// Shows [B4g].
func TestDamageOfEveryFile(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 4))
	l := live(t)
	trials := often(8)
	for _, file := range glob(t, l.dir, "*") {
		name := filepath.Base(file)
		whole, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		list := strings.HasPrefix(name, "MANIFEST") || strings.HasPrefix(name, "OPTIONS") || strings.HasPrefix(name, "marker.")
		written := len(bytes.TrimRight(whole, "\x00"))
		if written == 0 { // the lock, or a log that is still only room
			continue
		}
		worst := 0
		for trial := range trials {
			dir := liveCopy(t, l.dir)
			if trial == 0 && list {
				err = os.Remove(filepath.Join(dir, name))
			} else {
				b := bytes.Clone(whole)
				b[rng.IntN(written)] ^= 1 << rng.IntN(8)
				err = os.WriteFile(filepath.Join(dir, name), b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			missing, back, damaged, log := l.check(t, dir)
			worst = max(worst, missing)
			switch {
			case list && missing+back > 0:
				t.Errorf("%s, trial %d: %d are missing and %d back, though no message was in it", name, trial, missing, back)
			case missing > 0 && damaged == 0 && !strings.Contains(log, "torn"): // the very last write
				t.Errorf("%s, trial %d: %d are missing, and nothing is said: %s", name, trial, missing, log)
			case missing > 0 && !strings.Contains(log, name):
				t.Errorf("%s, trial %d: %d are missing, and the file is not named: %s", name, trial, missing, log)
			}
			if damaged == 0 || !list {
				continue
			}
			s := mustOpen(t, dir, Options{})
			if s.Stats().Damaged > 0 {
				t.Errorf("%s, trial %d: told twice", name, trial)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("%s: at worst %d are missing", name, worst)
	}
}

// contents reads all of a table, and what could not be read of it.
func contents(t *testing.T, path string) (list []string, lost []lostRange) {
	t.Helper()
	o := &pebble.Options{Merger: merger}
	o.EnsureDefaults()
	x, _, err := openTable(vfs.Default, path, o.MakeReaderOptions(), func(from, to []byte, _ error) {
		lost = append(lost, lostRange{path, bytes.Clone(from), bytes.Clone(to)})
	})
	if err != nil {
		return nil, []lostRange{{path, nil, nil}}
	}
	for ; x.now.key != nil; x.next() {
		list = append(list, fmt.Sprintf("%s %d %d %s", x.now.key, x.now.seq, x.now.kind, x.now.value))
	}
	if err := x.close(); err != nil && len(lost) == 0 {
		t.Error(err)
	}
	return list, lost
}

// TestDamagedTable flips a bit of a table: all is read that is not in the same block,
// unless the bit is behind the blocks of data, in what tells where they are.
// Shows [B4g].
func TestDamagedTable(t *testing.T) {
	l := live(t)
	rng := rand.New(rand.NewPCG(9, 9))
	dir, trials, inData := t.TempDir(), often(20), 0
	for _, file := range glob(t, l.dir, "*.sst") {
		whole, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want, lost := contents(t, file)
		if len(lost) > 0 || len(want) == 0 {
			t.Fatal(file, len(want), lost)
		}
		end := dataEnd(t, file)
		for range trials {
			at := rng.IntN(len(whole))
			b := bytes.Clone(whole)
			b[at] ^= 1 << rng.IntN(8)
			damaged := filepath.Join(dir, "000001.sst")
			if err := os.WriteFile(damaged, b, 0o600); err != nil {
				t.Fatal(err)
			}
			got, lost := contents(t, damaged)
			size, next := 0, 0
			for _, x := range want {
				if next < len(got) && got[next] == x {
					next++
					continue
				}
				size += len(x)
			}
			switch {
			case next < len(got):
				t.Fatalf("bit at %d: %q was never written", at, got[next])
			case size > 0 && len(lost) == 0:
				t.Errorf("bit at %d: %d bytes are missing, and nothing is said", at, size)
			case at < end && size > 3*4096: // a block, and more in this form
				t.Errorf("bit at %d of %d: %d bytes are missing", at, end, size)
			}
			if at < end && size > 0 {
				inData++
			}
		}
	}
	if inData < trials/2 {
		t.Errorf("only %d bits have cost anything", inData)
	}
}

// dataEnd is where the blocks of data of a table end.
func dataEnd(t *testing.T, path string) int {
	t.Helper()
	o := &pebble.Options{Merger: merger}
	o.EnsureDefaults()
	x, _, err := openTable(vfs.Default, path, o.MakeReaderOptions(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer x.close()
	layout, err := x.r.Layout()
	if err != nil {
		t.Fatal(err)
	}
	last := layout.Data[len(layout.Data)-1]
	return int(last.Offset + last.Length)
}

// A store that was made anew has kept the old files, and puts only the last aside.
// Shows [B4g].
func TestRebuiltKeepsTheOldFiles(t *testing.T) {
	l := live(t)
	for i := range 2 {
		for _, file := range glob(t, l.dir, "MANIFEST-*") {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}
		tables := len(glob(t, l.dir, "*.sst"))
		if missing, back, _, _ := l.check(t, l.dir); missing+back > 0 {
			t.Errorf("%d are missing, %d back", missing, back)
		}
		aside := glob(t, l.dir, asideDir+"*")
		if len(aside) != 1 || aside[0] != filepath.Join(l.dir, fmt.Sprintf("%s%06d", asideDir, i+1)) {
			t.Fatal(aside)
		}
		if kept := len(glob(t, aside[0], "*.sst")); kept != tables {
			t.Errorf("%d of %d tables are kept", kept, tables)
		}
		for _, name := range []string{rebuildDir, swapFile, salvageFile} {
			if _, err := os.Stat(filepath.Join(l.dir, name)); err == nil {
				t.Errorf("%s is still there", name)
			}
		}
	}
}

// A store of another version is left as it is.
// Shows [B4g].
func TestOtherVersionIsNotRebuilt(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	if err := s.db.Set([]byte{keyFormat}, []byte("wilco broker 2"), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, file := range glob(t, dir, "MANIFEST-*") {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	before := fmt.Sprint(glob(t, dir, "*"))
	for range 2 {
		if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "another version") {
			t.Error(err)
		}
	}
	if after := fmt.Sprint(glob(t, dir, "*")); after != before {
		t.Errorf("%s\n%s", before, after)
	}
}

// TestCrashWhileRebuilding cuts the power before every write of a start that makes the
// store anew: the next start ends with the same.
// Shows [B4g].
func TestCrashWhileRebuilding(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	commit(t, s, putSession("a", false), exactly(1, "a"), exactly(2, "a"), step("a", session.Reserved, 1, 1))
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	commit(t, s, step("a", session.Released, 1, 1), appendOp(3, message("t", "3"), "a"))
	commit(t, s, step("a", session.Reserved, 2, 2))
	want := inShort(t, s)
	dir = liveCopy(t, dir)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, file := range glob(t, dir, "MANIFEST-*") {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	for percent := 0; percent <= 100; percent += 100 {
		fs := vfs.NewCrashableMem()
		if ok, err := vfs.Clone(vfs.Default, fs, dir, "data", vfs.CloneSync); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if err := syncDir(fs, ""); err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(uint64(percent), 1))
		var mu sync.Mutex
		var cuts []*vfs.MemFS
		ready := false
		s := mustOpen(t, "data", Options{Reserve: -1, fs: errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
			mu.Lock()
			defer mu.Unlock()
			if !ready && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
				cuts = append(cuts, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng}))
			}
			return nil
		}))})
		mu.Lock()
		ready = true
		mu.Unlock()
		if got := inShort(t, s); got != want {
			t.Errorf("undisturbed: %q, not %q", got, want)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if len(cuts) < 30 {
			t.Errorf("only %d cuts", len(cuts))
		}
		for i, cut := range some(cuts) {
			s := mustOpen(t, "data", Options{Reserve: -1, fs: cut})
			if got := inShort(t, s); got != want {
				t.Errorf("%d%%, cut %d of %d: %q, not %q", percent, i, len(cuts), got, want)
			}
			for _, name := range []string{rebuildDir, swapFile, salvageFile} {
				if _, err := cut.Stat("data/" + name); err == nil {
					t.Errorf("%d%%, cut %d of %d: %s is still there", percent, i, len(cuts), name)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("%d cuts", len(cuts))
	}
}
