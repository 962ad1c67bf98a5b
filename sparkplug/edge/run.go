package edge

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/sparkplug/edge/internal/node"
)

// Run connects the node and keeps it connected until ctx ends; then it leaves
// in good order, which takes a few seconds at most, and returns nil. Samples that
// wait then are kept for another Run of the same Node. It is an error to call it
// while another Run is under way.
func (n *Node) Run(ctx context.Context) error {
	n.mu.Lock()
	if n.running {
		n.mu.Unlock()
		return errors.New("sparkplug edge: Run is under way already")
	}
	n.running = true
	n.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { n.writeLoop(ctx) })
	keeping, done := context.WithCancel(context.Background())
	wg.Go(func() { n.keepLoop(keeping) })
	defer func() {
		done() // after the connection, which may leave samples
		wg.Wait()
		n.mu.Lock()
		n.running = false
		n.mu.Unlock()
	}()

	places := n.cfg.places()
	for at, failures := 0, 0; ; {
		e := n.connection(ctx, places[at])
		if ctx.Err() != nil {
			return nil
		}
		if e.stood >= stable {
			failures = 0
		}
		if e.walk {
			// [tck-id-operational-behavior-edge-node-termination-host-offline-reconnect]
			at = (at + 1) % len(places)
		}
		wait := retryMin // to a server that has not failed in this round
		if !e.walk || at == 0 {
			failures++
			wait = retry(failures, e.err, rand.Float64())
		}
		n.cfg.Logger.Warn("sparkplug: not connected", "group", n.cfg.Group, "node", n.cfg.Node, "error", e.err, "retry", wait)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// retry is how long to wait after so many failures in a row: exponential with
// full jitter, and long after a refusal that trying again does not heal.
func retry(failures int, err error, r float64) time.Duration {
	if refusal, ok := errors.AsType[*client.ReasonError](err); ok && refusal.Permanent() {
		return retryMax - time.Duration(r*float64(retryMax-retryMin)/2)
	}
	top := retryMin
	for i := 0; i < failures && top < retryMax; i++ {
		top *= 2
	}
	return retryMin + time.Duration(r*float64(min(top, retryMax)-retryMin))
}

// ending is how a connection ended.
type ending struct {
	err   error
	stood time.Duration
	walk  bool // the next server is to be tried
	death bool // our NDEATH is out
}

// connection is one MQTT connection from dialling to its end. One server is
// tried, so that there is never a second connection
// [tck-id-operational-behavior-primary-application-state-with-multiple-servers-single-server].
func (n *Node) connection(ctx context.Context, place string) ending {
	l, err := n.newLink(place)
	if err != nil {
		return ending{walk: true, err: err}
	}
	defer func() {
		n.mu.Lock()
		n.link = nil
		n.core.Disconnected()
		n.flush()
		n.mu.Unlock()
	}()
	n.mu.Lock()
	n.link = l
	n.mu.Unlock()
	l.client.Start()
	if err := l.client.AwaitUp(ctx); err != nil {
		l.stop(false, 0)
		return ending{walk: true, err: err}
	}
	began := time.Now()
	e := l.serve(ctx)
	e.stood = time.Since(began)
	l.stop(e.death, farewell)
	return e
}

// serve waits until the connection is lost, or is to be left.
func (l *link) serve(ctx context.Context) ending {
	stop := ctx.Done()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var patience <-chan time.Time
	for {
		select {
		case e := <-l.over:
			return e
		case <-l.poke:
			l.schedule(timer, false)
		case <-timer.C:
			l.schedule(timer, true)
		case <-stop:
			stop, patience = nil, time.After(farewell)
			l.node.mu.Lock()
			l.node.core.Leave(node.Stopped)
			l.node.flush()
			l.node.mu.Unlock()
		case <-patience:
			return ending{err: fmt.Errorf("NDEATH was not taken in %v", farewell)}
		}
	}
}

// schedule sets the timer for the core's next tick, after one if it is time.
func (l *link) schedule(timer *time.Timer, tick bool) {
	n := l.node
	n.mu.Lock()
	defer n.mu.Unlock()
	if tick {
		n.core.Tick(time.Now())
		n.flush()
	}
	if at, ok := n.core.Due(); ok {
		timer.Reset(time.Until(at))
	}
}
