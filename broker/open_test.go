package broker

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
)

// inside is a connection of the embedding program.
func inside(t *testing.T, b *Broker, c mqtt.Connect) *peer {
	t.Helper()
	nc, err := b.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	p := newPeer(t, nc)
	p.connect(c)
	return p
}

// The embedding program is in before anybody can be, and stays until everybody
// else is out; so it gets all that others were ever told is taken.
func TestInsideBeforeAndAfterTheOthers(t *testing.T) {
	b, err := New(Options{Authority: AllowAnonymous(), Listeners: []Listener{{Name: "tcp", Network: "tcp", Address: "127.0.0.1:0"}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Dial(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("Dial before Open: %v", err)
	}
	if err := b.Listen(); !errors.Is(err, ErrStopped) {
		t.Errorf("Listen before Open: %v", err)
	}
	if err := b.Open(); err != nil {
		t.Fatal(err)
	}
	defer stop(t, b)
	if b.Addr("tcp") != nil {
		t.Error("somebody could connect before Listen")
	}
	sub := inside(t, b, lasting("inside"))
	sub.subscribe(1, "t")
	if err := b.Listen(); err != nil {
		t.Fatal(err)
	}
	if err := b.Listen(); err == nil {
		t.Error("listening twice")
	}
	nc, err := net.Dial("tcp", b.Addr("tcp").String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	p := newPeer(t, nc)
	p.connect(clean("p"))
	p.send(pub("t", "last", 1, 1))
	p.expect(ack(mqtt.TypePuback, 1))

	if err := b.CloseListeners(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.expect(&mqtt.Disconnect{Reason: mqtt.ServerShuttingDown})
	p.closed()
	if _, err := net.Dial("tcp", b.Addr("tcp").String()); err == nil {
		t.Error("it still listens")
	}
	sub.expect(pub("t", "last", 1, 1))
	sub.send(pub("t", "own", 1, 5)) // a mark for what came before it
	sub.expect(ack(mqtt.TypePuback, 5), pub("t", "own", 1, 2))
	if err := b.CloseListeners(t.Context()); err != nil {
		t.Error("the second time: ", err)
	}
}

// A listener that cannot be opened leaves none open, and the inside is not
// touched.
func TestListenFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	b, err := New(Options{Authority: AllowAnonymous(), Listeners: []Listener{
		{Name: "good", Network: "tcp", Address: "127.0.0.1:0"}, {Name: "taken", Network: "tcp", Address: taken.Addr().String()}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Open(); err != nil {
		t.Fatal(err)
	}
	defer stop(t, b)
	if err := b.Listen(); err == nil || b.Addr("good") != nil {
		t.Errorf("%v, good listens at %v", err, b.Addr("good"))
	}
	inside(t, b, clean("p")).quiet()
}

// Who does not take its last words does not hold the others up for longer than
// the context.
func TestCloseListenersIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := New(Options{Authority: stuck{}})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Start(); err != nil {
			t.Fatal(err)
		}
		p := open(t, b)
		p.sendConnect(clean("p"))
		synctest.Wait() // in the Authority
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		from := time.Now()
		if err := b.CloseListeners(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if d := time.Since(from); d != time.Second+linger {
			t.Errorf("after %v", d)
		}
		stop(t, b)
	})
}

// stuck thinks about everybody for a while, whatever its context says.
type stuck struct{}

func (stuck) Authenticate(context.Context, Credentials) (Identity, error) {
	pass(8 * time.Second)
	return nil, errors.New("no")
}

// What waits for the embedding program waits for as long as it is stopped, where
// others have the limit.
func TestTheInsideSessionDoesNotExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{Authority: AllowAnonymous(), Store: store.NewMemory(), Limits: Limits{SessionExpiry: time.Hour}}
		b := start(t, o)
		forEver := mqtt.Connect{ClientID: "inside", SessionExpirySeconds: 1<<32 - 1}
		in := inside(t, b, forEver)
		in.subscribe(1, "t")
		other := open(t, b)
		other.connect(mqtt.Connect{ClientID: "other", SessionExpirySeconds: 1<<32 - 1})
		stop(t, b)
		pass(365 * 24 * time.Hour)
		b = start(t, o)
		if n := b.Stats().Sessions; n != 1 {
			t.Errorf("%d sessions are left, want that of the inside", n)
		}
		nc, err := b.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if a := newPeer(t, nc).connect(forEver); !a.SessionPresent || a.HasSessionExpiry {
			t.Errorf("%+v", a)
		}
	})
}
