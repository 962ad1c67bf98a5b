package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is a server that answers its requests by the functions given, one
// after the other, and keeps what it was asked.
type script struct {
	*httptest.Server
	mu    sync.Mutex
	steps []http.HandlerFunc
	asked []asked
}

// got is what the server has been asked so far.
func (s *script) got() []asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

type asked struct {
	method, url, key, lastEvent, auth, body string
}

func play(t *testing.T, steps ...http.HandlerFunc) (*script, *Client) {
	t.Helper()
	s := &script{steps: steps}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("request broke off: %v", err)
		}
		s.mu.Lock()
		s.asked = append(s.asked, asked{r.Method, r.URL.String(), r.Header.Get("Idempotency-Key"), r.Header.Get("Last-Event-ID"),
			r.Header.Get("Authorization"), string(body)})
		n := len(s.asked)
		s.mu.Unlock()
		if n > len(steps) {
			t.Errorf("request %d is one too many: %s %s", n, r.Method, r.URL)
			return
		}
		steps[n-1](w, r)
	}))
	t.Cleanup(func() { s.Close(); s.Client().CloseIdleConnections() })
	c, err := New(s.URL, Token("secret"), HTTP(s.Client()))
	if err != nil {
		t.Fatal(err)
	}
	c.pause = time.Millisecond
	return s, c
}

func doc(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// breaks ends the connection without an answer.
func breaks(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

const busy = `{"status":503,"code":"unavailable","detail":"starting"}`

func TestSendIsRepeatedWithTheSameKey(t *testing.T) {
	s, c := play(t, breaks, doc(503, busy), doc(202, `{"tid":"t1","state":"created"}`))
	cmd, err := c.Send(t.Context(), "plant/valve", Order{Name: "open", Params: json.RawMessage(`{"a":1}`)})
	if err != nil || cmd.TID != "t1" {
		t.Fatalf("got %+v %v", cmd, err)
	}
	if len(s.got()) != 3 || s.got()[0].key == "" || s.got()[0] != s.got()[1] || s.got()[1] != s.got()[2] {
		t.Errorf("the requests differ: %+v", s.got())
	}
	if a := s.got()[0]; a.url != "/v1/devices/plant/valve/commands" || a.body != `{"name":"open","params":{"a":1}}` || a.auth != "Bearer secret" {
		t.Errorf("asked %+v", a)
	}
}

func TestRollbackIsRepeatedWithTheSameKey(t *testing.T) {
	s, c := play(t, doc(200, `{"tid":"t1","name":"set","params":{"to":10},"changes":[{"path":"pos","former":10,"now":40,"differs":true}],"refused":"x","forcible":true}`),
		breaks, doc(202, `{"tid":"t2","undoes":"t1"}`))
	p, err := c.PlanRollback(t.Context(), "t1")
	if err != nil || p.Name != "set" || string(p.Changes[0].Former) != "10" || p.Changes[0].After != nil || !p.Forcible {
		t.Errorf("got %+v %v", p, err)
	}
	cmd, err := c.Rollback(t.Context(), "t1", RollbackOptions{Force: true, Reason: "why"})
	if err != nil || cmd.TID != "t2" || cmd.Undoes != "t1" {
		t.Errorf("got %+v %v", cmd, err)
	}
	if a := s.got(); a[0].url != "/v1/commands/t1/rollback" || a[1].key == "" || a[1] != a[2] || a[1].body != `{"force":true,"reason":"why"}` {
		t.Errorf("asked %+v", a)
	}
}

func TestTheCallersKeyIsUsed(t *testing.T) {
	s, c := play(t, doc(202, `{}`), doc(202, `{}`), doc(202, `{}`))
	for _, key := range []string{"mine", "", ""} {
		if _, err := c.Send(t.Context(), "a/b", Order{Name: "n", Key: key}); err != nil {
			t.Fatal(err)
		}
	}
	if s.got()[0].key != "mine" || s.got()[1].key == s.got()[2].key {
		t.Errorf("keys %q %q %q", s.got()[0].key, s.got()[1].key, s.got()[2].key)
	}
}

func TestBulkIsRepeatedWithTheSameKeys(t *testing.T) {
	s, c := play(t, breaks, doc(200, `[{"status":202,"tid":"t1"},{"status":404,"error":{"status":404,"code":"not_found","detail":"d"}}]`))
	orders := []BulkOrder{{Device: "a/b", Name: "n"}, {Device: "a/c", Name: "n", Key: "mine"}}
	out, err := c.SendBulk(t.Context(), orders)
	if err != nil || len(out) != 2 || out[1].Error.Code != "not_found" {
		t.Fatalf("got %+v %v", out, err)
	}
	if s.got()[0].body != s.got()[1].body || !strings.Contains(s.got()[0].body, `"key":"mine"`) || strings.Count(s.got()[0].body, `"key"`) != 2 {
		t.Errorf("asked %s, then %s", s.got()[0].body, s.got()[1].body)
	}
	if orders[0].Key != "" {
		t.Error("the caller's orders were changed")
	}
}

// TestWhatMustNotBeRepeated has calls fail that would lose a secret or make two
// commands if they were asked again.
func TestWhatMustNotBeRepeated(t *testing.T) {
	for name, call := range map[string]func(context.Context, *Client) error{
		"retry":  func(ctx context.Context, c *Client) error { _, err := c.Retry(ctx, "t", ""); return err },
		"add":    func(ctx context.Context, c *Client) error { _, err := c.AddDevice(ctx, NewDevice{}); return err },
		"rotate": func(ctx context.Context, c *Client) error { _, err := c.RotateDevice(ctx, "a/b"); return err },
		"token":  func(ctx context.Context, c *Client) error { _, err := c.CreateToken(ctx, NewToken{}); return err },
	} {
		t.Run(name, func(t *testing.T) {
			s, c := play(t, breaks)
			if err := call(t.Context(), c); err == nil || len(s.got()) != 1 {
				t.Errorf("asked %d times, error %v", len(s.got()), err)
			}
		})
	}
}

// TestARemovalWhoseAnswerIsLost finds nothing to remove when it is repeated.
func TestARemovalWhoseAnswerIsLost(t *testing.T) {
	missing := doc(404, `{"status":404,"code":"not_found","detail":"d"}`)
	_, c := play(t, breaks, missing, missing)
	if err := c.RemoveDevice(t.Context(), "a/b"); err != nil {
		t.Errorf("repeated: %v", err)
	}
	if err := c.RemoveDevice(t.Context(), "a/b"); !errors.Is(err, &Error{Code: "not_found"}) {
		t.Errorf("the first time: %v", err)
	}
}

func TestErrors(t *testing.T) {
	problem := `{"status":409,"code":"key_reused","field":"Idempotency-Key","detail":"taken","cure":"another","requestId":"r1"}`
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		want   Error
	}{
		{"problem", doc(409, problem), Error{Status: 409, Code: "key_reused", Field: "Idempotency-Key", Detail: "taken", Cure: "another", RequestID: "r1"}},
		{"no problem document", doc(404, "<html>"), Error{Status: 404, Code: "not_found"}},
		{"proxy", doc(502, "bad gateway"), Error{Status: 502, Code: "unavailable"}},
		{"no code", doc(400, `{"error":"x"}`), Error{Status: 400, Code: "invalid"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, cl := play(t, c.answer)
			_, err := cl.Get(t.Context(), "t")
			var e *Error
			if !errors.As(err, &e) || e.Status != c.want.Status || e.Code != c.want.Code || e.Field != c.want.Field ||
				c.want.Detail != "" && *e != c.want || len(s.got()) != 1 {
				t.Errorf("got %+v after %d requests", err, len(s.got()))
			}
			if !errors.Is(err, &Error{Code: c.want.Code}) || errors.Is(err, &Error{Code: "other"}) {
				t.Error("errors.Is must match by code")
			}
		})
	}
	t.Run("damaged", func(t *testing.T) {
		s, c := play(t, doc(200, `{"tid":`))
		if _, err := c.Get(t.Context(), "t"); err == nil || len(s.got()) != 1 {
			t.Errorf("got %v after %d requests", err, len(s.got()))
		}
	})
	t.Run("gives up", func(t *testing.T) {
		s, c := play(t, breaks, breaks, breaks, breaks)
		if _, err := c.Get(t.Context(), "t"); err == nil || len(s.got()) != 4 {
			t.Errorf("got %v after %d requests, want one and three retries", err, len(s.got()))
		}
	})
	t.Run("context", func(t *testing.T) {
		_, c := play(t, breaks)
		c.pause = time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := c.Get(ctx, "t"); err == nil {
			t.Error("a call that was broken off has no error")
		}
	})
	t.Run("URL", func(t *testing.T) {
		for _, bad := range []string{"", "localhost:8080", "ftp://x", "http://", "://"} {
			if _, err := New(bad); err == nil {
				t.Errorf("%q was taken for a URL", bad)
			}
		}
	})
	t.Run("address", func(t *testing.T) {
		_, c := play(t)
		for _, bad := range []string{"", "valve", "plant/", "/valve"} {
			var e *Error
			if _, err := c.Device(t.Context(), bad); !errors.As(err, &e) || e.Field != "device" {
				t.Errorf("%q: %v", bad, err)
			}
		}
	})
}

func TestAwaitAsksUntilItIsSettled(t *testing.T) {
	s, c := play(t, doc(200, `{"tid":"t","state":"sent"}`), doc(200, `{"tid":"t","state":"timed_out"}`))
	cmd, err := c.Await(t.Context(), "t")
	if err != nil || cmd.State != TimedOut || !strings.Contains(s.got()[0].url, "wait=1m0s") {
		t.Errorf("got %+v %v, asked %+v", cmd, err, s.got())
	}
}

func TestAllPages(t *testing.T) {
	s, c := play(t, doc(200, `{"items":[{"tid":"1"},{"tid":"2"}],"next":"c/1"}`), doc(200, `{"items":[{"tid":"3"}]}`))
	var got []string
	for cmd, err := range c.All(t.Context(), ListOptions{States: []State{Sent, Running}, Limit: 2, Since: time.Unix(0, 0)}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, cmd.TID)
	}
	if !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("got %v", got)
	}
	if s.got()[0].url != "/v1/commands?limit=2&since=1970-01-01T00%3A00%3A00Z&state=sent&state=running" || !strings.Contains(s.got()[1].url, "cursor=c%2F1") {
		t.Errorf("asked %+v", s.got())
	}
}

func TestHealthOfOneThatIsNotReady(t *testing.T) {
	_, c := play(t, doc(503, `{"live":true,"ready":false,"version":"v","parts":[{"name":"broker","ready":false}]}`))
	if h, err := c.Health(t.Context()); err != nil || h.Ready || len(h.Parts) != 1 {
		t.Errorf("got %+v %v", h, err)
	}
}

func event(id int) string {
	return fmt.Sprintf("id: %d\nevent: command\ndata: {\"id\":%d,\"type\":\"command\",\"device\":\"a/b\"}\n\n", id, id)
}

// TestEventsSurviveTheirConnections breaks the stream in several ways; every
// event must come once.
func TestEventsSurviveTheirConnections(t *testing.T) {
	s, c := play(t,
		doc(200, ":\nid: 4\n\n"+event(5)+event(6)+"id: 7\nevent: command\ndata: {\"id\":7"), // breaks off within an event
		breaks,
		doc(503, busy),
		doc(200, ":\nid: 6\n\n"+event(7)+":\nid: 20\n\n"), // a position without an event
		doc(200, "id: 29\nevent: gap\ndata: {\"after\":20,\"first\":30}\n\n"+event(30)),
	)
	var got []string
	for item, err := range c.Events(t.Context(), EventOptions{After: -1, Group: "a", Device: "b"}) {
		if err != nil {
			t.Fatal(err)
		}
		if item.Gap != nil {
			got = append(got, fmt.Sprintf("gap %d-%d", item.Gap.After, item.Gap.First))
			continue
		}
		got = append(got, fmt.Sprint(item.Event.ID))
		if item.Event.ID == 30 {
			break
		}
	}
	if want := []string{"5", "6", "7", "gap 20-30", "30"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	var after []string
	for _, a := range s.got() {
		after = append(after, strings.TrimPrefix(a.url, "/v1/events?"))
	}
	if want := []string{"device=b&group=a", "after=6&device=b&group=a", "after=6&device=b&group=a", "after=6&device=b&group=a", "after=20&device=b&group=a"}; !slices.Equal(after, want) {
		t.Errorf("asked %v, want %v", after, want)
	}
}

func TestEventsEndWithARefusal(t *testing.T) {
	_, c := play(t, doc(401, `{"status":401,"code":"unauthenticated","detail":"no"}`))
	n := 0
	for _, err := range c.Events(t.Context(), EventOptions{}) {
		if n++; !errors.Is(err, &Error{Code: "unauthenticated"}) {
			t.Errorf("got %v", err)
		}
	}
	if n != 1 {
		t.Errorf("%d items", n)
	}
}

func TestEventsEndWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, c := play(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, event(1))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	var last error
	for item, err := range c.Events(ctx, EventOptions{}) {
		if last = err; err == nil && item.Event.ID == 1 {
			cancel()
		}
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("got %v", last)
	}
}

// TestALiveStreamTellsWhatItMisses: where it begins, where it ends, and that it has
// not begun.
func TestALiveStreamTellsWhatItMisses(t *testing.T) {
	birth := "event: node_birth\ndata: {\"node\":\"a/b\",\"kind\":\"node_birth\"}\n\n"
	_, c := play(t,
		breaks, breaks, // told once
		doc(200, ":\n\n"+birth+"event: data\ndata: {\"no"), // breaks off within an event
		doc(503, busy),
		doc(200, ""), // breaks off before it has begun
		doc(200, ":\n\n"+birth),
		doc(403, `{"status":403,"code":"forbidden","detail":"no more"}`),
	)
	var got []string
	var last error
	for e, err := range c.SparkplugEvents(t.Context(), SparkplugEventOptions{}) {
		if last = err; err == nil {
			got = append(got, e.Kind)
		}
	}
	want := []string{ConnectionLost, Connected, "node_birth", ConnectionLost, Connected, "node_birth", ConnectionLost}
	if !slices.Equal(got, want) || !errors.Is(last, &Error{Code: "forbidden"}) {
		t.Errorf("got %v, %v", got, last)
	}
}
