package device

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func journalOf(batches ...[]string) []byte {
	b := []byte(magic)
	for _, batch := range batches {
		b = appendFrame(b, toBytes(batch))
	}
	return b
}

func toBytes(records []string) [][]byte {
	var all [][]byte
	for _, r := range records {
		all = append(all, []byte(r))
	}
	return all
}

func toStrings(records [][]byte) []string {
	var all []string
	for _, r := range records {
		all = append(all, string(r))
	}
	return all
}

var sample = journalOf([]string{`{"kind":"received","tid":"a"}`}, []string{`{"kind":"started","tid":"a"}`, `{"kind":"received","tid":"b"}`},
	[]string{`{"kind":"ended","tid":"a"}`})

// Whatever bit changes, wherever, in a file with or without room allocated
// ahead, no record is lost without a word.
func TestEveryFlippedBitIsFound(t *testing.T) {
	for _, spare := range []int{0, 5, 200} {
		b := append(slices.Clone(sample), make([]byte, spare)...)
		want := toStrings(scanFile(b, false).records)
		if len(want) != 4 {
			t.Fatalf("read %q from the sample", want)
		}
		for i := range b {
			for bit := range 8 {
				b[i] ^= 1 << bit
				s := scanFile(b, false)
				b[i] ^= 1 << bit
				switch {
				case i >= len(sample):
					// Nothing was written there: nothing is lost.
					if !s.damaged && !slices.Equal(toStrings(s.records), want) {
						t.Fatalf("spare byte %d bit %d: %q", i, bit, s.records)
					}
				case !s.damaged:
					t.Fatalf("byte %d bit %d changed, and %d records were read as if nothing had happened", i, bit, len(s.records))
				case s.offset > i:
					t.Fatalf("byte %d bit %d changed, but the damage was seen at %d only", i, bit, s.offset)
				}
			}
		}
	}
}

// A crash can leave any part of the last frame, in any pieces of the medium's
// own size: the frames before it are there, and nothing is called damaged.
func TestTornTail(t *testing.T) {
	before := journalOf([]string{`{"kind":"received","tid":"a"}`})
	last := appendFrame(nil, toBytes([]string{`{"kind":"started","tid":"a"}`, `{"kind":"received","tid":"b"}`}))
	for cut := range last {
		for _, spare := range []int{0, 3, len(last) - cut, 300} {
			b := append(slices.Clone(before), last[:cut]...)
			b = append(b, make([]byte, spare)...)
			s := scanFile(b, false)
			if s.damaged || len(s.records) != 1 || s.end != len(before) {
				t.Fatalf("cut at %d with %d zeros: %+v", cut, spare, s)
			}
		}
	}
	for hole := range len(last) / 8 { // eight bytes at a time did not reach the medium
		b := append(slices.Clone(before), last...)
		clear(b[len(before)+8*hole:][:8])
		s := scanFile(b, false)
		if s.damaged || len(s.records) != 1 {
			t.Fatalf("hole %d: %+v", hole, s)
		}
	}
}

func TestSalvageReadsOn(t *testing.T) {
	b := slices.Clone(sample)
	b[len(magic)+headerSize+60] ^= 1 // in the second frame
	s := scanFile(b, true)
	want := []string{`{"kind":"received","tid":"a"}`, `{"kind":"ended","tid":"a"}`}
	if !s.damaged || !slices.Equal(toStrings(s.records), want) || s.end != len(b) {
		t.Errorf("%+v, want %q", s, want)
	}
}

func TestFramesProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		batches := rapid.SliceOfN(rapid.SliceOfN(rapid.StringMatching(`\{[ -~]*\}`), 1, 4), 0, 6).Draw(t, "batches")
		b := journalOf(batches...)
		spare := rapid.IntRange(0, 100).Draw(t, "spare")
		s := scanFile(append(b, make([]byte, spare)...), false)
		if s.damaged || s.end != len(b) || !slices.Equal(toStrings(s.records), slices.Concat(batches...)) {
			t.Fatalf("%+v", s)
		}
	})
}

func FuzzScanFile(f *testing.F) {
	f.Add(sample)
	f.Add([]byte(magic))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		strict := scanFile(b, false)
		lenient := scanFile(b, true)
		if strict.end > len(b) || lenient.end > len(b) || len(lenient.records) < len(strict.records) {
			t.Fatalf("%+v\n%+v", strict, lenient)
		}
		if strict.damaged != lenient.damaged {
			t.Fatal("salvaging sees other damage")
		}
		// What was read, written again, is read again.
		if again := scanFile(appendFrame([]byte(magic), strict.records), false); len(strict.records) > 0 &&
			!slices.EqualFunc(again.records, strict.records, bytes.Equal) {
			t.Fatalf("%q became %q", strict.records, again.records)
		}
	})
}
