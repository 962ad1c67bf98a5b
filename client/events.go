package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// EventOptions select events and say where to begin.
type EventOptions struct {
	Group, Device string // Device is the name within Group
	TID           string
	Rollout       string // its state, how far it is, and its alarms
	// After is the id of the last event that is known: the stream goes on after
	// it. 0 begins with the first that is kept; negative with what happens next.
	After int64
}

// Item is one thing of an event stream: an event, or a gap in front of the next.
type Item struct {
	Event *Event
	Gap   *Gap
}

// Events follows what happens, in the order of its commit, until ctx ends or the
// loop is left. When the connection breaks, or is silent for a minute, it
// connects again and goes on after the last event, so that none is missing and
// none comes twice. What has been purged meanwhile is told as a Gap.
//
// The error is the last item: that of ctx, or an *Error that asking again would
// not change.
func (c *Client) Events(ctx context.Context, o EventOptions) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		last := o.After
		f := &follower{c: c, path: "/v1/events",
			query: func() url.Values {
				q := url.Values{}
				set(q, "group", o.Group)
				set(q, "device", o.Device)
				set(q, "tid", o.TID)
				set(q, "rollout", o.Rollout)
				if last >= 0 {
					q.Set("after", strconv.FormatInt(last, 10))
				}
				return q
			},
			take: func(name, data, id string) (bool, error) {
				item, err := itemOf(name, data)
				if err != nil {
					return false, fmt.Errorf("client: event %s: %w", id, err)
				}
				if n, err := strconv.ParseInt(id, 10, 64); err == nil {
					last = n
				}
				return data == "" || yield(item, nil), nil
			}}
		if err := f.run(ctx); err != nil {
			yield(Item{}, err)
		}
	}
}

// itemOf reads an event of the stream; it is empty where data is.
func itemOf(name, data string) (item Item, err error) {
	switch {
	case data == "":
	case name == "gap":
		item.Gap = &Gap{}
		err = json.Unmarshal([]byte(data), item.Gap)
	default:
		item.Event = &Event{}
		err = json.Unmarshal([]byte(data), item.Event)
	}
	return item, err
}

// lasting says whether a stream that broke with err is taken up again: always,
// but for what the server refuses, and when it is not the one that is trusted.
func lasting(err error) bool {
	var e *Error
	if errors.As(err, &e) {
		return e.Status >= 500 || e.Status == http.StatusTooManyRequests
	}
	return !distrusted(err)
}

// silence is how long a stream may say nothing; the server sends a comment every
// 15 seconds.
const silence = time.Minute

var errSilent = fmt.Errorf("the server has said nothing for %s", silence)

// follower is one use of a stream of server-sent events.
type follower struct {
	c     *Client
	path  string
	query func() url.Values // for the next connection
	// take gets each event; false: the loop is over. Without data it only says how far
	// the stream has come.
	take   func(name, data, id string) (bool, error)
	begun  func() bool      // told when a connection stands; nil: nobody cares
	broken func(error) bool // told when one has ended, and when there is none at first; nil: it is no loss

	heard int // lines
	left  bool
}

// run follows until ctx ends, whose error it returns, or the server refuses, or the
// loop is left.
func (f *follower) run(ctx context.Context) error {
	pause := f.c.pause
	for first := true; ; first = false {
		before := f.heard
		err := f.connect(ctx)
		switch {
		case f.left:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !lasting(err):
			return err
		}
		lost := f.heard > before
		if lost {
			pause = f.c.pause
		}
		if f.broken != nil && (lost || first) && !f.broken(err) {
			return nil
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
		pause = min(2*pause, 5*time.Second)
	}
}

// connect follows one connection until it breaks.
func (f *follower) connect(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer watch.Stop()
	res, err := f.c.send(ctx, call{method: http.MethodGet, path: f.path, query: f.query(),
		header: http.Header{"Accept": {"text/event-stream"}}})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return problem(res)
	}
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 4<<20)
	var name, data, id string
	for fresh := true; lines.Scan(); fresh = false {
		watch.Reset(silence)
		f.heard++
		if fresh && f.begun != nil && !f.begun() {
			f.left = true
			return nil
		}
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			id = value
		case "event":
			name = value
		case "data":
			data += value
		case "":
			if lines.Text() != "" {
				continue // a comment
			}
			if data != "" || id != "" {
				more, err := f.take(name, data, id)
				if err != nil {
					return err
				}
				if !more {
					f.left = true
					return nil
				}
			}
			name, data, id = "", "", ""
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return lines.Err()
}
