package wire

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

var at = time.Date(2026, 3, 4, 5, 6, 7, 891_234_567, time.FixedZone("", 3600))

func percent(f float64) *float64 { return &f }

// The documents as they are on the wire, byte for byte.
func TestAppendGolden(t *testing.T) {
	p, a := NewWilco(""), Atlas()
	tests := []struct {
		name   string
		append func([]byte) ([]byte, error)
		want   string
	}{
		{"request", func(b []byte) ([]byte, error) {
			return p.AppendCommand(b, Command{TID: "t-1", Cmd: "set", Status: Request, Params: json.RawMessage(`{"level":3}`),
				Seq: 42, Epoch: 3, Attempt: 1, Issued: at, NotAfter: at.Add(time.Minute)})
		}, `{"tid":"t-1","cmd":"set","status":"REQUEST","params":{"level":3},"seq":42,"epoch":3,"attempt":1,"issued":"2026-03-04T04:06:07.891Z","notAfter":"2026-03-04T04:07:07.891Z"}`},
		{"request without parameters", func(b []byte) ([]byte, error) {
			return p.AppendCommand(b, Command{TID: "t-1", Cmd: "reboot", Status: Request, Seq: 1, Epoch: 1, If: json.RawMessage(`{"path":"a","eq":1}`)})
		}, `{"tid":"t-1","cmd":"reboot","status":"REQUEST","params":{},"seq":1,"epoch":1,"if":{"path":"a","eq":1}}`},
		{"cancel", func(b []byte) ([]byte, error) {
			return p.AppendCommand(b, Command{TID: "t-1", Cmd: "set", Status: Cancel, Epoch: 3})
		}, `{"tid":"t-1","cmd":"set","status":"CANCEL","epoch":3}`},
		{"query", func(b []byte) ([]byte, error) {
			return p.AppendCommand(b, Command{TID: "t-1", Status: Query, Epoch: 3})
		}, `{"tid":"t-1","status":"QUERY","epoch":3}`},
		{"ack", func(b []byte) ([]byte, error) {
			return p.AppendAck(b, Ack{TID: "t-1", Status: Received})
		}, `{"tid":"t-1","status":"RECEIVED"}`},
		{"rejecting ack", func(b []byte) ([]byte, error) {
			return p.AppendAck(b, Ack{TID: "t-1", Status: Rejected, Reason: &Reason{Code: ReasonStaleSeq, Text: "seq 4 is not above 7"}})
		}, `{"tid":"t-1","status":"REJECTED","reason":{"code":"stale_seq","text":"seq 4 is not above 7"}}`},
		{"running", func(b []byte) ([]byte, error) {
			return p.AppendResult(b, Result{TID: "t-1", Status: Running, Progress: &Progress{Percent: percent(12.5), Note: "turning"}})
		}, `{"tid":"t-1","status":"RUNNING","progress":{"percent":12.5,"note":"turning"}}`},
		{"success", func(b []byte) ([]byte, error) {
			return p.AppendResult(b, Result{TID: "t-1", Status: Success, Result: json.RawMessage(`[1]`), State: json.RawMessage(`{"level":3}`)})
		}, `{"tid":"t-1","status":"SUCCESS","result":[1],"state":{"level":3}}`},
		{"failure", func(b []byte) ([]byte, error) {
			return p.AppendResult(b, Result{TID: "t-1", Status: Failure, Reason: &Reason{Code: "jam", Text: "\"stuck\"\\\n\r\t\x01 é\u2028\xff"}})
		}, `{"tid":"t-1","status":"FAILURE","reason":{"code":"jam","text":"\"stuck\"\\\n\r\t\u0001 é\u2028` + "\ufffd" + `"}}`},
		{"online", func(b []byte) ([]byte, error) {
			return p.AppendStatus(b, Status{Online: true, Boot: "b1", TS: at, Firmware: "1.2", InProgress: []string{"t-1", "t-2"}})
		}, `{"online":true,"boot":"b1","ts":"2026-03-04T04:06:07.891Z","firmware":"1.2","inProgress":["t-1","t-2"]}`},
		{"idle", func(b []byte) ([]byte, error) {
			return p.AppendStatus(b, Status{Online: true, Boot: "b1"})
		}, `{"online":true,"boot":"b1","inProgress":[]}`},
		{"online with commands", func(b []byte) ([]byte, error) {
			return p.AppendStatus(b, Status{Online: true, Commands: []string{"move", `a"b`}})
		}, `{"online":true,"inProgress":[],"commands":["move","a\"b"]}`},
		{"will", func(b []byte) ([]byte, error) {
			return p.AppendStatus(b, Status{Boot: "b1"})
		}, `{"online":false,"boot":"b1"}`},
		{"atlas request", func(b []byte) ([]byte, error) {
			return a.AppendCommand(b, Command{TID: "t-1", Cmd: "MOVE", Status: Request, Params: json.RawMessage(`{}`), Seq: 4, Epoch: 5, Issued: at})
		}, `{"cmd":"MOVE","tid":"t-1","status":"REQUEST"}`},
		{"atlas request with parameters", func(b []byte) ([]byte, error) {
			return a.AppendCommand(b, Command{TID: "t-1", Cmd: "MOVE", Status: Request, Params: json.RawMessage(`{"x":1}`)})
		}, `{"cmd":"MOVE","tid":"t-1","status":"REQUEST","params":{"x":1}}`},
		{"atlas ack", func(b []byte) ([]byte, error) {
			return a.AppendAck(b, Ack{TID: "t-1", Status: Received, Reason: &Reason{Code: "x"}})
		}, `{"tid":"t-1","status":"RECEIVED"}`},
		{"atlas result", func(b []byte) ([]byte, error) {
			return a.AppendResult(b, Result{TID: "t-1", Status: Success, Result: json.RawMessage(`1`)})
		}, `{"tid":"t-1","status":"SUCCESS"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.append([]byte("kept"))
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != "kept"+tt.want {
				t.Errorf("got  %s\nwant kept%s", got, tt.want)
			}
			if !json.Valid(got[len("kept"):]) {
				t.Error("not valid JSON")
			}
		})
	}
}

func TestAppendRefuses(t *testing.T) {
	p := NewWilco("")
	good := Command{TID: "t", Cmd: "c", Status: Request}
	with := func(change func(*Command)) func([]byte) ([]byte, error) {
		c := good
		change(&c)
		return func(b []byte) ([]byte, error) { return p.AppendCommand(b, c) }
	}
	long := json.RawMessage(`"` + strings.Repeat("x", MaxValue-1) + `"`)
	half := json.RawMessage(`"` + strings.Repeat("x", MaxDocument/2) + `"`)
	tests := []struct {
		name   string
		append func([]byte) ([]byte, error)
		field  string
	}{
		{"no tid", with(func(c *Command) { c.TID = "" }), "tid"},
		{"tid with a space", with(func(c *Command) { c.TID = "a b" }), "tid"},
		{"tid of 65 bytes", with(func(c *Command) { c.TID = strings.Repeat("a", 65) }), "tid"},
		{"no cmd", with(func(c *Command) { c.Cmd = "" }), "cmd"},
		{"long cmd", with(func(c *Command) { c.Cmd = strings.Repeat("a", MaxCmd+1) }), "cmd"},
		{"cmd not UTF-8", with(func(c *Command) { c.Cmd = "\xff" }), "cmd"},
		{"cmd with NUL", with(func(c *Command) { c.Cmd = "a\x00" }), "cmd"},
		{"an answer's status", with(func(c *Command) { c.Status = Success }), "status"},
		{"a synonym", with(func(c *Command) { c.Status = "request" }), "status"},
		{"params not JSON", with(func(c *Command) { c.Params = json.RawMessage(`{"a":}`) }), "params"},
		{"params two values", with(func(c *Command) { c.Params = json.RawMessage(`1,"x":2`) }), "params"},
		{"params not UTF-8", with(func(c *Command) { c.Params = json.RawMessage("\"\xff\"") }), "params"},
		{"params too long", with(func(c *Command) { c.Params = long }), "params"},
		{"params too deep", with(func(c *Command) { c.Params = json.RawMessage(nested(MaxDepth)) }), "params"},
		{"negative seq", with(func(c *Command) { c.Seq = -1 }), "seq"},
		{"negative epoch", with(func(c *Command) { c.Epoch = -1 }), "epoch"},
		{"year 10000", with(func(c *Command) { c.NotAfter = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }), "notAfter"},
		{"percent NaN", func(b []byte) ([]byte, error) {
			return p.AppendResult(b, Result{TID: "t", Status: Running, Progress: &Progress{Percent: percent(math.NaN())}})
		}, "progress.percent"},
		{"percent 101", func(b []byte) ([]byte, error) {
			return p.AppendResult(b, Result{TID: "t", Status: Running, Progress: &Progress{Percent: percent(101)}})
		}, "progress.percent"},
		{"ack SUCCESS", func(b []byte) ([]byte, error) { return p.AppendAck(b, Ack{TID: "t", Status: Success}) }, "status"},
		{"result RECEIVED", func(b []byte) ([]byte, error) { return p.AppendResult(b, Result{TID: "t", Status: Received}) }, "status"},
		{"document too long", func(b []byte) ([]byte, error) {
			return p.AppendResult(b, Result{TID: "t", Status: Success, Result: half, State: half})
		}, "document"},
		{"a command of 65 bytes", func(b []byte) ([]byte, error) {
			return p.AppendStatus(b, Status{Online: true, Commands: []string{strings.Repeat("a", MaxCommand+1)}})
		}, "commands"},
		{"too many commands", func(b []byte) ([]byte, error) {
			return p.AppendStatus(b, Status{Online: true, Commands: make([]string, MaxCommands+1)})
		}, "commands"},
		{"bad tid in progress", func(b []byte) ([]byte, error) {
			return p.AppendStatus(b, Status{Online: true, InProgress: []string{"a/b"}})
		}, "inProgress"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.append([]byte("kept"))
			var e *Error
			if !errors.As(err, &e) || e.Field != tt.field || e.Text == "" {
				t.Errorf("error %v, want one of field %s", err, tt.field)
			}
			if string(got) != "kept" {
				t.Errorf("dst came back as %.40q", got)
			}
		})
	}
}

func nested(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

func TestAtlasRefusesWhatFirmwareWouldExecute(t *testing.T) {
	for _, status := range []string{Cancel, Query} {
		if _, err := Atlas().AppendCommand(nil, Command{TID: "t", Cmd: "c", Status: status}); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v, want ErrUnsupported", status, err)
		}
	}
	if _, err := Atlas().AppendStatus(nil, Status{}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("status: %v, want ErrUnsupported", err)
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	p := NewWilco("")
	buf := make([]byte, 0, 1024)
	c := Command{TID: "0198c2f0-1111-7aaa-8bbb-0123456789ab", Cmd: "set", Status: Request, Params: json.RawMessage(`{"level":3}`),
		Seq: 42, Epoch: 3, Attempt: 1, Issued: at, NotAfter: at}
	if n := testing.AllocsPerRun(100, func() { buf, _ = p.AppendCommand(buf[:0], c) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
