package pebblestore

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
)

// load appends pairs of messages from several goroutines until told to stop,
// and returns which pairs were said to be done.
func appendPairs(s *Store, stop func() bool) (acked map[uint64]bool, failures int) {
	acked = map[uint64]bool{}
	var mu, order sync.Mutex
	var next uint64
	var wg, done sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !stop() {
				order.Lock()
				next += 2
				n := next
				done.Add(1)
				one := make(chan struct{})
				s.Commit(&store.Batch{Ops: []store.Op{
					appendOp(n, message("t", fmt.Sprint(n)), "a"), appendOp(n+1, message("t", fmt.Sprint(n+1)), "a", "b"),
				}}, func(err error) {
					mu.Lock()
					if err == nil {
						acked[n] = true
					} else {
						failures++
					}
					mu.Unlock()
					close(one)
					done.Done()
				})
				order.Unlock()
				<-one
			}
		})
	}
	wg.Wait()
	done.Wait()
	return acked, failures
}

// checkPairs looks that all acked pairs are there, and no half ones.
func checkPairs(t *testing.T, s *Store, acked map[uint64]bool) {
	t.Helper()
	list, err := s.Queue(nil, "a", 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	found := map[uint64]bool{}
	for _, d := range list {
		if string(d.Message.Payload) != fmt.Sprint(d.Seq) {
			t.Fatalf("message %d is %q", d.Seq, d.Message.Payload)
		}
		found[d.Seq] = true
	}
	for n := range acked {
		if !found[n] || !found[n+1] {
			t.Fatalf("pair %d was done, and is lost: %v %v", n, found[n], found[n+1])
		}
	}
	for n := range found {
		if !found[n^1] {
			t.Fatalf("half of the pair of %d is there", n)
		}
	}
}

func begin(t *testing.T, fs vfs.FS) *Store {
	s := mustOpen(t, "data", Options{fs: fs, Reserve: -1})
	commit(t, s, putSession("a", false), putSession("b", true))
	return s
}

// TestPowerCut cuts the power at random: what was not synced is there in part,
// or not.
// Shows [B4c].
func TestPowerCut(t *testing.T) {
	for seed := range uint64(often(20)) {
		fs := vfs.NewCrashableMem()
		s := begin(t, fs)
		var n atomic.Int32
		limit := int32(rand.New(rand.NewPCG(seed, 2)).IntN(300))
		var clone *vfs.MemFS
		var once sync.Once
		var before map[uint64]bool
		// What was done before the cut is what the first calls have seen done.
		acked, _ := appendPairs(s, func() bool {
			if n.Add(1) > limit {
				once.Do(func() {
					clone = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: int(seed%3) * 50, RNG: rand.New(rand.NewPCG(seed, 3))})
				})
				return true
			}
			return false
		})
		// The others may have ended after the cut: what the store was told last
		// does not count, so one batch of each of the four is set aside.
		before = earliest(acked, len(acked)-4)
		again := mustOpen(t, "data", Options{fs: clone, Reserve: -1})
		checkPairs(t, again, before)
		if err := errors.Join(again.Close(), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// earliest keeps the n lowest.
func earliest(acked map[uint64]bool, n int) map[uint64]bool {
	kept := map[uint64]bool{}
	for seq := uint64(2); len(kept) < n; seq += 2 {
		if acked[seq] {
			kept[seq] = true
		}
	}
	return kept
}

// TestFaults lets the n-th write or sync of the log fail, and all after it. No
// done may lie, and all that come later are told.
// Shows [B4a].
func TestFaults(t *testing.T) {
	for _, kind := range []errorfs.OpKind{errorfs.OpFileWrite, errorfs.OpFileSync, errorfs.OpFileSyncData} {
		for n := int32(1); n < 60; n += 7 {
			fs := vfs.NewCrashableMem()
			var armed atomic.Bool
			var count atomic.Int32
			faulty := errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
				same := op.Kind == kind || kind != errorfs.OpFileWrite && op.Kind == errorfs.OpFileSyncTo
				if armed.Load() && same && strings.HasSuffix(op.Path, ".log") && count.Add(1) >= n {
					return errorfs.ErrInjected
				}
				return nil
			}))
			s := begin(t, faulty)
			armed.Store(true)
			var tries atomic.Int32
			acked, failures := appendPairs(s, func() bool { return tries.Add(1) > 400 })
			if failures == 0 {
				if count.Load() >= n {
					t.Errorf("%v %d: a fault went unnoticed", kind, n)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				continue
			}
			if err := try(s, putSession("x", false)); !errors.Is(err, ErrFailed) {
				t.Errorf("%v %d: after the failure: %v", kind, n, err)
			}
			if err := s.Close(); !errors.Is(err, ErrFailed) {
				t.Errorf("%v %d: close: %v", kind, n, err)
			}
			again := mustOpen(t, "data", Options{fs: fs.CrashClone(vfs.CrashCloneCfg{}), Reserve: -1})
			checkPairs(t, again, acked)
			if err := again.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestFull refuses messages while the disk is short of space, and takes what
// makes room; then it goes on.
func TestFull(t *testing.T) {
	fs := vfs.NewMem()
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 30})
	s := mustOpen(t, "data", Options{fs: fs})
	commit(t, s, putSession("a", false), appendOp(1, message("t", "1"), "a"))
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 20})
	_ = try(s, putSession("a", false)) // the store looks after each group
	if err := try(s, appendOp(2, message("t", "2"), "a")); !errors.Is(err, ErrFull) {
		t.Fatalf("full: %v", err)
	}
	retained := store.Op{Kind: store.PutRetained, Message: message("t", "r")}
	if err := try(s, retained); !errors.Is(err, ErrFull) {
		t.Fatalf("full: %v", err)
	}
	commit(t, s, putSession("b", true))
	// Of a batch that is refused, what makes room is taken, and what takes another
	// entry's place; a QoS 2 message that came in is not known.
	moved := appendOp(3, message("t", "moved"), "a")
	moved.Moved = true
	if err := try(s, removed("a", 1), moved, appendOp(4, message("t", "4"), "a"), store.Op{
		Kind: store.Step, Client: "a", Change: session.Change{Kind: session.Received, ID: 5}}); !errors.Is(err, store.ErrFull) {
		t.Fatalf("full: %v", err)
	}
	if got := queueOf(t, s, "a", 0, 9); len(got) != 1 || !strings.Contains(got[0], "t=moved") {
		t.Error(got)
	}
	commit(t, s, removed("a", 3))
	for v := range s.Sessions() {
		if len(v.Saved.Received) > 0 {
			t.Error("a message that was not taken is known")
		}
	}
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 30})
	commit(t, s, appendOp(5, message("t", "5"), "a"))
	commit(t, s, retained)
	if got := queueOf(t, s, "a", 0, 9); len(got) != 1 || !strings.Contains(got[0], "t=5") {
		t.Error(got)
	}
	if got := s.Stats().Refused; got != 3 {
		t.Errorf("refused: %d", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// flip changes one bit in the middle of a file.
func flip(t *testing.T, file string, at float64) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[int(float64(len(b))*at)] ^= 0x10
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func glob(t *testing.T, dir, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) == 0 {
		t.Fatal("no ", pattern, err)
	}
	return files
}

// TestDamagedQueue flips a bit in a table: the rest of the queue is delivered,
// and the damage is counted.
// Shows [B4f].
func TestDamagedQueue(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	const n = 2000
	commit(t, s, putSession("a", true))
	filler := rand.New(rand.NewPCG(1, 1))
	for i := range uint64(n) {
		payload := make([]byte, 200)
		for j := range payload {
			payload[j] = byte(filler.Uint32())
		}
		s.Commit(&store.Batch{Ops: []store.Op{appendOp(i+1, message("t", string(payload)), "a")}}, nil)
	}
	commit(t, s)
	if err := errors.Join(s.db.Flush(), s.Close()); err != nil {
		t.Fatal(err)
	}
	tables := glob(t, dir, "*.sst")
	flip(t, tables[len(tables)-1], 0.5)
	s = mustOpen(t, dir, Options{})
	var got []session.Delivery
	for after, more := uint64(0), true; more; {
		list, err := s.Queue(nil, "a", after, 100)
		if err != nil {
			t.Fatal(err)
		}
		if more = len(list) > 0; more {
			after = list[len(list)-1].Seq
		}
		got = append(got, list...)
	}
	if len(got) < n*9/10 || len(got) == n || got[len(got)-1].Seq != n {
		t.Errorf("%d of %d messages came, up to %d", len(got), n, got[len(got)-1].Seq)
	}
	t.Logf("%d of %d messages lost to one bit", n-len(got), n)
	if s.Stats().Damaged == 0 {
		t.Error("the damage was not counted")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestTornLog cuts the log short, as a power cut does: what was whole is there.
// Shows [B4c].
func TestTornLog(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, filepath.Join(dir, "live"), Options{})
	commit(t, s, putSession("a", true))
	for i := range uint64(500) {
		commit(t, s, appendOp(i+1, message("t", "x"), "a"))
	}
	for i, cut := range []int64{1, 7, 50, 3000} {
		copied := filepath.Join(dir, fmt.Sprint("copy", i))
		if err := os.CopyFS(copied, os.DirFS(filepath.Join(dir, "live"))); err != nil {
			t.Fatal(err)
		}
		logs := glob(t, copied, "*.log")
		file := logs[len(logs)-1]
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		end := int64(len(bytes.TrimRight(b, "\x00")))
		if err := os.Truncate(file, end-cut); err != nil {
			t.Fatal(err)
		}
		again := mustOpen(t, copied, Options{})
		if n := len(queueOf(t, again, "a", 0, 1000)); n >= 500 || n < 500-int(cut) {
			t.Errorf("cut by %d: %d messages are left", cut, n)
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestLockAndModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := mustOpen(t, dir, Options{})
	commit(t, s, putSession("a", true))
	if other, err := Open(dir, Options{}); err == nil {
		t.Error("opened twice")
		_ = other.Close()
	}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if err := try(s); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}
