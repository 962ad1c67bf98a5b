package order

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/wilco-iot/wilco/mqtt"
)

func TestStamperNumbersFromOne(t *testing.T) {
	s, err := NewStamper("line-4", 7)
	if err != nil {
		t.Fatal(err)
	}
	if s.Last() != (Stamp{"line-4", 7, 0}) {
		t.Errorf("before the first: %v", s.Last())
	}
	for want := range uint64(3) {
		if got := s.Next(); got != (Stamp{"line-4", 7, want + 1}) {
			t.Errorf("got %v", got)
		}
	}
	again, err := ResumeStamper(s.Last())
	if err != nil || again.Next() != (Stamp{"line-4", 7, 4}) {
		t.Errorf("resumed at %v, %v", again, err)
	}
	end, err := ResumeStamper(Stamp{"line-4", 7, MaxSeq})
	if err != nil || end.Next() != (Stamp{"line-4", 8, 1}) {
		t.Errorf("after the last number: %v, %v", end, err)
	}
}

func TestStampRefusesWhatCannotBeSent(t *testing.T) {
	for name, s := range map[string]Stamp{
		"no stream":   {"", 1, 1},
		"long stream": {strings.Repeat("s", MaxStream+1), 1, 1},
		"not UTF-8":   {"a\xff", 1, 1},
		"NUL":         {"a\x00", 1, 1},
		"newline":     {"a\n", 1, 1},
		"number 0":    {"a", 1, 0},
		"number high": {"a", 1, MaxSeq + 1},
	} {
		dst := []byte("kept")
		got, err := AppendPrefix(dst, s)
		if !errors.Is(err, ErrStamp) || string(got) != "kept" {
			t.Errorf("%s: prefix %q, %v", name, got, err)
		}
		props, err := AppendProperties([]mqtt.UserProperty{{Key: "k"}}, s)
		if !errors.Is(err, ErrStamp) || len(props) != 1 {
			t.Errorf("%s: properties %v, %v", name, props, err)
		}
		if _, err := ResumeStamper(s); !errors.Is(err, ErrStamp) {
			t.Errorf("%s: resumed, %v", name, err)
		}
	}
	if _, err := NewStamper("", 1); !errors.Is(err, ErrStamp) {
		t.Errorf("stamper without a stream: %v", err)
	}
}

func TestPropertiesAmongOthers(t *testing.T) {
	type foreign struct{ Key, Value string } // of another MQTT library
	want := Stamp{"a", math.MaxUint64, 9}
	list, err := AppendProperties([]foreign{{"x", "1"}}, want)
	if err != nil {
		t.Fatal(err)
	}
	list = append(list, foreign{"x", "1"})
	list[1], list[3] = list[3], list[1]
	if got, err := ParseProperties(list); err != nil || got != want {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := ParseProperties([]foreign{{"x", "1"}}); err != ErrUnstamped {
		t.Errorf("without a stamp: %v", err)
	}
}

func TestPropertiesMalformed(t *testing.T) {
	good := map[string]string{PropertyStream: "a", PropertyEpoch: "1", PropertySeq: "2"}
	with := func(key, value string) []mqtt.UserProperty {
		var list []mqtt.UserProperty
		for _, k := range []string{PropertyStream, PropertyEpoch, PropertySeq} {
			v := good[k]
			if k == key {
				v = value
			}
			list = append(list, mqtt.UserProperty{Key: k, Value: v})
		}
		return list
	}
	if _, err := ParseProperties(with("", "")); err != nil {
		t.Fatal(err)
	}
	for name, list := range map[string][]mqtt.UserProperty{
		"leading zero": with(PropertySeq, "02"),
		"sign":         with(PropertyEpoch, "+1"),
		"empty":        with(PropertySeq, ""),
		"hex":          with(PropertySeq, "0x2"),
		"zero":         with(PropertySeq, "0"),
		"65 bits":      with(PropertyEpoch, "18446744073709551616"),
		"64 bits":      with(PropertySeq, "9223372036854775808"),
		"no stream":    with(PropertyStream, ""),
		"missing":      with("", "")[:2],
		"twice":        append(with("", ""), with("", "")[2]),
	} {
		if got, err := ParseProperties(list); !errors.Is(err, ErrStamp) || got != (Stamp{}) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// The bytes are sent between versions: they never change.
func TestPrefixBytes(t *testing.T) {
	b, err := AppendPrefix(nil, Stamp{"ab", 0x0102, 0x03})
	want := "\xF7ws\x01\x02ab\x00\x00\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x00\x00\x00\x03"
	if err != nil || string(b) != want {
		t.Fatalf("%q, %v", b, err)
	}
	for n := range b {
		_, rest, err := CutPrefix(b[:n])
		if n < 4 && (err != ErrUnstamped || len(rest) != n) || n >= 4 && !errors.Is(err, ErrStamp) {
			t.Errorf("first %d bytes: %q, %v", n, rest, err)
		}
	}
}

func FuzzCutPrefix(f *testing.F) {
	b, _ := AppendPrefix(nil, Stamp{"line-4", 7, 42})
	f.Add(append(b, "payload"...))
	f.Add([]byte(magic))
	f.Add([]byte(magic + "\xff"))
	f.Add([]byte(`{"plain":true}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, payload, err := CutPrefix(b)
		switch {
		case err == ErrUnstamped:
			if !bytes.Equal(payload, b) || strings.HasPrefix(string(b), magic) {
				t.Fatalf("unstamped: %q of %q", payload, b)
			}
			return
		case err != nil:
			if !errors.Is(err, ErrStamp) || payload != nil || s != (Stamp{}) {
				t.Fatalf("refused with %v, %q, %v", s, payload, err)
			}
			return
		}
		again, err := AppendPrefix(nil, s)
		if err != nil || !bytes.Equal(append(again, payload...), b) {
			t.Fatalf("%v, %v: %q became %q", s, err, b, again)
		}
	})
}

func FuzzParseProperties(f *testing.F) {
	f.Add("line-4", "7", "42")
	f.Add("", "00", "-1")
	f.Fuzz(func(t *testing.T, stream, epoch, seq string) {
		list := []property{{PropertyStream, stream}, {PropertyEpoch, epoch}, {PropertySeq, seq}}
		s, err := ParseProperties(list)
		if err != nil {
			if !errors.Is(err, ErrStamp) {
				t.Fatal(err)
			}
			return
		}
		again, err := AppendProperties[property](nil, s)
		if err != nil || len(again) != 3 || again[0] != list[0] || again[1] != list[1] || again[2] != list[2] {
			t.Fatalf("%v became %v, %v", list, again, err)
		}
	})
}
