package broker

import (
	"context"
	"fmt"
	"testing"

	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
)

// orderly are identities whose publications keep their order when they are refused.
type orderly struct{}

type inOrder struct{ unrestricted }

func (inOrder) InOrder() bool { return true }

func (orderly) Authenticate(_ context.Context, c Credentials) (Identity, error) {
	return inOrder{unrestricted(c.Username)}, nil
}

// Who is InOrder is cut off by a refusal, and nothing that it sent behind is taken: what
// it sends again comes in the first order.
func TestInOrder(t *testing.T) {
	for _, qos := range []mqtt.QoS{1, 2} {
		b := start(t, Options{Authority: orderly{}, Limits: Limits{QueueMessages: 2}})
		p := join(t, b, lasting("away"))
		p.subscribe(1, "t/#")
		p.drop(b, "away")
		other := join(t, b, clean("other"))
		other.subscribe(1, "other")
		from := join(t, b, lasting("from"))
		from.send(pub("t/1", "1", qos, 1), pub("t/2", "2", qos, 2), pub("t/3", "3", qos, 3), pub("other", "4", qos, 4))
		for {
			x := from.must()
			if d, ok := x.(*mqtt.Disconnect); ok {
				if d.Reason != mqtt.QuotaExceeded {
					t.Errorf("ended by %s", d.Reason)
				}
				break
			}
			if a, ok := x.(*mqtt.Ack); !ok || a.PacketID > 2 || a.Reason.Failed() {
				t.Errorf("before the end: %+v", x)
			}
		}
		other.quiet()
		from.closed()
	}
}

// A queue of DialQueue has its own bounds, and its messages have numbers that rise and
// are the same when they come again, also over a restart.
func TestQueueOfItsOwn(t *testing.T) {
	s := store.NewMemory()
	o := Options{Store: s, Limits: Limits{QueueMessages: 100}}
	b := start(t, o)
	dial := func() *peer {
		nc, err := b.DialQueue(t.Context(), Queue{Messages: 3, Overflow: DropOldest, Numbered: true})
		if err != nil {
			t.Fatal(err)
		}
		return newPeer(t, nc)
	}
	p := dial()
	p.connect(lasting("small"))
	p.subscribe(1, "t")
	p.drop(b, "small")
	from := join(t, b, clean("from"))
	for n := range 5 {
		from.publish(pub("t", fmt.Sprint(n), 1, 1))
	}
	if n := b.Queued("small"); n != 3 {
		t.Errorf("%d wait", n)
	}
	numbers := map[string]string{}
	last := ""
	for round := range 3 {
		if round == 2 {
			stop(t, b)
			b = start(t, o)
		}
		p := dial()
		p.connect(lasting("small"))
		for n := 2; n < 5; n++ {
			m, ok := p.must().(*mqtt.Publish)
			if !ok || string(m.Payload) != fmt.Sprint(n) || len(m.User) == 0 {
				t.Fatalf("round %d: %+v", round, m)
			}
			u := m.User[len(m.User)-1]
			number := string(u.Value)
			if was, ok := numbers[string(m.Payload)]; string(u.Key) != NumberProperty || ok && was != number || !ok && number <= last {
				t.Errorf("round %d: %s has %s %s after %s", round, m.Payload, u.Key, number, last)
			}
			numbers[string(m.Payload)], last = number, number
		}
		p.drop(b, "small")
		last = ""
	}
}

// NumberAbove only ever raises the numbers.
func TestNumberAbove(t *testing.T) {
	b := start(t, Options{})
	nc, err := b.DialQueue(t.Context(), Queue{Numbered: true})
	if err != nil {
		t.Fatal(err)
	}
	p := newPeer(t, nc)
	p.connect(lasting("p"))
	p.subscribe(1, "t")
	from := join(t, b, clean("from"))
	for i, above := range []uint64{1000, 5, 1 << 40} {
		b.NumberAbove(above)
		from.publish(pub("t", "x", 1, 1))
		m, ok := p.must().(*mqtt.Publish)
		if !ok || len(m.User) != 1 {
			t.Fatalf("%+v", m)
		}
		if got, want := string(m.User[0].Value), fmt.Sprintf("%020d", []uint64{1001, 1002, 1<<40 + 1}[i]); got != want {
			t.Errorf("above %d: %s, want %s", above, got, want)
		}
	}
}
