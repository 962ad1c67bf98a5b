package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"os"
	"path"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/service"
)

const requestIDHeader = "X-Request-Id"

// route is what the steps before a handler know of it.
type route struct {
	op      *huma.Operation
	open    bool            // needs no token
	query   map[string]bool // known parameters; true: may be repeated
	names   []string        // of the parameters, sorted
	bodies  []string        // accepted content types; none: the route takes no body
	maxBody int64
}

// recorder is the ResponseWriter that handlers see.
type recorder struct {
	http.ResponseWriter
	status int
	cause  error // what a problem was made of, for the log
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController find deadlines and Flush.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// ServeHTTP answers one request.
func (a *API) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	began := time.Now()
	w := &recorder{ResponseWriter: out}
	id := requestID(r)
	h := w.Header()
	h.Set(requestIDHeader, id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	pattern := ""
	defer func() {
		if v := recover(); v != nil {
			if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(v)
			}
			a.log.Error("a request's handler panicked", "request", id, "route", pattern, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			if w.status == 0 {
				newProblem(http.StatusInternalServerError, fault.Internal).write(w, nil)
			} else {
				// Part of an answer is out: breaking the connection is the only way to say so.
				panic(http.ErrAbortHandler)
			}
		}
		a.finish(w, r, id, pattern, time.Since(began))
	}()
	rc := http.NewResponseController(w)
	if hasBody(r) {
		// From the very beginning: net/http reads what is left of a body before it
		// sends an answer, and would wait for a refused client for ever.
		_ = rc.SetReadDeadline(time.Now().Add(a.opt.BodyTimeout)) // recorders of tests cannot
	}
	handler, found := a.mux.Handler(r)
	if pattern = found; pattern == "" || r.URL.Path != path.Clean(r.URL.Path) {
		// The mux would send a client from //v1/x to /v1/x by a page of HTML.
		pattern = ""
		unrouted(w, r, handler)
		return
	}
	a.serve(w, r, rc, a.routes[pattern])
}

// serve takes the request through the steps before the handler.
func (a *API) serve(w *recorder, r *http.Request, rc *http.ResponseController, rt *route) {
	_ = rc.SetWriteDeadline(time.Now().Add(writeTimeout + rt.waits(r))) // recorders of tests cannot
	ctx := context.WithValue(r.Context(), remoteKey{}, a.clientOf(r))
	if !rt.open || r.Header.Get("Authorization") != "" {
		p, err := a.authenticate(r)
		if err != nil {
			fail(w, err)
			return
		}
		ctx = context.WithValue(ctx, principalKey{}, p)
	}
	if err := rt.checkQuery(r); err != nil {
		fail(w, err)
		return
	}
	if err := rt.readBody(w, r, rc); err != nil {
		fail(w, err)
		return
	}
	a.mux.ServeHTTP(w, r.WithContext(ctx))
}

// finish counts the request, and logs it when the server is to blame.
func (a *API) finish(w *recorder, r *http.Request, id, pattern string, took time.Duration) {
	a.count.request(pattern, w.status, took)
	switch {
	case r.Context().Err() != nil:
		a.log.Debug("request given up by its client", "request", id, "route", pattern, "took", took)
	case w.status >= 500 && (w.cause != nil || w.status != http.StatusServiceUnavailable): // that health is bad is no failure of the question
		a.log.Error("request failed", "request", id, "route", pattern, "status", w.status, "took", took, "error", w.cause)
	case a.log.Enabled(r.Context(), slog.LevelDebug):
		a.log.Debug("request", "request", id, "route", pattern, "status", w.status, "took", took)
	}
}

// unrouted answers what no route takes; h is the mux's own answer to it.
func unrouted(w http.ResponseWriter, r *http.Request, h http.Handler) {
	probe := &probe{header: http.Header{}}
	h.ServeHTTP(probe, r)
	if probe.status == http.StatusMethodNotAllowed {
		allow := probe.header.Get("Allow")
		w.Header().Set("Allow", allow)
		fail(w, refuse(http.StatusMethodNotAllowed, "method", "use one of "+allow, "%s is not possible here", r.Method))
		return
	}
	fail(w, refuse(http.StatusNotFound, "path", "see /openapi.json for what there is", "there is nothing at this path"))
}

// probe takes an answer that is not sent.
type probe struct {
	header http.Header
	status int
}

func (p *probe) Header() http.Header         { return p.header }
func (p *probe) Write(b []byte) (int, error) { return len(b), nil }
func (p *probe) WriteHeader(status int)      { p.status = status }

type (
	principalKey struct{}
	remoteKey    struct{}
)

// remote is the address that a request comes from; serve has put it there.
func remote(ctx context.Context) string {
	s, _ := ctx.Value(remoteKey{}).(string)
	return s
}

// caller is who asks; serve has put it there.
func caller(ctx context.Context) service.Principal {
	p, _ := ctx.Value(principalKey{}).(service.Principal)
	return p
}

func (a *API) authenticate(r *http.Request) (service.Principal, error) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return service.Principal{}, fault.New(fault.Unauthenticated, "no token; send the header Authorization: Bearer TOKEN")
	}
	scheme, token, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return service.Principal{}, fault.New(fault.Unauthenticated, "the header Authorization must be: Bearer TOKEN")
	}
	return a.svc.Authenticate(r.Context(), strings.TrimSpace(token))
}

// checkQuery refuses parameters that the route does not know.
func (rt *route) checkQuery(r *http.Request) error {
	if r.URL.RawQuery == "" {
		return nil
	}
	q, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	for name, values := range q {
		repeatable, known := rt.query[name]
		switch {
		case !known && len(rt.names) == 0:
			return fault.Field(name, "unknown query parameter; this route takes none")
		case !known:
			return fault.Field(name, "unknown query parameter; this route takes %s", strings.Join(rt.names, ", "))
		case len(values) > 1 && !repeatable:
			return fault.Field(name, "given %d times; give it once", len(values))
		case slices.Contains(values, ""):
			return fault.Field(name, "empty; give a value or leave it out")
		}
	}
	return nil
}

// waits is how long the request asks to wait.
func (rt *route) waits(r *http.Request) time.Duration {
	if _, ok := rt.query["wait"]; !ok || r.URL.RawQuery == "" {
		return 0
	}
	d, err := time.ParseDuration(r.URL.Query().Get("wait"))
	if err != nil {
		return 0 // the handler refuses it
	}
	return max(0, min(d, service.MaxWait))
}

// readBody reads the whole body, so that its limits and its deadline hold for
// every handler, and a handler that waits has no read deadline over its head:
// net/http would end its context by it.
func (rt *route) readBody(w http.ResponseWriter, r *http.Request, rc *http.ResponseController) error {
	if !hasBody(r) {
		return nil
	}
	if len(rt.bodies) > 0 {
		if err := rt.checkType(r.Header.Get("Content-Type")); err != nil {
			return err
		}
	}
	tooLarge := refuse(http.StatusRequestEntityTooLarge, "body", "", "the body is longer than %d bytes", rt.maxBody)
	if r.ContentLength > rt.maxBody {
		return tooLarge
	}
	var b bytes.Buffer
	if r.ContentLength > 0 {
		b.Grow(int(min(r.ContentLength, 64<<10)) + bytes.MinRead)
	}
	_, err := b.ReadFrom(http.MaxBytesReader(w, r.Body, rt.maxBody))
	var big *http.MaxBytesError
	switch {
	case errors.As(err, &big):
		return tooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refuse(http.StatusRequestTimeout, "body", "", "the body did not come in time")
	case err != nil:
		return refuse(http.StatusBadRequest, "body", "", "the body broke off")
	case len(rt.bodies) == 0 && b.Len() > 0:
		return refuse(http.StatusBadRequest, "body", "send none", "this route takes no body")
	}
	_ = rc.SetReadDeadline(time.Time{}) // recorders of tests cannot
	r.Body = io.NopCloser(&b)
	return nil
}

func hasBody(r *http.Request) bool {
	return r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0
}

// checkType refuses content types that the route does not read. None at all is
// taken for the first.
func (rt *route) checkType(header string) error {
	if header == "" {
		return nil
	}
	t, params, err := mime.ParseMediaType(header)
	charset := params["charset"]
	if err != nil || !slices.Contains(rt.bodies, t) || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return refuse(http.StatusUnsupportedMediaType, "Content-Type", "send the header Content-Type: "+rt.bodies[0],
			"the content type is not one of %s in UTF-8", strings.Join(rt.bodies, ", "))
	}
	return nil
}

// requestID takes over the client's id when it is harmless.
func requestID(r *http.Request) string {
	id := r.Header.Get(requestIDHeader)
	if len(id) > 0 && len(id) <= 64 && !strings.ContainsFunc(id, func(c rune) bool {
		return c != '-' && c != '_' && c != '.' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
	}) {
		return id
	}
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
