package broker

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
)

var stallFor = flag.Duration("stall", time.Second, "how long TestNothingStalls looks for one")

// TestNothingStalls runs small brokers, whose every bound is a few messages, with
// publishers that are faster than the subscribers, sessions that are cut, and
// shares; and ends when a broker has something for clients that would take it, and
// nothing moves.
// Shows [B6a].
func TestNothingStalls(t *testing.T) {
	for begin := time.Now(); time.Since(begin) < *stallFor && !t.Failed(); {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("%016x", seed), func(t *testing.T) { newStress(t, seed).run() })
	}
}

// late is a store that says later, in order, what it has.
type late struct {
	*store.Memory
	mu   sync.Mutex
	todo chan func()
}

func newLate(t *testing.T) *late {
	s := &late{Memory: store.NewMemory(), todo: make(chan func(), 1<<16)}
	go func() {
		for done := range s.todo {
			done()
		}
	}()
	t.Cleanup(func() { close(s.todo) })
	return s
}

func (s *late) Commit(b *store.Batch, done func(error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Memory.Commit(b, nil)
	if done != nil {
		s.todo <- func() { done(nil) }
	}
}

// stress is one such broker.
type stress struct {
	t     *testing.T
	b     *Broker
	rand  *rand.Rand
	moved atomic.Int64 // packets that came from the broker
	calm  atomic.Bool  // nobody is cut any more
	over  atomic.Bool
	last  sync.WaitGroup // until all subscribers have the last message
	work  sync.WaitGroup // until all clients have ended
}

func newStress(t *testing.T, seed uint64) *stress {
	r := rand.New(rand.NewPCG(seed, 1))
	few := func(n int) int { return 1 + r.IntN(n) }
	s := newLate(t)
	b := start(t, Options{
		Store: s, Listeners: by(Overflow(r.IntN(3))),
		Shares: map[string]ShareRule{"": {How: Share(r.IntN(4))}, "g": {How: Share(r.IntN(4))}},
		Limits: Limits{
			Inflight: few(3), InflightBytes: 1000, QueueMessages: few(20), QueueBytes: few(20) * 200, Window: few(4),
			QoS0Messages: few(10), QoS0Bytes: few(10) * 200, Takeovers: 1 << 30, TopicAliasMaximum: 1,
		},
	})
	return &stress{t: t, b: b, rand: r}
}

func (s *stress) run() {
	const subscribers = 5
	for i := range subscribers {
		hello := mqtt.Connect{ClientID: fmt.Sprint("sub", i), ReceiveMaximum: uint16(1 + s.rand.IntN(4)), TopicAliasMaximum: 3}
		if i > 0 {
			hello.SessionExpirySeconds = 3600
		}
		filters := [][]string{{"s/#", "end"}, {"$share/g/s/#", "end"}, {"$share/g/s/#", "$share/h/s/+", "end"}}[s.rand.IntN(3)]
		cut := 0
		if i > 1 {
			cut = 5 + s.rand.IntN(30)
		}
		s.last.Add(1)
		p := join(s.t, s.b, hello)
		p.subscribe(mqtt.QoS(1+s.rand.IntN(2)), filters...)
		s.work.Go(func() { s.take(p, hello, cut) })
	}
	var publishers sync.WaitGroup
	for i := range 3 {
		p, r := join(s.t, s.b, clean(fmt.Sprint("pub", i))), rand.New(rand.NewPCG(s.rand.Uint64(), 1))
		publishers.Go(func() { s.publish(p, r) })
	}
	s.await("the publishers", publishers.Wait)
	s.await("what waits", func() {
		for s.waiting() > 0 && !s.over.Load() {
			<-time.After(time.Millisecond) // no signal tells of it
		}
	})
	if !s.t.Failed() {
		s.calm.Store(true)
		p := join(s.t, s.b, clean("last"))
		s.await("QoS 0", func() {
			all := make(chan struct{})
			go func() {
				defer close(all)
				s.last.Wait()
			}()
			for { // again for who was not connected
				_ = p.say(pub("end", "", 0, 0))
				select {
				case <-all:
					return
				case <-time.After(100 * time.Millisecond):
				}
				if s.over.Load() {
					return
				}
			}
		})
	}
	s.over.Store(true)
	stop(s.t, s.b)
	s.work.Wait()
}

// waiting is what the broker has for sessions and shares.
func (s *stress) waiting() int {
	n, _ := s.b.Waiting()
	return n
}

// await waits for what is to happen while anything moves.
func (s *stress) await(what string, wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		wait()
	}()
	for before, still := s.moved.Load(), time.Now(); ; {
		select {
		case <-done:
			return
		case <-time.After(50 * time.Millisecond):
		}
		if now := s.moved.Load(); now != before {
			before, still = now, time.Now()
		}
		if time.Since(still) > patience/2 {
			s.over.Store(true)
			s.t.Errorf("nothing moves: %s; %d wait\n%s", what, s.waiting(), s.b.debug())
			for c := range s.b.conns {
				_ = c.nc.Close()
			}
			return
		}
	}
}

// publish sends messages of all kinds, some of them ahead of the answers.
func (s *stress) publish(p *peer, r *rand.Rand) {
	free := make(chan uint16, 10)
	for id := range cap(free) {
		free <- uint16(id + 1)
	}
	s.work.Go(func() {
		for {
			x, err := p.next()
			if err != nil {
				return
			}
			s.moved.Add(1)
			switch a, ok := x.(*mqtt.Ack); {
			case !ok:
				if !s.over.Load() {
					s.t.Error("publisher got", show(x))
				}
				return
			case a.Kind == mqtt.TypePubrec && !a.Reason.Failed():
				_ = p.say(ack(mqtt.TypePubrel, a.PacketID))
			default:
				free <- a.PacketID
			}
		}
	})
	for i := range 300 {
		m := pub(fmt.Sprint("s/", r.IntN(4)), fmt.Sprintf("%*d", 1+r.IntN(100), i), mqtt.QoS(r.IntN(3)), 0)
		if m.QoS > 0 {
			m.PacketID = <-free
		}
		if p.say(m) != nil {
			return
		}
	}
	for range cap(free) {
		<-free
	}
}

// take takes and answers what comes, and is cut now and then.
func (s *stress) take(p *peer, hello mqtt.Connect, cut int) {
	ended := false
	defer func() {
		if !ended {
			s.last.Done()
		}
	}()
	for n := 1; ; n++ {
		x, err := p.next()
		if err != nil || cut > 0 && n%cut == 0 && !s.calm.Load() {
			if _ = p.nc.Close(); s.over.Load() || err != nil && cut == 0 {
				return
			}
			p = open(s.t, s.b)
			p.version = mqtt.V5
			hello.Version = mqtt.V5
			if err := p.say(&hello); err != nil && !s.over.Load() {
				s.t.Error(err)
			}
			continue
		}
		s.moved.Add(1)
		switch x := x.(type) {
		case *mqtt.Publish:
			if string(x.Topic) == "end" && !ended {
				ended = true
				s.last.Done()
			}
			if x.QoS > 0 {
				_ = p.say(ack([]mqtt.Type{mqtt.TypePuback, mqtt.TypePubrec}[x.QoS-1], x.PacketID))
			}
		case *mqtt.Ack:
			if x.Kind == mqtt.TypePubrel {
				_ = p.say(ack(mqtt.TypePubcomp, x.PacketID))
			}
		}
	}
}

// say sends, to a connection that may have ended.
func (p *peer) say(x mqtt.Packet) error {
	b, err := x.Append(nil, p.version)
	if err == nil {
		_, err = p.nc.Write(b)
	}
	return err
}

// debug shows where messages are.
func (b *Broker) debug() (text string) {
	b.hub.mu.Lock()
	defer b.hub.mu.Unlock()
	for _, cl := range b.hub.clients {
		cl.mu.Lock()
		n, _ := cl.core.Queued()
		text += fmt.Sprintf("%s: %d queued, %d lent, %d lanes wait, %d pending", cl.id, n, len(cl.lent), len(cl.ready), cl.pending)
		if c := cl.conn; c != nil {
			text += fmt.Sprintf(", writing %v, starved %v, held %d, %d answers, ending %v", c.writing, c.starved, c.hold, len(c.ctl), c.ending)
		}
		if n > 0 {
			text += fmt.Sprintf("\n  %+v", *cl.core)
		}
		cl.mu.Unlock()
		text += "\n"
		b.hub.shares(cl, func(g *group) { text += fmt.Sprintf("  %s: %d and %d of QoS 0\n", g, g.count, g.zero) })
	}
	return text
}
