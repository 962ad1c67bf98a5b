package ledger

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/wire"
)

// full is a record with every field set, so that one that is added later cannot
// be forgotten by Append.
func full(t *testing.T) *Record {
	r := &Record{Kind: Ended, TID: "t", Cmd: "c", Params: json.RawMessage(`{"a":1}`), Epoch: 1, Seq: 2, NotAfter: noon, If: json.RawMessage(`{"path":"a","eq":1}`), At: noon.Add(time.Millisecond),
		Final: &Final{Status: wire.Failure, Result: json.RawMessage(`[1]`), Reason: &wire.Reason{Code: "c", Text: "t"}, State: json.RawMessage(`"s"`), Refused: true}, State: json.RawMessage(`{"a":1}`)}
	for _, v := range []any{*r, *r.Final, *r.Final.Reason} {
		for i := range reflect.TypeOf(v).NumField() {
			if reflect.ValueOf(v).Field(i).IsZero() {
				t.Fatalf("%T: field %s is not set", v, reflect.TypeOf(v).Field(i).Name)
			}
		}
	}
	return r
}

// TestAppendIsJSON: what is stored is what encoding/json would store.
func TestAppendIsJSON(t *testing.T) {
	east := time.FixedZone("east", 2*3600+1800)
	for name, change := range map[string]func(*Record){
		"full":       func(*Record) {},
		"empty":      func(r *Record) { *r = Record{} },
		"no reason":  func(r *Record) { r.Final.Reason = nil },
		"no code":    func(r *Record) { r.Final.Reason.Code = "" },
		"no text":    func(r *Record) { r.Final.Reason = &wire.Reason{} },
		"bare end":   func(r *Record) { r.Final = &Final{} },
		"negative":   func(r *Record) { r.Epoch, r.Seq = math.MinInt64, -1 },
		"text":       func(r *Record) { r.Cmd = "<\"\\\n\x00\x7fä\u2028\xff>&" },
		"other zone": func(r *Record) { r.At = r.At.In(east) },
		"precise":    func(r *Record) { r.At = r.At.Add(1) },
	} {
		r := full(t)
		change(r)
		want, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.Append([]byte("before "))
		if err != nil || string(got) != "before "+string(want) {
			t.Errorf("%s: %v\ngot  %s\nwant %s", name, err, got, want)
		}
	}
}

// TestAppendRefuses what could not be read back.
func TestAppendRefuses(t *testing.T) {
	for name, change := range map[string]func(*Record){
		"params": func(r *Record) { r.Params = json.RawMessage(`{`) },
		"result": func(r *Record) { r.Final.Result = json.RawMessage(`1 2`) },
		"state":  func(r *Record) { r.Final.State = json.RawMessage("\x00") },
		"report": func(r *Record) { r.State = json.RawMessage(`{`) },
		"year":   func(r *Record) { r.At = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		r := full(t)
		change(r)
		if got, err := r.Append([]byte("before")); err == nil || string(got) != "before" {
			t.Errorf("%s: %v, %q", name, err, got)
		}
	}
}

// FuzzAppend: a record is refused or read back exactly as with encoding/json.
func FuzzAppend(f *testing.F) {
	f.Add("ended", "t", "set", []byte(`{"a":1}`), int64(1), int64(2), int64(1e15), "SUCCESS", []byte(`{"b": [2, "<"]}`), "code", "text \x00", true)
	f.Add("", "", "", []byte(nil), int64(0), int64(0), int64(math.MinInt64), "", []byte("{"), "", "", false)
	f.Fuzz(func(t *testing.T, kind, tid, cmd string, params []byte, epoch, seq, at int64, status string, result []byte, code, text string, refused bool) {
		r := Record{Kind: Kind(kind), TID: tid, Cmd: cmd, Params: params, Epoch: epoch, Seq: seq, At: time.UnixMilli(at).UTC()}
		if refused || status != "" {
			r.Final = &Final{Status: status, Result: result, State: params, Refused: refused}
			if code != "" || text != "" {
				r.Final.Reason = &wire.Reason{Code: code, Text: text}
			}
		}
		got, err := r.Append(nil)
		want, wantErr := json.Marshal(&r)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%v, encoding/json says %v", err, wantErr)
		}
		if err != nil {
			return
		}
		var back Record
		if err := json.Unmarshal(got, &back); err != nil {
			t.Fatal(err)
		}
		if again, err := json.Marshal(&back); err != nil || !bytes.Equal(again, want) {
			t.Fatalf("%v\ngot  %s\nwant %s", err, again, want)
		}
	})
}

// BenchmarkAppend is the record of a result, by us and by encoding/json.
func BenchmarkAppend(b *testing.B) {
	r := &Record{Kind: Ended, TID: "019ab7a4-52f1-7b3c-9d4e-8f6071829304", Cmd: "set", At: noon, Final: &Final{Status: wire.Success, Result: json.RawMessage(`{"set":true}`)}}
	b.Run("ours", func(b *testing.B) {
		var dst []byte
		for b.Loop() {
			dst, _ = r.Append(dst[:0])
		}
	})
	b.Run("json", func(b *testing.B) {
		for b.Loop() {
			_, _ = json.Marshal(r)
		}
	})
}
