package pebblestore

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
)

// commit commits and waits.
func commit(t testing.TB, s store.Store, ops ...store.Op) {
	t.Helper()
	if err := try(s, ops...); err != nil {
		t.Fatal(err)
	}
}

func try(s store.Store, ops ...store.Op) error {
	done := make(chan error, 1)
	s.Commit(&store.Batch{Ops: ops}, func(err error) { done <- err })
	return <-done
}

func message(topic, payload string) *session.Message {
	return session.NewMessage(&mqtt.Publish{Payload: []byte(payload), QoS: 1}, topic, "pub", "owner", time.Now())
}

func putSession(client string, detached bool) store.Op {
	r := &store.Record{ClientID: client, ExpirySeconds: 3600}
	if detached {
		r.DetachedAt = time.Unix(1e9, 0)
	}
	return store.Op{Kind: store.PutSession, Record: r}
}

func appendOp(seq uint64, m *session.Message, clients ...string) store.Op {
	op := store.Op{Kind: store.Append, Seq: seq, Message: m}
	for _, c := range clients {
		op.Targets = append(op.Targets, store.Target{Client: c, QoS: 1})
	}
	return op
}

func removed(client string, seq uint64) store.Op {
	return store.Op{Kind: store.Step, Client: client, Change: session.Change{Kind: session.Removed, Seq: seq}}
}

// describe is all that can be read of a store.
func describe(t testing.TB, s store.Store) []string {
	t.Helper()
	var all []string
	for v, err := range s.Sessions() {
		if err != nil {
			t.Fatal(err)
		}
		last := v.Saved.Last
		slices.Sort(v.Saved.Received)
		all = append(all, fmt.Sprintf("%s away %v count %d bytes %d last %d received %v reserved %v released %v", v.ClientID,
			!v.DetachedAt.IsZero(), v.Saved.Count, v.Saved.Bytes, last, v.Saved.Received, v.Saved.Reserved, v.Saved.Released))
		all = append(all, queueOf(t, s, v.ClientID, 0, 1<<20)...)
	}
	slices.Sort(all)
	return append(all, fmt.Sprint("last ", s.LastSeq()))
}

func queueOf(t testing.TB, s store.Store, client string, after uint64, limit int) []string {
	t.Helper()
	list, err := s.Queue(nil, client, after, limit)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, d := range list {
		all = append(all, fmt.Sprintf("%s %09d id %d %s=%s", client, d.Seq, d.ID, d.Message.Topic, d.Message.Payload))
		d.Message.Release()
	}
	return all
}

// TestAsMemory does the same at random with this store and with store.Memory,
// opens this one anew now and then, and finds no difference.
func TestAsMemory(t *testing.T) {
	for seed := range uint64(often(8)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 1))
			dir := t.TempDir()
			s, want := mustOpen(t, dir, Options{Durability: OS}), store.NewMemory()
			w := &walk{rng: rng, queued: map[string][]uint64{}}
			for i := range 400 {
				batch := w.batch()
				var done chan error
				if rng.IntN(4) == 0 {
					done = make(chan error, 1)
				}
				s.Commit(batch, func(err error) {
					if done != nil {
						done <- err
					}
				})
				want.Commit(batch, nil)
				if done != nil {
					if err := <-done; err != nil {
						t.Fatal(err)
					}
				}
				client, after, limit := w.client(), w.seq-min(w.seq, rng.Uint64N(200)), 1+rng.IntN(100)
				if a, b := queueOf(t, s, client, after, limit), queueOf(t, want, client, after, limit); !slices.Equal(a, b) {
					t.Fatalf("step %d: queue of %s after %d, up to %d: %s", i, client, after, limit, difference(a, b))
				}
				if i%97 == 96 {
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					s = mustOpen(t, dir, Options{Durability: OS})
				}
				if i%61 == 0 {
					if a, b := describe(t, s), describe(t, want); !slices.Equal(a, b) {
						t.Fatalf("step %d: %s", i, difference(a, b))
					}
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// walk makes batches at random, as a broker could.
type walk struct {
	rng    *rand.Rand
	seq    uint64
	id     uint16
	queued map[string][]uint64
}

func (w *walk) client() string { return fmt.Sprint("c", w.rng.IntN(4)) }

func (w *walk) batch() *store.Batch {
	b := &store.Batch{}
	for range 1 + w.rng.IntN(20) {
		c := w.client()
		q := w.queued[c]
		switch w.rng.IntN(12) {
		case 0:
			b.Add(putSession(c, w.rng.IntN(2) == 0))
			if q == nil {
				w.queued[c] = []uint64{}
			}
		case 1:
			if w.rng.IntN(12) == 0 {
				b.Add(store.Op{Kind: store.DeleteSession, Client: c})
				delete(w.queued, c)
			}
		case 2, 3, 4:
			for range w.rng.IntN(30) {
				w.append(b)
			}
		case 5, 6, 7: // acknowledged from the front
			n := min(len(q), w.rng.IntN(30))
			for _, seq := range q[:n] {
				b.Add(removed(c, seq))
			}
			if n > 0 {
				w.queued[c] = q[n:]
			}
		case 8: // acknowledged anywhere
			if len(q) > 0 {
				i := w.rng.IntN(len(q))
				b.Add(removed(c, q[i]))
				w.queued[c] = slices.Delete(slices.Clone(q), i, i+1)
			}
		case 9, 10:
			if len(q) > 0 {
				w.handshake(b, c, q)
			}
		case 11:
			b.Add(store.Op{Kind: store.Step, Client: c, Change: session.Change{
				Kind: session.ChangeKind(w.rng.IntN(2)), ID: uint16(1 + w.rng.IntN(5))}})
		}
	}
	return b
}

func (w *walk) append(b *store.Batch) {
	w.seq += 1 + w.rng.Uint64N(2)
	op := appendOp(w.seq, message("t", fmt.Sprint("payload ", w.seq)))
	for i := range 4 {
		if c := fmt.Sprint("c", i); w.rng.IntN(2) == 0 {
			op.Targets = append(op.Targets, store.Target{Client: c, QoS: 2})
			if q := w.queued[c]; q != nil {
				w.queued[c] = append(q, w.seq)
			}
		}
	}
	b.Add(op)
}

// handshake reserves an id for an entry, and now and then goes on with it.
func (w *walk) handshake(b *store.Batch, c string, q []uint64) {
	i := w.rng.IntN(min(len(q), 3))
	w.id++
	step := func(k session.ChangeKind) {
		b.Add(store.Op{Kind: store.Step, Client: c, Change: session.Change{Kind: k, ID: w.id, Seq: q[i]}})
	}
	step(session.Reserved)
	if w.rng.IntN(2) == 0 {
		step(session.Released)
		if w.rng.IntN(2) == 0 {
			step(session.Removed)
		}
		w.queued[c] = slices.Delete(slices.Clone(q), i, i+1)
	}
}

// difference is where two lists part.
func difference(a, b []string) string {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	return fmt.Sprintf("at %d of %d and %d: got %q, want %q", i, len(a), len(b), a[i:min(i+2, len(a))], b[i:min(i+2, len(b))])
}
