// Package requests takes requests for commands over MQTT 5 and answers them: the
// request/response pattern of MQTT 5.0, 4.10, with each change of the command's
// state as an answer.
//
//	ROOT/GROUP/DEVICE/request ─► lane of the device ─► who? ─► service.Send ─► reply document ─► PUBACK
//	                                                    │ no                        │
//	                                                    └─► problem                 ▼
//	ROOT-replies/REQUESTER/...  ◄── created, sent, ..., the end ◄── conversation ◄── engine
//
// What a request says is what the body of POST /v1/devices/GROUP/DEVICE/commands
// says, with the idempotency key in it. A request that comes again is the same
// request: its key is the one that it has, or is made of who sent it and of its
// Correlation Data.
//
// Where the answers go is kept as a document of kind reply by the command's id, from
// before the request is acknowledged until the last answer was taken by the broker.
// When the server dies between the command and the document, the request was not
// acknowledged, comes again, finds its command by the key, and makes the document.
// After a restart every document is taken up and its command is told from the
// beginning: at least once, and each command's answers in order of their step.
//
// A Runner is safe for concurrent use. It owns an MQTT client of its own, the lanes,
// and one goroutine for each request that has not ended; Stop waits for all of them.
package requests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/service"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/order"
	"github.com/wilco-iot/wilco/wire"
)

// Service makes commands.
type Service interface {
	Send(context.Context, service.Principal, service.Order) (service.Created, error)
}

// Engine tells how commands go on.
type Engine interface {
	Wait(ctx context.Context, tid command.TID, until func(*command.Command) bool) (command.Command, error)
}

// Store keeps where answers go.
type Store interface {
	Commit(ctx context.Context, b *store.Batch) (lastEvent int64, err error)
	Document(ctx context.Context, id store.DocumentID) (store.Document, error)
	Documents(ctx context.Context, kind store.Kind, prefix, after string, limit int) ([]store.Document, error)
}

// Options configure a Runner. All but Root and Logger are required.
type Options struct {
	// Client says how to connect, as MQTT 5. Subscriptions and OnMessage are the
	// runner's own.
	Client client.Options
	Root   string // of the topics; "" means wire.DefaultRoot
	// Who says who has published a message with this signature of the broker, and by
	// which client, "" when nobody knows. The signature is "" when there is none.
	// Errors: Unauthenticated.
	Who func(signature string) (p service.Principal, clientID string, err error)
	// Signature is the name of the user property that the broker signs messages with;
	// "" when it is another broker, which does not, and whose reply spaces are open to
	// whom it lets in.
	Signature string
	Service   Service
	Engine    Engine
	Store     Store
	Logger    *slog.Logger // default slog.Default
}

const (
	workers     = 64    // requests being decided at once, over all devices
	maxOpen     = 10000 // requests that have not ended
	maxOpenEach = 1000  // of them, of one requester
)

// Runner takes requests. Make one with New.
type Runner struct {
	opt    Options
	log    *slog.Logger
	client *client.Client
	lanes  *order.Lanes[wire.Address, *client.Delivery]
	count  counters

	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu   sync.Mutex
	open map[command.TID]*conversation
	each map[string]int // conversations in open, by whose they are
}

type counters struct{ taken, refused, answers, lost atomic.Uint64 }

// Stats are counts since the start, and the requests that are open now.
type Stats struct {
	Taken   uint64 // requests that made or found a command
	Refused uint64 // requests that were answered with a problem
	Answers uint64 // that the broker has taken
	Lost    uint64 // answers that the broker refused for good
	Open    int    // requests whose commands have not ended
}

// New makes a runner that does nothing until Start.
func New(o Options) *Runner {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	r := &Runner{opt: o, log: o.Logger, open: map[command.TID]*conversation{}, each: map[string]int{}}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// Start takes up the requests that have not been answered to the end, and connects
// in the background. It blocks while it reads them from the store.
func (r *Runner) Start(ctx context.Context) error {
	if err := r.takeUp(ctx); err != nil {
		return err
	}
	o := r.opt.Client
	o.Version = mqtt.V5
	o.Subscriptions = []mqtt.Subscription{{Filter: wire.RequestTopic(r.opt.Root, wire.Address{Group: "+", Device: "+"}), QoS: mqtt.AtLeastOnce}}
	o.OnMessage = func(d *client.Delivery) {
		a, _ := wire.ParseRequestTopic(r.opt.Root, d.Topic)
		// An error means that Stop was called: what is not acknowledged comes again.
		_ = r.lanes.Submit(r.ctx, a, d)
	}
	o.OnUp = func(u client.Up) {
		for _, s := range u.Refused {
			r.log.Error("the broker refuses the subscription to requests; grant the server's user the right to it", "filter", s.Filter)
		}
	}
	if o.Logger == nil {
		o.Logger = r.log
	}
	c, err := client.New(o)
	if err != nil {
		return fmt.Errorf("requests: %w", err)
	}
	r.client = c
	r.lanes = order.NewLanes(order.LaneOptions[wire.Address, *client.Delivery]{Handle: r.take, Workers: workers})
	r.mu.Lock()
	for _, c := range r.open {
		r.running.Go(func() { r.converse(c) })
	}
	r.mu.Unlock()
	c.Start()
	return nil
}

// AwaitUp blocks until the runner has subscribed, and returns why the broker refuses
// it when trying again is of no use.
func (r *Runner) AwaitUp(ctx context.Context) error { return r.client.AwaitUp(ctx) }

// Stats counts.
func (r *Runner) Stats() Stats {
	r.mu.Lock()
	open := len(r.open)
	r.mu.Unlock()
	return Stats{Taken: r.count.taken.Load(), Refused: r.count.refused.Load(), Answers: r.count.answers.Load(),
		Lost: r.count.lost.Load(), Open: open}
}

// Stop waits for what is being decided, and disconnects. Requests that are open are
// taken up by the next Start.
func (r *Runner) Stop(ctx context.Context) error {
	r.cancel()
	if r.client == nil {
		return nil
	}
	err := errors.Join(r.lanes.Stop(ctx), r.client.Stop(ctx))
	r.running.Wait() // none waits for anything but r.ctx, the engine's store and the client
	return err
}

// kindReply is the kind of document that says where answers go, by the command's id.
// Stored; never change.
const kindReply store.Kind = "reply"

// address is where the answers to a request go. The JSON form is the stored one.
type address struct {
	Topic       string `json:"topic"`
	Correlation []byte `json:"correlation"`
}

func idOf(tid command.TID) store.DocumentID {
	return store.DocumentID{Kind: kindReply, Key: tid.String()}
}

// put keeps where the answers about a command go, in place of the version was.
func (r *Runner) put(ctx context.Context, tid command.TID, to address, was int64) error {
	body, err := json.Marshal(to)
	if err != nil {
		return err
	}
	_, err = r.opt.Store.Commit(ctx, &store.Batch{Documents: []store.DocumentWrite{{DocumentID: idOf(tid), Was: was, Body: body}}})
	return err
}

// takeUp reads all that has not been answered to the end.
func (r *Runner) takeUp(ctx context.Context) error {
	const page = 1000
	for after := ""; ; {
		list, err := r.opt.Store.Documents(ctx, kindReply, "", after, page)
		if err != nil {
			return fmt.Errorf("requests: %w", err)
		}
		for i := range list {
			d := &list[i]
			var to address
			tid, err := uuid.Parse(d.Key)
			if err = errors.Join(err, json.Unmarshal(d.Body, &to)); err != nil {
				return fmt.Errorf("requests: %s: %w", d.DocumentID, err)
			}
			r.keep(&conversation{tid: tid, of: r.requester(to), to: to, version: d.Version})
		}
		if len(list) < page {
			return nil
		}
		after = list[page-1].Key
	}
}

// requester is whose space the answers go to.
func (r *Runner) requester(to address) string {
	name, _ := wire.InReplySpace(r.opt.Root, to.Topic)
	return name
}

// keep notes an open conversation. r.mu is held, or nothing else has begun.
func (r *Runner) keep(talk *conversation) {
	r.open[talk.tid] = talk
	r.each[talk.of]++
}

func (r *Runner) forget(talk *conversation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, talk.tid)
	if r.each[talk.of]--; r.each[talk.of] == 0 {
		delete(r.each, talk.of)
	}
}

// room says TooMany when too many requests are open, of one requester or of all, so
// that nobody keeps the others out.
func (r *Runner) room(to address) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.each[r.requester(to)] >= maxOpenEach:
		return fault.New(fault.TooMany, "%d of your requests are open; wait until some have ended", maxOpenEach)
	case len(r.open) >= maxOpen:
		return fault.New(fault.TooMany, "%d requests are open; wait until some have ended", maxOpen)
	}
	return nil
}
