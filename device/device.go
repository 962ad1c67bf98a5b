package device

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/wilco-iot/wilco/device/internal/ledger"
)

// Device is one device: a configuration and the commands it can execute. Make
// it with New.
type Device struct {
	cfg Config

	mu       sync.Mutex
	commands map[string]handling
	replica  *replica // nil: it has no state
	running  bool
}

// ErrPowerLoss, as the cause with which the context of [Device.Run] is
// cancelled, makes Run end as if the power had failed:
//
//	ctx, cancel := context.WithCancelCause(ctx)
//	cancel(device.ErrPowerLoss)
//
// The connection is cut without DISCONNECT (with Config.Dial; with Config.Servers
// the client may still say it), nothing more is journalled, and handlers are
// abandoned: their context ends, what they return counts for nothing, and Run
// does not wait for them. It is meant for tests and simulations. A following Run
// with the same journal is the reboot.
var ErrPowerLoss = errors.New("device: simulated loss of power")

// ErrStopping is the cause of a handler's context when the device stops.
var ErrStopping = errors.New("device: stopping")

// New checks the configuration. It touches neither the disk nor the network;
// Run does.
func New(cfg Config) (*Device, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, fmt.Errorf("device: %w", err)
	}
	return &Device{cfg: cfg, commands: make(map[string]handling)}, nil
}

// Handle registers the handler of a command. It panics when cmd is empty, h is
// nil, or cmd has one already. Commands without a handler are refused as
// "unknown_command". A Run that goes on does not see later registrations.
func (d *Device) Handle(cmd string, h Handler, options ...Option) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, taken := d.commands[cmd]; cmd == "" || h == nil || taken {
		panic(fmt.Sprintf("device: command %q needs a name and one handler", cmd))
	}
	c := handling{run: h, cancellable: true}
	for _, o := range options {
		o(&c)
	}
	d.commands[cmd] = c
}

// Run opens the journal, connects, and executes commands until ctx ends; it
// goes on trying while there is no connection. Then it stops cleanly, within
// Config.StopTimeout: handlers are asked to stop, what they return is
// journalled and sent, the status says offline, and the connection is closed in
// good order. It returns nil after a clean stop, ErrPowerLoss, or an error that
// matches ErrJournal; a damaged file journal is a [*CorruptError].
//
// Each Run is one boot, with a boot id of its own. One Run at a time; it may be
// called again after it has returned.
func (d *Device) Run(ctx context.Context) error {
	d.mu.Lock()
	if d.running {
		d.mu.Unlock()
		return errors.New("device: it is running already")
	}
	d.running = true
	commands, state := maps.Clone(d.commands), d.replica
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.running = false
		d.mu.Unlock()
	}()

	journal := d.cfg.Journal
	if journal == nil {
		opened, err := OpenJournal(d.cfg.Dir)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrJournal, err)
		}
		defer opened.Close() // everything in it is durable already
		journal = opened
	}
	r := newRun(&d.cfg, commands, state, journal)
	if err := r.restore(); err != nil {
		return fmt.Errorf("%w: %w", ErrJournal, err)
	}
	return r.run(ctx)
}

// newRun prepares one boot.
func newRun(cfg *Config, commands map[string]handling, state *replica, journal Journal) *run {
	r := &run{
		cfg: cfg, commands: commands, replica: state, journal: journal, boot: rand.Text(),
		topic:   cfg.Profile.Topic(cfg.Address),
		queued:  make(map[string]bool),
		shrunk:  make(map[string]bool),
		ran:     make(map[string]bool),
		posted:  newMailbox(),
		closing: make(chan struct{}),
	}
	r.arrivals = make(chan arrival, receiveMaximum)
	r.ledger = ledger.New(ledger.Rules{
		Ordered: cfg.Profile.Ordered(), Parallel: cfg.Parallel, Queue: cfg.Queue,
		KeepCount: cfg.Keep, KeepFor: cfg.KeepFor, Unmet: r.unmet,
	}, func(cmd string) ledger.Traits {
		h, known := commands[cmd]
		return ledger.Traits{Known: known, Cancellable: h.cancellable, Resumable: h.resume != nil}
	})
	return r
}
