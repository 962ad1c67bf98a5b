package api_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/api"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/service"
)

// canned is a service that makes commands without an engine.
type canned struct{ api.Service }

func (canned) SendBulk(_ context.Context, _ service.Principal, orders []service.Order) ([]service.Created, error) {
	out := make([]service.Created, len(orders))
	for i := range orders {
		if out[i].Err = orders[i].Err; out[i].Err == nil {
			out[i].Command = commandIn(command.Created)
		}
	}
	return out, nil
}

// failing is a service whose look at a command fails, or panics.
type failing struct {
	api.Service
	err   error
	panic any
}

func (f *failing) Command(context.Context, service.Principal, command.TID) (command.Command, error) {
	if f.panic != nil {
		panic(f.panic)
	}
	return command.Command{}, f.err
}

const anyTID = "/v1/commands/01890a5d-ac96-774b-bcce-b302099a8057"

// TestEveryFaultHasAnAnswer sends each code of the table through the API.
func TestEveryFaultHasAnAnswer(t *testing.T) {
	f := &failing{}
	w := newWorld(t, options{Wrap: func(s api.Service) api.Service { f.Service = s; return f }})
	for _, code := range fault.Codes() {
		f.err = fmt.Errorf("deep below: %w", &fault.Error{Code: code, Field: "f", Message: "the message"})
		r := w.do(t, request{path: anyTID})
		want := code.Of().HTTP
		if want < 400 {
			want = 409 // an outcome must not look like a success
		}
		refused(t, r, want, string(code), "f", "the message")
		p := read[client.Error](t, r, want)
		if p.Cure != code.Of().Cure || p.Type != "urn:wilco:error:"+string(code) {
			t.Errorf("%s: cure %q type %q", code, p.Cure, p.Type)
		}
	}
}

// syncBuffer is a bytes.Buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestInternalIsHiddenAndLogged has what nobody should see in an error and a
// panic: it must be in the log, with the request's id, and not in the answer.
func TestInternalIsHiddenAndLogged(t *testing.T) {
	var log syncBuffer
	f := &failing{}
	w := newWorld(t, options{Logger: slog.New(slog.NewTextHandler(&log, nil)), Wrap: func(s api.Service) api.Service { f.Service = s; return f }})
	for _, set := range []func(){
		func() { f.err = errors.New("password hunter2") },
		func() { f.panic = "password hunter2" },
	} {
		set()
		r := w.do(t, request{path: anyTID, header: map[string]string{"X-Request-Id": "my-id-1"}})
		refused(t, r, 500, "internal", "", "internal error")
		if bytes.Contains(r.body, []byte("hunter2")) {
			t.Errorf("the answer tells what is internal: %s", r.body)
		}
		if got := log.String(); !strings.Contains(got, "hunter2") || !strings.Contains(got, "my-id-1") {
			t.Errorf("the log lacks the cause or the request: %s", got)
		}
	}
}

// TestBadHealthIsNoFailedRequest: who looks every second does not fill the log.
func TestBadHealthIsNoFailedRequest(t *testing.T) {
	var log syncBuffer
	w := newWorld(t, options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	w.brokerDown(errors.New("gone"))
	if r := w.do(t, request{path: "/v1/health"}); r.status != 503 {
		t.Errorf("status %d", r.status)
	}
	if s := log.String(); strings.Contains(s, "request failed") {
		t.Errorf("log: %s", s)
	}
}

func TestRequestID(t *testing.T) {
	w := newWorld(t, options{})
	get := func(id string) string {
		return w.do(t, request{path: "/v1/health", header: map[string]string{"X-Request-Id": id}}).header.Get("X-Request-Id")
	}
	if got := get("abc-1.2_3"); got != "abc-1.2_3" {
		t.Errorf("a harmless id became %q", got)
	}
	for _, bad := range []string{"a b", strings.Repeat("x", 65), "a\"b", "ü"} {
		if got := get(bad); got == bad || len(got) != 16 {
			t.Errorf("%q became %q", bad, got)
		}
	}
}

// TestBodyBreaksOff announces more than it sends.
func TestBodyBreaksOff(t *testing.T) {
	w := newWorld(t, options{})
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /v1/commands HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 100\r\n\r\n[", w.Token)
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	status, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.Contains(status, " 400 ") {
		t.Errorf("%q %v", status, err)
	}
}

// TestBodyThatDoesNotCome announces a body and sends only its beginning. Whether
// the request is refused before its body is read or after, there is an answer.
func TestBodyThatDoesNotCome(t *testing.T) {
	w := newWorld(t, options{Body: 50 * time.Millisecond})
	for head, want := range map[string]string{
		"POST /v1/commands HTTP/1.1\r\nAuthorization: Bearer " + w.Token:   " 408 ",
		"POST /v1/commands HTTP/1.1":                                       " 401 ",
		"POST /v1/nowhere HTTP/1.1":                                        " 404 ",
		"PUT /v1/commands HTTP/1.1":                                        " 405 ",
		"POST /v1/commands?x HTTP/1.1\r\nAuthorization: Bearer " + w.Token: " 400 ",
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "%s\r\nHost: x\r\nContent-Length: 100\r\n\r\n[", head)
		status, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || !strings.Contains(status, want) {
			t.Errorf("%.30s: %q %v, want%s", head, status, err, want)
		}
	}
}

// TestAWaitOutlivesTheBodysDeadline has a wait go on after the time in which its
// body had to come: net/http would end a request whose read deadline passes.
func TestAWaitOutlivesTheBodysDeadline(t *testing.T) {
	w := newWorld(t, options{Body: 50 * time.Millisecond})
	w.add("plant/valve")
	began := time.Now()
	c := read[client.Command](t, w.do(t, request{method: "POST", path: "/v1/devices/plant/valve/commands?wait=300ms", body: `{"name":"open"}`}), 202)
	if d := time.Since(began); c.State != client.Created || d < 300*time.Millisecond {
		t.Errorf("%s after %s", c.State, d)
	}
}

func TestHeadOfAStreamEnds(t *testing.T) {
	w := newWorld(t, options{})
	if r := w.do(t, request{method: "HEAD", path: "/v1/events"}); r.status != 200 || r.header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("%d %v", r.status, r.header)
	}
}

func TestHealth(t *testing.T) {
	w := newWorld(t, options{})
	h := read[client.Health](t, w.do(t, request{token: "-", path: "/v1/health"}), 200)
	if !h.Live || !h.Ready || h.Version != "test" || len(h.Parts) != 1 {
		t.Errorf("got %+v", h)
	}
	w.brokerDown(errors.New("no route to 10.1.2.3"))
	h = read[client.Health](t, w.do(t, request{token: "-", path: "/v1/health"}), 503)
	if !h.Live || h.Ready || h.Parts[0].Ready || h.Parts[0].Detail != "down" {
		t.Errorf("to everybody: %+v", h)
	}
	if h = read[client.Health](t, w.do(t, request{path: "/v1/health"}), 503); !strings.Contains(h.Parts[0].Detail, "10.1.2.3") {
		t.Errorf("to who has a token: %+v", h)
	}
}

// TestMetricsHaveBoundedLabels drives names of the client's choice through the
// API and looks for them in the metrics.
func TestMetricsHaveBoundedLabels(t *testing.T) {
	w := newWorld(t, options{})
	w.add("plant/needle-device")
	w.do(t, request{method: "POST", path: "/v1/devices/plant/needle-device/commands", body: `{"name":"needle-command"}`})
	w.do(t, request{path: "/needle-path"})
	w.do(t, request{path: "/v1/commands?needle=1"})
	w.do(t, request{method: "NEEDLE", path: "/v1/commands"})
	r := w.do(t, request{path: "/metrics"})
	if !bytes.Contains(r.body, []byte(`wilco_http_requests_total{route="POST /v1/devices/{group}/{device}/commands",status="202"} 1`)) {
		t.Errorf("the request is not counted: %s", r.body)
	}
	if bytes.Contains(bytes.ToLower(r.body), []byte("needle")) {
		t.Errorf("a label has what a client sent: %s", r.body)
	}
}
