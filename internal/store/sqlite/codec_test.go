package sqlite

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
	"github.com/wilco-iot/wilco/wire/state"
)

// filler sets every field of a value, whatever fields it has, so that one that is
// added later cannot be forgotten by a codec.
type filler struct {
	text   func() string
	number func() int64
	share  func() float64
	yes    func() bool // for booleans, and for whether a pointer is set
	raw    func() json.RawMessage
	length func() int
}

func (f filler) fill(t interface{ Fatalf(string, ...any) }, v reflect.Value) {
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = time.UnixMilli(f.number()).UTC()
		return
	case *wire.Address:
		*x = wire.Address{Group: "g", Device: "d"}
		return
	case *json.RawMessage:
		*x = f.raw()
		return
	case *state.Condition:
		*x = state.Condition{Path: "door", Op: state.Eq, Value: "closed"}
		return
	case *uuid.UUID:
		*x = uuid.UUID{0: 1, 6: 0x70, 15: byte(f.number())}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f.fill(t, v.Field(i))
		}
	case reflect.Pointer:
		if f.yes() {
			v.Set(reflect.New(v.Type().Elem()))
			f.fill(t, v.Elem())
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), f.length(), 8))
		for i := range v.Len() {
			f.fill(t, v.Index(i))
		}
	case reflect.String:
		v.SetString(f.text())
	case reflect.Int, reflect.Int64:
		v.SetInt(f.number())
	case reflect.Float64:
		v.SetFloat(f.share())
	case reflect.Bool:
		v.SetBool(f.yes())
	default:
		t.Fatalf("no way to fill a %s", v.Type())
	}
}

// whole sets everything to something that is not zero.
func whole() filler {
	n := int64(0)
	return filler{
		text:   func() string { return "x" },
		number: func() int64 { n++; return n },
		share:  func() float64 { return 0.25 },
		yes:    func() bool { return true },
		raw:    func() json.RawMessage { return json.RawMessage(`{"a":[1]}`) },
		length: func() int { return 2 },
	}
}

// random sets things as rapid draws them.
func random(t *rapid.T) filler {
	return filler{
		text: func() string { return rapid.String().Draw(t, "text") },
		// Milliseconds of years 1 to 9999.
		number: func() int64 { return rapid.Int64Range(-62135596800000, 253402300799999).Draw(t, "number") },
		share:  func() float64 { return rapid.Float64().Draw(t, "share") },
		yes:    func() bool { return rapid.Bool().Draw(t, "yes") },
		raw: func() json.RawMessage {
			return rapid.SampledFrom([]json.RawMessage{nil, json.RawMessage(`null`), json.RawMessage(`{"a":"<é\u2028>"}`), json.RawMessage(`[1,2.5e3,"\\"]`)}).Draw(t, "raw")
		},
		length: func() int { return rapid.IntRange(0, 3).Draw(t, "length") },
	}
}

// checkCommand compares what is read from our form with what is read from JSON.
func checkCommand(t interface {
	Errorf(string, ...any)
	Fatalf(string, ...any)
}, c *command.Command) {
	packed, err := packCommand([]byte("before"), c)
	if err != nil {
		t.Fatalf("pack: %v", err)
	}
	got, err := parseCommand(packed[len("before"):])
	if err != nil {
		t.Fatalf("%v: %q", err, packed)
	}
	theirs, err := json.Marshal(c)
	if err != nil {
		t.Fatalf("encoding/json: %v", err)
	}
	want, err := parseCommand(theirs) // as schema versions 1 and 2 kept it
	if err != nil {
		t.Fatalf("encoding/json: %v", err)
	}
	// Both are written again, because raw JSON may differ in escapes.
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(want)
	if string(a) != string(b) {
		t.Errorf("ours   %s\ntheirs %s", a, b)
	}
}

func TestCommandDocument(t *testing.T) {
	// The emptiest command that can be read again: its address must be one.
	c := command.Command{Device: wire.Address{Group: "g", Device: "d"}}
	checkCommand(t, &c)
	whole().fill(t, reflect.ValueOf(&c).Elem())
	checkCommand(t, &c)
	packed, err := packCommand(nil, &c)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := parseCommand(packed); err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("%v\ngot  %+v\nwant %+v", err, got, c)
	}
	stages, _ := life(t, wire.Address{Group: "g", Device: "d"}, time.Now())
	for i := range stages {
		checkCommand(t, &stages[i])
	}
	rapid.Check(t, func(t *rapid.T) {
		var c command.Command
		random(t).fill(t, reflect.ValueOf(&c).Elem())
		checkCommand(t, &c)
	})
}

// TestCommandDocumentCut: a document that has lost its end, or has more, is refused.
func TestCommandDocumentCut(t *testing.T) {
	stages, _ := life(t, pump, time.Now())
	doc, err := packCommand(nil, &stages[3])
	if err != nil {
		t.Fatal(err)
	}
	for n := range doc {
		if _, err := parseCommand(doc[:n]); err == nil {
			t.Errorf("%d of %d bytes were read", n, len(doc))
		}
	}
	if _, err := parseCommand(append(doc, 0)); err == nil {
		t.Error("a byte too many was read")
	}
}

// TestCommandDocumentForm: the form never changes, or what is stored is lost. What
// few commands have follows as JSON, which may grow.
func TestCommandDocumentForm(t *testing.T) {
	var c command.Command
	whole().fill(t, reflect.ValueOf(&c).Elem())
	packed, err := packCommand(nil, &c)
	if err != nil {
		t.Fatal(err)
	}
	const want = "01ff1c01000000000070000000000000000001016701640178097b2261223a5b315d7d0406080a0c1001780e3fd00000000000000178017801780100" +
		"00000000700000000000000000090301780178017820222426282a01783fd00000000000000178097b2261223a5b315d7d097b2261223a5b315d7d11" +
		"131517191b1d233a0100000000007000000000000000001e0301252b017801780178017801784244012d33017801780178017801784a4c"
	if got := fmt.Sprintf("%x%s", packed[:len(want)/2], packed[len(want)/2:]); !strings.HasPrefix(got, want+`{"approval":{`) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestCommandDocumentRefuses(t *testing.T) {
	for name, c := range map[string]command.Command{
		"broken params": {Params: json.RawMessage(`{"a":`)},
		"two values":    {Result: json.RawMessage(`1 2`)},
		"NaN":           {Progress: &wire.Progress{Percent: new(float64)}},
		"year 10000":    {Wake: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
		"year -1":       {Created: time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		if name == "NaN" {
			*c.Progress.Percent = math.NaN()
		}
		if b, err := packCommand([]byte("x"), &c); err == nil || string(b) != "x" {
			t.Errorf("%s: %v, %s", name, err, b)
		}
	}
}

// FuzzCommandDocument: what can be read is written to the same again.
func FuzzCommandDocument(f *testing.F) {
	stages, _ := life(f, wire.Address{Group: "g", Device: "d"}, time.Now())
	for i := range stages {
		doc, err := json.Marshal(&stages[i])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(doc)
		if doc, err = packCommand(nil, &stages[i]); err != nil {
			f.Fatal(err)
		}
		f.Add(doc)
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		c, err := parseCommand(doc)
		if err != nil {
			return
		}
		once, err := packCommand(nil, &c)
		if err != nil {
			return // a time or a number that is not ours
		}
		again, err := parseCommand(once)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := packCommand(nil, &again); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%v\nonce  %q\ntwice %q", err, once, twice)
		}
	})
}

func TestEventsRoundTrip(t *testing.T) {
	roundTrip := func(t interface {
		Errorf(string, ...any)
		Fatalf(string, ...any)
	}, in []store.Event) {
		first := int64(7)
		var out []store.Event
		for _, b := range packEvents(in) {
			var err error
			if out, err = unpack(out, first, int64(b.n), 0, b.body, math.MaxInt); err != nil {
				t.Fatalf("%v", err)
			}
			first += int64(b.n)
		}
		for i := range in {
			in[i].ID = 7 + int64(i)
			if len(in[i].Groups) == 0 {
				in[i].Groups = nil // there is one way to have none
			}
		}
		if len(in) != len(out) || len(in) > 0 && !reflect.DeepEqual(in, out) {
			t.Errorf("in  %+v\nout %+v", in, out)
		}
	}
	full := make([]store.Event, maxBlock+3)
	for i := range full {
		whole().fill(t, reflect.ValueOf(&full[i]).Elem())
	}
	roundTrip(t, full)
	roundTrip(t, make([]store.Event, 2))
	rapid.Check(t, func(t *rapid.T) {
		events := make([]store.Event, rapid.IntRange(0, 4).Draw(t, "n"))
		for i := range events {
			random(t).fill(t, reflect.ValueOf(&events[i]).Elem())
			events[i].ID = 0
		}
		roundTrip(t, events)
	})
}

func FuzzUnpack(f *testing.F) {
	_, events := life(f, wire.Address{Group: "g", Device: "d"}, time.Now())
	for _, b := range packEvents(events) {
		f.Add(b.body, int64(b.n))
	}
	f.Add([]byte(strings.Repeat("\xff", 40)), int64(1))
	f.Fuzz(func(t *testing.T, body []byte, n int64) {
		events, err := unpack(nil, 1, min(n, 1000), 0, body, 1000)
		if err != nil {
			return
		}
		if packed := packEvents(events); len(packed) > 0 {
			again, err := unpack(nil, 1, int64(len(events)), 0, packed[0].body, maxBlock)
			if err != nil || len(again) != min(len(events), maxBlock) {
				t.Fatal(err)
			}
		}
	})
}
