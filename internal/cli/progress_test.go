package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/wilco-iot/wilco/client"
)

// TestProgressOnATerminal draws over one line, and lets nothing of a device move
// the cursor.
func TestProgressOnATerminal(t *testing.T) {
	var out bytes.Buffer
	a := &app{IO: IO{Err: &out, Terminal: true}}
	percent := 40.0
	c := &client.Command{TID: "t", Device: "a/b", Name: "n", State: client.Running, Reason: "device_running",
		Progress: &client.Progress{Percent: &percent, Note: "half\x1b[2J\nway"}}
	p := a.newProgress(c)
	p.began = time.Now()
	p.draw(c)
	p.draw(c)
	p.done()
	got := out.String()
	if strings.Count(got, "\r") != 2 || strings.Count(got, "\n") != 2 || strings.Count(got, "\x1b") != 2 || strings.Count(got, "\x1b[K") != 2 {
		t.Errorf("got %q", got)
	}
	if !strings.Contains(got, "running: the device works on it 40% half [2J way (0s)") {
		t.Errorf("got %q", got)
	}
}

// TestProgressFitsTheTerminal keeps the line shorter than the terminal is wide:
// one that is broken cannot be drawn over.
func TestProgressFitsTheTerminal(t *testing.T) {
	var out bytes.Buffer
	a := &app{IO: IO{Err: &out, Terminal: true, Columns: 20}}
	c := &client.Command{State: client.Running, Reason: "device_running", Progress: &client.Progress{Note: strings.Repeat("ö", 40)}}
	p := a.newProgress(c)
	out.Reset()
	p.draw(c)
	line := strings.TrimSuffix(strings.TrimPrefix(out.String(), "\r"), "\x1b[K")
	if n := utf8.RuneCountInString(line); n != 19 {
		t.Errorf("%d columns of 20: %q", n, line)
	}
}

func TestNoProgressInJSON(t *testing.T) {
	var out bytes.Buffer
	a := &app{IO: IO{Err: &out}, json: true}
	a.newProgress(&client.Command{TID: "t"}).done()
	if out.Len() != 0 {
		t.Errorf("got %q", out.String())
	}
}

// TestStory tells of everything that a timeline can hold.
func TestStory(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tl := &client.Timeline{
		Command: client.Command{TID: "t", Device: "a/b", Name: "open", Params: []byte(`{"p":1}`), RetryOf: "old", State: client.TimedOut, Created: at},
		Entries: []client.Entry{
			{At: at, State: client.Created, Reason: "requested", By: "ops"},
			{At: at.Add(90 * time.Second), State: client.Sent, Reason: "no_ack_yet", By: "clock", Attempt: 3, Count: 2, Until: at.Add(2 * time.Minute)},
			{At: at.Add(121 * time.Second), State: client.TimedOut, Reason: "unexpected_message", By: "device", Detail: "x\x1by", Anomaly: true},
		},
	}
	var out bytes.Buffer
	story(&out, tl)
	want := `t  open → a/b
params {"p":1}
repeats old

2026-01-02 03:04:05.000       +0s  created: asked for, by ops
2026-01-02 03:05:35.000    +1m30s  sent: no answer yet, published again, attempt 3 (2 times, until 03:06:05.000)
2026-01-02 03:06:06.000       +1s  ANOMALY timed_out: the device spoke of a command that it was never sent; not obeyed — x y

Its outcome is unknown; a late answer still settles it.
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
