package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/device/internal/ledger"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/wire"
)

const (
	// receiveMaximum bounds the commands that wait between the network and the
	// journal, and with them the size of one batch.
	receiveMaximum = 32
	// compactAfter is how many records more than needed the journal may hold.
	compactAfter = 1024
)

// run is one boot of a device. All fields below the line belong to the
// goroutine of Device.Run.
type run struct {
	cfg      *Config
	commands map[string]handling
	replica  *replica // nil: the device has no state
	journal  Journal
	boot     string // boot id
	topic    string // commands come here

	arrivals chan arrival  // from the client; OnMessage blocks when it is full
	posted   *mailbox      // everything else that happens
	closing  chan struct{} // closed when arrivals are taken no more
	handlers sync.WaitGroup

	// ---
	ledger   *ledger.Ledger
	batch    ledger.Batch       // decided, not yet durable
	arrived  []*client.Delivery // what the batch is about; acknowledged once it is durable
	ran      map[string]bool    // tids of the batch that had been executed
	handed   []ledger.Record    // of kind Handed, waiting for company
	needed   int                // records in the journal after the last compaction
	appended int                // and since then

	client   *client.Client
	link     cutter
	up       bool
	cameUp   bool // up is to become true when the batch is durable
	stopping bool
	jobs     []*job          // running handlers, in order of start
	life     context.Context // of the handlers
	end      context.CancelCauseFunc

	outbox       []answer
	queued       map[string]bool // tids in outbox or on their way
	shrunk       map[string]bool // tids whose result is too large for the server
	onTheWay     int             // answers published whose end is not known yet
	nextPresence time.Time
	talk         talk // about the state
}

// arrival is a message on the command topic with the document in it.
type arrival struct {
	delivery *client.Delivery
	command  wire.Command
	problem  *wire.Reason
}

// restore reads the journal and decides what becomes of the commands that had
// not ended.
func (r *run) restore() error {
	records, err := r.journal.Load()
	if err != nil {
		return err
	}
	for i, b := range records {
		record, err := ledger.Decode(b)
		if err == nil {
			err = r.ledger.Apply(record)
		}
		if err != nil {
			return fmt.Errorf("record %d: %w", i+1, err)
		}
	}
	r.appended = len(records)
	if r.replica == nil {
		return nil
	}
	return r.replica.restore(r.ledger.Reported())
}

// run connects and works until ctx ends.
func (r *run) run(ctx context.Context) error {
	r.life, r.end = context.WithCancelCause(context.WithoutCancel(ctx))
	defer r.end(ErrStopping)
	if r.replica != nil {
		defer r.replica.attach(nil)
	}
	if err := r.connect(); err != nil {
		return fmt.Errorf("device: %w", err)
	}
	err := r.reboot()
	if err == nil {
		err = r.loop(ctx)
	}
	if err == nil && errors.Is(context.Cause(ctx), ErrPowerLoss) {
		err = ErrPowerLoss
	}
	if err == nil {
		err = r.stop()
	}
	if err != nil {
		r.abandon(err)
		return err
	}
	return nil
}

// reboot makes durable what restore has found, runs what is to be run, and
// lets the client begin.
func (r *run) reboot() error {
	r.ledger.Reboot(&r.batch, r.cfg.Clock())
	for _, record := range r.batch.Records {
		r.ran[record.TID] = true
	}
	r.oweAll()
	if err := r.commit(); err != nil {
		return err
	}
	if r.replica != nil {
		r.replica.attach(func() { r.posted.put(func() {}) })
	}
	r.client.Start()
	return nil
}

// loop works until ctx ends or the journal fails.
func (r *run) loop(ctx context.Context) error {
	timer := time.NewTimer(r.untilNext())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case a := <-r.arrivals:
			r.receive(a)
		case <-r.posted.ready:
		case <-timer.C:
		}
		r.drain()
		if err := r.commit(); err != nil {
			return err
		}
		r.tick()
		timer.Reset(r.untilNext())
	}
}

// drain takes all that is there without waiting, so that one write and one
// fsync serve many.
func (r *run) drain() {
	r.takePosted()
	for range receiveMaximum {
		select {
		case a := <-r.arrivals:
			r.receive(a)
		default:
			return
		}
	}
}

// receive decides about one arrival.
func (r *run) receive(a arrival) {
	r.arrived = append(r.arrived, a.delivery)
	if a.command.TID == "" {
		r.cfg.Logger.Warn("device: cannot read a command", "problem", a.problem.Text)
		return
	}
	if r.cfg.Observer.Received != nil {
		r.cfg.Observer.Received(a.command)
	}
	if a.delivery.Retain {
		r.cfg.Logger.Error("device: a command is retained; it is never obeyed, and should be cleared", "tid", a.command.TID)
	}
	r.ledger.Command(&r.batch, ledger.Arrival{
		Command: a.command, Retained: a.delivery.Retain, Problem: a.problem, State: r.state,
	}, r.cfg.Clock())
}

// state asks the device's program for its state.
func (r *run) state() json.RawMessage {
	if r.cfg.State == nil {
		return nil
	}
	state, err := encodeValue(r.cfg.State())
	if err != nil {
		r.cfg.Logger.Warn("device: its state does not fit into a document", "error", err)
		return nil
	}
	return state
}
