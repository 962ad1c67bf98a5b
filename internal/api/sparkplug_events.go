package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/service"
	"github.com/wilco-iot/wilco/internal/spjson"
	"github.com/wilco-iot/wilco/sparkplug/host"
	"github.com/wilco-iot/wilco/sparkplug/session"
)

// edgeFilter reads what a stream selects.
func edgeFilter(r *http.Request) (f service.EdgeFilter, err error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return f, fault.Field("query", "is not well-formed")
	}
	f.Group, f.Node = q.Get("group"), q.Get("node")
	if text := q.Get("values"); text != "" {
		if f.Values, err = strconv.ParseBool(text); err != nil {
			return f, fault.Field("values", "must be true or false")
		}
	}
	return f, nil
}

func (a *API) followEdges(w http.ResponseWriter, r *http.Request) {
	f, err := edgeFilter(r)
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
	tail, err := a.svc.SparkplugTail(r.Context(), caller(r.Context()), f)
	if err != nil {
		fail(w, err)
		return
	}
	defer tail.Close()
	ctx, cancel := a.untilDrain(r.Context())
	defer cancel()
	s.begin()
	if r.Method == http.MethodHead {
		return
	}
	s.comment()
	for s.flush() {
		wait, done := context.WithTimeout(ctx, a.opt.Heartbeat)
		e, err := tail.Next(wait)
		done()
		switch {
		case err == nil:
			s.live(e.Kind.String(), edgeEventDoc(&e))
		case ctx.Err() != nil || wait.Err() == nil:
			return
		default:
			s.comment()
		}
	}
}

func edgeEventDoc(e *host.Event) client.SparkplugEvent {
	doc := client.SparkplugEvent{Node: e.Node.String(), Device: e.Device, Server: e.Server, Kind: e.Kind.String(), Reason: e.Reason.String(), At: e.At.UTC(), Missed: e.Missed}
	if e.Err != nil {
		doc.Detail = e.Err.Error()
	}
	switch e.Kind {
	case session.Gap:
		doc.Missing = e.Missing
	case session.NodeBirth, session.DeviceBirth:
		doc.Metrics = len(e.Unit.Metrics)
	case session.Data:
		for _, v := range e.Values {
			m := client.SparkplugValue{Name: v.Metric.Name, Datatype: v.Datatype().String(), Quality: host.QualityOf(v.Raw).String(),
				Historical: v.Raw.Historical, Value: spjson.Metric(v.Raw, v.Datatype())}
			if v.Raw.HasTimestamp && v.Raw.Timestamp <= lastTime {
				m.Time = time.UnixMilli(int64(v.Raw.Timestamp)).UTC()
			}
			doc.Values = append(doc.Values, m)
		}
	}
	return doc
}

// live writes an event of a stream that cannot be taken up again: it has no id.
func (s *stream) live(name string, doc any) {
	data, err := json.Marshal(doc)
	if err != nil {
		return // raw JSON in it was made by us
	}
	s.b.WriteString("event: " + name + "\ndata: ")
	s.b.Write(data)
	s.b.WriteString("\n\n")
}

// comment says that the stream is alive.
func (s *stream) comment() { s.b.WriteString(":\n\n") }
