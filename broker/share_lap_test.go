package broker

import (
	"fmt"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/mqtt"
)

// TestShareWorkOfATurn has members come back, and go, over many more keys than one turn
// may look at: no turn does more than its part, and every key finds its owner.
// Shows [B6d].
func TestShareWorkOfATurn(t *testing.T) {
	const keys, members = 20_000, 30
	b := start(t, shared(ByTopic))
	hello := func(i int) mqtt.Connect { return lasting(fmt.Sprint("m", i)) }
	for i := range members {
		m := join(t, b, hello(i))
		m.subscribe(1, "$share/g/#")
		m.drop(b, fmt.Sprint("m", i))
	}
	from := join(t, b, clean("from"))
	for i := range keys {
		from.publish(pub(fmt.Sprint("t/", i), "x", 1, 1))
	}
	count := func() ShareStats { return b.Shares()["g"] }
	if got := count(); got.Waiting != keys || got.Lent != 0 || got.Shares != 1 {
		t.Fatalf("%+v", got)
	}
	var all []*peer
	for i := range members {
		all = append(all, open(t, b))
		all[i].connect(hello(i))
	}
	for i := range members / 2 {
		all[i].drop(b, fmt.Sprint("m", i))
	}
	got := make(chan string)
	for _, m := range all[members/2:] {
		go func() {
			for {
				p, err := m.next()
				if err != nil {
					return
				}
				x := p.(*mqtt.Publish)
				b, _ := ack(mqtt.TypePuback, x.PacketID).Append(nil, mqtt.V5)
				if _, err := m.nc.Write(b); err != nil {
					return
				}
				got <- string(x.Topic)
			}
		}()
	}
	seen := map[string]bool{}
	for range keys {
		topic := testkit.Receive(t, got)
		if seen[topic] {
			t.Fatalf("%s came twice", topic)
		}
		seen[topic] = true
	}
	eventually(t, func() bool { return count() == ShareStats{Shares: 1} })
	b.hub.mu.Lock()
	most, over := b.hub.most, b.hub.index.root.deep.groups[0].lap.over()
	b.hub.mu.Unlock()
	if most < mostWork || most > 2*mostWork+members {
		t.Errorf("a turn did %d things for the share; it may do %d, and end what it has begun", most, mostWork)
	}
	if !over {
		t.Error("there is something left to do")
	}
}

// TestShareCounts follows what waits, is lent, and is held back for a drain.
func TestShareCounts(t *testing.T) {
	b := start(t, shared(ByTopic))
	from, old := join(t, b, clean("from")), join(t, b, window(clean("old"), 2))
	old.subscribe(1, "$share/g/#")
	moves := topicOf("next", "old")
	expect := func(want ShareStats) {
		t.Helper()
		want.WaitingBytes = want.Waiting * session.NewMessage(pub(moves, "x", 1, 1), moves, "from", "", time.Time{}).Size()
		if got := b.Shares(); got["g"] != want || len(got) != 2 {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	for range 4 {
		from.publish(pub(moves, "x", 1, 1))
	}
	expect(ShareStats{Shares: 1, Waiting: 2, Lent: 2})
	next := join(t, b, clean("next"))
	next.subscribe(1, "$share/g/#")
	expect(ShareStats{Shares: 1, Waiting: 2, Draining: 2, Lent: 2})
	from.publish(pub(moves, "x", 1, 1))
	expect(ShareStats{Shares: 1, Waiting: 3, Draining: 3, Lent: 2})
	old.must()
	old.must()
	old.has(1)
	expect(ShareStats{Shares: 1, Waiting: 3, Draining: 3, Lent: 1})
	old.has(2)
	expect(ShareStats{Shares: 1, Lent: 3})
	next.drop(b, "next")
	expect(ShareStats{Shares: 1, Waiting: 1, Lent: 2})
	old.drop(b, "old")
	expect(ShareStats{})
	join(t, b, clean("x")).subscribe(1, "$share/x/#", "$share/y/#")
	if got := b.Shares()[""]; got.Shares != 2 {
		t.Errorf("%+v", got)
	}
}
