package session_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/session"
)

// sent is a message as the edge node knows it, with numbers that never wrap.
type sent struct {
	session, index int // index 0 is the NBIRTH
	death          bool
	bdSeq          int
	ts             uint64
	first          uint8 // seq of its NBIRTH
}

func (m sent) name() string { return fmt.Sprintf("%d/%d", m.session, m.index) }

func (m sent) message() session.Message {
	p := sparkplug.Payload{Timestamp: m.ts, HasTimestamp: true, Seq: uint64(m.first + uint8(m.index)), HasSeq: true}
	out := session.Message{Type: sparkplug.NData}
	x, _ := sparkplug.NewInt(sparkplug.TypeInt64, int64(m.session*1_000_000+m.index))
	p.Metrics = []sparkplug.Metric{{Alias: 1, HasAlias: true, Value: x}}
	switch {
	case m.death:
		out.Type, p.HasSeq = sparkplug.NDeath, false
		p.Metrics = []sparkplug.Metric{sparkplug.BdSeqMetric(uint8(m.bdSeq), m.ts)}
	case m.index == 0:
		out.Type = sparkplug.NBirth
		p.Metrics[0].Name, p.Metrics[0].Datatype = []byte("n"), sparkplug.TypeInt64
		p.Metrics = append(p.Metrics, sparkplug.BdSeqMetric(uint8(m.bdSeq), m.ts))
	}
	out.Payload = p.Append(nil)
	return out
}

// oracle says what a host must make of messages, from what the edge node knows:
// it has sessions and places where the host has numbers modulo 256, keeps all it
// ever saw, and looks through it from the beginning each time.
type oracle struct {
	timeout time.Duration
	seen    []arrival // of the session in force
	session int
	alive   bool // an NBIRTH is in force
	applied int  // places below are applied
	said    []string
}

type arrival struct {
	index int
	at    time.Time
}

func (o *oracle) receive(m sent, at time.Time) {
	switch {
	case m.death:
		if o.session == m.session && o.session > 0 {
			o.alive, o.session = false, -1
			o.said = append(o.said, "death")
		}
	case m.index == 0:
		if m.session == o.session && o.alive || m.session < o.session {
			return
		}
		*o = oracle{timeout: o.timeout, session: m.session, alive: true, applied: 1, said: append(o.said, "birth "+m.name())}
	case o.alive && m.session == o.session:
		o.seen = append(o.seen, arrival{m.index, at})
		for slices.ContainsFunc(o.seen, func(a arrival) bool { return a.index == o.applied }) {
			o.said = append(o.said, fmt.Sprintf("data %d/%d", o.session, o.applied))
			o.applied++
		}
	}
}

// deadline is when the oldest message that waits has waited long enough.
func (o *oracle) deadline() (oldest time.Time) {
	for _, a := range o.seen {
		if o.alive && a.index >= o.applied && (oldest.IsZero() || a.at.Add(o.timeout).Before(oldest)) {
			oldest = a.at.Add(o.timeout)
		}
	}
	return oldest
}

func (o *oracle) due(now time.Time) {
	if d := o.deadline(); !d.IsZero() && !now.Before(d) {
		o.alive = false
		o.said = append(o.said, "lost")
	}
}

// TestOracle compares the node with the oracle over random lives of an edge
// node behind a network that loses, repeats and reorders: rebirths, deaths and
// new sessions, and hundreds of messages, so that numbers wrap.
func TestOracle(t *testing.T) {
	var all tally
	for seed := range uint64(300) {
		all.compare(t, seed)
	}
	if all.wraps < 1000 || all.holes < 100 || all.late < 1000 {
		t.Errorf("too tame: %+v", all)
	}
}

// TestOracleRandom is TestOracle over other lives each time.
func TestOracleRandom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all tally
		all.compare(t, rapid.Uint64().Draw(t, "seed"))
	})
}

// tally is what the lives had in them.
type tally struct{ wraps, holes, late int }

// compare takes one life.
func (all *tally) compare(t interface{ Fatalf(string, ...any) }, seed uint64) {
	mail := life(rand.New(rand.NewPCG(seed, 7)))
	cfg := session.Config{ReorderTimeout: 2 * time.Second}
	n, o, now := session.New(&cfg), &oracle{timeout: 2 * time.Second}, start
	var out session.Actions
	var said []string
	collect := func() {
		for i := range out.Events {
			if e := &out.Events[i]; e.Kind == session.Malformed {
				t.Fatalf("seed %d: malformed: %v %v", seed, e.Reason, e.Err)
			} else if word := all.word(e); word != "" {
				said = append(said, word)
			}
		}
		out.Reset()
	}
	for _, m := range mail {
		// What falls due between two messages, at its own time.
		for d := n.Deadline(); !d.IsZero() && d.Before(m.at); d = n.Deadline() {
			n.Due(d, &out)
			collect()
		}
		for d := o.deadline(); !d.IsZero() && d.Before(m.at); d = o.deadline() {
			o.due(d)
		}
		now = m.at
		n.Receive(m.message(), now, &out)
		o.receive(m.sent, now)
		collect()
		if m.index > 256 {
			all.wraps++
		}
	}
	now = now.Add(time.Hour)
	n.Due(now, &out)
	collect()
	o.due(now)
	for i := range max(len(said), len(o.said)) {
		if at(said, i) != at(o.said, i) {
			t.Fatalf("seed %d, event %d: got %q, want %q", seed, i, at(said, i), at(o.said, i))
		}
	}
	if held, bytes := n.Held(); held != 0 || bytes != 0 {
		t.Fatalf("seed %d: %d messages of %d bytes are left", seed, held, bytes)
	}
}

// word is an event as the oracle says it; "" for what it does not speak of.
func (all *tally) word(e *session.Event) string {
	place := func() string {
		x, err := e.Values[0].Raw.Value.Int(sparkplug.TypeInt64)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%d/%d", x/1_000_000, x%1_000_000)
	}
	switch e.Kind {
	case session.NodeBirth:
		return "birth " + place()
	case session.Data:
		return "data " + place()
	case session.NodeDeath:
		return "death"
	case session.Stale:
		all.holes++
		return "lost"
	case session.Late:
		all.late++
	}
	return ""
}

type posted struct {
	sent
	at time.Time
}

// life is what arrives of an edge node. Only births and deaths keep their place
// among what comes after them; what was published before may come later.
func life(r *rand.Rand) []posted {
	loss, repeat, shuffle := r.Float64()*0.01, r.Float64()*0.1, r.Float64()*0.3
	if r.IntN(3) == 0 {
		loss = 0
	}
	var mail []posted
	clock, session, index, bdSeq, first := start, 0, 0, 0, uint8(0)
	ts := uint64(1000)
	post := func(m sent, keep bool) {
		at := clock
		if !keep && r.Float64() < shuffle {
			at = at.Add(time.Duration(r.IntN(400)) * time.Millisecond)
		}
		mail = append(mail, posted{m, at})
		for !keep && r.Float64() < repeat {
			mail = append(mail, posted{m, at.Add(time.Duration(r.IntN(1000)) * time.Millisecond)})
		}
	}
	born := func() {
		session, index, first = session+1, 0, 0
		if r.IntN(4) == 0 {
			first = uint8(r.IntN(256))
		}
		clock = clock.Add(time.Millisecond)
		post(sent{session: session, bdSeq: bdSeq, ts: ts, first: first}, true)
	}
	born()
	for range 200 + r.IntN(800) {
		ts += 1 + uint64(r.IntN(20))
		// Slow enough that nothing is 256 messages late: nobody could tell.
		clock = clock.Add(time.Duration(6+r.IntN(20)) * time.Millisecond)
		switch x := r.IntN(1000); {
		case x < 3: // a rebirth
			born()
		case x < 5: // a new session: its death and its birth
			post(sent{session: session, death: true, bdSeq: bdSeq, ts: ts}, true)
			bdSeq = (bdSeq + 1) % 256
			clock = clock.Add(time.Second)
			ts++
			born()
		case x < 7: // quiet, so that what is lost shows
			clock = clock.Add(3 * time.Second)
		default:
			index++
			if r.Float64() >= loss {
				post(sent{session: session, index: index, ts: ts, first: first}, false)
			}
		}
	}
	slices.SortStableFunc(mail, func(a, b posted) int { return a.at.Compare(b.at) })
	return mail
}
