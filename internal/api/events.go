package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/service"
)

// events registers the event stream.
func (a *API) events() {
	a.plain(&huma.Operation{Method: http.MethodGet, Path: "/v1/events", OperationID: "events", Tags: []string{"events"},
		Summary: "Follow what happens (server-sent events)",
		Description: "Each event is an Event document, its id also the id of the stream. Without after and Last-Event-ID the stream " +
			"begins with what happens next. Comments come when nothing else does. When events after the given id have been " +
			"purged, an event of the name gap says so with a Gap document, and the stream goes on with the first that is left. " +
			"A name may have 16 streams open, those of edge nodes included (429), and all together 256 (503).",
		Parameters: []*huma.Param{
			param("after", "id of the last event that is known; 0: from the first", &huma.Schema{Type: huma.TypeInteger, Format: "int64"}),
			param("group", "only of this group", &huma.Schema{Type: huma.TypeString}),
			param("device", "only of this device; needs group", &huma.Schema{Type: huma.TypeString}),
			param("tid", "only of this command", &huma.Schema{Type: huma.TypeString}),
			param("rollout", "only of this roll-out: its state, how far it is, its alarms", &huma.Schema{Type: huma.TypeString}),
			{Name: "Last-Event-ID", In: "header", Description: "as after, and before it; browsers send it when they reconnect", Schema: &huma.Schema{Type: huma.TypeInteger, Format: "int64"}},
		},
		Responses: map[string]*huma.Response{"200": {Description: "The stream",
			Content: map[string]*huma.MediaType{"text/event-stream": {Schema: schemaOf[client.Event](a)}}}},
	}, a.follow)
	schemaOf[client.Gap](a) // not reached from any other document
}

// streamStart reads where a stream begins and what it selects.
func streamStart(r *http.Request) (f service.EventFilter, after int64, err error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return f, 0, fault.Field("query", "is not well-formed")
	}
	f.Group, f.Device, f.Rollout = q.Get("group"), q.Get("device"), q.Get("rollout")
	if t := q.Get("tid"); t != "" {
		tid, err := tidOf(t)
		if err != nil {
			return f, 0, err
		}
		f.TID = &tid
	}
	field, text := "Last-Event-ID", r.Header.Get("Last-Event-ID")
	if text == "" {
		field, text = "after", q.Get("after")
	}
	if text == "" {
		return f, -1, nil
	}
	after, err = strconv.ParseInt(text, 10, 64)
	if err != nil || after < 0 {
		return f, 0, fault.Field(field, "must be the id of an event, a number from 0")
	}
	return f, after, nil
}

func (a *API) follow(w http.ResponseWriter, r *http.Request) {
	f, after, err := streamStart(r)
	if err != nil {
		fail(w, err)
		return
	}
	s, end, err := a.openStream(w, caller(r.Context()).Name)
	if err != nil {
		fail(w, err)
		return
	}
	defer end()
	tail, err := a.svc.Tail(r.Context(), caller(r.Context()), f, after)
	if err != nil {
		fail(w, err)
		return
	}
	ctx, cancel := a.untilDrain(r.Context())
	defer cancel()
	s.begin()
	if r.Method == http.MethodHead {
		return
	}
	s.position(tail.After())
	for s.flush() {
		if !a.next(ctx, s, tail) {
			return
		}
	}
}

// next writes the next piece of the stream; false: it is over.
func (a *API) next(ctx context.Context, s *stream, tail *service.Tail) bool {
	wait, cancel := context.WithTimeout(ctx, a.opt.Heartbeat)
	defer cancel()
	before := tail.After()
	b, err := tail.Next(wait)
	switch {
	case err == nil && b.GapFirst > 0:
		s.event("gap", b.GapFirst-1, client.Gap{After: before, First: b.GapFirst})
	case err == nil:
		for i := range b.Events {
			s.event(string(b.Events[i].Type), b.Events[i].ID, eventDoc(&b.Events[i]))
		}
		s.position(tail.After())
	case ctx.Err() != nil:
		return false
	case errors.Is(err, context.DeadlineExceeded):
		s.position(tail.After())
	case fault.CodeOf(err) == fault.Unauthenticated, fault.CodeOf(err) == fault.Forbidden:
		return false
	default:
		a.log.Error("event stream ended", "error", err)
		return false
	}
	return true
}

// stream writes server-sent events.
type stream struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	b    bytes.Buffer
	last int64
}

// openStream takes one of the places for streams, which end gives back. Each party has
// only so many, so that a program that opens them without end keeps only itself out.
func (a *API) openStream(w http.ResponseWriter, who string) (s *stream, end func(), err error) {
	a.streams.Lock()
	defer a.streams.Unlock()
	switch {
	case a.streams.each[who] >= a.opt.MaxStreamsEach:
		return nil, nil, refuse(http.StatusTooManyRequests, "", "close one, or give each program a token with a name of its own",
			"%d event streams of %q are open, which is all that one may have", a.opt.MaxStreamsEach, who)
	case a.streams.all >= a.opt.MaxStreams:
		return nil, nil, refuse(http.StatusServiceUnavailable, "", "try again when others have closed theirs",
			"%d event streams are open, which is all that the server has", a.opt.MaxStreams)
	}
	a.streams.all++
	a.streams.each[who]++
	a.count.streams.Inc()
	return &stream{w: w, rc: http.NewResponseController(w)}, func() { a.closeStream(who) }, nil
}

func (a *API) closeStream(who string) {
	a.streams.Lock()
	defer a.streams.Unlock()
	a.streams.all--
	if a.streams.each[who]--; a.streams.each[who] == 0 {
		delete(a.streams.each, who)
	}
	a.count.streams.Dec()
}

// begin writes the head of the answer.
func (s *stream) begin() {
	s.w.Header().Set("Content-Type", "text/event-stream")
	s.w.Header().Set("X-Accel-Buffering", "no")
	s.w.WriteHeader(http.StatusOK)
}

// event writes one event.
func (s *stream) event(name string, id int64, doc any) {
	data, err := json.Marshal(doc)
	if err != nil {
		return // raw JSON in events was made by us
	}
	s.last = id
	s.b.WriteString("id: ")
	s.b.WriteString(strconv.FormatInt(id, 10))
	s.b.WriteString("\nevent: ")
	s.b.WriteString(name)
	s.b.WriteString("\ndata: ")
	s.b.Write(data)
	s.b.WriteString("\n\n")
}

// position tells how far the stream has come without an event, so that a reader
// whose filter selects little resumes near the end, and before a purge.
func (s *stream) position(id int64) {
	if id == s.last && s.b.Len() > 0 {
		return
	}
	s.last = id
	s.b.WriteString(":\nid: ")
	s.b.WriteString(strconv.FormatInt(id, 10))
	s.b.WriteString("\n\n")
}

// flush sends what has been written; false: the reader is gone or too slow.
func (s *stream) flush() bool {
	_ = s.rc.SetWriteDeadline(time.Now().Add(writeTimeout)) // recorders of tests cannot
	_, err := s.w.Write(s.b.Bytes())
	s.b.Reset()
	return err == nil && s.rc.Flush() == nil
}

// untilDrain ends with ctx or when the server shuts down.
func (a *API) untilDrain(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-a.drain:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
