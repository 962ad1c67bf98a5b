package ledger

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/wire"
	"pgregory.net/rapid"
)

// world drives a ledger like a device would, in a network that duplicates,
// reorders and replays, with crashes at any moment; and keeps its own simple
// account of what happened, against which the ledger is held.
type world struct {
	l       *Ledger
	journal []Record // what is durable
	now     time.Time

	sent     []Arrival // everything ever sent; any of it may come again
	seq      int64
	executed map[string]int    // starts of a handler, per tid
	highest  [2]int64          // of all requests executed
	finals   map[string]string // the final answers given, as JSON
	running  map[string]bool   // handlers that run now
}

func newWorld() *world {
	return &world{l: New(rules, traits), now: noon, executed: map[string]int{},
		finals: map[string]string{}, running: map[string]bool{}}
}

// commit makes a batch durable and acts on it, as package device does.
func (w *world) commit(t *rapid.T, b *Batch) {
	w.journal = append(w.journal, b.Records...)
	w.account(t, b.Records)
	for _, a := range b.Actions {
		switch a.Act {
		case Execute, Resume:
			w.execute(t, a)
		case Answer, AnswerQuery:
			w.answer(t, a.TID)
		}
	}
}

// account notes the order of the requests taken.
func (w *world) account(t *rapid.T, records []Record) {
	for _, r := range records {
		if r.Kind != Received {
			continue
		}
		at := [2]int64{r.Epoch, r.Seq}
		if slices.Compare(at[:], w.highest[:]) <= 0 {
			t.Fatalf("%s was taken at %v, not above %v", r.TID, at, w.highest)
		}
		w.highest = at
	}
}

// floor is the highest (epoch, seq) of all records ever written.
func (w *world) floor() [2]int64 {
	var highest [2]int64
	for _, r := range w.journal {
		if at := [2]int64{r.Epoch, r.Seq}; slices.Compare(at[:], highest[:]) > 0 {
			highest = at
		}
	}
	return highest
}

func (w *world) execute(t *rapid.T, a Action) {
	w.executed[a.TID]++
	resumed := a.Act == Resume && traits(w.l.Get(a.TID).Cmd).Resumable
	if w.executed[a.TID] > 1 && !resumed {
		t.Fatalf("%s is executed a second time", a.TID)
	}
	if w.running[a.TID] {
		t.Fatalf("%s is executed while it is running", a.TID)
	}
	w.running[a.TID] = true
	if len(w.running) > rules.Parallel {
		t.Fatalf("%d handlers at a time", len(w.running))
	}
}

func (w *world) answer(t *rapid.T, tid string) {
	e := w.l.Get(tid)
	if e == nil || e.Final == nil {
		t.Fatalf("an answer about %s, which has not ended", tid)
	}
	b, err := json.Marshal(e.Final)
	if err != nil {
		t.Fatal(err)
	}
	if was, ok := w.finals[tid]; ok && was != string(b) {
		t.Fatalf("%s was answered %s, now %s", tid, was, b)
	}
	w.finals[tid] = string(b)
}

// crash loses everything but what is durable, and starts again.
func (w *world) crash(t *rapid.T) {
	w.l = New(rules, traits)
	for _, r := range w.journal {
		replay(t, w.l, r)
	}
	w.running = map[string]bool{}
	var b Batch
	w.l.Reboot(&b, w.now)
	w.l.Start(&b, w.now)
	w.commit(t, &b)
	for _, tid := range w.l.Owed() {
		w.answer(t, tid)
	}
}

func (w *world) arrive(t *rapid.T, b *Batch, a Arrival) {
	w.l.Command(b, a, w.now)
	w.l.Start(b, w.now)
}

// fresh is a new message of a server: a request, maybe a retry with a fresh
// seq, a cancel or a query.
func (w *world) fresh(t *rapid.T) Arrival {
	tid := fmt.Sprintf("t%d", rapid.IntRange(0, 12).Draw(t, "tid"))
	c := wire.Command{TID: tid, Status: rapid.SampledFrom([]string{wire.Request, wire.Request, wire.Request, wire.Cancel, wire.Query}).Draw(t, "status")}
	if c.Status == wire.Request {
		w.seq++
		c.Cmd = rapid.SampledFrom([]string{"plain", "stubborn", "resumable", "unknown"}).Draw(t, "cmd")
		c.Epoch, c.Seq = 1+w.seq/10, 1+w.seq%10
		if rapid.Bool().Draw(t, "deadline") {
			c.NotAfter = w.now.Add(time.Duration(rapid.IntRange(-1, 5).Draw(t, "left")) * time.Second)
		}
	}
	a := Arrival{Command: c, Retained: rapid.IntRange(0, 9).Draw(t, "retained") == 0}
	w.sent = append(w.sent, a)
	return a
}

// TestAtMostOnce: any duplication, reordering and replay, with any crashes,
// executes each tid at most once, never at or below the highest seq, and gives
// one final answer for each tid.
func TestAtMostOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		t.Repeat(map[string]func(*rapid.T){
			"arrive": func(t *rapid.T) {
				var b Batch
				for range rapid.IntRange(1, 3).Draw(t, "together") {
					w.arrive(t, &b, w.fresh(t))
				}
				w.commit(t, &b)
			},
			"replay": func(t *rapid.T) {
				if len(w.sent) == 0 {
					t.Skip("nothing was sent yet")
				}
				var b Batch
				w.arrive(t, &b, rapid.SampledFrom(w.sent).Draw(t, "which"))
				w.commit(t, &b)
			},
			"return": func(t *rapid.T) {
				for tid := range w.running {
					delete(w.running, tid)
					var b Batch
					if !w.l.End(&b, tid, Final{Status: wire.Success, Result: json.RawMessage(fmt.Sprint(w.executed[tid]))}, w.now) {
						t.Fatalf("%s was not running", tid)
					}
					w.l.Start(&b, w.now)
					w.commit(t, &b)
					return
				}
				t.Skip("nothing is running")
			},
			"told": func(t *rapid.T) {
				owed := w.l.Owed()
				if len(owed) == 0 {
					t.Skip("nothing is owed")
				}
				var b Batch
				w.l.Told(&b, owed[0])
				w.commit(t, &b)
			},
			"crash": w.crash,
			"crash before it was durable": func(t *rapid.T) {
				var b Batch
				w.arrive(t, &b, w.fresh(t))
				n := rapid.IntRange(0, len(b.Records)).Draw(t, "durable")
				w.account(t, b.Records[:n])
				w.journal = append(w.journal, b.Records[:n]...) // and nothing was acted on
				w.crash(t)
			},
			"time": func(*rapid.T) { w.now = w.now.Add(time.Second) },
			"": func(t *rapid.T) {
				again := New(rules, traits)
				for _, r := range w.journal {
					replay(t, again, r)
				}
				if !bytes.Equal(dump(t, w.l), dump(t, again)) {
					t.Fatalf("the ledger is not the fold of its journal:\n%s\n%s", dump(t, w.l), dump(t, again))
				}
				if e, q := rebuild(t, w.l).Highest(); [2]int64{e, q} != w.floor() {
					t.Fatalf("after a compaction the highest is %d/%d, want %v", e, q, w.floor())
				}
				if snap := rebuild(t, w.l); !bytes.Equal(dump(t, w.l), dump(t, snap)) {
					t.Fatalf("the ledger is not its snapshot:\n%s\n%s", dump(t, w.l), dump(t, snap))
				}
			},
		})
	})
}

func dump(t *rapid.T, l *Ledger) []byte {
	b, err := json.Marshal(l.Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestForget(t *testing.T) {
	l := New(rules, traits) // keeps 3, for an hour
	end := func(tid string, at time.Time, told bool) {
		l.Command(new(Batch), Arrival{Command: wire.Command{TID: tid, Status: wire.Query}}, at)
		if told {
			l.Told(new(Batch), tid)
		}
	}
	end("owed", noon, false)
	for i := range 5 {
		end(fmt.Sprint("told", i), noon, true)
	}
	l.Forget(noon)
	if l.Len() != 3 || l.Get("owed") == nil || l.Get("told3") == nil || l.Get("told4") == nil {
		t.Errorf("kept %d, want the one the server does not know and the last two", l.Len())
	}
	l.Forget(time.Time{})
	if l.Len() != 3 {
		t.Error("forgot by age without a clock")
	}
	l.Forget(noon.Add(2 * time.Hour))
	if l.Len() != 1 || l.Get("owed") == nil {
		t.Errorf("after two hours %d are kept, want only what the server does not know", l.Len())
	}
	if len(l.Owed()) != 1 {
		t.Errorf("owed %v", l.Owed())
	}
}

// Of a command that was executed and is not kept any more the device does not say
// that it never got it, nor that it is cancelled, also after a reboot.
func TestForgottenIsNotNeverReceived(t *testing.T) {
	tid := func(n int) string { return fmt.Sprintf("0198c0de-%04d-7000-8000-000000000000", n) }
	l := New(rules, traits) // keeps 3
	for n := 1; n <= 5; n++ {
		c := wire.Command{TID: tid(2 * n), Cmd: "plain", Status: wire.Request, Epoch: 1, Seq: int64(n)}
		l.Command(new(Batch), Arrival{Command: c}, noon)
		l.Start(new(Batch), noon)
		if !l.End(new(Batch), c.TID, Final{Status: wire.Success}, noon) {
			t.Fatal("it was not running")
		}
		l.Told(new(Batch), c.TID)
	}
	l.Forget(noon)
	again := New(rules, traits)
	for _, r := range l.Snapshot() {
		b, err := r.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if r, err = Decode(b); err != nil || again.Apply(r) != nil {
			t.Fatal(err)
		}
	}
	for name, l := range map[string]*Ledger{"before": l, "after a reboot": again} {
		for ask, silent := range map[string]bool{
			tid(2): true, tid(4): true, // forgotten
			tid(1): true, tid(3): true, // may have been
			tid(5): false, tid(11): false, // younger: not received
			"x1": true, // nobody knows how old
		} {
			for _, status := range []string{wire.Query, wire.Cancel} {
				var b Batch
				l.Command(&b, Arrival{Command: wire.Command{TID: ask, Status: status}}, noon)
				if said := len(b.Actions)+len(b.Records) > 0; said == silent {
					t.Errorf("%s: %s of %s: %+v", name, status, ask, b)
				}
			}
		}
		var b Batch
		l.Command(&b, Arrival{Command: wire.Command{TID: tid(2), Cmd: "plain", Status: wire.Request, Epoch: 1, Seq: 1}}, noon)
		if len(b.Actions) != 1 || b.Actions[0].Act != Answer || l.Get(tid(2)).Final.Reason.Code != wire.ReasonStaleSeq {
			t.Errorf("%s: a copy of a forgotten command: %+v", name, b)
		}
	}
}

// A journal that does not make sense is an error and not a guess.
func TestApplyRefuses(t *testing.T) {
	received := Record{Kind: Received, TID: "t", Cmd: "plain"}
	ended := Record{Kind: Ended, TID: "t", Final: &Final{Status: wire.Success}}
	for name, records := range map[string][]Record{
		"started, never received": {{Kind: Started, TID: "t"}},
		"received twice":          {received, received},
		"started twice":           {received, {Kind: Started, TID: "t"}, {Kind: Started, TID: "t"}},
		"ended twice":             {ended, ended},
		"started after its end":   {ended, {Kind: Started, TID: "t"}},
		"handed before its end":   {received, {Kind: Handed, TID: "t"}},
		"cancelled while waiting": {received, {Kind: Cancelling, TID: "t"}},
	} {
		l := New(rules, traits)
		var err error
		for _, r := range records {
			err = l.Apply(r)
		}
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, r := range []Record{
		{Kind: Received, TID: "t", Cmd: "c", Params: json.RawMessage(`{"a":1}`), Epoch: 1, Seq: 2, NotAfter: noon, At: noon},
		{Kind: Ended, TID: "t", Final: &Final{Status: wire.Failure, Reason: &wire.Reason{Code: "c", Text: "t"}, Refused: true}},
		{Kind: Floor, Epoch: 3, Seq: 4},
		{Kind: Floor, TID: "t", Epoch: 3, Seq: 4},
		{Kind: Reported, State: json.RawMessage(`{"a":1}`)},
	} {
		b, err := r.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"kind":"later","tid":"t"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Decode(b)
		if err != nil {
			return
		}
		again, err := r.Append(nil)
		if err != nil {
			t.Skip("a time zone that cannot be written")
		}
		twice, err := Decode(again)
		if err != nil {
			t.Fatal(err)
		}
		third, err := twice.Append(nil)
		if err != nil || !bytes.Equal(again, third) {
			t.Fatalf("%s became %s, %v", again, third, err)
		}
		New(rules, traits).Apply(r) // must not panic
	})
}
