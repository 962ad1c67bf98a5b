package filestore_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/mqtt/client/filestore"
)

func record(seq uint64, payload string) client.Record {
	return client.Record{
		Seq: seq, Expires: time.Unix(1700000000, 5),
		Message: client.Message{
			Topic: "a/b", Payload: []byte(payload), QoS: 2, Retain: true, ContentType: "c", ResponseTopic: "r",
			CorrelationData: []byte{}, User: []mqtt.UserProperty{{Key: "k", Value: "v"}, {Key: "k", Value: ""}},
		},
	}
}

func open(t testing.TB, path string) *filestore.Store {
	t.Helper()
	s, err := filestore.Open(path, filestore.Options{NoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func load(t testing.TB, s *filestore.Store) []client.Record {
	t.Helper()
	records, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// Random use with reopening in between gives what the memory store gives.
func TestLikeMemory(t *testing.T) {
	dir := t.TempDir()
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		path := filepath.Join(dir, fmt.Sprint(run))
		s, twin := open(t, path), new(client.MemoryStore)
		defer func() { s.Close() }()
		seq := uint64(0)
		pick := func(rt *rapid.T) uint64 { return rapid.Uint64Range(0, seq).Draw(rt, "seq") }
		rt.Repeat(map[string]func(*rapid.T){
			"add": func(rt *rapid.T) {
				seq += rapid.Uint64Range(1, 3).Draw(rt, "gap")
				r := record(seq, rapid.StringN(0, 20, -1).Draw(rt, "payload"))
				if rapid.Bool().Draw(rt, "bare") {
					r = client.Record{Seq: seq, Message: client.Message{Topic: "t", Payload: []byte{}, QoS: 1}}
				}
				if err := errors.Join(s.Add(r), twin.Add(r)); err != nil {
					rt.Fatal(err)
				}
			},
			"mark": func(rt *rapid.T) {
				n, id, released := pick(rt), rapid.Uint16().Draw(rt, "id"), rapid.Bool().Draw(rt, "released")
				if err := errors.Join(s.Mark(n, id, released), twin.Mark(n, id, released)); err != nil {
					rt.Fatal(err)
				}
			},
			"remove": func(rt *rapid.T) {
				n := pick(rt)
				if err := errors.Join(s.Remove(n), twin.Remove(n)); err != nil {
					rt.Fatal(err)
				}
			},
			"reopen": func(rt *rapid.T) {
				if err := s.Close(); err != nil {
					rt.Fatal(err)
				}
				s = open(t, path)
			},
			"": func(rt *rapid.T) {
				got := load(t, s)
				want, _ := twin.Load()
				if !slices.IsSortedFunc(got, func(a, b client.Record) int { return cmp.Compare(a.Seq, b.Seq) }) || !reflect.DeepEqual(got, want) {
					rt.Fatalf("holds %+v\nwant  %+v", got, want)
				}
			},
		})
	})
}

// Whatever number of bytes the crash left of the entries at the end, with nothing
// or zeros behind them, all before is there and new entries can follow.
func TestTornTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q")
	s := open(t, path)
	for seq := range uint64(3) {
		s.Add(record(seq, "payload"))
	}
	s.Close()
	whole, _ := os.ReadFile(path)
	size := (len(whole) - 8) / 3
	for cut := len(whole) - size; cut < len(whole); cut++ {
		for _, damage := range [][]byte{nil, make([]byte, 100), make([]byte, 3*size)} {
			torn := append(slices.Clone(whole[:cut]), damage...)
			if bytes.HasPrefix(torn, whole) {
				continue // the byte that was missing is a zero
			}
			os.WriteFile(path, torn, 0o600)
			s := open(t, path)
			s.Add(record(9, "new"))
			s.Close()
			s = open(t, path)
			var seqs []uint64
			for _, r := range load(t, s) {
				seqs = append(seqs, r.Seq)
			}
			s.Close()
			if !slices.Equal(seqs, []uint64{0, 1, 9}) {
				t.Fatalf("cut at %d: records %v", cut, seqs)
			}
		}
	}
}

// A flipped bit before the last entry is told, and the file is left alone.
func TestDamageInTheMiddle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q")
	s := open(t, path)
	for seq := range uint64(3) {
		s.Add(record(seq, "payload"))
	}
	s.Close()
	whole, _ := os.ReadFile(path)
	entry := (len(whole) - 8) / 3
	for at := range 8 + 2*entry {
		damaged := slices.Clone(whole)
		damaged[at] ^= 0x40
		os.WriteFile(path, damaged, 0o600)
		if s, err := filestore.Open(path, filestore.Options{}); !errors.Is(err, filestore.ErrCorrupt) {
			t.Fatalf("damage at %d: %v, %v", at, s, err)
		}
		if left, _ := os.ReadFile(path); !bytes.Equal(left, damaged) {
			t.Fatalf("damage at %d: the file was changed", at)
		}
	}
}

func TestCompaction(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q")
	s := open(t, path)
	big := string(make([]byte, 10_000))
	for seq := range uint64(1000) {
		if err := s.Add(record(seq, big)); err != nil {
			t.Fatal(err)
		}
		s.Mark(seq, uint16(seq)+1, seq%2 == 0)
		if seq >= 10 {
			s.Remove(seq - 10)
		}
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	if info, _ := os.Stat(path); info.Size() > 2<<20 {
		t.Errorf("the file has %d bytes for ten live records of 10,000", info.Size())
	}
	before := load(t, s)
	s.Close()
	s = open(t, path)
	defer s.Close()
	after := load(t, s)
	if len(after) != 10 || after[0].Seq != 990 || after[0].PacketID != 991 || !after[0].Released || !reflect.DeepEqual(before, after) {
		t.Errorf("after compaction: %d records", len(after))
	}
}

func TestAnotherFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q")
	os.WriteFile(path, []byte("something else entirely"), 0o600)
	if _, err := filestore.Open(path, filestore.Options{}); !errors.Is(err, filestore.ErrCorrupt) {
		t.Errorf("open: %v", err)
	}
}

// A failed write is final: what came after it would stand behind half an entry.
func TestWriteErrorIsFinal(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "q"))
	s.Close() // every write fails from now on
	if err := s.Add(record(1, "x")); err == nil {
		t.Fatal("Add into a closed file")
	}
	if err := s.Mark(1, 1, false); err == nil {
		t.Error("Mark after a failed write")
	}
	if err := s.Sync(); err == nil {
		t.Error("Sync after a failed write")
	}
}

func BenchmarkAddMarkRemove(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "q"))
	defer s.Close()
	r := record(0, string(make([]byte, 64)))
	b.ReportAllocs()
	for b.Loop() {
		r.Seq++
		s.Add(r)
		s.Mark(r.Seq, 1, false)
		s.Remove(r.Seq)
		s.Sync()
	}
}

func FuzzOpen(f *testing.F) {
	path := filepath.Join(f.TempDir(), "seed")
	s := open(f, path)
	s.Add(record(1, "x"))
	s.Mark(1, 7, true)
	s.Close()
	seed, _ := os.ReadFile(path)
	f.Add(seed)
	f.Add([]byte("wilcoq1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "q")
		os.WriteFile(path, b, 0o600)
		s, err := filestore.Open(path, filestore.Options{NoFsync: true})
		if err != nil {
			return
		}
		defer s.Close()
		if _, err := s.Load(); err != nil && !errors.Is(err, filestore.ErrCorrupt) {
			t.Fatal(err)
		}
	})
}
