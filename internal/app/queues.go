package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/broker/store"
	pebblestore "github.com/wilco-iot/wilco/broker/store/pebble"
	"github.com/wilco-iot/wilco/internal/config"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/link"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/wire"
)

// inMemory is the durability of what is not on a disk.
const inMemory = "memory"

// openQueues opens what a broker keeps of sessions, queues and retained
// messages. durability is a name of the setting mqtt.durability; "" is fsync.
func openQueues(dir, durability string, log *slog.Logger) (store.Store, error) {
	if durability == inMemory {
		return store.NewMemory(), nil
	}
	d, err := pebblestore.ParseDurability(durability)
	if err != nil {
		return nil, fault.Field("mqtt.durability", "%v", err)
	}
	queues, err := pebblestore.Open(dir, pebblestore.Options{Durability: d, Logger: log})
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "%v", err)
	}
	return queues, nil
}

// storeEvents has die called when a store on a disk has failed for good: it takes
// nothing more, and a new start finds out what it has.
func storeEvents(die func(error)) broker.Events {
	return broker.Events{StoreFailed: func(err error) {
		if errors.Is(err, pebblestore.ErrFailed) {
			die(err)
		}
	}}
}

// damagedPlaces is how many damaged places a store has found; 0 for one in memory.
func damagedPlaces(queues store.Store) uint64 {
	if s, ok := queues.(*pebblestore.Store); ok {
		return s.Stats().Damaged
	}
	return 0
}

// startBroker opens the built-in broker, as yet for this server alone.
func (s *Server) startBroker(profiles []wire.Profile) error {
	if s.opt.Broker != "" {
		return nil
	}
	var never []string
	for _, p := range profiles {
		never = append(never, p.Topic(wire.Address{Group: "+", Device: "+"}))
	}
	never = append(never, wire.RequestTopic(s.opt.Root, wire.Address{Group: "+", Device: "+"}))
	queues, err := openQueues(filepath.Join(s.opt.Data, config.BrokerDir), s.opt.Durability, s.log)
	if err != nil {
		return err
	}
	s.push("queues", func(context.Context) error { return queues.Close() })
	b, err := broker.New(broker.Options{Listeners: s.opt.Listeners, Authority: s.authority(), Store: queues, Limits: s.opt.Limits,
		RefuseRetained: never, Shares: s.opt.Shares, Status: status(s.opt.Version), Logger: s.log,
		Events: storeEvents(func(err error) { s.die(fmt.Errorf("broker: %w", err)) })})
	if err != nil {
		return err
	}
	s.push("broker", b.Stop)
	if s.opt.users != nil {
		s.opt.users.cut = func(name string) { b.Disconnect(name, mqtt.NotAuthorized) }
	}
	if err := b.Open(); err != nil {
		return err
	}
	s.Broker, s.queues = b, queues
	return nil
}

// ownClient is this server's client identifier at the built-in broker.
const ownClient = "wilco-server"

// How long the server gives itself to take what its broker has queued for it,
// before devices are let in and after they have been sent away. What is left
// then comes later, stays in the queue, or is said again by who had no answer.
const (
	drainBefore = 30 * time.Second
	drainAfter  = 5 * time.Second
	drainCheck  = 2 * time.Millisecond
)

// letIn opens the listeners, when this server has subscribed and has taken what
// was queued for it in the broker's earlier run: a device can say nothing that
// is acknowledged and goes nowhere, and nothing old passes for new. On the way
// down it is the other way round.
func (s *Server) letIn(ctx context.Context, l *link.Link) error {
	if s.Broker == nil {
		return nil
	}
	if err := l.AwaitUp(ctx); err != nil {
		return fmt.Errorf("join the broker: %w", err)
	}
	if err := s.drained(ctx, drainBefore); ctx.Err() != nil {
		return err
	}
	s.Engine.Admit()
	if err := s.Broker.Listen(); err != nil {
		return err
	}
	s.push("listeners", func(ctx context.Context) error {
		err := s.Broker.CloseListeners(ctx)
		_ = s.drained(ctx, drainAfter) // it is logged, and no reason to stop otherwise
		return err
	})
	return nil
}

// drained waits until this server has taken all that is queued for it, and made
// it durable, for so long.
func (s *Server) drained(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	check := time.NewTicker(drainCheck)
	defer check.Stop()
	for {
		left := s.Broker.Queued(ownClient)
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			s.log.Warn("what devices said could not be taken in time; it waits, or is said again", "messages", left, "durability", s.opt.Durability)
			return errors.New("messages of devices wait")
		case <-check.C:
		}
	}
}
