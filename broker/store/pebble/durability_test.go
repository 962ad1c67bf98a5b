package pebblestore

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// crashed writes pairs, of which it returns those that were done, and gives what
// is on the disk then when this share of what was never synced is.
func crashed(t *testing.T, d Durability, seed uint64, percent int) (*vfs.MemFS, map[uint64]bool) {
	t.Helper()
	fs := vfs.NewCrashableMem()
	s := mustOpen(t, "data", Options{Durability: d, fs: fs, Reserve: -1})
	commit(t, s, putSession("a", false), putSession("b", true))
	rnd := rand.New(rand.NewPCG(seed, 4))
	limit := 50 + rnd.IntN(450)
	acked := map[uint64]bool{}
	for n := range limit {
		seq := uint64(2*n + 2)
		commit(t, s, appendOp(seq, message("t", fmt.Sprint(seq)), "a"), appendOp(seq+1, message("t", fmt.Sprint(seq+1)), "a", "b"))
		acked[seq] = true
		if rnd.IntN(40) == 0 { // a new log, while the one before may still be needed
			if _, err := s.db.AsyncFlush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	disk := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rnd})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return disk, acked
}

// TestWhatACrashCosts shows of each durability what it promises, and that it
// promises no more: a process that dies leaves all that it has written to the
// operating system, and a machine only what was synced.
// Shows [B4c].
func TestWhatACrashCosts(t *testing.T) {
	for _, c := range []struct {
		name    string
		d       Durability
		percent int
		keeps   bool
	}{
		{"fsync, the machine", Fsync, 0, true},
		{"fsync, the machine at random", Fsync, 50, true},
		{"fsync, the process", Fsync, 100, true},
		{"os, the process", OS, 100, true},
		{"os, the machine", OS, 0, false},
		{"os, the machine at random", OS, 50, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			lost := 0
			for seed := range uint64(often(10)) {
				disk, acked := crashed(t, c.d, seed, c.percent)
				s := mustOpen(t, "data", Options{Durability: c.d, fs: disk, Reserve: -1})
				if c.keeps {
					checkPairs(t, s, acked)
				} else {
					lost += checkPrefix(t, s, len(acked))
				}
				commit(t, s, putSession("a", false)) // it goes on
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				again := mustOpen(t, "data", Options{Durability: c.d, fs: disk, Reserve: -1})
				if err := again.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if !c.keeps && lost == 0 {
				t.Error("nothing was lost: either the promise could be higher, or the test shows nothing")
			}
			t.Logf("%d pairs lost in 10 runs", lost)
		})
	}
}

// checkPrefix looks that what is there is the oldest, in whole pairs, and returns
// how many pairs are not.
func checkPrefix(t *testing.T, s *Store, pairs int) (lost int) {
	t.Helper()
	list, err := s.Queue(nil, "a", 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if len(list)%2 != 0 {
		t.Fatalf("half a pair is there: %d messages", len(list))
	}
	for i, d := range list {
		if d.Seq != uint64(i+2) {
			t.Fatalf("message %d is at place %d", d.Seq, i)
		}
	}
	return pairs - len(list)/2
}
