package check

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// trial is one case being run. The case's goroutine uses it; find, over and
// stop are safe from any.
type trial struct {
	*run
	ctx     context.Context // ends with the case's time
	cancel  context.CancelFunc
	id      string
	rng     *rand.Rand
	readers sync.WaitGroup
	clients []*client
	retain  []string // topics to be cleared

	lagging bool // something that was awaited did not come
	arrived atomic.Int64

	mu       sync.Mutex
	err      error // why it cannot go on
	verdicts []Verdict
	why      []string
	weak     []string // promises, beyond the standard, that were not kept
	counts   map[string]int
	skipped  string
}

// size is how much a case does: as much as shows something in a short time, or
// with Options.Full as much as its line in cases.csv says.
func (t *trial) size(quick, full int) int {
	if t.o.Full {
		return full
	}
	return quick
}

func (t *trial) patience() time.Duration { return t.o.Patience }

// over tells whether there is no point in going on.
func (t *trial) over() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err != nil || t.ctx.Err() != nil
}

// stop ends the case early. It says false, for callers that return it.
func (t *trial) stop(err error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
	return false
}

// skip ends the case because the broker does not offer what it needs.
func (t *trial) skip(why string) {
	t.mu.Lock()
	t.skipped = why
	t.mu.Unlock()
	t.stop(errStalled)
}

// find notes a verdict, with the first reason for it.
func (t *trial) find(v Verdict, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !slices.Contains(t.verdicts, v) && format != "" {
		t.why = append(t.why, string(v)+": "+fmt.Sprintf(format, args...))
	}
	t.verdicts = append(t.verdicts, v)
}

// note adds to the detail.
func (t *trial) note(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.why = append(t.why, fmt.Sprintf(format, args...))
}

// beyond notes whether a promise beyond the standard was kept.
func (t *trial) beyond(s Strength, kept bool) {
	if t.over() {
		return
	}
	was, known := t.seen[s]
	t.seen[s] = kept && (was || !known)
	if !kept {
		t.weak = append(t.weak, "not "+string(s))
	}
}

// topic is one of the case's own.
func (t *trial) topic(s string) string { return "wilco-check/" + t.prefix + "/" + t.id + "/" + s }

// client makes a client that is not yet connected, with a persistent session.
func (t *trial) client(name string) *client {
	c := &client{t: t, name: name, id: fmt.Sprintf("%s-%s-%d", t.prefix, t.id, len(t.clients)), wake: make(chan struct{}),
		ended: map[int]error{}, answers: map[uint16]mqtt.Packet{}, have: map[Key]bool{}, ids: map[uint16]bool{}, flights: map[uint16]*flight{}}
	t.clients = append(t.clients, c)
	return c
}

// publisher makes a connected client with a session of its own.
func (t *trial) publisher(name string) *client {
	c := t.client(name)
	c.connect()
	return c
}

// subscriber makes a connected client with a persistent session that has
// subscribed; window 0 means that it does not limit the broker.
func (t *trial) subscriber(filter string, qos mqtt.QoS, window uint16) *client {
	c := t.client("subscriber")
	c.window = window
	if c.connect() {
		c.subscribe(filter, qos)
	}
	return c
}

// await waits until sub has everything that pubs know to be accepted, and a
// little longer for what should not come. When nothing comes any more it
// connects again: what then comes was stalled.
func (t *trial) await(sub *client, pubs ...*client) {
	if t.over() || t.complete(sub, pubs, t.patience()) {
		t.settle(sub)
		return
	}
	if t.ctx.Err() != nil || sub.clean {
		return
	}
	t.lagging = true
	// As long as each connection brings something, it is not lost.
	for wait, more := t.patience(), true; more; wait = min(wait, time.Second) {
		before := sub.summary().different
		sub.cut()
		done := sub.connect() && t.complete(sub, pubs, wait)
		if more = sub.summary().different > before; more || done {
			t.find(Stall, "messages stopped coming for %s, until the subscriber connected again", t.patience())
		}
		more = more && !done && !t.over()
	}
}

// complete waits for as long as something still comes now and then, which is
// not later than patience after the last.
func (t *trial) complete(sub *client, pubs []*client, patience time.Duration) bool {
	var want []Key
	for _, p := range pubs {
		for _, s := range p.sentSoFar() {
			if s.Acked && !s.Optional && s.Forbidden == "" && s.QoS > 0 {
				want = append(want, s.Key)
			}
		}
	}
	i, got := 0, -1
	all := func() bool {
		for i < len(want) && sub.have[want[i]] {
			i++
		}
		return i == len(want)
	}
	for {
		moved := false
		sub.wait(patience, func() bool {
			moved = len(sub.got) != got
			return all() || moved || sub.ended[sub.conn] != nil
		})
		sub.mu.Lock()
		done, dead := all(), sub.ended[sub.conn]
		got = len(sub.got)
		sub.mu.Unlock()
		if done {
			return true
		}
		if dead != nil && !errors.Is(dead, errCut) {
			t.note("the broker ended the subscriber's connection: %v", dead)
		}
		if dead != nil || !moved || t.ctx.Err() != nil {
			return false
		}
	}
}

// quiet is how long nothing must come for a subscriber to have seen all.
const quiet = 40 * time.Millisecond

// settle waits for what comes although nothing more should.
func (t *trial) settle(c *client) {
	for !t.over() {
		n := len(c.receipts())
		if !c.wait(quiet, func() bool { return len(c.got) > n }) {
			return
		}
	}
}

// judge notes what sub got of what pubs sent.
func (t *trial) judge(rule Rule, sub *client, pubs ...*client) Judgement {
	var sent []Sent
	for _, p := range pubs {
		sent = append(sent, p.sentSoFar()...)
	}
	return t.judged(rule, sent, sub.receipts())
}

func (t *trial) judged(rule Rule, sent []Sent, got []Receipt) Judgement {
	if t.err != nil && len(got) == 0 {
		return Judgement{}
	}
	rule.LiveResend = rule.LiveResend || t.version == mqtt.V311
	rule.WindowOne = rule.WindowOne && t.version == mqtt.V5
	j := Judge(sent, got, rule)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, why := range j.Why {
		word, _, _ := strings.Cut(why, ":")
		if !slices.Contains(t.verdicts, Verdict(word)) {
			t.why = append(t.why, why)
		}
	}
	t.verdicts = append(t.verdicts, j.Verdicts...)
	t.counts["sent"] += len(sent)
	t.counts["received"] += j.Received
	t.counts["repeated"] += j.Repeated
	for k, n := range map[string]uint64{"lostPrefix": j.Lost.Prefix, "lostMiddle": j.Lost.Middle, "lostPostfix": j.Lost.Postfix} {
		if n > 0 {
			t.counts[k] += int(n)
		}
	}
	if t.lagging && t.err == nil {
		t.err = errStalled // it has been seen; waiting for more of it takes time only
	}
	return j
}

// check waits and judges, the usual end of a case.
func (t *trial) check(rule Rule, sub *client, pubs ...*client) Judgement {
	t.await(sub, pubs...)
	return t.judge(rule, sub, pubs...)
}

// finish writes the result.
func (t *trial) finish(c *Result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.skipped != "" {
		c.Skipped = t.skipped
		return
	}
	if t.err != nil && !errors.Is(t.err, errStalled) && t.ctx.Err() == nil {
		t.verdicts = append(t.verdicts, Stall)
		t.why = append(t.why, string(Stall)+": "+t.err.Error())
	}
	vs := sortVerdicts(t.verdicts)
	c.Violated = slices.ContainsFunc(vs, Verdict.Wrong)
	// What is good about one part of a case means nothing beside what is wrong.
	vs = slices.DeleteFunc(vs, func(v Verdict) bool {
		return (v == Strict || v == Spec || v == RM1) && c.Violated || v == Strict && slices.Contains(vs, Spec)
	})
	if t.o.Strict && (len(t.weak) > 0 || slices.Contains(vs, GapSilent) || slices.Contains(vs, UnsyncedAck)) {
		c.Violated = true
	}
	c.Verdicts, c.Counts = append(c.Verdicts, vs...), t.counts
	c.Detail = strings.Join(append(t.why, t.weak...), "; ")
}

// clean ends the case's sessions and clears what it retained, as far as the
// broker lets it, and waits for its goroutines.
func (t *trial) clean(ctx context.Context) {
	t.cancel()
	for _, c := range t.clients {
		c.close()
	}
	t.readers.Wait()
	ctx, cancel := context.WithTimeout(ctx, t.patience())
	defer cancel()
	for i, c := range t.clients {
		var clear []string
		if i == 0 {
			clear = t.retain
		}
		if err := t.wipe(ctx, c.where(), c.id, clear...); err != nil {
			return
		}
	}
}
