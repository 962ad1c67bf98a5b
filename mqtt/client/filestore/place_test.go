package filestore_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A place stands and falls with its record, wherever the file is cut off; and it
// outlasts the record, and compaction.
func TestPlaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q")
	s := open(t, path)
	var ends []int64
	for seq := uint64(1); seq <= 3; seq++ {
		if err := errors.Join(s.AddFrom(record(seq, "x"), "lane", 10*seq), s.Sync()); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, info.Size())
	}
	s.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := len(whole); n >= 8; n-- {
		cut := filepath.Join(t.TempDir(), "q")
		if err := os.WriteFile(cut, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		want := 0
		for want < len(ends) && ends[want] <= int64(n) {
			want++
		}
		s := open(t, cut)
		if records := load(t, s); len(records) != want || s.Place("lane") != uint64(10*want) || s.Place("other") != 0 {
			t.Errorf("cut at %d: %d records, place %d; want %d", n, len(records), s.Place("lane"), want)
		}
		s.Close()
	}
	s = open(t, path)
	for seq := range uint64(4) {
		s.Remove(seq)
	}
	big := strings.Repeat("x", 3<<20)
	for seq := uint64(4); seq < 6; seq++ {
		if err := errors.Join(s.Add(record(seq, big)), s.Remove(seq), s.Sync()); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	if info, err := os.Stat(path); err != nil || info.Size() > 1<<20 {
		t.Fatalf("not compacted: %v %v", info, err)
	}
	s = open(t, path)
	defer s.Close()
	if s.Place("lane") != 30 || len(load(t, s)) != 0 {
		t.Errorf("after compaction: place %d", s.Place("lane"))
	}
}

// What a full disk has refused is not there, and what comes when there is room is.
func TestAFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q")
	s := open(t, path)
	if err := errors.Join(s.Add(record(1, "one")), s.Mark(1, 7, false), s.Sync()); err != nil {
		t.Fatal(err)
	}
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	full := was
	full.Cur = 1000
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &full); err != nil {
		t.Skip(err)
	}
	err := s.AddFrom(record(2, strings.Repeat("x", 5000)), "lane", 9)
	if back := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was); back != nil {
		t.Fatal(back)
	}
	if err == nil || s.Place("lane") != 0 {
		t.Errorf("taken: %v", err)
	}
	if err := errors.Join(s.Add(record(3, "three")), s.Sync()); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = open(t, path)
	defer s.Close()
	if r := load(t, s); len(r) != 2 || r[0].PacketID != 7 || r[1].Seq != 3 {
		t.Errorf("%+v", r)
	}
}
