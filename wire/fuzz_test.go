package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// seeds are documents of every kind, good and bad; each fuzz target gets all.
var seeds = []string{
	`{"tid":"t-1","cmd":"set","status":"REQUEST","params":{"level":3},"seq":42,"epoch":3,"attempt":1,"issued":"2026-03-04T04:06:07.891Z","notAfter":"2026-03-04T04:07:07Z"}`,
	`{"tid":"t","status":"CANCEL","epoch":3}`,
	`{"tid":"t","status":"REJECTED","reason":{"code":"busy","text":"\ud83d\ude00\ud800\n"}}`,
	`{"tid":"t","status":"RUNNING","progress":{"percent":1.25e1,"note":"x"},"state":[{"a":[null,true,-0.0]}]}`,
	`{"tid":"t","status":"ok","result":{},"result":1}`,
	`{"online":true,"boot":"b","ts":"2026-03-04T05:06:07+01:00","firmware":"1","inProgress":["a","b"]}`,
	`{"state":{"a":{"b":1},"c":null},"ts":"2026-03-04T04:06:07.891Z","boot":"b","tid":"t-1","clientToken":"x"}`,
	`{"state":{"desired":{"a":1},"reported":{},"delta":{"a":1}},"version":3,"desiredVersion":2,"timestamp":"2026-03-04T04:06:07.891Z"}`,
	`{"code":"malformed","field":"state","text":"must be an object","clientToken":"x"}`, `{"state":[]}`,
	`{"online":false,"boot":"b"}`, `{"\u0074id":"t"}`, `[]`, `{}`, `null`, ``, "{\"tid\":\"\xff\"}", `{"a":01}`, `{"a":1e}`, `{"tid":"t"} x`,
}

// FuzzJSON compares the scanner's idea of JSON with the standard library's.
func FuzzJSON(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		err := validValue(b)
		if len(b) > MaxDocument || !utf8.Valid(b) || depth(b) > MaxDepth-1 {
			if err == nil {
				t.Fatal("accepted what is over a limit")
			}
			return
		}
		if json.Valid(b) != (err == nil) {
			t.Fatalf("json.Valid says %v, we say %v", json.Valid(b), err)
		}
		var want string
		if err == nil && json.Unmarshal(b, &want) == nil && b[0] == '"' {
			s := scan(b)
			if got := s.text(); s.err == nil && got != want {
				t.Fatalf("read %q, encoding/json reads %q", got, want)
			}
		}
	})
}

// depth returns how deep brackets are nested, by the simplest means.
func depth(b []byte) int {
	deepest, now, quoted := 0, 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && (c == '{' || c == '['):
			now++
			deepest = max(deepest, now)
		case !quoted && (c == '}' || c == ']'):
			now--
		}
	}
	return deepest
}

// FuzzParseUp: whatever arrives, there is an answer and no panic; what is
// accepted means the same to encoding/json, and is written and read again
// without a change.
func FuzzParseUp(f *testing.F) {
	for _, s := range seeds {
		for _, leaf := range []string{"ack", "result", "status", "state/update", "state/get"} {
			f.Add("wilco/g/d/"+leaf, []byte(s))
		}
		f.Add("commands/d/ack", []byte(s))
	}
	f.Fuzz(func(t *testing.T, topic string, payload []byte) {
		for _, p := range []DeviceProfile{NewWilco(""), Atlas()} {
			up, err := p.ParseUp(topic, payload)
			checkError(t, err)
			if err != nil {
				continue
			}
			checkAgainstStandard(t, up, payload)
			if p.Name() == wilcoName {
				checkUpRoundTrip(t, p, topic, up)
			}
		}
	})
}

func checkError(t *testing.T, err error) {
	t.Helper()
	var e *Error
	if err != nil && !errors.Is(err, ErrNotUp) && !errors.As(err, &e) {
		t.Fatalf("%v is no *Error", err)
	}
}

func checkUpRoundTrip(t *testing.T, p DeviceProfile, topic string, up Up) {
	t.Helper()
	var again []byte
	var err error
	switch up.Kind {
	case UpAck:
		again, err = p.AppendAck(nil, up.Ack)
	case UpResult:
		again, err = p.AppendResult(nil, up.Result)
	case UpStatus:
		up.Status.TS = up.Status.TS.Truncate(time.Millisecond)
		again, err = p.AppendStatus(nil, up.Status)
	case UpStateUpdate:
		up.Update.TS = up.Update.TS.Truncate(time.Millisecond)
		again, err = p.(StateProfile).AppendStateUpdate(nil, up.Update)
	case UpStateGet:
		again, err = p.(StateProfile).AppendStateGet(nil, up.Get)
	case UpAct:
		again, err = p.(GatewayProfile).AppendAct(nil, up.Act)
	}
	if err != nil {
		t.Fatalf("cannot write what was read: %v", err)
	}
	if !json.Valid(again) {
		t.Fatalf("wrote %q, which is no JSON", again)
	}
	twice, err := p.ParseUp(topic, again)
	if err != nil || !reflect.DeepEqual(twice, up) {
		t.Fatalf("read %+v, %v\nwant %+v\nfrom %s", twice, err, up, again)
	}
}

// checkAgainstStandard decodes the document with encoding/json, field by field
// because its own matching of names ignores case.
func checkAgainstStandard(t *testing.T, up Up, payload []byte) {
	t.Helper()
	if up.Kind == UpStateGet && len(payload) == 0 {
		return
	}
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(payload, &doc); err != nil {
		t.Fatalf("accepted what encoding/json refuses: %v", err)
	}
	same := func(field string, got any) {
		t.Helper()
		want := reflect.New(reflect.TypeOf(got))
		if raw, ok := doc[field]; ok {
			if err := json.Unmarshal(raw, want.Interface()); err != nil {
				t.Fatalf("%s: encoding/json says %v", field, err)
			}
		}
		if w := want.Elem().Interface(); !reflect.DeepEqual(got, w) {
			t.Fatalf("%s: read %#v, encoding/json reads %#v", field, got, w)
		}
	}
	sameRaw := func(field string, got json.RawMessage) {
		t.Helper()
		want := doc[field]
		if string(want) == "null" {
			want = nil
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%s: read %q, encoding/json reads %q", field, got, want)
		}
	}
	switch up.Kind {
	case UpAck:
		same("tid", up.Ack.TID)
	case UpResult:
		same("tid", up.Result.TID)
		sameRaw("result", up.Result.Result)
		sameRaw("state", up.Result.State)
	case UpStatus:
		same("online", up.Status.Online)
		same("boot", up.Status.Boot)
		same("firmware", up.Status.Firmware)
		checkTime(t, up.Status.TS, doc["ts"])
		if len(up.Status.Commands) > 0 {
			same("commands", up.Status.Commands)
		}
		if len(up.Status.InProgress) > 0 {
			same("inProgress", up.Status.InProgress)
		}
	case UpStateUpdate:
		sameRaw("state", up.Update.State)
		same("boot", up.Update.Boot)
		same("tid", up.Update.TID)
		same("clientToken", up.Update.ClientToken)
		checkTime(t, up.Update.TS, doc["ts"])
	case UpStateGet:
		same("clientToken", up.Get.ClientToken)
	}
}

func checkTime(t *testing.T, got time.Time, raw json.RawMessage) {
	t.Helper()
	var want time.Time
	if raw == nil {
		return
	}
	if err := json.Unmarshal(raw, &want); err != nil || !want.Equal(got) {
		t.Fatalf("ts: read %v, encoding/json reads %v, %v", got, want, err)
	}
}

func FuzzParseCommand(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	p := NewWilco("")
	f.Fuzz(func(t *testing.T, payload []byte) {
		c, err := p.ParseCommand(payload)
		checkError(t, err)
		if err != nil {
			if !reflect.DeepEqual(c, Command{TID: c.TID}) || (c.TID != "" && !ValidTID(c.TID)) {
				t.Fatalf("with an error came %+v", c)
			}
			return
		}
		c.Issued, c.NotAfter = c.Issued.Truncate(time.Millisecond), c.NotAfter.Truncate(time.Millisecond)
		if c.Status == Request && c.Params == nil {
			c.Params = emptyObject
		}
		again, err := p.AppendCommand(nil, c)
		if err != nil {
			t.Fatalf("cannot write what was read: %v", err)
		}
		twice, err := p.ParseCommand(again)
		if err != nil || !reflect.DeepEqual(twice, c) {
			t.Fatalf("read %+v, %v\nwant %+v\nfrom %s", twice, err, c, again)
		}
	})
}

func FuzzTopic(f *testing.F) {
	f.Add("wilco/g/d/ack")
	f.Add("wilco/g/d/command")
	f.Fuzz(func(t *testing.T, topic string) {
		p := NewWilco("")
		up, err := p.ParseUp(topic, []byte(`{"tid":"t","status":"ACK"}`))
		if err == nil && p.AckTopic(up.Address) != topic {
			t.Fatalf("%q was taken for an ack of %v", topic, up.Address)
		}
	})
}

func FuzzAddress(f *testing.F) {
	f.Add("g/d")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		checkError(t, err)
		if err == nil && (a.String() != s || a.Valid() != nil) {
			t.Fatalf("%q became %v", s, a)
		}
	})
}

// Whatever string is written is read back by encoding/json.
func TestAppendStringProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOf(rapid.Byte()).Draw(t, "s"))
		if rapid.Bool().Draw(t, "text") {
			s = rapid.String().Draw(t, "s")
		}
		var got string
		if err := json.Unmarshal(appendString(nil, s), &got); err != nil {
			t.Fatal(err)
		}
		if want := string([]rune(s)); got != want { // ill-formed bytes become U+FFFD one by one
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}
