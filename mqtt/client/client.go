package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client/internal/flow"
	"github.com/wilco-iot/wilco/mqtt/client/internal/ring"
)

// Client is one MQTT client with one session. Make it with New. All methods are
// safe for concurrent use.
type Client struct {
	opts    Options
	servers []server

	// Two lifetimes: Stop ends running, and the client says its farewell; the
	// end of life, which Stop causes when its own context ends, cuts that short.
	running, life context.Context
	stop, kill    context.CancelFunc
	stopOnce      sync.Once
	done          chan struct{} // closed when every goroutine has ended
	waiters       sync.Pool     // channels for Publish; not shared between clients

	// mu guards all below, both halves of the core and the buffers of the link.
	mu  sync.Mutex
	snd *flow.Sender
	rcv *flow.Receiver

	link     *link // nil while there is none
	up       bool  // link is there and its subscriptions are made
	started  bool
	stopping bool
	tellWill bool // the farewell asks the server to publish the Will
	stopped  bool
	refusal  error         // why the server will not have us, until it does
	changed  chan struct{} // closed and replaced when one of the above changes

	calls    ring.Queue[call]     // whose messages the sender holds; same positions
	finished ring.Queue[finished] // for the results goroutine
	outcomes []flow.Outcome       // scratch
	untold   []flow.Change        // what the store could not be told
	unsynced bool                 // the store was told something since its last Sync
	room     chan struct{}        // closed when a place in the queue came free; nil: nobody waits
	results  sync.Cond

	inbox      ring.Queue[*Delivery]
	inboxZeros int // of QoS 0
	inboxBytes int
	epoch      uint64 // counts connections
	unacked    int    // shown to OnMessage in this epoch, without Ack yet
	paused     bool   // the connection is gone; what waits may come again
	arrived    sync.Cond
	drained    sync.Cond // the reader waits for room, in the inbox or in the link's buffer

	clientID      string
	sessionExpiry uint32
	connected     bool // there was a connection before
	subs          []mqtt.Subscription
	subscribed    bool // subs are known to be in the session
	subCalls      map[uint16]*subCall
	requests      requests
}

// call is who waits for the result of a publish: a function, a channel with
// room for one, or nobody.
type call struct {
	done func(Result)
	wait chan Result
}

type finished struct {
	done   func(Result)
	result Result
}

// hardReceiveMaximum is how many unacknowledged messages make us say that the
// server exceeded our Receive Maximum. It is not the one we ask for: see
// deliverable.
const hardReceiveMaximum = 65535

// New checks the options and loads the store. It does not connect; Start does.
func New(opts Options) (*Client, error) {
	opts, err := opts.complete()
	if err != nil {
		return nil, fmt.Errorf("mqtt client: %w", err)
	}
	servers, err := parseServers(opts.Servers)
	if err != nil {
		return nil, fmt.Errorf("mqtt client: %w", err)
	}
	if opts.Dial != nil {
		servers = []server{{}}
	}
	c := &Client{
		opts: opts, servers: servers,
		done: make(chan struct{}), changed: make(chan struct{}),
		snd:      flow.NewSender(opts.Version, opts.MaxQueued, opts.MaxQueuedBytes),
		rcv:      flow.NewReceiver(opts.Version, hardReceiveMaximum),
		clientID: opts.ClientID,
		subCalls: make(map[uint16]*subCall),
		requests: requests{topic: opts.ResponseTopic},
	}
	c.life, c.kill = context.WithCancel(context.Background())
	c.running, c.stop = context.WithCancel(c.life)
	c.results.L, c.arrived.L, c.drained.L = &c.mu, &c.mu, &c.mu
	c.sessionExpiry = wholeSeconds(opts.SessionExpiry)
	for _, s := range opts.Subscriptions {
		c.keepSub(s)
	}
	if err := c.restore(); err != nil {
		c.kill()
		return nil, fmt.Errorf("mqtt client: load the store: %w", err)
	}
	return c, nil
}

func wholeSeconds(d time.Duration) uint32 {
	return uint32(min((d+time.Second-1)/time.Second, 1<<32-1))
}

// restore takes over what a former process left.
func (c *Client) restore() error {
	if c.opts.Store == nil {
		return nil
	}
	records, err := c.opts.Store.Load()
	if err != nil {
		return err
	}
	for i, r := range records {
		if i > 0 && r.Seq <= records[i-1].Seq {
			return errors.New("records are not in rising order")
		}
		m := r.Message.outgoing(time.Time{})
		m.Expires = r.Expires
		c.snd.Restore(r.Seq, r.PacketID, r.Released, m)
	}
	if len(records) > 0 {
		c.calls.Start(records[0].Seq)
		for _, r := range records {
			for c.calls.Next() < r.Seq {
				c.calls.Push(call{})
			}
			var who call
			if told := c.opts.OnRestored; told != nil {
				who.done = func(result Result) {
					if !r.Expires.IsZero() {
						r.Message.Expiry = max(time.Until(r.Expires), 1)
					}
					told(r.Message, result)
				}
			}
			c.calls.Push(who)
		}
	}
	return nil
}

// Start begins to connect, and goes on until Stop. It returns at once; a second
// call does nothing.
func (c *Client) Start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.started || c.stopping {
		return
	}
	c.started = true
	go c.supervise() // Stop waits for it by c.done
}

// AwaitUp blocks until the client is connected and subscribed. It returns the
// error of ctx when that ends first, ErrStopped, or the *ReasonError of a server
// that refuses us for a reason which waiting will not heal; the client goes on
// trying all the same. With Options.Once it is any reason, and the client has
// ended.
func (c *Client) AwaitUp(ctx context.Context) error {
	for {
		c.mu.Lock()
		up, stopping, refusal, changed := c.up, c.stopping, c.refusal, c.changed
		c.mu.Unlock()
		switch {
		case c.opts.Once && refusal != nil:
			return refusal
		case stopping:
			return ErrStopped
		case up:
			return nil
		case refusal != nil:
			return refusal
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Stop ends the client in good order: no new messages are taken; if connected,
// what is queued is sent and its handshakes are waited for; then DISCONNECT, so
// that no Will is published; then every goroutine is waited for. Messages
// without a result get ErrStopped; those with QoS 1 or 2 stay in the Store.
// Deliveries that OnMessage has not seen are dropped unacknowledged.
//
// When ctx ends first, the connection is closed at once and the error of ctx is
// returned; only a callback that does not return can then still be running.
// Stop must not be called from a callback.
func (c *Client) Stop(ctx context.Context) error {
	c.mu.Lock()
	c.stopping = true
	c.notify()
	started := c.started
	c.mu.Unlock()
	c.stopOnce.Do(func() {
		c.stop()
		if !started {
			c.abandon()
			c.resultLoop()
			c.kill()
			close(c.done)
		}
	})
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		c.kill()
		return ctx.Err()
	}
}

// StopWithWill is Stop, but an MQTT 5 server is asked to publish the Will all
// the same (DISCONNECT 0x04). MQTT 3.1.1 has no word for it.
func (c *Client) StopWithWill(ctx context.Context) error {
	c.mu.Lock()
	c.tellWill = c.opts.Version == mqtt.V5
	c.mu.Unlock()
	return c.Stop(ctx)
}

// notify wakes who waits for a change of state. mu is held.
func (c *Client) notify() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// live returns the link if packets may be put on it. mu is held.
func (c *Client) live() *link {
	if c.link == nil || c.link.dead {
		return nil
	}
	return c.link
}

// step lets the core go on after something happened: what may be sent is put
// into the link's buffer, the store is told, and results go to their owners. mu
// is held.
func (c *Client) step() {
	if l := c.live(); l != nil && l.open {
		c.pump(l)
	}
	if changes := c.snd.Changes(); c.opts.Store != nil && len(changes)+len(c.untold) > 0 {
		c.keep(changes)
	}
	c.outcomes = c.snd.Outcomes(c.outcomes[:0])
	if len(c.outcomes) == 0 {
		return
	}
	for i := range c.outcomes {
		c.finish(c.calls.Pop(), resultOf(&c.outcomes[i]))
	}
	clear(c.outcomes)
	c.madeRoom()
	if c.stopping && c.snd.Len() == 0 {
		c.notify()
	}
}

// pump fills the link's buffer. mu is held.
func (c *Client) pump(l *link) {
	var now time.Time
	if c.snd.NeedsClock() {
		now = time.Now()
	}
	l.out = c.snd.Pump(l.out, now, fillBuffer)
	if len(l.out) > 0 {
		l.ready.Signal()
	}
}

// keep tells the store. An error ends the link, for what the store does not
// know must not leave; what it missed is told it again before anything else. mu
// is held.
func (c *Client) keep(changes []flow.Change) {
	c.untold = append(c.untold, changes...)
	for i, ch := range c.untold {
		var err error
		c.unsynced = true
		if ch.Ended {
			err = c.opts.Store.Remove(ch.Seq)
		} else {
			err = c.opts.Store.Mark(ch.Seq, ch.PacketID, ch.Released)
		}
		if err != nil {
			c.untold = append(c.untold[:0], c.untold[i:]...)
			if c.link != nil {
				c.fail(c.link, fmt.Errorf("store: %w", err))
			} else {
				c.opts.Logger.Error("mqtt: store", "error", err)
			}
			return
		}
	}
	c.untold = c.untold[:0]
}

// finish gives a result to its owner: a channel at once, a function by way of
// the results goroutine, so that it cannot hold up reading. mu is held.
func (c *Client) finish(who call, r Result) {
	switch {
	case who.wait != nil:
		who.wait <- r
	case who.done != nil:
		c.finished.Push(finished{who.done, r})
		c.results.Signal()
	}
}

// abandon ends all that still waits when the client has stopped.
func (c *Client) abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.calls.Len() > 0 {
		c.finish(c.calls.Pop(), Result{Err: ErrStopped})
	}
	c.stopped = true
	c.results.Broadcast()
	c.arrived.Broadcast()
	c.madeRoom()
	c.notify()
}
