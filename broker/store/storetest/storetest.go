// Package storetest is what every store.Store has to pass.
package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
)

// Opener makes an empty store, and a function that closes and opens it again,
// so that what is read afterwards is what was kept. For a store without a disk
// that function returns the same store.
type Opener func(t *testing.T) (s store.Store, reopen func() store.Store)

// Run runs the suite, each case with a store of its own.
func Run(t *testing.T, open Opener) {
	cases := []struct {
		name string
		run  func(*suite)
	}{
		{"Empty", (*suite).empty},
		{"Sessions", (*suite).sessions},
		{"Subscriptions", (*suite).subscriptions},
		{"Queue", (*suite).queue},
		{"Handshakes", (*suite).handshakes},
		{"Received", (*suite).received},
		{"Retained", (*suite).retained},
		{"DoneInOrder", (*suite).doneInOrder},
		{"UnknownSession", (*suite).unknownSession},
		{"Messages", (*suite).messages},
		{"OutOfOrderRemoval", (*suite).outOfOrder},
		{"Losses", (*suite).losses},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s, reopen := open(t)
			x := &suite{T: t, Store: s, reopen: reopen}
			t.Cleanup(func() {
				if err := x.Close(); err != nil {
					t.Error(err)
				}
			})
			c.run(x)
		})
	}
}

type suite struct {
	*testing.T
	store.Store
	reopen func() store.Store
}

// do commits and waits.
func (x *suite) do(ops ...store.Op) {
	x.Helper()
	done := make(chan error, 1)
	x.Commit(&store.Batch{Ops: ops}, func(err error) { done <- err })
	if err := <-done; err != nil {
		x.Fatal(err)
	}
}

// again opens the store anew.
func (x *suite) again() { x.Store = x.reopen() }

func (x *suite) all() map[string]store.Session {
	x.Helper()
	found := map[string]store.Session{}
	for s, err := range x.Sessions() {
		if err != nil {
			x.Fatal(err)
		}
		found[s.ClientID] = s
	}
	return found
}

func put(id string) store.Op {
	return store.Op{Kind: store.PutSession, Record: &store.Record{ClientID: id, Owner: "o", ExpirySeconds: 60}}
}

func message(topic, payload string, qos mqtt.QoS) *session.Message {
	return session.NewMessage(&mqtt.Publish{Payload: []byte(payload), QoS: qos}, topic, "pub", "owner", time.Now())
}

func appendTo(seq uint64, m *session.Message, clients ...string) store.Op {
	op := store.Op{Kind: store.Append, Seq: seq, Message: m}
	for _, c := range clients {
		op.Targets = append(op.Targets, store.Target{Client: c, QoS: m.QoS})
	}
	return op
}

func step(client string, c session.Change) store.Op {
	return store.Op{Kind: store.Step, Client: client, Change: c}
}

// seqs reads a queue.
func (x *suite) seqs(client string, after uint64, limit int) []uint64 {
	x.Helper()
	list, err := x.Queue(nil, client, after, limit)
	if err != nil {
		x.Fatal(err)
	}
	var seqs []uint64
	for _, d := range list {
		if !d.Stored {
			x.Errorf("message %d is not marked as stored", d.Seq)
		}
		seqs = append(seqs, d.Seq)
		d.Message.Release()
	}
	return seqs
}

func (x *suite) want(what string, got, want any) {
	x.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		x.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func (x *suite) empty() {
	x.want("sessions", len(x.all()), 0)
	x.want("last", x.LastSeq(), 0)
	x.want("queue", x.seqs("nobody", 0, 9), []uint64(nil))
	x.do()
}

func (x *suite) sessions() {
	at := time.Now().Truncate(time.Second)
	w := &mqtt.Will{Topic: "w", Payload: []byte("bye"), QoS: 1, DelaySeconds: 3, User: []mqtt.UserProperty{{Key: "a", Value: "b"}}}
	x.do(put("a"), store.Op{Kind: store.PutSession, Record: &store.Record{ClientID: "b", Owner: "p", ExpirySeconds: 9, Will: w, DetachedAt: at}})
	x.again()
	all := x.all()
	x.want("sessions", len(all), 2)
	b := all["b"]
	x.want("owner", b.Owner, "p")
	x.want("expiry", b.Saved.ExpirySeconds, 9)
	if b.Will == nil || b.Saved.Will == nil {
		x.Fatal("will lost")
	}
	x.want("will", *b.Will, *w)
	x.want("detached", b.DetachedAt.Equal(at) && b.Saved.DetachedAt.Equal(at), true)
	x.want("attached", all["a"].DetachedAt.IsZero(), true)
	x.do(store.Op{Kind: store.PutSession, Record: &store.Record{ClientID: "b", Owner: "p", ExpirySeconds: 5}})
	x.do(store.Op{Kind: store.DeleteSession, Client: "a"}, store.Op{Kind: store.DeleteSession, Client: "nobody"})
	x.again()
	all = x.all()
	x.want("sessions", len(all), 1)
	x.want("will", all["b"].Will == nil, true)
	x.want("expiry", all["b"].ExpirySeconds, 5)
}

func (x *suite) subscriptions() {
	sub := func(filter string, qos mqtt.QoS, id uint32) *store.Subscription {
		return &store.Subscription{Subscription: mqtt.Subscription{Filter: filter, QoS: qos, NoLocal: true, RetainHandling: 2}, ID: id}
	}
	add := func(s *store.Subscription) store.Op {
		return store.Op{Kind: store.PutSubscription, Client: "a", Subscription: s}
	}
	x.do(put("a"), add(sub("t/#", 1, 7)), add(sub("$share/g/t", 2, 0)), add(sub("x", 0, 0)))
	x.do(add(sub("t/#", 2, 8)), store.Op{Kind: store.DeleteSubscription, Client: "a", Subscription: sub("x", 0, 0)})
	x.again()
	list := x.all()["a"].Subscriptions
	slices.SortFunc(list, func(a, b store.Subscription) int { return len(a.Filter) - len(b.Filter) })
	x.want("subscriptions", list, []store.Subscription{*sub("t/#", 2, 8), *sub("$share/g/t", 2, 0)})
	x.do(put("a")) // a record alone leaves them
	x.want("subscriptions", len(x.all()["a"].Subscriptions), 2)
}

func (x *suite) queue() {
	x.do(put("a"), put("b"))
	m := message("t", "both", 1)
	x.do(appendTo(3, m, "a", "b"), appendTo(5, message("t", "a", 1), "a"))
	x.do(appendTo(9, message("t", "last", 2), "a"))
	x.again()
	x.want("last", x.LastSeq(), 9)
	x.want("a", x.seqs("a", 0, 9), []uint64{3, 5, 9})
	x.want("a after 3", x.seqs("a", 3, 9), []uint64{5, 9})
	x.want("a after 4", x.seqs("a", 4, 1), []uint64{5})
	x.want("b", x.seqs("b", 0, 9), []uint64{3})
	saved := x.all()["a"].Saved
	x.want("count", saved.Count, 3)
	x.want("last of a", saved.Last, 9)
	if saved.Bytes < 3*len("t") {
		x.Errorf("bytes: %d", saved.Bytes)
	}
	x.do(step("a", session.Change{Kind: session.Removed, Seq: 3}))
	x.again()
	x.want("a", x.seqs("a", 0, 9), []uint64{5, 9})
	x.want("b keeps its own", x.seqs("b", 0, 9), []uint64{3})
	x.do(store.Op{Kind: store.DeleteSession, Client: "b"}, put("b"))
	x.want("b anew", x.seqs("b", 0, 9), []uint64(nil))
}

// handshakes: reserved packet ids come back with the message, released ones
// without it, in the order of their release.
func (x *suite) handshakes() {
	x.do(put("a"), appendTo(1, message("t", "1", 2), "a"), appendTo(2, message("t", "2", 2), "a"), appendTo(3, message("t", "3", 2), "a"))
	for i := range uint16(3) {
		x.do(step("a", session.Change{Kind: session.Reserved, ID: 10 + i, Seq: uint64(1 + i)}))
	}
	x.do(step("a", session.Change{Kind: session.Released, ID: 11, Seq: 2}))
	x.do(step("a", session.Change{Kind: session.Released, ID: 10, Seq: 1}))
	x.again()
	saved := x.all()["a"].Saved
	x.want("reserved", saved.Reserved, []uint16{12})
	x.want("released", saved.Released, []session.Handshake{{ID: 11, Seq: 2}, {ID: 10, Seq: 1}})
	x.want("count", saved.Count, 1)
	list, err := x.Queue(nil, "a", 0, 9)
	if err != nil || len(list) != 1 || list[0].ID != 12 {
		x.Errorf("queue: %v %v", list, err)
	}
	x.do(step("a", session.Change{Kind: session.Removed, ID: 11, Seq: 2}), step("a", session.Change{Kind: session.Removed, Seq: 3}))
	x.again()
	saved = x.all()["a"].Saved
	x.want("released", saved.Released, []session.Handshake{{ID: 10, Seq: 1}})
	x.want("reserved", len(saved.Reserved), 0)
	x.want("count", saved.Count, 0)
}

func (x *suite) received() {
	x.do(put("a"),
		step("a", session.Change{Kind: session.Received, ID: 5}), step("a", session.Change{Kind: session.Received, ID: 6}),
		step("a", session.Change{Kind: session.Received, ID: 5}), step("a", session.Change{Kind: session.Forgotten, ID: 6}),
		step("a", session.Change{Kind: session.Forgotten, ID: 7}))
	x.again()
	x.want("received", x.all()["a"].Saved.Received, []uint16{5})
}

func (x *suite) retained() {
	x.do(store.Op{Kind: store.PutRetained, Message: message("t", "old", 1)}, store.Op{Kind: store.PutRetained, Message: message("u", "u", 0)})
	x.do(store.Op{Kind: store.PutRetained, Message: message("t", "new", 1)}, store.Op{Kind: store.DeleteRetained, Topic: "u"},
		store.Op{Kind: store.DeleteRetained, Topic: "nothing"})
	x.again()
	var got []string
	for m, err := range x.Retained() {
		if err != nil {
			x.Fatal(err)
		}
		got = append(got, m.Topic+"="+string(m.Payload)+" of "+m.Owner)
		m.Release()
	}
	x.want("retained", got, []string{"t=new of owner"})
}

func (x *suite) doneInOrder() {
	x.do(put("a"))
	const n = 200
	order := make(chan int, n)
	for i := range n {
		b := &store.Batch{}
		if i%3 > 0 {
			b.Add(appendTo(uint64(i+1), message("t", "x", 1), "a"))
		}
		x.Commit(b, func(err error) {
			if err != nil {
				x.Error(err)
			}
			order <- i
		})
		if i%3 > 0 && len(x.seqs("a", uint64(i), 9)) != 1 {
			x.Errorf("%d cannot be read after Commit", i)
		}
	}
	for i := range n {
		if got := <-order; got != i {
			x.Fatalf("done %d at place %d", got, i)
		}
	}
}

// unknownSession: what comes late for a session that has ended changes nothing.
func (x *suite) unknownSession() {
	x.do(appendTo(1, message("t", "x", 1), "gone"), step("gone", session.Change{Kind: session.Received, ID: 1}),
		store.Op{Kind: store.PutSubscription, Client: "gone", Subscription: &store.Subscription{}})
	x.again()
	x.want("sessions", len(x.all()), 0)
	x.want("queue", x.seqs("gone", 0, 9), []uint64(nil))
}

// messages come back as they were.
func (x *suite) messages() {
	p := mqtt.Publish{
		Payload: []byte("payload"), QoS: 2, Retain: true, PayloadUTF8: true, HasExpiry: true, ExpirySeconds: 100,
		ResponseTopic: []byte("r"), HasCorrelation: true, CorrelationData: []byte{0, 1}, ContentType: []byte("c"),
		User: []mqtt.BorrowedProperty{{Key: []byte("k"), Value: []byte("v")}, {Key: []byte("k"), Value: []byte("w")}},
	}
	m := session.NewMessage(&p, "the/topic", "pub", "owner", time.Now())
	x.do(put("a"), store.Op{Kind: store.Append, Seq: 4, Message: m, Targets: []store.Target{
		{Client: "a", QoS: 1, Retain: true, SubscriptionIDs: []uint32{1, 268435455}},
	}})
	x.again()
	list, err := x.Queue(nil, "a", 0, 1)
	if err != nil || len(list) != 1 {
		x.Fatal(list, err)
	}
	d := list[0]
	got := d.Message
	x.want("topic", got.Topic, m.Topic)
	x.want("payload", got.Payload, m.Payload)
	x.want("properties", got.Properties, m.Properties)
	x.want("qos, retain", fmt.Sprint(got.QoS, got.Retain, d.QoS, d.Retain), "2 true 1 true")
	x.want("from", got.Publisher+" "+got.Owner, "pub owner")
	x.want("ids", d.SubscriptionIDs, []uint32{1, 268435455})
	x.want("expires", got.HasExpiry, true)
	if off := got.Expires.Sub(m.Expires).Abs(); off > time.Second {
		x.Errorf("expires %v off", off)
	}
	x.want("size", got.Size(), m.Size())
}

// losses: the policy of a session, and what it has lost, last count first.
func (x *suite) losses() {
	lost := func(r session.DropReason, n uint64) store.Op {
		return step("a", session.Change{Kind: session.Lost, ID: uint16(r), Seq: n})
	}
	for _, policy := range []session.Overflow{session.DropOldest, session.DropNewest} {
		x.do(store.Op{Kind: store.PutSession, Record: &store.Record{ClientID: "a", ExpirySeconds: 60, Overflow: policy}})
		x.again()
		s := x.all()["a"]
		x.want("policy", fmt.Sprint(s.Overflow, s.Saved.Overflow), fmt.Sprint(policy, policy))
	}
	x.do(lost(session.DropQueueFull, 1), lost(session.DropQueueFull, 2), lost(session.DropExpired, 7))
	x.do(appendTo(1, message("t", "1", 1), "a"), lost(session.DropExpired, 300))
	x.again()
	x.want("lost", x.all()["a"].Saved.Lost, session.Losses{session.DropQueueFull: 2, session.DropExpired: 300})
	x.want("count", x.all()["a"].Saved.Count, 1)
	x.do(lost(session.DropQueueFull, 0), put("a"), put("b"))
	x.again()
	x.want("lost", x.all()["a"].Saved.Lost, session.Losses{session.DropExpired: 300})
	x.want("lost of b", x.all()["b"].Saved.Lost, session.Losses{})
	x.do(store.Op{Kind: store.DeleteSession, Client: "a"}, put("a"))
	x.again()
	x.want("lost anew", x.all()["a"].Saved.Lost, session.Losses{})
}

// outOfOrder removes behind a message that stays.
func (x *suite) outOfOrder() {
	x.do(put("a"))
	const n = 500
	for i := range uint64(n) {
		x.do(appendTo(i+1, message("t", "x", 1), "a"))
		if i > 0 {
			x.do(step("a", session.Change{Kind: session.Removed, Seq: i + 1}))
		}
	}
	x.again()
	x.want("a", x.seqs("a", 0, 9), []uint64{1})
	x.want("count", x.all()["a"].Saved.Count, 1)
}
