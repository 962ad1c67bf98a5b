package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/pipe"
)

// Options configures a Broker.
type Options struct {
	// Listeners are where clients connect; none is fine, then Dial is the only
	// way in.
	Listeners []Listener
	// Authority decides who may connect. Required: there is no default that
	// lets anybody in. AllowAnonymous does that.
	Authority Authority
	// Store keeps sessions, queues and retained messages. Default: a
	// store.Memory. The broker does not close it.
	Store store.Store
	// Limits bounds what clients may cost; zero fields have defaults.
	Limits Limits
	// RefuseRetained are topic filters under which nothing may be retained. An
	// MQTT 5 client that tries is disconnected with 0x9A, or refused when it is
	// its will; for a 3.1.1 client the message goes out without being retained.
	// Clearing a retained message is allowed.
	RefuseRetained []string
	// Shares says how shared subscriptions choose their members, and what they do
	// when they are full, by share name; "" is for all names that are not listed.
	// Default: the zero ShareRule. The names that are listed are counted apart.
	Shares map[string]ShareRule
	Events Events
	// Status is what $SYS/broker/version says. When it is not empty, the $SYS
	// topics are published every 10 seconds, retained but not stored, to those
	// whom the Authority lets receive them.
	Status string
	// Logger is told of what an operator may want to know. Default: nothing is
	// logged.
	Logger *slog.Logger
}

// Broker is a running MQTT broker. Its methods are safe for concurrent use.
type Broker struct {
	options Options
	limits  session.Limits
	store   store.Store
	log     *slog.Logger
	epoch   time.Time // what conn.seen counts from
	hub     hub
	count   counters

	connects  *limiter // CONNECTs, by identity and by address
	publishes *limiter // nil: no limit
	most      int      // messages in one turn, so that a turn's debt is soon paid; 0: no limit
	takeovers *limiter // by client identifier

	claimed  atomic.Bool // Open was called
	stopping atomic.Bool

	mu        sync.Mutex
	started   bool
	stopped   bool // no goroutine may begin any more
	running   sync.WaitGroup
	listeners map[string]*listener
	conns     map[*conn]struct{}
	outside   int            // of conns, those that came through a listener
	emptied   chan struct{}  // closed when outside is 0; nil unless somebody waits
	halfOpen  map[string]int // connections without CONNECT, by address
}

// ErrStopped says that the broker is not running, or not any more.
var ErrStopped = errors.New("broker is not running")

// New checks the options. It starts nothing and holds nothing that would have
// to be closed.
func New(o Options) (*Broker, error) {
	if o.Authority == nil {
		return nil, errors.New("broker: an Authority is required")
	}
	if err := o.Limits.check(); err != nil {
		return nil, err
	}
	for _, f := range o.RefuseRetained {
		if err := mqtt.ValidFilter(f); err != nil {
			return nil, fmt.Errorf("broker: RefuseRetained %q: %w", f, err)
		}
	}
	names := map[string]bool{}
	for _, l := range o.Listeners {
		if err := l.check(); err != nil {
			return nil, err
		}
		if names[l.Name] {
			return nil, fmt.Errorf("broker: two listeners are named %q", l.Name)
		}
		names[l.Name] = true
	}
	if o.Store == nil {
		o.Store = store.NewMemory()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if _, open := o.Authority.(anonymous); open {
		def(&o.Limits.IdentityRetained, math.MaxInt)
		def(&o.Limits.IdentityRetainedBytes, math.MaxInt)
	}
	o.Limits = o.Limits.withDefaults()
	b := &Broker{
		options: o, limits: o.Limits.session(), store: o.Store, log: o.Logger,
		hub:       hub{clients: make(map[string]*client), waited: make(map[*client]*waited), owners: make(map[string]int), index: index{rules: maps.Clone(o.Shares)}},
		listeners: make(map[string]*listener), conns: make(map[*conn]struct{}), halfOpen: make(map[string]int),
		connects:  newLimiter(o.Limits.ConnectRate, 2*o.Limits.ConnectRate),
		takeovers: newLimiter(1, o.Limits.Takeovers),
	}
	if rate := o.Limits.PublishRate; rate > 0 {
		b.publishes, b.most = newLimiter(rate, 2*rate), max(1, rate/10)
	}
	return b, nil
}

// Start is Open and Listen. When it fails, nothing is left open.
func (b *Broker) Start() error {
	if err := b.Open(); err != nil {
		return err
	}
	err := b.Listen()
	if err != nil {
		b.mu.Lock()
		b.stopped = true
		b.mu.Unlock()
		b.stopTimers()
	}
	return err
}

// Open reads the store, and publishes the wills that are due: also those of
// clients that were connected when the broker died. From then on Dial lets the
// embedding program in, and nobody else until Listen; so it can subscribe before
// anybody has anything to say. A Broker opens once.
func (b *Broker) Open() error {
	if !b.claimed.CompareAndSwap(false, true) {
		return errors.New("broker: started before")
	}
	b.epoch = time.Now()
	if err := b.restore(); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	b.mu.Lock()
	if b.stopped {
		b.mu.Unlock()
		return ErrStopped
	}
	b.started = true
	b.mu.Unlock()
	if b.options.Status != "" {
		b.publishStatus()
	}
	return nil
}

// Listen opens the listeners, once the broker is open. When one cannot be
// opened, none is left open.
func (b *Broker) Listen() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.started || b.stopped || b.stopping.Load() {
		return ErrStopped
	}
	if len(b.listeners) > 0 {
		return errors.New("broker: listening already")
	}
	for _, l := range b.options.Listeners {
		open, err := b.listen(l)
		if err != nil {
			for _, other := range b.listeners {
				_ = other.close()
			}
			clear(b.listeners)
			return fmt.Errorf("broker: listener %s: %w", l.Name, err)
		}
		b.listeners[l.Name] = open
	}
	for _, l := range b.listeners {
		b.running.Go(l.serve)
	}
	return nil
}

// Addr is the address that a listener is bound to, or nil before Listen and for
// names that do not exist.
func (b *Broker) Addr(name string) net.Addr {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.listeners[name]; l != nil {
		return l.Addr()
	}
	return nil
}

// Dial opens a connection inside the process. It speaks MQTT like any other;
// whatever its CONNECT says, it is the system identity, named "$system", which
// may do everything, topics that begin with "$" included.
func (b *Broker) Dial(ctx context.Context) (net.Conn, error) { return b.dial(ctx, false, Queue{}) }

// Queue is what an embedding program wants of the queue of a session.
type Queue struct {
	Overflow        Overflow
	Messages, Bytes int  // bounds in the place of those of Limits; 0: those. Bounds are not stored: before the first connection those of Limits hold
	Numbered        bool // each message carries NumberProperty
}

// NumberProperty is the name of the user property that tells a message's place in the
// order of all, to a client of DialQueue that asks for it: a decimal number. It rises
// from one message of a session to the next, over restarts, and is the same when a
// message comes again; so a client can leave out what it has had.
const NumberProperty = session.NumberProperty

// DialQueue is Dial for a client whose session has that queue. That of Dial is
// the zero Queue.
func (b *Broker) DialQueue(ctx context.Context, q Queue) (net.Conn, error) {
	return b.dial(ctx, false, q)
}

// DialHandover is Dial for a client that is its own durability: it acknowledges a
// message when it has made durable what that means. Where its session outlives the
// connection and is to get a message of QoS 1, the publisher's PUBACK waits for
// the client's own instead of for a copy in the store. Wills, messages of QoS 2,
// and what comes while the client is away or has a backlog in the store, are
// stored for it as for anybody.
//
// How much waits is bounded by the session's queue, whose limits refuse the next
// message with 0x97, and for each connection by Limits.ReceiveMaximum, beyond
// which it is not read from. When the client's connection ends, those of the
// publishers that wait are closed without an answer, so that they send again.
func (b *Broker) DialHandover(ctx context.Context) (net.Conn, error) {
	return b.dial(ctx, true, Queue{})
}

func (b *Broker) dial(ctx context.Context, handover bool, q Queue) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	near, far := pipe.Pipe()
	c := b.newConn(far, "", true)
	c.handover, c.queue = handover, q
	if !b.admit(c) {
		_ = far.Close()
		return nil, ErrStopped
	}
	go c.serve()
	return near, nil
}

// begin counts a goroutine that is about to start, unless the broker has
// stopped. The goroutine calls b.running.Done.
func (b *Broker) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return false
	}
	b.running.Add(1)
	return true
}

// CloseListeners closes the listeners, and the connections that came in through
// them, whose clients are told 0x8B [MQTT-4.13.2-1], and waits until those have
// ended. Connections of Dial stay, so that the embedding program can take what
// is queued for it; nobody new gets in. It is the first half of Stop, which has
// to follow, and what is said there of ctx and of sessions holds here.
func (b *Broker) CloseListeners(ctx context.Context) error {
	conns := b.close(func(c *conn) bool { return !c.system })
	b.mu.Lock()
	if b.outside > 0 && b.emptied == nil {
		b.emptied = make(chan struct{})
	}
	emptied := b.emptied
	b.mu.Unlock()
	if emptied == nil {
		return nil
	}
	return await(ctx, emptied, conns)
}

// Stop closes the listeners, tells the clients 0x8B [MQTT-4.13.2-1], and waits
// until all goroutines have ended. Sessions, and wills that were not due, stay
// in the store for the next start. When ctx ends first, connections are closed
// without waiting for their last words, and Stop returns its error, within two
// seconds whatever an Authority may still be doing. Calling it
// again is harmless.
func (b *Broker) Stop(ctx context.Context) error {
	conns := b.close(func(*conn) bool { return true })
	idle := make(chan struct{})
	go func() {
		b.running.Wait()
		close(idle)
	}()
	err := await(ctx, idle, conns)
	b.mu.Lock()
	b.stopped = true
	b.mu.Unlock()
	b.stopTimers()
	b.tellRest()
	return err
}

// close closes the listeners, and ends the connections that are meant.
func (b *Broker) close(meant func(*conn) bool) []*conn {
	b.hub.mu.Lock()
	b.stopping.Store(true) // from here on no session begins, ends, or publishes its will
	b.hub.mu.Unlock()
	b.mu.Lock()
	listeners, conns := b.listeners, make([]*conn, 0, len(b.conns))
	for c := range b.conns {
		if meant(c) {
			conns = append(conns, c)
		}
	}
	b.mu.Unlock()
	for _, l := range listeners {
		_ = l.close()
	}
	for _, c := range conns {
		c.shutDown()
	}
	return conns
}

// await waits for done. When ctx ends first it cuts conns, and gives an
// Authority that does not heed its context a last moment.
func await(ctx context.Context, done <-chan struct{}, conns []*conn) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	for _, c := range conns {
		_ = c.nc.Close()
	}
	select {
	case <-done:
	case <-time.After(linger):
	}
	return ctx.Err()
}

func (b *Broker) stopTimers() {
	b.hub.mu.Lock()
	defer b.hub.mu.Unlock()
	for _, cl := range b.hub.clients {
		if cl.timer != nil {
			cl.timer.Stop()
			cl.timer = nil
		}
	}
	if b.hub.status.timer != nil {
		b.hub.status.timer.Stop()
	}
}

// retainRefused tells whether nothing may be retained on a topic.
func (b *Broker) retainRefused(topic string) bool {
	for _, f := range b.options.RefuseRetained {
		if mqtt.Match(f, topic) {
			return true
		}
	}
	return false
}

func (b *Broker) storeFailed(err error) {
	b.count.storeFailures.Add(1)
	b.log.Error("store failed", "error", err)
	if told := b.options.Events.StoreFailed; told != nil && b.begin() {
		go func() { // a store may fail before Commit returns, and so under the hub's mutex
			defer b.running.Done()
			told(err)
		}()
	}
}

// stored is for commits that nobody waits for.
func (b *Broker) stored(err error) {
	if err != nil {
		b.storeFailed(err)
	}
}

// restore rebuilds the sessions and retained messages that the store has.
func (b *Broker) restore() error {
	h := &b.hub
	h.mu.Lock()
	h.seq = b.store.LastSeq()
	h.durable.Store(h.seq)
	before := &putting{seq: h.seq}
	for m, err := range b.store.Retained() {
		if err != nil {
			h.mu.Unlock()
			return fmt.Errorf("read retained messages: %w", err)
		}
		h.retained.put(m, before)
		m.Release()
	}
	now := time.Now()
	t := b.newTurn(nil)
	found := restored{released: make(map[*client][]session.Handshake), groups: make(map[*group]bool)}
	for s, err := range b.store.Sessions() {
		if err != nil {
			h.mu.Unlock()
			return fmt.Errorf("read sessions: %w", err)
		}
		if isShareID(s.ClientID) {
			found.shares = append(found.shares, s)
			continue
		}
		cl := &client{id: s.ClientID, owner: s.Owner, kept: true, detachedAt: s.DetachedAt}
		if cl.detachedAt.IsZero() { // it was connected when the broker died
			cl.detachedAt = now
		}
		s.Saved.DetachedAt = cl.detachedAt
		cl.tenant = tenantOf(b.identify(cl.owner))
		cl.core = session.Restore(&b.limits, s.Saved)
		t.count(cl)
		cl.subscriptions = s.Subscriptions
		for _, sub := range s.Subscriptions {
			if g := h.index.add(cl, sub); g != nil {
				found.groups[g] = true
			}
		}
		h.add(cl)
		found.list = append(found.list, cl)
		if len(s.Saved.Released) > 0 {
			found.released[cl] = s.Saved.Released
		}
	}
	if err := t.restoreShares(&found); err != nil {
		h.mu.Unlock()
		return err
	}
	for _, cl := range found.list { // when all are there to get their wills
		t.passed(cl, now)
	}
	t.commit()
	h.mu.Unlock()
	t.finish()
	return nil
}
