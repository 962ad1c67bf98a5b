package check

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// liar is a small MQTT 5 broker that is correct, except for one lie. One lock
// guards all of it.
type liar struct {
	lie string
	ln  net.Listener
	wg  sync.WaitGroup

	mu       sync.Mutex
	sessions map[string]*liarSession
	order    []*liarSession
	conns    []net.Conn
	retained map[string]*mqtt.Publish
	oldest   map[string]*mqtt.Publish // the first ever retained
	turn     int                      // of shared subscriptions
	closed   bool
}

type liarSession struct {
	id        string
	nc        net.Conn // nil: away
	rm        int
	maxPacket uint32
	expiry    uint32
	will      *mqtt.Will
	subs      []liarSub
	queue     []*liarItem
	inflight  []*liarItem
	late      []*liarItem // held back by a lie
	last      *liarItem   // acknowledged
	nextID    uint16
	received  map[uint16]bool
	n, acks   int
}

type liarSub struct {
	mqtt.Subscription
	group, inner string
	id           uint32
}

type liarItem struct {
	p        mqtt.Publish
	until    time.Time // expiry
	released bool
}

// startLiar runs a liar, in memory, and gives its URL.
func startLiar(t *testing.T, lie string) string {
	t.Helper()
	url, ln := inMemory(t)
	l := &liar{lie: lie, ln: ln, sessions: map[string]*liarSession{}, retained: map[string]*mqtt.Publish{}, oldest: map[string]*mqtt.Publish{}}
	l.wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			l.mu.Lock()
			l.conns = append(l.conns, nc)
			l.mu.Unlock()
			l.wg.Go(func() { l.serve(nc) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		l.mu.Lock()
		l.closed = true
		for _, nc := range l.conns {
			_ = nc.Close()
		}
		l.mu.Unlock()
		l.wg.Wait()
	})
	return url
}

func (l *liar) write(nc net.Conn, p mqtt.Packet) {
	b, err := p.Append(nil, mqtt.V5)
	if err != nil {
		panic(err)
	}
	_ = nc.SetWriteDeadline(time.Now().Add(5 * time.Second))
	_, _ = nc.Write(b)
}

var errBye = errors.New("disconnected in good order")

func (l *liar) serve(nc net.Conn) {
	defer func() { _ = nc.Close() }()
	in := mqtt.NewReader(nc, 0)
	h, body, err := in.Next()
	if err != nil {
		return
	}
	var c mqtt.Connect
	if c.Decode(h, body, mqtt.V5) != nil {
		return
	}
	if c.Will != nil {
		c.Will.Payload = slices.Clone(c.Will.Payload) // it is the reader's
	}
	s := l.enter(nc, &c)
	for err == nil {
		if h, body, err = in.Next(); err != nil {
			break
		}
		var p mqtt.Packet
		if p, err = mqtt.DecodePacket(h, body, mqtt.V5); err == nil {
			l.mu.Lock()
			err = l.step(s, nc, p)
			l.mu.Unlock()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leave(s, nc, err)
}

func (l *liar) enter(nc net.Conn, c *mqtt.Connect) *liarSession {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sessions[c.ClientID]
	if s != nil && s.nc != nil && l.lie != "two live" {
		l.write(s.nc, &mqtt.Disconnect{Reason: mqtt.SessionTakenOver})
		_ = s.nc.Close()
	}
	present := s != nil && !c.CleanStart
	if !present {
		l.forget(s)
		s = &liarSession{id: c.ClientID, received: map[uint16]bool{}}
		l.sessions[s.id] = s
		l.order = append(l.order, s)
	}
	s.nc, s.rm, s.maxPacket, s.expiry, s.will = nc, int(c.ReceiveMaximum), c.MaximumPacketSize, c.SessionExpirySeconds, c.Will
	if s.rm == 0 {
		s.rm = 65535
	}
	l.write(nc, &mqtt.Connack{SessionPresent: present})
	l.resume(s)
	return s
}

// resume sends again what was not acknowledged, and goes on.
func (l *liar) resume(s *liarSession) {
	s.acks = 0
	switch l.lie {
	case "resume reversed":
		slices.Reverse(s.inflight)
	case "no resend":
		s.inflight = nil
	case "queue lost":
		s.queue = nil
	case "backlog shuffled":
		if n := len(s.queue); n > 4 {
			slices.Reverse(s.queue[n/2:])
		}
	case "acknowledged again":
		if s.last != nil && len(s.inflight) > 0 {
			s.inflight = slices.Insert(s.inflight, 0, s.last)
		}
	}
	for _, it := range s.inflight {
		if it.released {
			l.write(s.nc, &mqtt.Ack{Kind: mqtt.TypePubrel, PacketID: it.p.PacketID})
			continue
		}
		it.p.Dup = l.lie != "no dup flag"
		l.send(s, it)
	}
	l.pump(s)
}

func (l *liar) forget(s *liarSession) {
	if s != nil {
		delete(l.sessions, s.id)
		l.order = slices.DeleteFunc(l.order, func(x *liarSession) bool { return x == s })
	}
}

func (l *liar) leave(s *liarSession, nc net.Conn, err error) {
	if s.nc != nc || l.closed {
		return
	}
	s.nc = nil
	if s.will != nil && !errors.Is(err, errBye) && l.lie != "no will" {
		l.route(&mqtt.Publish{Topic: []byte(s.will.Topic), Payload: s.will.Payload, QoS: s.will.QoS})
	}
	if s.expiry == 0 {
		l.forget(s)
	}
}

func (l *liar) step(s *liarSession, nc net.Conn, p mqtt.Packet) error {
	switch p := p.(type) {
	case *mqtt.Publish:
		l.published(s, nc, p.Clone())
	case *mqtt.Subscribe:
		l.subscribed(s, nc, p)
	case *mqtt.Unsubscribe:
		s.subs = slices.DeleteFunc(s.subs, func(x liarSub) bool { return slices.Contains(p.Filters, x.Filter) })
		l.write(nc, &mqtt.Unsuback{PacketID: p.PacketID, Reasons: make([]mqtt.ReasonCode, len(p.Filters))})
	case *mqtt.Pingreq:
		l.write(nc, &mqtt.Pingresp{})
	case *mqtt.Disconnect:
		return errBye
	case *mqtt.Ack:
		l.acked(s, nc, p)
	}
	return nil
}

func (l *liar) published(s *liarSession, nc net.Conn, p *mqtt.Publish) {
	again := p.QoS == 2 && s.received[p.PacketID] && l.lie != "qos 2 twice"
	if p.Retain {
		topic := string(p.Topic)
		if l.retained[topic] = p; len(p.Payload) == 0 {
			delete(l.retained, topic)
		}
		if l.oldest[topic] == nil {
			l.oldest[topic] = p
		}
	}
	if !again {
		l.route(p)
	}
	switch p.QoS {
	case 1:
		l.write(nc, &mqtt.Ack{Kind: mqtt.TypePuback, PacketID: p.PacketID})
	case 2:
		s.received[p.PacketID] = true
		l.write(nc, &mqtt.Ack{Kind: mqtt.TypePubrec, PacketID: p.PacketID})
	}
}

func (l *liar) subscribed(s *liarSession, nc net.Conn, p *mqtt.Subscribe) {
	var codes []mqtt.ReasonCode
	for _, sub := range p.Subscriptions {
		x := liarSub{Subscription: sub, id: p.SubscriptionID}
		x.group, x.inner, _ = mqtt.ParseShare(sub.Filter)
		s.subs = append(s.subs, x)
		codes = append(codes, mqtt.ReasonCode(sub.QoS))
	}
	l.write(nc, &mqtt.Suback{PacketID: p.PacketID, Reasons: codes})
	for topic, r := range l.retained {
		for _, sub := range p.Subscriptions {
			if mqtt.Match(sub.Filter, topic) {
				c := *r
				c.Retain = true
				l.enqueue(s, &c, 1, nil)
			}
		}
	}
}

// route gives a message to everybody it is for, one copy each.
func (l *liar) route(p *mqtt.Publish) {
	shares := map[string][]*liarSession{}
	for _, s := range l.order {
		matched, qos := false, mqtt.QoS(0)
		var ids []uint32
		for _, sub := range s.subs {
			if !mqtt.Match(sub.inner, string(p.Topic)) {
				continue
			}
			if sub.group != "" {
				if s.nc != nil {
					shares[sub.Filter] = append(shares[sub.Filter], s)
				}
				continue
			}
			matched, qos = true, max(qos, sub.QoS)
			if sub.id > 0 {
				ids = append(ids, sub.id)
			}
		}
		if matched {
			c := *p
			c.Retain = false
			l.enqueue(s, &c, qos, ids)
		}
	}
	for _, members := range shares {
		l.turn++
		for i, s := range members {
			if i == l.turn%len(members) || l.lie == "shared to all" {
				c := *p
				l.enqueue(s, &c, 1, nil)
			}
		}
	}
}

func (l *liar) enqueue(s *liarSession, p *mqtt.Publish, qos mqtt.QoS, ids []uint32) {
	it := &liarItem{p: *p}
	it.p.Dup, it.p.PacketID, it.p.QoS, it.p.SubscriptionIDs = false, 0, min(p.QoS, qos), ids
	if p.HasExpiry {
		it.until = time.Now().Add(time.Duration(p.ExpirySeconds) * time.Second)
	}
	s.n++
	add := []*liarItem{it}
	twisted := slices.Clone(it.p.Payload)
	switch k, _, _ := parseStamp(it.p.Payload, runOf(it.p.Payload), string(p.Topic)); {
	case l.lie == "lose" && s.n%13 == 0, l.lie == "drop newest" && len(s.queue) >= 1000:
		add = nil
	case l.lie == "twice" && s.n%9 == 0:
		two := *it
		add = append(add, &two)
	case l.lie == "corrupt" && s.n%11 == 0:
		twisted[len(twisted)-1] ^= 1
		it.p.Payload = twisted
	case l.lie == "phantom" && s.n == 20:
		ghost := *it
		ghost.p.Payload = appendStamp(nil, runOf(p.Payload), Key{k.Pub, 9999}, string(p.Topic), 0)
		add = append(add, &ghost)
	case l.lie == "swap" && s.n%10 == 5,
		l.lie == "topics overtake" && strings.HasSuffix(string(p.Topic), "/t0") && len(s.late) == 0:
		s.late, add = append(s.late, it), nil
	case l.lie == "subscribers differ": // the first sees p0 last, the second p1
		if i := slices.Index(l.order, s); i < 2 && k.Pub == fmt.Sprintf("p%d", i) {
			s.late, add = append(s.late, it), nil
		}
		if s.n == 240 {
			s.late, add = nil, append(add, s.late...)
		}
	case l.lie == "stale retained" && s.n == 30 && l.oldest[string(p.Topic)] != nil:
		stale := &liarItem{p: *l.oldest[string(p.Topic)]}
		stale.p.QoS, stale.p.PacketID = 1, 0
		add = append(add, stale)
	case len(s.late) > 0 && l.lie != "swap":
		// A stream stays in order: only others overtake.
		if late := s.late[0]; string(late.p.Topic) == string(p.Topic) && samePublisher(late.p.Payload, p.Payload) {
			add = append([]*liarItem{late}, add...)
		} else {
			add = append(add, late)
		}
		s.late = nil
	case len(s.late) > 0:
		add = append(add, s.late...)
		s.late = nil
	}
	s.queue = append(s.queue, add...)
	if l.lie == "live first" && len(s.queue) > 20 && s.nc != nil {
		n := len(s.queue) - 1
		s.queue = append([]*liarItem{s.queue[n]}, s.queue[:n]...)
	}
	l.pump(s)
}

func runOf(payload []byte) string {
	if f := strings.Split(string(payload), " "); len(f) > 1 {
		return f[1]
	}
	return ""
}

func samePublisher(a, b []byte) bool {
	x, y := strings.Split(string(a), " "), strings.Split(string(b), " ")
	return len(x) > 2 && len(y) > 2 && x[2] == y[2]
}

// pump sends as much as the window lets out.
func (l *liar) pump(s *liarSession) {
	for s.nc != nil && len(s.queue) > 0 {
		it := s.queue[0]
		if !it.until.IsZero() && time.Now().After(it.until) && l.lie != "expired" {
			s.queue = s.queue[1:]
			continue
		}
		if it.p.QoS > 0 {
			if len(s.inflight) >= s.rm && l.lie != "window" || l.lie == "stall" && s.acks >= 30 {
				return
			}
			it.p.PacketID = l.free(s)
		}
		s.queue = s.queue[1:]
		if s.maxPacket > 0 && len(it.p.Payload) > int(s.maxPacket) && l.lie != "too large" {
			continue
		}
		if it.p.QoS > 0 {
			s.inflight = append(s.inflight, it)
		}
		l.send(s, it)
		if nc := s.nc; l.lie == "resend live" && it.p.QoS > 0 {
			l.wg.Add(1)
			time.AfterFunc(200*time.Millisecond, func() { defer l.wg.Done(); l.resend(s, it, nc) })
		}
	}
}

// resend is the lie of those who resend on a timer.
func (l *liar) resend(s *liarSession, it *liarItem, nc net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.nc == nc && slices.Contains(s.inflight, it) && !it.released {
		it.p.Dup = true
		l.send(s, it)
	}
}

func (l *liar) free(s *liarSession) uint16 {
	if l.lie == "ids reused" {
		s.nextID = s.nextID%8 + 1
		return s.nextID
	}
	for {
		s.nextID++
		if s.nextID != 0 && !slices.ContainsFunc(s.inflight, func(x *liarItem) bool { return x.p.PacketID == s.nextID }) {
			return s.nextID
		}
	}
}

func (l *liar) send(s *liarSession, it *liarItem) {
	p := it.p
	if p.HasExpiry && l.lie != "expiry frozen" {
		p.ExpirySeconds = uint32(max(0, time.Until(it.until)/time.Second))
	}
	if l.lie == "no correlation" {
		p.HasCorrelation, p.CorrelationData = false, nil
	}
	l.write(s.nc, &p)
}

func (l *liar) acked(s *liarSession, nc net.Conn, a *mqtt.Ack) {
	if a.Kind == mqtt.TypePubrel {
		delete(s.received, a.PacketID)
		l.write(nc, &mqtt.Ack{Kind: mqtt.TypePubcomp, PacketID: a.PacketID})
		return
	}
	i := slices.IndexFunc(s.inflight, func(x *liarItem) bool { return x.p.PacketID == a.PacketID })
	if i < 0 {
		if a.Kind == mqtt.TypePubrec {
			l.write(nc, &mqtt.Ack{Kind: mqtt.TypePubrel, PacketID: a.PacketID})
		}
		return
	}
	it := s.inflight[i]
	if a.Kind == mqtt.TypePubrec && !a.Reason.Failed() {
		it.released = true
		l.write(nc, &mqtt.Ack{Kind: mqtt.TypePubrel, PacketID: a.PacketID})
		return
	}
	s.inflight = slices.Delete(s.inflight, i, i+1)
	s.acks++
	s.last = it
	if a.Reason.Failed() && l.lie == "refused goes on" {
		for _, other := range l.order {
			if other != s && len(other.subs) > 0 {
				c := it.p
				l.enqueue(other, &c, 1, nil)
			}
		}
	}
	l.pump(s)
}
