package broker

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/wilco-iot/wilco/mqtt"
)

// All subscribers see one interleaving of all publishers, over several topics
// and both QoS, and each publisher's messages are in it in the order in which
// it sent them; one subscriber is cut all the time, and resumes.
// Shows [MQTT-4.6.0-5] [MQTT-4.6.0-6] [B1a] [B1b] [B2a].
func TestTotalOrder(t *testing.T) {
	const publishers, subscribers, each = 4, 4, 400
	b := start(t, Options{Listeners: loopback, Limits: Limits{Takeovers: 1_000_000}})
	subs := make([]*peer, subscribers)
	for i := range subs {
		subs[i] = dial(t, b, "tcp")
		subs[i].connect(mqtt.Connect{ClientID: fmt.Sprint("sub", i), SessionExpirySeconds: 3600, ReceiveMaximum: 50})
		subs[i].subscribe(2, "o/#")
	}
	var work sync.WaitGroup
	for i := range publishers {
		p := dial(t, b, "tcp")
		p.connect(clean(fmt.Sprint("pub", i)))
		work.Go(func() { publishNumbered(p, i, each) })
	}
	seen := make([][]string, subscribers)
	for i, s := range subs {
		work.Go(func() {
			for len(seen[i]) < publishers*each {
				if i == 0 && len(seen[i])%97 == 96 {
					_ = s.nc.Close()
					s = dial(t, b, "tcp")
					s.connect(mqtt.Connect{ClientID: "sub0", SessionExpirySeconds: 3600, ReceiveMaximum: 50})
				}
				m := s.takeOne()
				if m == "" {
					return
				}
				if !slices.Contains(seen[i], m) { // a repeat after a cut
					seen[i] = append(seen[i], m)
				}
			}
		})
	}
	work.Wait()
	for i := range subs {
		if !slices.Equal(seen[i], seen[0]) {
			t.Errorf("subscriber %d saw another order than the first", i)
		}
	}
	for i := range publishers {
		next := 0
		for _, m := range seen[1] {
			if who, n, _ := strings.Cut(m, " "); who == fmt.Sprint(i) {
				if n != fmt.Sprint(next) {
					t.Fatalf("publisher %d: %s in place of %d", i, n, next)
				}
				next++
			}
		}
	}
}

// publishNumbered sends n messages, QoS 1 and 2 in turn, over three topics, and
// takes the answers as they come.
func publishNumbered(p *peer, who, n int) {
	answered := 0
	take := func() {
		switch a := p.must().(*mqtt.Ack); a.Kind {
		case mqtt.TypePubrec:
			p.send(ack(mqtt.TypePubrel, a.PacketID))
		case mqtt.TypePuback, mqtt.TypePubcomp:
			answered++
		}
	}
	for i := range n {
		p.send(pub(fmt.Sprint("o/", i%3), fmt.Sprint(who, i), mqtt.QoS(1+i%2), uint16(i+1)))
		for i-answered > 20 {
			take()
		}
	}
	for answered < n {
		take()
	}
}

// takeOne reads up to the next message, answering everything.
func (p *peer) takeOne() string {
	for {
		x, err := p.next()
		if err != nil {
			p.t.Error(err)
			return ""
		}
		switch x := x.(type) {
		case *mqtt.Publish:
			kind := mqtt.TypePuback
			if x.QoS == 2 {
				kind = mqtt.TypePubrec
			}
			p.send(ack(kind, x.PacketID))
			return string(x.Payload)
		case *mqtt.Ack:
			p.send(ack(mqtt.TypePubcomp, x.PacketID))
		}
	}
}

// A backlog of many windows comes in order on resume, and nothing live
// overtakes it while publishing goes on.
// Shows [B3a].
func TestBacklogThenLive(t *testing.T) {
	b := start(t, Options{Listeners: loopback, Limits: Limits{Window: 64}})
	sub := dial(t, b, "tcp")
	sub.connect(lasting("sub"))
	sub.subscribe(1, "o/#")
	sub.drop(b, "sub")
	from := dial(t, b, "tcp")
	from.connect(clean("from"))
	const away, live = 3000, 1000
	publishNumbered(from, 0, away)
	var work sync.WaitGroup
	work.Go(func() { publishNumbered(from, 1, live) })
	sub = dial(t, b, "tcp")
	sub.connect(mqtt.Connect{ClientID: "sub", SessionExpirySeconds: 3600, ReceiveMaximum: 10})
	for i := range away + live {
		want := fmt.Sprint(0, i)
		if i >= away {
			want = fmt.Sprint(1, i-away)
		}
		if got := sub.takeOne(); got != want {
			t.Fatalf("message %d is %q, want %q", i, got, want)
		}
	}
	work.Wait()
}
