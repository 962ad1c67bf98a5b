package check

import (
	"context"
	_ "embed" // cases.csv
	"encoding/csv"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/mqtt"
)

// Options configures a run.
type Options struct {
	// URL of the broker: mqtt, mqtts, tcp, ssl, tls, ws or wss, with
	// user:password@ when it asks for them. Required.
	URL string
	// Version to speak. Default mqtt.V5.
	Version mqtt.Version
	// Cases are the ids to run, such as "O10". Default: all.
	Cases []string
	// Seed of the choices. Default: 1.
	Seed uint64
	// Start is a command, and its arguments, that starts the broker and stays in
	// the foreground. Then Run starts it, kills it (SIGKILL) and starts it again
	// where a case asks for that, and kills it at the end. Default: the broker
	// runs already, and such cases are skipped.
	Start []string
	// Data is the directory in which the broker of Start keeps its data, for the
	// cases that fill it up and damage it. It is put back as it was. Default:
	// these cases are skipped.
	Data string
	// Bridge is the URL of another broker that a bridge connects with this one.
	// Default: that case is skipped.
	Bridge string
	// For is how long cases are drawn at random, after the others, each with a
	// seed of its own. Default: not at all.
	For time.Duration
	// Full does as much as the list of cases says, where that takes minutes.
	Full bool
	// Strict demands what wilco's broker promises beyond the standard too.
	Strict bool
	// Patience is how long the broker may take for what it owes at once, such as
	// an acknowledgement or the next message. Default 5 s.
	Patience time.Duration
	// Progress, if not nil, is called before and after each case, from Run's
	// goroutine.
	Progress func(Event)

	open func(context.Context, *url.URL) (net.Conn, error) // connects, in place of the network; may be nil
}

const defaultPatience = 5 * time.Second

// Event tells how far a run is.
type Event struct {
	ID, Title   string
	Done, Total int     // cases
	Result      *Result // nil before the case
}

// Report is the outcome of a run.
type Report struct {
	Broker    string     `json:"broker"`  // URL without the password
	Version   string     `json:"version"` // of MQTT
	Seed      uint64     `json:"seed"`
	Strict    bool       `json:"strict"`
	Cases     []Result   `json:"cases"`
	Strengths []Strength `json:"strengths"` // seen, and never refuted
	Seconds   float64    `json:"seconds"`
}

// Result is the outcome of one case.
type Result struct {
	ID       string         `json:"id"`
	Group    string         `json:"group"`
	Title    string         `json:"title"`
	Verdicts []Verdict      `json:"verdicts"`
	Violated bool           `json:"violated"`
	Skipped  string         `json:"skipped,omitempty"` // why it did not run
	Detail   string         `json:"detail,omitempty"`
	Counts   map[string]int `json:"counts,omitempty"`
	Seconds  float64        `json:"seconds"`
}

// Violations counts the cases that are violated.
func (r Report) Violations() (n int) {
	for _, c := range r.Cases {
		if c.Violated {
			n++
		}
	}
	return n
}

//go:embed cases.csv
var casesCSV string

// listed are the id, group and title of every case.
func listed() ([]Result, error) {
	rows, err := csv.NewReader(strings.NewReader(casesCSV)).ReadAll()
	if err != nil {
		return nil, err
	}
	list := make([]Result, 0, len(rows))
	for _, r := range rows[1:] {
		list = append(list, Result{ID: r[0], Group: r[1], Title: r[2], Verdicts: []Verdict{}})
	}
	return list, nil
}

// chosen picks the cases that were asked for, in the order of the list.
func chosen(ids []string) ([]Result, error) {
	all, err := listed()
	if err != nil || len(ids) == 0 {
		return all, err
	}
	for _, id := range ids {
		if !slices.ContainsFunc(all, func(r Result) bool { return strings.EqualFold(r.ID, id) }) {
			return nil, fault.Field("case", "%q is none of %s to %s", id, all[0].ID, all[len(all)-1].ID)
		}
	}
	return slices.DeleteFunc(all, func(r Result) bool {
		return !slices.ContainsFunc(ids, func(id string) bool { return strings.EqualFold(r.ID, id) })
	}), nil
}

// run is what all cases of one Run share.
type run struct {
	o       Options
	url     *url.URL
	bridge  *url.URL // nil: none
	version mqtt.Version
	prefix  string // of topics and client identifiers; new in each run
	process *process
	seen    map[Strength]bool // false: refuted
}

// Run runs the cases, one after another. It blocks until they are done or ctx
// ends, which is an error. It is an error too, with a code of package fault,
// when an option is wrong or the broker cannot be reached at the start. What
// the broker does wrong is none: it is in the report.
func Run(ctx context.Context, o Options) (Report, error) {
	u, err := parseURL(o.URL)
	if err != nil {
		return Report{}, err
	}
	cases, err := chosen(o.Cases)
	if err != nil {
		return Report{}, err
	}
	var bridge *url.URL
	if o.Bridge != "" {
		if bridge, err = parseURL(o.Bridge); err != nil {
			return Report{}, err
		}
	}
	if info, err := os.Stat(o.Data); o.Data != "" && (err != nil || !info.IsDir()) {
		return Report{}, fault.Field("data", "%q is not a directory", o.Data)
	}
	if o.Version == 0 {
		o.Version = mqtt.V5
	}
	if o.Seed == 0 {
		o.Seed = 1
	}
	if o.Patience <= 0 {
		o.Patience = defaultPatience
	}
	began := time.Now()
	r := &run{o: o, url: u, bridge: bridge, version: o.Version, seen: map[Strength]bool{},
		prefix: fmt.Sprintf("wc%08x", uint32(began.UnixNano()>>8))}
	if len(o.Start) > 0 {
		r.process = &process{command: o.Start}
		if err := r.process.start(); err != nil {
			return Report{}, err
		}
		defer r.process.kill()
	}
	if err := r.ready(ctx); err != nil {
		return Report{}, err
	}
	report := Report{Broker: u.Redacted(), Version: "5", Seed: o.Seed, Strict: o.Strict, Strengths: []Strength{}}
	if o.Version == mqtt.V311 {
		report.Version = "3.1.1"
	}
	if u.User != nil {
		bare := *u
		bare.User = url.User(u.User.Username())
		report.Broker = bare.String()
	}
	for i, c := range cases {
		r.tell(Event{ID: c.ID, Title: c.Title, Done: i, Total: len(cases)})
		c = r.one(ctx, c, o.Seed)
		if err := ctx.Err(); err != nil {
			return Report{}, err
		}
		report.Cases = append(report.Cases, c)
		r.tell(Event{ID: c.ID, Title: c.Title, Done: i + 1, Total: len(cases), Result: &c})
	}
	for _, s := range []Strength{TotalOrder, CrossTopic, KeyOrderShared} {
		if r.seen[s] {
			report.Strengths = append(report.Strengths, s)
		}
	}
	report.Seconds = time.Since(began).Seconds()
	return report, nil
}

func (r *run) tell(e Event) {
	if r.o.Progress != nil {
		r.o.Progress(e)
	}
}

// noEntry are the answers of a broker to a client that it does not want.
var noEntry = []mqtt.ReasonCode{mqtt.BadUserNameOrPassword, mqtt.NotAuthorized, mqtt.ClientIdentifierNotValid, mqtt.Banned}

// ready waits until the broker lets a client in: at once when it ran already,
// and for a while when it was started just now.
func (r *run) ready(ctx context.Context) error {
	limit := r.o.Patience
	if r.process != nil {
		limit = max(limit, 20*time.Second)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := r.wipe(ctx, r.url, r.prefix+"-ready")
		if err == nil {
			return nil
		}
		var refused *refusal
		if errors.As(err, &refused) && slices.Contains(noEntry, refused.code) {
			return fault.Wrap(err, fault.Forbidden, "the broker at %s lets nobody in who is to test it: %v; "+
				"name a user with mqtt://USER:PASSWORD@HOST who may have any client id and topic. "+
				"wilco serve has none such: start its broker alone with wilco broker", r.url.Redacted(), err)
		}
		if r.process == nil || refused != nil || ctx.Err() != nil {
			return fault.Wrap(err, fault.Unavailable, "the broker at %s cannot be used: %v", r.url.Redacted(), err)
		}
		if gone := r.process.gone(); gone != nil {
			return fault.Wrap(gone, fault.Unavailable, "the start command ended: %v", gone)
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// one runs one case.
func (r *run) one(ctx context.Context, c Result, seed uint64) Result {
	s := scripts[c.ID]
	c.Skipped = r.why(s)
	if c.Skipped != "" {
		return c
	}
	if c.ID == soakID {
		return r.soak(ctx, c)
	}
	limit := s.limit
	if limit == 0 {
		limit = 20 * time.Second
	}
	if r.o.Full {
		limit *= 30
	}
	limit *= max(1, r.o.Patience/defaultPatience)
	began := time.Now()
	caseCtx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	t := &trial{run: r, ctx: caseCtx, cancel: cancel, id: c.ID, counts: map[string]int{},
		rng: rand.New(rand.NewPCG(seed, uint64(len(c.ID))<<32|uint64(c.ID[1])<<8|uint64(c.ID[2])))}
	s.run(t)
	if caseCtx.Err() != nil && ctx.Err() == nil {
		t.find(Stall, "the case was not done within %s", limit)
	}
	t.finish(&c)
	t.clean(ctx)
	c.Seconds = time.Since(began).Seconds()
	return c
}

// why tells the reason not to run a case.
func (r *run) why(s script) string {
	switch {
	case s.skip != "":
		return s.skip
	case s.only5 && r.version != mqtt.V5:
		return "needs MQTT 5"
	case s.kills && r.process == nil:
		return "needs --start with the command that starts the broker"
	case s.disk && r.o.Data == "":
		return "needs --data with the directory of the broker that --start starts"
	case s.needs != nil:
		return s.needs(r)
	}
	return ""
}
