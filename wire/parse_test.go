package wire

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseUp(t *testing.T) {
	p := NewWilco("plant/a")
	address := Address{Group: "north", Device: "pump-7"}
	ack := func(a Ack) Up { return Up{Address: address, Kind: UpAck, Ack: a} }
	result := func(r Result) Up { return Up{Address: address, Kind: UpResult, Result: r} }
	status := func(s Status) Up { return Up{Address: address, Kind: UpStatus, Status: s} }
	tests := []struct {
		name, leaf, payload string
		want                Up
	}{
		{"ack", "ack", `{"tid":"t","status":"RECEIVED"}`, ack(Ack{TID: "t", Status: Received})},
		{"white space", "ack", " {\n\"tid\" :\t\"t\" , \"status\":\"RECEIVED\" }\r\n", ack(Ack{TID: "t", Status: Received})},
		{"synonym", "ack", `{"tid":"t","status":"accepted"}`, ack(Ack{TID: "t", Status: Received})},
		{"unknown fields", "ack", `{"x":{"tid":[1,{"a":null}]},"tid":"t","rssi":-7.5e1,"status":"NACK","y":[true,false]}`, ack(Ack{TID: "t", Status: Rejected})},
		{"unknown field twice", "ack", `{"x":1,"x":2,"tid":"t","status":"ACK"}`, ack(Ack{TID: "t", Status: Received})},
		{"other case is another field", "ack", `{"TID":7,"tid":"t","status":"ACK"}`, ack(Ack{TID: "t", Status: Received})},
		{"escaped field name", "ack", `{"\u0074id":"t","status":"ACK"}`, ack(Ack{TID: "t", Status: Received})},
		{"null is absent", "ack", `{"tid":"t","status":"ACK","reason":null}`, ack(Ack{TID: "t", Status: Received})},
		{"reason", "ack", `{"tid":"t","status":"REJECTED","reason":{"code":"busy","text":"\ud83d\ude00 \ud800 \"\\\/\b\f\n\r\t","more":1}}`,
			ack(Ack{TID: "t", Status: Rejected, Reason: &Reason{Code: "busy", Text: "😀 \ufffd \"\\/\b\f\n\r\t"}})},
		{"empty reason", "ack", `{"tid":"t","status":"REJECTED","reason":{}}`, ack(Ack{TID: "t", Status: Rejected, Reason: &Reason{}})},
		{"running", "result", `{"tid":"t","status":"In-Progress","progress":{"percent":99.5,"note":"n"}}`,
			result(Result{TID: "t", Status: Running, Progress: &Progress{Percent: percent(99.5), Note: "n"}})},
		{"success", "result", `{"tid":"t","status":"ok","result":{"a":[1]},"state": "s" }`,
			result(Result{TID: "t", Status: Success, Result: json.RawMessage(`{"a":[1]}`), State: json.RawMessage(`"s"`)})},
		{"long text is cut", "result", `{"tid":"t","status":"error","reason":{"text":"x` + strings.Repeat("é", MaxText) + `"}}`,
			result(Result{TID: "t", Status: Failure, Reason: &Reason{Text: "x" + strings.Repeat("é", (MaxText-1)/2)}})},
		{"online", "status", `{"online":true,"boot":"b","ts":"2026-03-04T05:06:07.5+01:00","firmware":"1","inProgress":["a","b"]}`,
			status(Status{Online: true, Boot: "b", TS: time.Date(2026, 3, 4, 4, 6, 7, 5e8, time.UTC), Firmware: "1", InProgress: []string{"a", "b"}})},
		{"commands", "status", `{"online":true,"commands":["move","st\u006fp"]}`, status(Status{Online: true, Commands: []string{"move", "stop"}})},
		{"offline", "status", `{"online":false}`, status(Status{})},
		{"idle", "status", `{"online":true,"inProgress":[]}`, status(Status{Online: true})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := p.ParseUp("plant/a/north/pump-7/"+tt.leaf, []byte(tt.payload))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestParseUpRefuses(t *testing.T) {
	tests := []struct{ name, leaf, payload, field string }{
		{"empty", "ack", ``, "document"},
		{"white space", "ack", ` `, "document"},
		{"null", "ack", `null`, "document"},
		{"array", "ack", `[{"tid":"t","status":"ACK"}]`, "document"},
		{"byte order mark", "ack", "\ufeff" + `{"tid":"t","status":"ACK"}`, "document"},
		{"cut off", "ack", `{"tid":"t","status":"ACK"`, "document"},
		{"cut off in a string", "ack", `{"tid":"t`, "document"},
		{"cut off in an escape", "ack", `{"tid":"t","x":"\u12`, "document"},
		{"trailing comma", "ack", `{"tid":"t","status":"ACK",}`, "document"},
		{"trailing garbage", "ack", `{"tid":"t","status":"ACK"}x`, "document"},
		{"second document", "ack", `{"tid":"t","status":"ACK"}{}`, "document"},
		{"control character", "ack", "{\"tid\":\"t\",\"status\":\"ACK\",\"x\":\"\n\"}", "document"},
		{"not UTF-8", "ack", "{\"tid\":\"t\",\"status\":\"ACK\",\"x\":\"\xff\"}", "document"},
		{"leading zero", "ack", `{"tid":"t","status":"ACK","x":01}`, "document"},
		{"too deep", "ack", `{"tid":"t","status":"ACK","x":` + nested(MaxDepth) + `}`, "document"},
		{"too long", "ack", `{"tid":"t","status":"ACK"}` + strings.Repeat(" ", MaxDocument), "document"},
		{"no tid", "ack", `{"status":"ACK"}`, "tid"},
		{"tid null", "ack", `{"tid":null,"status":"ACK"}`, "tid"},
		{"tid empty", "ack", `{"tid":"","status":"ACK"}`, "tid"},
		{"tid a number", "ack", `{"tid":7,"status":"ACK"}`, "tid"},
		{"tid with a slash", "ack", `{"tid":"a/b","status":"ACK"}`, "tid"},
		{"tid with an escape", "ack", `{"tid":"\u0061","status":"ACK"}`, "tid"},
		{"tid too long", "ack", `{"tid":"` + strings.Repeat("a", 65) + `","status":"ACK"}`, "tid"},
		{"tid twice", "ack", `{"tid":"t","status":"ACK","tid":"t"}`, "tid"},
		{"tid twice by escape", "ack", `{"tid":"t","status":"ACK","t\u0069d":"u"}`, "tid"},
		{"null twice", "ack", `{"tid":"t","status":"ACK","reason":null,"reason":null}`, "reason"},
		{"no status", "ack", `{"tid":"t"}`, "status"},
		{"unknown status", "ack", `{"tid":"t","status":"MAYBE"}`, "status"},
		{"long status", "ack", `{"tid":"t","status":"` + strings.Repeat("A", 100) + `"}`, "status"},
		{"status of another document", "ack", `{"tid":"t","status":"SUCCESS"}`, "status"},
		{"command on result", "result", `{"tid":"t","status":"REQUEST"}`, "status"},
		{"reason a string", "ack", `{"tid":"t","status":"REJECTED","reason":"no"}`, "reason"},
		{"code a number", "ack", `{"tid":"t","status":"REJECTED","reason":{"code":7}}`, "reason.code"},
		{"NUL", "ack", `{"tid":"t","status":"REJECTED","reason":{"text":"\u0000"}}`, "reason.text"},
		{"field after an object", "result", `{"tid":"t","reason":{"code":"a"},"status":1}`, "status"},
		{"percent NaN", "result", `{"tid":"t","status":"RUNNING","progress":{"percent":NaN}}`, "progress.percent"},
		{"percent a string", "result", `{"tid":"t","status":"RUNNING","progress":{"percent":"5"}}`, "progress.percent"},
		{"percent negative", "result", `{"tid":"t","status":"RUNNING","progress":{"percent":-1}}`, "progress.percent"},
		{"percent above", "result", `{"tid":"t","status":"RUNNING","progress":{"percent":100.1}}`, "progress.percent"},
		{"percent infinite", "result", `{"tid":"t","status":"RUNNING","progress":{"percent":1e999}}`, "progress.percent"},
		{"progress a number", "result", `{"tid":"t","status":"RUNNING","progress":5}`, "progress"},
		{"result too long", "result", `{"tid":"t","status":"SUCCESS","result":"` + strings.Repeat("x", MaxValue) + `"}`, "result"},
		{"state too long", "result", `{"tid":"t","status":"SUCCESS","state":"` + strings.Repeat("x", MaxValue) + `"}`, "state"},
		{"no online", "status", `{"boot":"b"}`, "online"},
		{"online a number", "status", `{"online":1}`, "online"},
		{"boot too long", "status", `{"online":true,"boot":"` + strings.Repeat("b", MaxLabel+1) + `"}`, "boot"},
		{"ts a number", "status", `{"online":true,"ts":1700000000}`, "ts"},
		{"ts without zone", "status", `{"online":true,"ts":"2026-03-04T05:06:07"}`, "ts"},
		{"inProgress a string", "status", `{"online":true,"inProgress":"a"}`, "inProgress"},
		{"inProgress of numbers", "status", `{"online":true,"inProgress":[1]}`, "inProgress"},
		{"commands too many", "status", `{"online":true,"commands":["a"` + strings.Repeat(`,"a"`, MaxCommands) + `]}`, "commands"},
		{"a command too long", "status", `{"online":true,"commands":["` + strings.Repeat("a", MaxCommand+1) + `"]}`, "commands"},
		{"inProgress too many", "status", `{"online":true,"inProgress":["a"` + strings.Repeat(`,"a"`, MaxRunning) + `]}`, "inProgress"},
	}
	p := NewWilco("")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			up, err := p.ParseUp("wilco/g/d/"+tt.leaf, []byte(tt.payload))
			var e *Error
			if !errors.As(err, &e) || e.Field != tt.field || e.Text == "" {
				t.Errorf("error %v, want one of field %s", err, tt.field)
			}
			if up.Address != (Address{Group: "g", Device: "d"}) {
				t.Errorf("address %v: whoever counts errors must know whose they are", up.Address)
			}
		})
	}
}

func TestParseCommand(t *testing.T) {
	got, err := NewWilco("").ParseCommand([]byte(`{"tid":"t","cmd":"set","status":"request","params":{"a":1},"seq":42,"epoch":3,"attempt":2,` +
		`"issued":"2026-03-04T05:06:07.891Z","notAfter":"2026-03-04T05:07:07Z","later":{}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := Command{TID: "t", Cmd: "set", Status: Request, Params: json.RawMessage(`{"a":1}`), Seq: 42, Epoch: 3, Attempt: 2,
		Issued: time.Date(2026, 3, 4, 5, 6, 7, 891e6, time.UTC), NotAfter: time.Date(2026, 3, 4, 5, 7, 7, 0, time.UTC)}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestParseCommandRefuses(t *testing.T) {
	tests := []struct{ name, payload, field, tid string }{
		{"no cmd", `{"tid":"t","status":"REQUEST"}`, "cmd", "t"},
		{"seq a fraction", `{"tid":"t","cmd":"c","status":"REQUEST","seq":1.5}`, "seq", "t"},
		{"seq negative", `{"tid":"t","cmd":"c","status":"REQUEST","seq":-1}`, "seq", "t"},
		{"seq above 63 bits", `{"tid":"t","cmd":"c","status":"REQUEST","seq":9223372036854775808}`, "seq", "t"},
		{"attempt above 31 bits", `{"tid":"t","cmd":"c","status":"REQUEST","attempt":2147483648}`, "attempt", "t"},
		{"status of an answer", `{"tid":"t","cmd":"c","status":"RUNNING"}`, "status", "t"},
		{"bad tid", `{"tid":"a b","cmd":"c","status":"REQUEST"}`, "tid", ""},
		{"time", `{"tid":"t","cmd":"c","status":"REQUEST","notAfter":"soon"}`, "notAfter", "t"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := NewWilco("").ParseCommand([]byte(tt.payload))
			var e *Error
			if !errors.As(err, &e) || e.Field != tt.field {
				t.Errorf("error %v, want one of field %s", err, tt.field)
			}
			if !reflect.DeepEqual(c, Command{TID: tt.tid}) {
				t.Errorf("got %+v, want only the tid %q", c, tt.tid)
			}
		})
	}
}

func TestStatusSpellings(t *testing.T) {
	for _, canonical := range []string{Request, Cancel, Query, Received, Rejected, Running, Success, Failure, Cancelled} {
		all := Synonyms(canonical)
		if len(all) == 0 {
			t.Errorf("%s has no spellings, not even its own", canonical)
		}
		for _, word := range all {
			for _, spelling := range []string{word, strings.ToLower(word), word[:1] + "_" + word[1:], " " + word + "-"} {
				if got := canonicalStatus([]byte(spelling)); got != canonical {
					t.Errorf("%q is read as %q, want %s", spelling, got, canonical)
				}
			}
			if len(word) > maxWord {
				t.Errorf("%s is longer than maxWord and can never match", word)
			}
		}
	}
	for _, word := range []string{"IN_PROGRESS", "SUCCEEDED", "CANCELED", "FAILED", "ERROR", "DONE"} {
		if canonicalStatus([]byte(word)) == "" {
			t.Errorf("%s is not read", word)
		}
	}
}

func TestFinal(t *testing.T) {
	for status, want := range map[string]bool{Received: false, Running: false, Rejected: true, Success: true, Failure: true, Cancelled: true, "": false} {
		if Final(status) != want {
			t.Errorf("Final(%q) = %v", status, !want)
		}
	}
}
