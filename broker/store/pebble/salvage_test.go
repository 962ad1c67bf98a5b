package pebblestore

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
)

// liveCopy is what is on the disk of a store that was not closed.
func liveCopy(t *testing.T, live string) (copied string) {
	t.Helper()
	copied = filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(copied, os.DirFS(live)); err != nil {
		t.Fatal(err)
	}
	return copied
}

func newest(t *testing.T, dir string) string {
	t.Helper()
	logs := glob(t, dir, "*.log")
	return logs[len(logs)-1]
}

func logTo(b *bytes.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(b, nil))
}

// TestDamagedLog flips a bit in what a crash left as log: it costs the record
// that it is in, and that is told, counted and kept aside.
// Shows [B4f].
func TestDamagedLog(t *testing.T) {
	const n = 500
	live := t.TempDir()
	s := mustOpen(t, live, Options{})
	commit(t, s, putSession("a", true))
	for i := range uint64(n) {
		commit(t, s, appendOp(i+1, message("t", "x"), "a"))
	}
	for _, at := range []float64{0.2, 0.5, 0.8} {
		copied := liveCopy(t, live)
		file := newest(t, copied)
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b[int(float64(len(bytes.TrimRight(b, "\x00")))*at)] ^= 0x10
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		again := mustOpen(t, copied, Options{Logger: logTo(&said)})
		got := queueOf(t, again, "a", 0, n)
		if len(got) != n-1 || !strings.Contains(got[0], "000000001") || !strings.Contains(got[n-2], fmt.Sprint(n)) {
			t.Errorf("at %v: %d messages are left", at, len(got))
		}
		if again.Stats().Damaged != 1 || !strings.Contains(said.String(), file) || !strings.Contains(said.String(), "messages_missing=1") {
			t.Errorf("at %v: %d, %s", at, again.Stats().Damaged, said.String())
		}
		for v := range again.Sessions() {
			if v.Saved.Lost[session.DropDamaged] != 1 || v.Saved.Count != n-1 {
				t.Errorf("at %v: %+v", at, v.Saved)
			}
		}
		if aside, err := os.ReadFile(file + damagedSuffix); err != nil || !bytes.Equal(aside, b) {
			t.Error("the damaged file is not kept", err)
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
		said.Reset()
		again = mustOpen(t, copied, Options{Logger: logTo(&said)})
		if again.Stats().Damaged != 0 || said.Len() > 0 {
			t.Error("told twice: ", said.String())
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// history is groups that were each written as a record of one log, with where
// they are in it.
type history struct {
	dir, file string
	b         []byte
	records   []logRecord
}

// write commits groups one by one, and copies what is on the disk then.
func write(t *testing.T, groups [][]store.Op) history {
	t.Helper()
	live := t.TempDir()
	s := mustOpen(t, live, Options{})
	for _, g := range groups {
		commit(t, s, g...)
	}
	h := history{dir: liveCopy(t, live)}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	h.file = newest(t, h.dir)
	var err error
	if h.b, err = os.ReadFile(h.file); err != nil {
		t.Fatal(err)
	}
	c := readLog(h.b, numberOf(t, h.file), false)
	if len(c.records) != len(groups) || len(c.holes) > 0 || c.tornSize > 0 {
		t.Fatalf("%d groups are %d records; %v, %d torn", len(groups), len(c.records), c.holes, c.tornSize)
	}
	h.records = c.records
	return h
}

func numberOf(t *testing.T, file string) (number uint32) {
	t.Helper()
	if _, err := fmt.Sscanf(filepath.Base(file), "%d.log", &number); err != nil {
		t.Fatal(err)
	}
	return number
}

// TestDamageAnywhere damages a log at random, and looks that nothing is gone but
// what was in the damaged blocks, or after a cut, that nothing comes back but
// what was removed there, and that order and totals are right.
// Shows [B4f].
func TestDamageAnywhere(t *testing.T) {
	trials := often(60)
	rng := rand.New(rand.NewPCG(7, 7))
	groups, fates := traffic(rng)
	h := write(t, groups)
	end, told := h.records[len(h.records)-1].to, 0
	for trial := range trials {
		b := bytes.Clone(h.b)
		from, to, cut := rng.IntN(end), 0, len(b)
		switch trial % 3 {
		case 0:
			b[from] ^= 1 << rng.IntN(8)
			to = from + 1
		case 1:
			from -= from % blockSize
			to = min(from+blockSize, end)
			clear(b[from:to])
		case 2:
			cut, to = from, end
			b = b[:cut]
		}
		blocks := [2]int{from - from%blockSize, to + (blockSize-to%blockSize)%blockSize}
		if cut < len(h.b) {
			blocks = [2]int{cut, len(h.b)}
		}
		harmed := func(group int) bool {
			r := h.records[group]
			return r.from < blocks[1] && r.to > blocks[0]
		}
		dir := liveCopy(t, h.dir)
		if err := os.WriteFile(newest(t, dir), b, 0o600); err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		s := mustOpen(t, dir, Options{Logger: logTo(&said)})
		missing := fates.check(t, s, harmed)
		where := fmt.Sprintf("trial %d, %d-%d", trial, from, to)
		if missing > 0 && s.Stats().Damaged == 0 && cut == len(h.b) && to < h.records[len(h.records)-2].from {
			t.Errorf("%s: %d are missing, and nothing is said", where, missing)
		}
		if s.Stats().Damaged > 0 && (cut < len(h.b) || !strings.Contains(said.String(), filepath.Base(h.file))) {
			t.Errorf("%s: %s", where, said.String())
		}
		if t.Failed() {
			t.Fatal(where)
		}
		if missing > 0 && s.Stats().Damaged > 0 {
			told++
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if told < trials/4 {
		t.Errorf("only %d of %d trials lost anything", told, trials)
	}
}

// fate is in which group a message was appended, and in which removed from each
// queue, 0 for never.
type fate struct {
	appended int
	removed  map[string]int
}

type fates map[uint64]*fate

var queues = []string{"a", "b", "c"}

// traffic makes groups of appends and removals.
func traffic(rng *rand.Rand) ([][]store.Op, fates) {
	groups, all := [][]store.Op{{putSession("a", true), putSession("b", false), putSession("c", true)}}, fates{}
	seq := uint64(0)
	for len(groups) < 110 { // as many as one log takes
		var g []store.Op
		for range 1 + rng.IntN(3) {
			seq++
			f := &fate{appended: len(groups), removed: map[string]int{}}
			to := queues[:1+rng.IntN(3)]
			for _, q := range to {
				f.removed[q] = 0
			}
			all[seq] = f
			g = append(g, appendOp(seq, message("t", fmt.Sprintf("%d:%s", seq, bytes.Repeat([]byte{'x'}, rng.IntN(1500)))), to...))
		}
		for range rng.IntN(4) {
			old, q := 1+rng.Uint64N(seq), queues[rng.IntN(3)]
			if f := all[old]; f.appended < len(groups) {
				if when, has := f.removed[q]; has && when == 0 {
					f.removed[q] = len(groups)
					g = append(g, removed(q, old))
				}
			}
		}
		groups = append(groups, g)
	}
	return groups, all
}

// check compares the queues of s with what became of each message, as far as that
// is in groups that were not harmed. It returns how many messages are missing.
func (all fates) check(t *testing.T, s *Store, harmed func(group int) bool) (missing int) {
	t.Helper()
	counts := map[string]int{}
	for v, err := range s.Sessions() {
		if err != nil {
			t.Fatal(err)
		}
		counts[v.ClientID] = v.Saved.Count
	}
	for _, q := range queues {
		list, err := s.Queue(nil, q, 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if _, known := counts[q]; !known {
			if !harmed(0) {
				t.Errorf("%s is gone", q)
			}
			continue
		}
		have, last := map[uint64]bool{}, uint64(0)
		for _, d := range list {
			f := all[d.Seq]
			if d.Seq <= last || f == nil || !strings.HasPrefix(string(d.Message.Payload), fmt.Sprint(d.Seq, ":")) {
				t.Fatalf("%s: %d after %d: %.20q", q, d.Seq, last, d.Message.Payload)
			}
			last, have[d.Seq] = d.Seq, true
			d.Message.Release()
		}
		if counts[q] != len(list) {
			t.Errorf("%s: %d are counted, and %d there", q, counts[q], len(list))
		}
		for seq, f := range all {
			gone, has := f.removed[q]
			switch {
			case !has:
			case have[seq] && gone > 0 && !harmed(gone):
				t.Errorf("%s: %d is back, and was removed in group %d", q, seq, gone)
			case !have[seq] && gone == 0 && !harmed(f.appended):
				t.Errorf("%s: %d is gone, and is in group %d", q, seq, f.appended)
			case !have[seq] && gone == 0:
				missing++
			}
		}
	}
	return missing
}

// TestLogsRoundTrip reads back what writeLog wrote, of records around the size of
// a block.
func TestLogsRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for range 200 {
		var records []logRecord
		for range rng.IntN(6) {
			size := []int{12, 300, blockSize - headerSize, 3 * blockSize}[rng.IntN(4)] + rng.IntN(60)
			records = append(records, logRecord{batch: bytes.Repeat([]byte{byte(rng.Int())}, size)})
		}
		c := readLog(writeLog(records, 9), 9, rng.IntN(2) == 0)
		if !c.clean || len(c.holes) > 0 || c.tornSize > 0 || len(c.records) != len(records) {
			t.Fatalf("%d records: %d, clean %v, holes %v, torn %d", len(records), len(c.records), c.clean, c.holes, c.tornSize)
		}
		for i, r := range c.records {
			if !bytes.Equal(r.batch, records[i].batch) {
				t.Fatalf("record %d of %d bytes is %d", i, len(records[i].batch), len(r.batch))
			}
		}
	}
}

// FuzzReadLog reads anything: all it gives was there, in order.
func FuzzReadLog(f *testing.F) {
	whole := writeLog([]logRecord{{batch: make([]byte, 40)}, {batch: make([]byte, 2*blockSize)}, {batch: make([]byte, 20)}}, 9)
	f.Add(whole, false)
	f.Add(whole[:len(whole)-15], true)
	flipped := bytes.Clone(whole)
	flipped[30] ^= 1
	f.Add(flipped, false)
	f.Fuzz(func(t *testing.T, b []byte, closed bool) {
		c := readLog(b, 9, closed)
		at := 0
		for _, r := range c.records {
			if r.from < at || r.to > len(b) || r.to < r.from+headerSize {
				t.Fatalf("record %d-%d after %d of %d", r.from, r.to, at, len(b))
			}
			at = r.to
		}
		for _, h := range c.holes {
			if h.from < 0 || h.to > len(b) || h.to <= h.from || h.before > len(c.records) {
				t.Fatalf("hole %+v of %d bytes", h, len(b))
			}
		}
		if again := readLog(writeLog(c.records, 9), 9, true); len(again.records) != len(c.records) || len(again.holes) > 0 {
			t.Fatal("what was mended is not whole")
		}
	})
}

// TestTornIsNoLoss cuts the last record: that is said, with its size, and is not
// counted as damage.
// Shows [B4f].
func TestTornIsNoLoss(t *testing.T) {
	h := write(t, [][]store.Op{{putSession("a", true)}, {appendOp(1, message("t", "1"), "a")}, {appendOp(2, message("t", "2"), "a")}})
	last := h.records[2]
	if err := os.WriteFile(h.file, h.b[:last.to-3], 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	s := mustOpen(t, h.dir, Options{Logger: logTo(&said)})
	if got := inShort(t, s); got != "a: 1; last 1" {
		t.Error(got)
	}
	size := fmt.Sprintf("bytes=%d", last.to-3-last.from)
	if line := said.String(); s.Stats().Damaged != 0 || strings.Contains(line, "ERROR") || !strings.Contains(line, size) || !strings.Contains(line, h.file) {
		t.Errorf("%d, %s: %s", s.Stats().Damaged, size, line)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestKeptAside keeps the last few damaged logs only.
func TestKeptAside(t *testing.T) {
	h := write(t, [][]store.Op{{putSession("a", true)}, {putSession("b", true)}, {putSession("c", true)}})
	for i := range keptAside + 2 {
		if err := os.WriteFile(filepath.Join(h.dir, fmt.Sprintf("00000%d.log%s", i, damagedSuffix)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h.damage(t, 1)
	if err := mustOpen(t, h.dir, Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	if kept := glob(t, h.dir, "*"+damagedSuffix); len(kept) != keptAside {
		t.Error(kept)
	}
}

// TestDamagedFiles damages every other file at random places: the store opens
// with what it had, but for what it reports, or says which file it is and what
// to do.
// Shows [B4g].
func TestDamagedFiles(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	groups, all := traffic(rng)
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	for _, g := range groups {
		commit(t, s, g...)
	}
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"*.sst", "MANIFEST-*", "OPTIONS-*", "marker.*"} {
		opened := 0
		for trial := range often(12) {
			copied := liveCopy(t, dir)
			files := glob(t, copied, pattern)
			file := files[rng.IntN(len(files))]
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			switch at := rng.IntN(len(b) + 1); {
			case trial%3 == 0 || at == len(b):
				b = b[:at]
			case trial%3 == 1:
				b[at] ^= 1 << rng.IntN(8)
			default:
				clear(b[at:min(at+4096, len(b))])
			}
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := Open(copied, Options{})
			if err != nil {
				t.Errorf("%s: %v", filepath.Base(file), err)
				continue
			}
			opened++
			missing, err := all.missing(t, s)
			if err != nil {
				t.Errorf("%s: %v", filepath.Base(file), err)
			}
			if missing > 0 && err == nil && s.Stats().Damaged == 0 {
				t.Errorf("%s: %d messages are missing, and nothing is said", filepath.Base(file), missing)
			}
			_ = s.Close()
		}
		t.Logf("%s: opened %d times", pattern, opened)
	}
}

// missing counts what was never removed and is not there.
func (all fates) missing(t *testing.T, s *Store) (missing int, err error) {
	for _, q := range queues {
		list, err := s.Queue(nil, q, 0, 1<<20)
		if err != nil {
			return 0, err
		}
		have, last := map[uint64]bool{}, uint64(0)
		for _, d := range list {
			if d.Seq <= last || !strings.HasPrefix(string(d.Message.Payload), fmt.Sprint(d.Seq, ":")) {
				t.Fatalf("%s: %d after %d: %.20q", q, d.Seq, last, d.Message.Payload)
			}
			last, have[d.Seq] = d.Seq, true
			d.Message.Release()
		}
		for seq, f := range all {
			if gone, has := f.removed[q]; has && gone == 0 && !have[seq] {
				missing++
			}
		}
	}
	return missing, nil
}
