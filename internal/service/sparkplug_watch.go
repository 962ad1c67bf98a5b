package service

import (
	"context"
	"errors"
	"slices"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/host"
	"github.com/wilco-iot/wilco/sparkplug/session"
)

// EdgeFilter selects what is told of edge nodes. Zero fields select all.
type EdgeFilter struct {
	Group, Node string // Node is the name within Group
	Values      bool   // DATA as well, with its values
}

// watchBuffer is how many events wait for a reader; what comes then is missed, and
// its number told.
const watchBuffer = 1000

// EdgeTail is what happens to edge nodes while somebody looks. It is live only:
// nothing of it is kept. It must be closed, and belongs to one goroutine.
type EdgeTail struct {
	s      *Service
	who    Principal
	group  string // that was asked for
	filter EdgeFilter
	groups []string // nil: all
	watch  *host.Watch
	missed int
}

// SparkplugTail begins with what happens next.
func (s *Service) SparkplugTail(_ context.Context, p Principal, f EdgeFilter) (*EdgeTail, error) {
	if err := s.mustSparkplug(p, Viewer); err != nil {
		return nil, err
	}
	if f.Node != "" && (sparkplug.ValidID(f.Group) != nil || sparkplug.ValidID(f.Node) != nil) {
		return nil, fault.Field("node", "needs group beside it, both without + and #")
	}
	t := &EdgeTail{s: s, who: p, group: f.Group, filter: f}
	if err := t.narrow(); err != nil {
		return nil, err
	}
	t.watch = s.opt.Sparkplug.Watch(watchBuffer)
	return t, nil
}

// narrow makes the filter one of what its reader may look at now.
func (t *EdgeTail) narrow() error {
	p, err := t.s.now(t.who)
	if err == nil {
		t.filter.Group, t.groups, err = narrowAny(p, t.group)
	}
	return err
}

// ErrNoMore is the error of a tail whose host has stopped.
var ErrNoMore = errors.New("the Sparkplug host has stopped")

// Next blocks until something happens that the filter selects. Missed of it counts
// what this tail has missed since the last one, selected or not. Its error is that of
// ctx, after which the tail can go on, ErrNoMore, or Unauthenticated or Forbidden when
// the reader may look no more.
func (t *EdgeTail) Next(ctx context.Context) (host.Event, error) {
	if err := t.narrow(); err != nil {
		return host.Event{}, err
	}
	for {
		select {
		case e, ok := <-t.watch.C:
			if !ok {
				return host.Event{}, ErrNoMore
			}
			t.missed += e.Missed
			if err := t.narrow(); err != nil {
				return host.Event{}, err
			}
			if t.match(&e) {
				e.Missed, t.missed = t.missed, 0
				return e, nil
			}
		case <-ctx.Done():
			return host.Event{}, ctx.Err()
		}
	}
}

func (t *EdgeTail) match(e *host.Event) bool {
	f := &t.filter
	return (f.Group == "" || e.Node.Group == f.Group) && (f.Node == "" || e.Node.Node == f.Node) &&
		(t.groups == nil || slices.Contains(t.groups, e.Node.Group)) && (f.Values || e.Kind != session.Data)
}

// Close ends the tail.
func (t *EdgeTail) Close() { t.watch.Close() }
