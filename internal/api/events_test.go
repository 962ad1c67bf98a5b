package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/wire"
)

// frame is one event of a stream, or what stood between two.
type frame struct{ id, event, data string }

// stream opens an event stream and gives its frames; the channel is closed when
// it ends.
func (w *world) stream(t *testing.T, query string, header map[string]string) <-chan frame {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, "GET", w.URL+"/v1/events"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+w.Token)
	for k, v := range header {
		r.Header.Set(k, v)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("status %d %s", res.StatusCode, res.Header)
	}
	frames := make(chan frame, 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(frames)
		var f frame
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "id":
				f.id = value
			case "event":
				f.event = value
			case "data":
				f.data = value
			case "":
				frames <- f
				f = frame{}
			}
		}
	}()
	t.Cleanup(func() { cancel(); res.Body.Close(); <-done })
	return frames
}

// next is the next event of a stream; silent frames are passed over.
func next(t *testing.T, frames <-chan frame) (frame, client.Event) {
	t.Helper()
	for f := range frames {
		if f.event == "" {
			continue
		}
		var e client.Event
		if err := json.Unmarshal([]byte(f.data), &e); err != nil && f.event != "gap" {
			t.Fatalf("%v in %q", err, f.data)
		}
		return f, e
	}
	t.Fatal("the stream ended")
	return frame{}, client.Event{}
}

func TestEventsAreAllThereOnceInOrder(t *testing.T) {
	w := newWorld(t, options{})
	w.online("plant/valve")
	live := w.stream(t, "", nil)
	testkit.Receive(t, live) // the position: it is open
	c := read[client.Command](t, w.do(t, request{method: "POST", path: "/v1/devices/plant/valve/commands?wait=30s", body: `{"name":"open"}`}), 202)
	var ids []string
	for {
		f, e := next(t, live)
		if e.TID != c.TID {
			t.Errorf("event %+v", e)
		}
		ids = append(ids, f.id)
		if e.State == client.Executed {
			break
		}
	}
	// From the first, by after; and from the middle, by Last-Event-ID, which wins.
	all := w.stream(t, "?after=0&tid="+c.TID, nil)
	tail := w.stream(t, "?after=0", map[string]string{"Last-Event-ID": ids[0]})
	for i, id := range ids {
		if f, _ := next(t, all); f.id != id {
			t.Errorf("again: got %s, want %s", f.id, id)
		}
		if i > 0 {
			if f, _ := next(t, tail); f.id != id {
				t.Errorf("resumed: got %s, want %s", f.id, id)
			}
		}
	}
}

func TestEventFilters(t *testing.T) {
	w := newWorld(t, options{})
	w.add("plant/a")
	w.add("plant/b")
	w.add("mill/a")
	send := func(device string) string {
		return read[client.Command](t, w.do(t, request{method: "POST", path: "/v1/devices/" + device + "/commands", body: `{"name":"n"}`}), 202).TID
	}
	a, b, m := send("plant/a"), send("plant/b"), send("mill/a")
	for query, want := range map[string][]string{"?after=0": {a, b, m}, "?after=0&group=plant": {a, b}, "?after=0&group=plant&device=b": {b}, "?after=0&tid=" + m: {m}} {
		s := w.stream(t, query, nil)
		for _, tid := range want {
			if _, e := next(t, s); e.TID != tid {
				t.Errorf("%s: got %s of %s", query, e.TID, e.Device)
			}
		}
	}
	// A token of one group sees that group without asking for it.
	s := w.stream(t, "?after=0", map[string]string{"Authorization": "Bearer " + w.token(t, fleet.NewToken{Name: "m", Grants: []fleet.Grant{{Role: fleet.Viewer, Groups: []string{"mill"}}}})})
	if _, e := next(t, s); e.TID != m {
		t.Errorf("got an event of %s", e.Device)
	}
	// One of several groups sees these alone: the first event that it may see is the last.
	s = w.stream(t, "?after=0", map[string]string{"Authorization": "Bearer " + w.token(t, fleet.NewToken{Name: "n",
		Grants: []fleet.Grant{{Role: fleet.Viewer, Groups: []string{"none"}}, {Role: fleet.Operator, Groups: []string{"mill"}}}})})
	if _, e := next(t, s); e.TID != m {
		t.Errorf("got an event of %s", e.Device)
	}
}

// TestStreamsEndWithTheRight: a stream that is open shows what its reader may see now,
// and ends with the token or the user.
func TestStreamsEndWithTheRight(t *testing.T) {
	w := newWorld(t, options{Heartbeat: 10 * time.Millisecond})
	w.add("plant/a")
	w.add("mill/a")
	send := func(device string) string {
		return read[client.Command](t, w.do(t, request{method: "POST", path: "/v1/devices/" + device + "/commands", body: `{"name":"n"}`}), 202).TID
	}
	grants := []fleet.Grant{{Role: fleet.Viewer, Groups: []string{"mill", "plant"}}}
	if _, err := w.Fleet.AddUser(t.Context(), fleet.NewUser{Name: "ann", Password: "correct horse", Grants: grants}); err != nil {
		t.Fatal(err)
	}
	open := func(n fleet.NewToken) (frames <-chan frame, id string) {
		made, text, err := w.Fleet.CreateToken(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		frames = w.stream(t, "", map[string]string{"Authorization": "Bearer " + text})
		testkit.Receive(t, frames) // the position: it is open
		return frames, made.ID
	}
	ended := func(frames <-chan frame) {
		t.Helper()
		late := time.After(time.Minute)
		for {
			select {
			case f, more := <-frames:
				if !more {
					return
				}
				if f.event != "" {
					t.Errorf("told %+v", f)
				}
			case <-late:
				t.Fatal("the stream goes on")
			}
		}
	}
	hers, _ := open(fleet.NewToken{Name: "laptop", User: "ann"})
	if _, err := w.Fleet.ChangeUser(t.Context(), "ann", fleet.UserChange{Grants: []fleet.Grant{{Role: fleet.Viewer, Groups: []string{"mill"}}}}); err != nil {
		t.Fatal(err)
	}
	send("plant/a")
	m := send("mill/a")
	if _, e := next(t, hers); e.TID != m {
		t.Errorf("told of %s", e.Device)
	}
	off := true
	if _, err := w.Fleet.ChangeUser(t.Context(), "ann", fleet.UserChange{Disabled: &off}); err != nil {
		t.Fatal(err)
	}
	ended(hers)
	its, id := open(fleet.NewToken{Name: "panel", Grants: grants})
	if err := w.Fleet.RemoveToken(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	send("plant/a")
	ended(its)
}

// TestEventsTellAGap purges what a reader has not seen.
func TestEventsTellAGap(t *testing.T) {
	w := newWorld(t, options{})
	device := w.online("plant/valve")
	read[client.Command](t, w.do(t, request{method: "POST", path: "/v1/devices/plant/valve/commands?wait=30s", body: `{"name":"open"}`}), 202)
	for {
		n, err := w.Store.Purge(t.Context(), time.Now().Add(time.Hour), 1000)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
	}
	w.say(device, wire.Status{Online: false, Boot: "boot-1"})
	first, err := w.Store.FirstEvent(t.Context())
	if err != nil || first < 2 {
		t.Fatalf("nothing was purged: first event %d, %v", first, err)
	}
	s := w.stream(t, "?after=1", nil)
	f, _ := next(t, s)
	var gap client.Gap
	if err := json.Unmarshal([]byte(f.data), &gap); err != nil || f.event != "gap" || gap.After != 1 || gap.First != first {
		t.Fatalf("got %+v, first event is %d", f, first)
	}
	if _, e := next(t, s); e.ID != first {
		t.Errorf("after the gap comes %+v", e)
	}
}

func TestStreamsHeartbeatDrainAndLimit(t *testing.T) {
	w := newWorld(t, options{Heartbeat: time.Millisecond, MaxStreams: 3, MaxStreamsEach: 2})
	s := w.stream(t, "", nil)
	for range 3 {
		if f, ok := <-s; !ok || f.event != "" || f.id != "0" {
			t.Fatalf("a silent stream must show its position: %+v %v", f, ok)
		}
	}
	second := w.stream(t, "", nil)
	refused(t, w.do(t, request{path: "/v1/events"}), 429, "too_many", "", `2 event streams of "first-admin" are open`)
	// Another name has room, by whatever token, until there is none for anybody.
	made := fleet.NewToken{Name: "panel", Grants: fleet.Everywhere(fleet.Viewer)}
	other := func() map[string]string { return map[string]string{"Authorization": "Bearer " + w.token(t, made)} }
	o := w.stream(t, "", other())
	refused(t, w.do(t, request{path: "/v1/events", token: w.token(t, made)}), 503, "unavailable", "", "3 event streams are open")
	w.API.Drain()
	for _, ended := range []<-chan frame{s, second, o} {
		for range ended {
		}
	}
	if open := w.do(t, request{path: "/metrics"}); !strings.Contains(string(open.body), "wilco_http_event_streams 0\n") {
		t.Error("a place was not given back")
	}
}

// TestWaitEndsWithTheServer has a long wait answered when the server drains.
func TestWaitEndsWithTheServer(t *testing.T) {
	w := newWorld(t, options{})
	w.add("plant/valve")
	got := make(chan reply, 1)
	go func() {
		got <- w.do(t, request{method: "POST", path: "/v1/devices/plant/valve/commands?wait=10m", body: `{"name":"open"}`})
	}()
	for s := w.stream(t, "?after=0", nil); ; {
		if _, e := next(t, s); e.State == client.Created {
			break
		}
	}
	w.API.Drain()
	if c := read[client.Command](t, <-got, 202); c.State != client.Created {
		t.Errorf("got %s", c.State)
	}
}
