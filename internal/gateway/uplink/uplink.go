package uplink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/mqtt/client/filestore"
)

const (
	forEver = (1<<32 - 1) * time.Second // the session expiry interval that never ends (MQTT 5.0, 3.1.2.11.2)
	// Window is how many messages of all lanes are in the outbox at most: on their way,
	// where no policy touches them any more.
	Window = 512
	pause  = time.Second // before what has failed is tried again
)

// Lane is one stream of messages on its way up.
type Lane struct {
	Client        string // client identifier of its session. Stored; never change
	Name          string // for people: its filter
	Subscriptions []mqtt.Subscription
	Queue         broker.Queue
	// Latest has only the last message of each topic wait while nothing can go up. The
	// bounds of Queue are then those of what waits, and the oldest goes when they are
	// reached.
	Latest bool
	// Skip says of a message that it does not go up; nil: all do. It may block.
	Skip func(*client.Delivery) bool
}

// Options configure an Uplink. All but Logger are needed.
type Options struct {
	Dir string // of its files; made if it is not there
	// Upstream says how to connect to the server above. MaxQueued, Store and OnRestored
	// are the uplink's own.
	Upstream client.Options
	Dial     func(context.Context, broker.Queue) (net.Conn, error) // to the gateway's broker
	// NumberAbove is the gateway's broker's: were its store lost, it would give numbers
	// again that the uplink's files have had, and new messages would pass for repeats.
	NumberAbove func(uint64)
	Lanes       []Lane
	Logger      *slog.Logger // default: silent
}

// Uplink is the way up. Its methods are safe for concurrent use.
type Uplink struct {
	opt   Options
	log   *slog.Logger
	up    *client.Client
	box   *box
	lanes []*lane
	noted []string // what the file of the lanes' sessions has
	stale []string // those of them that no lane has any more
	count counts

	// publishing makes one of naming where a message comes from and publishing it.
	publishing sync.Mutex
	reach      atomic.Bool
	mostQoS    atomic.Uint32 // that the server above knows
	acks       chan taken
	again      again

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// New opens the files of the uplink; Start begins. What it returns must be stopped.
func New(o Options) (*Uplink, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("uplink: %w", err)
	}
	file, err := openFile(filepath.Join(o.Dir, "outbox"), o.Logger)
	if err != nil {
		return nil, err
	}
	u := &Uplink{opt: o, log: o.Logger, box: newBox(file), acks: make(chan taken, 2*Window)}
	u.mostQoS.Store(uint32(mqtt.ExactlyOnce))
	u.again.wake = make(chan struct{}, 1)
	u.ctx, u.cancel = context.WithCancel(context.Background())
	if err = u.connect(); err == nil {
		err = u.openLanes()
	}
	if err == nil {
		u.stale, err = u.noteLanes()
	}
	if err != nil {
		return nil, errors.Join(err, u.Stop(context.Background()))
	}
	return u, nil
}

// openFile opens a file of what is on its way up. A damaged one is put aside: what it has
// is little, and a gateway that does not start for it is no help when the line is cut.
func openFile(path string, log *slog.Logger) (*filestore.Store, error) {
	file, err := filestore.Open(path, filestore.Options{})
	if errors.Is(err, filestore.ErrCorrupt) {
		aside := path + ".damaged"
		log.Error("a file of messages on their way up is damaged and put aside; of these some do not go up, some may go twice", "file", aside, "error", err)
		if err = os.Rename(path, aside); err == nil {
			file, err = filestore.Open(path, filestore.Options{})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("uplink: %w", err)
	}
	return file, nil
}

// connect makes the client of the server above, with what the outbox has.
func (u *Uplink) connect() (err error) {
	o := u.opt.Upstream
	up, down := o.OnUp, o.OnDown
	o.Store = u.box
	o.OnRestored = func(m client.Message, r client.Result) { u.done(m, expiry(&m), r) }
	o.MaxQueued, o.MaxQueuedBytes = 4*Window, 256<<20
	o.OnUp = func(x client.Up) {
		u.reach.Store(true)
		u.box.stir()
		if up != nil {
			up(x)
		}
	}
	o.OnDown = func(err error) {
		u.reach.Store(false)
		if down != nil {
			down(err)
		}
	}
	u.up, err = client.New(o)
	return err
}

// Start connects both sides in the background, and goes on until Stop.
func (u *Uplink) Start() {
	u.up.Start()
	u.wg.Go(u.runAcks)
	u.wg.Go(u.runAgain)
	for _, l := range u.lanes {
		l.client.Start()
		if l.latest != nil {
			u.wg.Go(l.latest.run)
		}
	}
	u.wg.Go(u.endStale)
}

// AwaitLanes blocks until each lane has its subscriptions: from then on nothing that the
// gateway's broker acknowledges is missed.
func (u *Uplink) AwaitLanes(ctx context.Context) error {
	for _, l := range u.lanes {
		if err := l.client.AwaitUp(ctx); err != nil {
			return fmt.Errorf("uplink: %s: %w", l.Name, err)
		}
	}
	return nil
}

// Stop takes leave of the server above, which publishes the Will, and ends everything.
// What has not gone up waits.
func (u *Uplink) Stop(ctx context.Context) error {
	u.cancel()
	var all []error
	for _, l := range u.lanes {
		all = append(all, l.client.Stop(ctx))
	}
	if u.up != nil {
		all = append(all, u.up.StopWithWill(ctx))
	}
	u.wg.Wait()
	for _, l := range u.lanes {
		if l.latest != nil {
			all = append(all, l.latest.file.Close())
		}
	}
	return errors.Join(append(all, u.box.Close())...)
}

// Upstream is the client of the server above, to subscribe with. What is published goes
// by Publish and PublishAsync.
func (u *Uplink) Upstream() *client.Client { return u.up }

// Local is the client of a lane, by its place in Options.
func (u *Uplink) Local(lane int) *client.Client { return u.lanes[lane].client }

// Publish publishes above what belongs to no lane, and waits for the result: it is
// client.Client.Publish, but what has no result yet is lost with the process.
func (u *Uplink) Publish(ctx context.Context, m client.Message) error {
	result := make(chan client.Result, 1)
	for {
		room := u.box.room()
		err := u.PublishAsync(m, func(r client.Result) { result <- r })
		if err == nil {
			break
		}
		if !errors.Is(err, client.ErrFull) {
			return err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	select {
	case r := <-result:
		return r.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// PublishAsync is client.Client.PublishAsync for what belongs to no lane.
func (u *Uplink) PublishAsync(m client.Message, done func(client.Result)) error {
	u.publishing.Lock()
	defer u.publishing.Unlock()
	return u.up.PublishAsync(m, func(r client.Result) {
		u.box.stir() // a lane may wait for the place that it had
		if done != nil {
			done(r)
		}
	})
}

// hand puts a message of a lane into the outbox. Errors: client.ErrFull, client.ErrStopped,
// that of a file, or that of a message that cannot be published.
func (u *Uplink) hand(source string, number uint64, m client.Message) error {
	if u.box.full() {
		return client.ErrFull
	}
	return u.publish(source, number, m)
}

// publish is hand where there is a place for the message.
func (u *Uplink) publish(source string, number uint64, m client.Message) error {
	m.QoS = min(mqtt.ExactlyOnce, mqtt.QoS(u.mostQoS.Load()))
	expires := expiry(&m)
	u.publishing.Lock()
	defer u.publishing.Unlock()
	defer u.box.keep(source, number)()
	return u.up.PublishAsync(m, func(r client.Result) { u.done(m, expires, r) })
}

// expiry is when a message expires; the zero time: never.
func expiry(m *client.Message) time.Time {
	if m.Expiry <= 0 {
		return time.Time{}
	}
	return time.Now().Add(m.Expiry)
}

// done is how the server above has answered the first message of the outbox.
func (u *Uplink) done(m client.Message, expires time.Time, r client.Result) {
	if errors.Is(r.Err, client.ErrStopped) {
		return
	}
	seq := u.box.first()
	switch {
	case r.Err == nil:
	case errors.Is(r.Err, client.ErrQoS) && m.QoS == mqtt.ExactlyOnce:
		if u.mostQoS.Swap(uint32(mqtt.AtLeastOnce)) == uint32(mqtt.ExactlyOnce) {
			u.log.Warn("the server above knows no QoS 2; after a kill of either side messages may come twice")
		}
		u.again.put(refused{seq, m, expires})
		return
	case NeverTaken(r.Err):
		if n, tell := u.count.add(u.nameOf(m.Topic), "refused", 1); tell {
			u.log.Error("a message cannot go up, and is dropped", "topic", m.Topic, "bytes", len(m.Payload), "error", r.Err, "so far", n)
		}
	default:
		if u.again.put(refused{seq, m, expires}) {
			u.log.Warn("the server above does not take a message at present; it is offered again", "topic", m.Topic, "error", r.Err)
		}
		return
	}
	u.box.forget(seq)
}

// NeverTaken says whether a message that was not accepted never will be.
func NeverTaken(err error) bool {
	for _, why := range []error{client.ErrExpired, client.ErrSize, client.ErrQoS, client.ErrRetain} {
		if errors.Is(err, why) {
			return true
		}
	}
	var reason *client.ReasonError
	if !errors.As(err, &reason) {
		return false
	}
	switch reason.Code {
	case mqtt.NotAuthorized, mqtt.TopicNameInvalid, mqtt.PayloadFormatInvalid, mqtt.PacketTooLarge:
		return true
	}
	return false
}

// again has what the server above has refused for now, in its order.
type again struct {
	wake chan struct{}

	mu   sync.Mutex
	list []refused
}

// refused is a message that the outbox has as seq.
type refused struct {
	seq     uint64
	m       client.Message
	expires time.Time // zero: never
}

// put says whether it is the first that waits.
func (a *again) put(r refused) bool {
	a.mu.Lock()
	a.list = append(a.list, r)
	first := len(a.list) == 1
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
	return first
}

func (a *again) takeAll() []refused {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := a.list
	a.list = nil
	return list
}

// runAgain offers again what was refused.
func (u *Uplink) runAgain() {
	for {
		select {
		case <-u.ctx.Done():
			return
		case <-u.again.wake:
		}
		u.wait(pause)
		for _, r := range u.again.takeAll() {
			if !r.expires.IsZero() {
				if r.m.Expiry = time.Until(r.expires); r.m.Expiry <= 0 {
					u.lost(u.nameOf(r.m.Topic), "expired", 1)
					u.box.forget(r.seq)
					continue
				}
			}
			for u.publish("", 0, r.m) != nil {
				if u.wait(pause / 20); u.ctx.Err() != nil {
					return // the file has it
				}
			}
			u.box.forget(r.seq)
		}
	}
}

// wait returns after d, or when the uplink stops.
func (u *Uplink) wait(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-u.ctx.Done():
	case <-t.C:
	}
}
