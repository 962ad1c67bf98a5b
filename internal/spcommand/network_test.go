package spcommand

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/session"
)

// world is an edge node with one metric, a network that loses, repeats and swaps
// its messages, a host's session and a Book. Times are the numbers of samples, so
// that each says which sample it is.
type world struct {
	r     *rapid.T
	now   time.Time
	host  *session.Node
	out   session.Actions
	book  Book
	ways  []session.Message // on their way
	seq   uint64
	value int64
	truth []int64 // by sample number

	seen    uint64 // the newest sample that the host has
	good    bool
	commits map[string]sent
	ended   map[string]Kind
}

type sent struct {
	want int64
	seen uint64
	good bool
}

func (w *world) sample(kind sparkplug.MessageType) session.Message {
	n := uint64(len(w.truth))
	w.truth = append(w.truth, w.value)
	m := number("x", w.value)
	m.Timestamp, m.HasTimestamp = n, true
	p := sparkplug.Payload{Timestamp: n, HasTimestamp: true, HasSeq: true, Metrics: []sparkplug.Metric{m}}
	if kind == sparkplug.NBirth {
		w.seq = 0
		p.Metrics = append(p.Metrics, sparkplug.BdSeqMetric(0, n))
	} else {
		w.seq = (w.seq + 1) % 256
	}
	p.Seq = w.seq
	return session.Message{Type: kind, Payload: p.Append(nil)}
}

// change is a value that the node takes and reports by exception.
func (w *world) change(x int64) {
	if x != w.value {
		w.value = x
		w.ways = append(w.ways, w.sample(sparkplug.NData))
	}
}

// birth reaches the host, and nothing that was sent before does any more.
func (w *world) birth() {
	w.ways = nil
	w.receive(w.sample(sparkplug.NBirth))
}

func (w *world) receive(m session.Message) {
	w.now = w.now.Add(time.Millisecond)
	w.host.Receive(m, w.now, &w.out)
	w.events()
}

func (w *world) events() {
	for i := range w.out.Events {
		e := &w.out.Events[i]
		switch e.Kind {
		case session.Stale:
			w.good = false
		case session.NodeBirth:
			w.good = true
			w.read(e, func(r Reading) []Verdict {
				return w.book.Birth("", true, func(string) (Reading, bool) { return r, true })
			})
		case session.Data:
			w.read(e, func(r Reading) []Verdict { return w.book.Data("", "x", r) })
		}
	}
	w.out.Reset()
}

func (w *world) read(e *session.Event, book func(Reading) []Verdict) {
	for _, v := range e.Values {
		if v.Metric.Name != "x" {
			continue
		}
		n := v.Raw.Timestamp
		w.seen = n
		w.take(book(Reading{Metric: v.Raw, Good: true, Time: n}), n)
	}
}

// take checks what the Book says while the host looks at sample n.
func (w *world) take(list []Verdict, n uint64) {
	for _, v := range list {
		if v.Kind != Confirmed && v.Kind != Superseded {
			continue
		}
		if _, twice := w.ended[v.TID]; twice {
			w.r.Fatalf("%s ended twice", v.TID)
		}
		w.ended[v.TID] = v.Kind
		s := w.commits[v.TID]
		if v.Kind == Confirmed && len(v.Already) == 0 && (w.truth[n] != s.want || n <= s.seen) {
			w.r.Fatalf("%s asked for %d after sample %d, and is confirmed by sample %d, which is %d", v.TID, s.want, s.seen, n, w.truth[n])
		}
		if len(v.Already) > 0 && (w.truth[s.seen] != s.want || !s.good) {
			w.r.Fatalf("%s was not so already: sample %d is %d, good is %v, and %d is asked for", v.TID, s.seen, w.truth[s.seen], s.good, s.want)
		}
	}
}

func (w *world) send(tid string, want int64, arrives bool) {
	w.commits[tid] = sent{want, w.seen, w.good}
	present := number("x", w.truth[w.seen])
	w.book.Send(Command{TID: tid, Writes: []sparkplug.Metric{number("x", want)}}, func(string) (Reading, bool) {
		return Reading{Metric: &present, Good: w.good, Time: w.seen}, true
	})
	if arrives {
		w.change(want)
	}
	w.take(w.book.Written(tid), w.seen)
}

// TestNetwork: whatever the network does to DATA and to commands, what is confirmed
// was so, in a sample that the host had not seen before. When the network is whole
// again and the node gives birth, every command whose value it has is confirmed.
func TestNetwork(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		w := &world{r: r, now: time.Unix(1000, 0), host: session.New(&session.Config{}), commits: map[string]sent{}, ended: map[string]Kind{}}
		w.birth()
		for i := range rapid.IntRange(1, 60).Draw(r, "steps") {
			switch rapid.IntRange(0, 9).Draw(r, "what") {
			case 0, 1:
				w.change(rapid.Int64Range(0, 3).Draw(r, "value"))
			case 2, 3:
				w.send(fmt.Sprint("T", i), rapid.Int64Range(0, 3).Draw(r, "want"), rapid.Bool().Draw(r, "arrives"))
			case 4:
				if len(w.ways) > 1 { // a later one first
					w.ways[0], w.ways[1] = w.ways[1], w.ways[0]
				}
			case 5:
				if len(w.ways) > 0 { // lost
					w.ways = w.ways[1:]
				}
			case 6:
				if len(w.ways) > 0 { // once more, later
					w.ways = append(w.ways, w.ways[0])
				}
			case 7:
				w.now = w.now.Add(10 * time.Second)
				w.host.Due(w.now, &w.out)
				w.events()
				if !w.good && rapid.Bool().Draw(r, "reborn") {
					w.birth()
				}
			default:
				if len(w.ways) > 0 {
					m := w.ways[0]
					w.ways = w.ways[1:]
					w.receive(m)
				}
			}
		}
		w.birth()
		for tid, s := range w.commits {
			if _, ended := w.ended[tid]; !ended && s.want == w.value {
				r.Fatalf("%s asked for %d, the birth has it, and it is not confirmed", tid, s.want)
			}
		}
	})
}
