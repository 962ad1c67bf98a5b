package host

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/session"
)

// Host is a host application. Make it with New.
type Host struct {
	opts   Options
	links  []*link
	shards []*shard

	ctx     context.Context
	cancel  context.CancelFunc
	once    sync.Once
	started atomic.Bool
	linked  sync.WaitGroup
	sharded sync.WaitGroup
	done    chan struct{}

	blocked   atomic.Int32 // links that wait for a shard
	unblocked atomic.Int64 // when one did last, in nanoseconds since 1970
	known     atomic.Int64 // edge nodes
	foreign   atomic.Uint64
	elsewhere atomic.Uint64
	counts    counts

	upMu sync.Mutex
	ups  map[string]bool
	upC  chan struct{} // closed and made anew at each change

	watchMu  sync.RWMutex
	watches  map[*Watch]struct{}
	watching atomic.Int32
	stopped  bool
}

// New checks the options. It does not connect; Start does.
func New(opts Options) (*Host, error) {
	if err := opts.prepare(); err != nil {
		return nil, err
	}
	h := &Host{opts: opts, done: make(chan struct{}), ups: map[string]bool{}, upC: make(chan struct{}), watches: map[*Watch]struct{}{}}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	for range opts.Shards {
		h.shards = append(h.shards, newShard(h))
	}
	for i, s := range opts.Servers {
		h.links = append(h.links, newLink(h, i, s))
	}
	return h, nil
}

// Start begins to connect to all servers, and goes on until Stop. It returns at
// once; a second call does nothing.
func (h *Host) Start() {
	if h.started.Swap(true) {
		return
	}
	for _, s := range h.shards {
		h.sharded.Go(s.run)
	}
	for _, l := range h.links {
		h.linked.Go(func() { l.run(h.ctx) })
	}
}

// Stop leaves all servers, with STATE offline as the last word of a primary, and
// waits for every goroutine. When ctx ends first its error is returned, and the
// rest is done in the background. It must not be called from a callback.
func (h *Host) Stop(ctx context.Context) error {
	h.once.Do(func() {
		h.cancel()
		go func() {
			defer close(h.done)
			h.linked.Wait()
			for _, s := range h.shards {
				close(s.in)
			}
			h.sharded.Wait()
			h.closeWatches()
		}()
	})
	select {
	case <-h.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *Host) closeWatches() {
	h.watchMu.Lock()
	h.stopped = true
	all := make([]*Watch, 0, len(h.watches))
	for w := range h.watches {
		all = append(all, w)
	}
	h.watchMu.Unlock()
	for _, w := range all {
		w.Close()
	}
}

// ErrStopped is returned by AwaitUp after Stop.
var ErrStopped = errors.New("sparkplug host: stopped")

// AwaitUp blocks until all servers are connected, or the error of ctx or
// ErrStopped.
func (h *Host) AwaitUp(ctx context.Context) error {
	for {
		h.upMu.Lock()
		n, changed := len(h.ups), h.upC
		h.upMu.Unlock()
		if n == len(h.links) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-h.ctx.Done():
			return ErrStopped
		}
	}
}

// Up is the names of the servers that are connected, sorted.
func (h *Host) Up() []string {
	h.upMu.Lock()
	defer h.upMu.Unlock()
	var list []string
	for name := range h.ups {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

func (h *Host) setUp(l *link, up bool) {
	h.upMu.Lock()
	defer h.upMu.Unlock()
	if up {
		h.ups[l.name] = true
	} else {
		delete(h.ups, l.name)
	}
	close(h.upC)
	h.upC = make(chan struct{})
}

// Nodes is all edge nodes that messages were seen of, sorted by group and node.
func (h *Host) Nodes() []Node {
	var list []Node
	for _, s := range h.shards {
		s.mu.RLock()
		for _, e := range s.nodes {
			list = append(list, e.node())
		}
		s.mu.RUnlock()
	}
	slices.SortFunc(list, func(a, b Node) int {
		if c := strings.Compare(a.ID.Group, b.ID.Group); c != 0 {
			return c
		}
		return strings.Compare(a.ID.Node, b.ID.Node)
	})
	return list
}

// Node is an edge node with its own metrics, first in the list, and those of its
// devices by name, all as of one moment. ok is false when nothing is known of it;
// there are no metrics before its first NBIRTH.
func (h *Host) Node(id NodeID) (n Node, devices []Device, ok bool) {
	s := h.shard(id.Group, id.Node)
	s.mu.RLock()
	defer s.mu.RUnlock()
	e := s.nodes[id]
	if e == nil {
		return Node{}, nil, false
	}
	return e.node(), e.units(), true
}

// Forget frees what is known of an edge node that is not online, in its turn. A
// message of it makes it known again. It must not be called from a callback, or
// after Stop.
func (h *Host) Forget(id NodeID) {
	h.toShard(item{what: forget, topic: sparkplug.Topic{Group: id.Group, Node: id.Node}})
}

// Rebirth asks a known edge node for its births, within the bounds of all asking:
// soon, or after the cooldown that it is in. It does not wait for them. False:
// nothing is known of the node, or the host is Passive.
func (h *Host) Rebirth(id NodeID) bool {
	if h.opts.Role == Passive {
		return false
	}
	// Of the server that counts or, before its first NBIRTH, of all that heard it.
	var links []*link
	s := h.shard(id.Group, id.Node)
	s.mu.RLock()
	e := s.nodes[id]
	if e != nil && e.current != nil {
		links = append(links, e.current.link)
	} else if e != nil {
		links = h.links
	}
	s.mu.RUnlock()
	for _, l := range links {
		l.want(id, session.Requested, 0, time.Now())
	}
	return e != nil
}

func (h *Host) shard(group, node string) *shard {
	return h.shards[hash(group, node)%uint64(len(h.shards))]
}

// toShard gives an item to the shard of its node, and blocks while that has too
// many.
func (h *Host) toShard(it item) { h.send(h.shard(it.topic.Group, it.topic.Node), it) }

func (h *Host) toShards(it item) {
	for _, s := range h.shards {
		h.send(s, it)
	}
}

func (h *Host) send(s *shard, it item) {
	select {
	case s.in <- it:
		return
	default:
	}
	h.blocked.Add(1)
	s.in <- it
	h.unblocked.Store(time.Now().UnixNano())
	h.blocked.Add(-1)
}

// behind tells whether messages may wait before us whose time we do not know.
func (h *Host) behind() bool {
	return h.blocked.Load() > 0 || time.Now().UnixNano()-h.unblocked.Load() < int64(patience)
}

func (h *Host) alarm(a Alarm) { h.opts.OnAlarm(a) }

func (h *Host) asked(id NodeID, r session.Reason) {
	h.counts.ask(r)
	h.shard(id.Group, id.Node).asked(id, r)
}
