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
		s := &follower{c: c, o: o, last: o.After, yield: yield}
		pause := c.pause
		for {
			before := s.heard
			err := s.connect(ctx)
			switch {
			case s.left:
				return
			case ctx.Err() != nil:
				yield(Item{}, ctx.Err())
				return
			case err != nil && !lasting(err):
				yield(Item{}, err)
				return
			}
			if s.heard > before {
				pause = c.pause
			}
			t := time.NewTimer(pause)
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
				yield(Item{}, ctx.Err())
				return
			}
			pause = min(2*pause, 5*time.Second)
		}
	}
}

// lasting says whether a stream that broke with err is taken up again: always,
// but for what the server refuses.
func lasting(err error) bool {
	var e *Error
	return !errors.As(err, &e) || e.Status >= 500 || e.Status == http.StatusTooManyRequests
}

// silence is how long a stream may say nothing; the server sends a comment every
// 15 seconds.
const silence = time.Minute

// follower is one use of Events.
type follower struct {
	c     *Client
	o     EventOptions
	last  int64 // id of the last event; negative: none yet
	heard int   // lines
	left  bool  // the loop is over
	yield func(Item, error) bool
}

// connect follows one connection until it breaks.
func (f *follower) connect(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	q := url.Values{}
	set(q, "group", f.o.Group)
	set(q, "device", f.o.Device)
	set(q, "tid", f.o.TID)
	if f.last >= 0 {
		q.Set("after", strconv.FormatInt(f.last, 10))
	}
	watch := time.AfterFunc(silence, cancel)
	defer watch.Stop()
	res, err := f.c.send(ctx, call{method: http.MethodGet, path: "/v1/events", query: q,
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
	for lines.Scan() {
		watch.Reset(silence)
		f.heard++
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
			if err := f.dispatch(name, data, id); err != nil || f.left {
				return err
			}
			name, data, id = "", "", ""
		}
	}
	return lines.Err()
}

// dispatch hands on one event of the stream.
func (f *follower) dispatch(name, data, id string) error {
	var item Item
	var err error
	switch {
	case data == "":
	case name == "gap":
		item.Gap = &Gap{}
		err = json.Unmarshal([]byte(data), item.Gap)
	default:
		item.Event = &Event{}
		err = json.Unmarshal([]byte(data), item.Event)
	}
	if err != nil {
		return fmt.Errorf("client: event %s: %w", id, err)
	}
	if n, err := strconv.ParseInt(id, 10, 64); err == nil {
		f.last = n
	}
	if data != "" && !f.yield(item, nil) {
		f.left = true
	}
	return nil
}
