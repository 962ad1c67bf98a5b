package service

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/engine"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

var valve = wire.Address{Group: "plant", Device: "valve"}

// parts are an engine, a store and a fleet that know one device and, when told
// so, one command. What they are not told to do panics: nothing may be asked of
// them before rights and values have been checked.
type parts struct {
	Engine
	Store
	known   map[wire.Address]store.Device
	command *command.Command
	asked   []Request
	err     error
	knows   []string // commands that the device has announced

	key, digest string // by which the command was made
}

func (p *parts) Presence(a wire.Address) store.Presence {
	return store.Presence{Device: a, Commands: p.knows}
}

// fleetOf is the fleet among the parts.
type fleetOf struct {
	Fleet
	p *parts
}

// User is ann, who may operate the plant.
func (f fleetOf) User(name string) (User, bool) {
	return User{Name: "ann", Grants: []Grant{{Role: Operator, Groups: []string{"plant"}}}}, name == "ann"
}

func (f fleetOf) Device(a wire.Address) (store.Device, bool) { d, ok := f.p.known[a]; return d, ok }

func (p *parts) Create(_ context.Context, reqs []Request) ([]engine.Created, error) {
	p.asked = append(p.asked, reqs...)
	out := make([]engine.Created, len(reqs))
	for i := range out {
		out[i].Command.TID[0] = byte(i + 1)
	}
	return out, p.err
}

func (p *parts) CommandByKey(_ context.Context, _ wire.Address, key string) (command.TID, string, error) {
	if p.command == nil || key == "" || key != p.key {
		return command.TID{}, "", fault.New(fault.NotFound, "")
	}
	return p.command.TID, p.digest, nil
}

func (p *parts) Command(_ context.Context, tid command.TID) (command.Command, error) {
	if p.command == nil || p.command.TID != tid {
		return command.Command{}, fault.New(fault.NotFound, "not this text")
	}
	return *p.command, nil
}

func newService(p *parts) *Service {
	return New(Options{Engine: p, Store: p, Fleet: fleetOf{p: p}})
}

var tid1 = uuid.MustParse("01890a5d-ac96-774b-bcce-b302099a8057")

// TestWhatIsMadeNeedsNoRoom: where there is no room for more, an order that comes again
// still finds its command.
func TestWhatIsMadeNeedsNoRoom(t *testing.T) {
	o := Order{Device: valve, Name: "valve.open", Key: "k", Room: func() error { return fault.New(fault.TooMany, "no room") }}
	p := &parts{known: map[wire.Address]store.Device{valve: {}}, command: &command.Command{TID: tid1}, key: "k", digest: digest(&o)}
	s := newService(p)
	ann := Principal{Name: "ann", Grants: fleet.Everywhere(Operator)}
	if made, err := s.Send(t.Context(), ann, o); err != nil || !made.Existed || made.Command.TID != tid1 {
		t.Errorf("the same again: %+v %v", made, err)
	}
	for _, change := range []func(*Order){func(o *Order) { o.Key = "other" }, func(o *Order) { o.Key = "" }, func(o *Order) { o.Name = "valve.close" }} {
		other := o
		change(&other)
		if _, err := s.Send(t.Context(), ann, other); fault.CodeOf(err) != fault.TooMany || len(p.asked) != 0 {
			t.Errorf("another one: %v, made %d", err, len(p.asked))
		}
	}
	o.Key, o.Room = "other", func() error { return nil }
	if made, err := s.Send(t.Context(), ann, o); err != nil || made.Existed || len(p.asked) != 1 {
		t.Errorf("with room: %+v %v", made, err)
	}
}

func TestOrdersAreChecked(t *testing.T) {
	disabled := wire.Address{Group: "plant", Device: "off"}
	p := &parts{known: map[wire.Address]store.Device{valve: {}, disabled: {Disabled: true}}}
	s := newService(p)
	good := Order{Device: valve, Name: "valve.open:1_a-b", Params: json.RawMessage(`{"a":[1]}`), Policy: json.RawMessage(`{"ackBy":"7s"}`), Key: "k"}
	for _, c := range []struct {
		name  string
		edit  func(*Order)
		code  fault.Code
		field string
	}{
		{"good", func(*Order) {}, "", ""},
		{"no params", func(o *Order) { o.Params = nil }, "", ""},
		{"params that are no object", func(o *Order) { o.Params = json.RawMessage(` 7 `) }, "", ""},
		{"no device", func(o *Order) { o.Device = wire.Address{} }, fault.Invalid, "group"},
		{"unknown device", func(o *Order) { o.Device.Device = "x" }, fault.NotFound, "device"},
		{"disabled device", func(o *Order) { o.Device = disabled }, fault.Conflict, ""},
		{"no name", func(o *Order) { o.Name = "" }, fault.Invalid, "name"},
		{"name", func(o *Order) { o.Name = "a/b" }, fault.Invalid, "name"},
		{"long name", func(o *Order) { o.Name = strings.Repeat("n", MaxName+1) }, fault.Invalid, "name"},
		{"longest name", func(o *Order) { o.Name = strings.Repeat("n", MaxName) }, "", ""},
		{"params no JSON", func(o *Order) { o.Params = json.RawMessage(`{`) }, fault.Invalid, "params"},
		{"params two values", func(o *Order) { o.Params = json.RawMessage(`1 2`) }, fault.Invalid, "params"},
		{"params no UTF-8", func(o *Order) { o.Params = json.RawMessage("\"\xff\"") }, fault.Invalid, "params"},
		{"params too large", func(o *Order) { o.Params = make(json.RawMessage, MaxParams+1) }, fault.TooLarge, "params"},
		{"key", func(o *Order) { o.Key = "a\nb" }, fault.Invalid, "Idempotency-Key"},
		{"policy", func(o *Order) { o.Policy = json.RawMessage(`{"ackBy":"1ns"}`) }, fault.Invalid, "policy.ackBy"},
		{"policy of other names", func(o *Order) { o.Policy = json.RawMessage(`{"by":"1s"}`) }, fault.Invalid, "policy.by"},
		{"policy of another kind", func(o *Order) { o.Policy = json.RawMessage(`{"jitter":"much"}`) }, fault.Invalid, "policy.jitter"},
		{"policy no object", func(o *Order) { o.Policy = json.RawMessage(`7`) }, fault.Invalid, "policy"},
		{"no policy", func(o *Order) { o.Policy = nil }, "", ""},
		{"null policy", func(o *Order) { o.Policy = json.RawMessage(`null`) }, "", ""},
		{"priority", func(o *Order) { n := 10; o.Priority = &n }, fault.Invalid, "priority"},
		{"unreadable", func(o *Order) { o.Err = fault.Field("f", "x") }, fault.Invalid, "f"},
	} {
		o := good
		c.edit(&o)
		p.asked = nil
		_, err := s.Send(t.Context(), Principal{Name: "ops", Grants: fleet.Everywhere(Operator)}, o)
		if fault.CodeOf(err) != c.code || err != nil && fault.From(err).Field != c.field {
			t.Errorf("%s: %v", c.name, err)
		}
		if (len(p.asked) == 1) != (err == nil) {
			t.Errorf("%s: the engine was asked %d times, error %v", c.name, len(p.asked), err)
		}
		if err == nil && (p.asked[0].By != "ops" || (p.asked[0].Digest == "") != (o.Key == "")) {
			t.Errorf("%s: asked %+v", c.name, p.asked[0])
		}
	}
}

// TestBulkKeepsItsPlaces has bad items among good ones.
func TestBulkKeepsItsPlaces(t *testing.T) {
	p := &parts{known: map[wire.Address]store.Device{valve: {}}}
	s := newService(p)
	good := Order{Device: valve, Name: "n"}
	bad := good
	bad.Name = ""
	out, err := s.SendBulk(t.Context(), Principal{Grants: fleet.Everywhere(Operator)}, []Order{bad, good, bad, good, good})
	if err != nil || len(out) != 5 || len(p.asked) != 3 {
		t.Fatalf("%d outcomes, %d asked, %v", len(out), len(p.asked), err)
	}
	for i, want := range []byte{0, 1, 0, 2, 3} {
		if out[i].Command.TID[0] != want || (out[i].Err != nil) != (want == 0) {
			t.Errorf("item %d: %v %v, want %d", i, out[i].Command.TID, out[i].Err, want)
		}
	}
	if _, err := s.SendBulk(t.Context(), Principal{Grants: fleet.Everywhere(Operator)}, make([]Order, MaxBulk+1)); fault.CodeOf(err) != fault.TooLarge {
		t.Errorf("too many: %v", err)
	}
	p.err = context.DeadlineExceeded
	if _, err := s.SendBulk(t.Context(), Principal{Grants: fleet.Everywhere(Operator)}, []Order{good}); fault.CodeOf(err) != fault.Timeout {
		t.Errorf("time over: %v", err)
	}
}

func TestDigestTellsOrdersApart(t *testing.T) {
	base := Order{Name: "n", Params: json.RawMessage(`{"a":1,"b":[2]}`), Policy: json.RawMessage(`{"ackBy":"7s","jitter":0}`)}
	same, other := base, base
	same.Policy = json.RawMessage(`{"jitter": 0, "ackBy": "7s"}`)
	same.Params = json.RawMessage("{ \"a\" : 1 ,\n\"b\":[ 2 ] }")
	if digest(&same) != digest(&base) {
		t.Error("white space must not count")
	}
	for name, edit := range map[string]func(*Order){
		"name":   func(o *Order) { o.Name = "m" },
		"params": func(o *Order) { o.Params = json.RawMessage(`{"a":1,"b":[3]}`) },
		"none":   func(o *Order) { o.Params = nil },
		"policy": func(o *Order) { o.Policy = nil },
		"rank":   func(o *Order) { o.Priority = new(int) },
		"shift":  func(o *Order) { o.Name, o.Params = "n{", json.RawMessage(`"a":1,"b":[2]}`) },
	} {
		other = base
		edit(&other)
		if digest(&other) == digest(&base) {
			t.Errorf("%s must count", name)
		}
	}
}

// TestRetryByState goes over all states: an open command is asked for again by
// its tid, an ended one is made anew, an executed one is not.
func TestRetryByState(t *testing.T) {
	for _, st := range command.States {
		c := &command.Command{TID: tid1, Device: valve, Name: "n", State: st}
		p := &retrier{parts: parts{command: c, known: map[wire.Address]store.Device{valve: {}}}}
		s := New(Options{Engine: p, Store: p, Fleet: fleetOf{p: &p.parts}})
		_, isNew, err := s.Retry(t.Context(), Principal{Name: "ops", Grants: fleet.Everywhere(Operator)}, tid1, "why")
		switch {
		case st == command.Executed:
			if fault.CodeOf(err) != fault.Conflict || p.retried || len(p.asked) != 0 {
				t.Errorf("%s: %v", st, err)
			}
		case st.Final():
			if err != nil || !isNew || p.retried || len(p.asked) != 1 || *p.asked[0].RetryOf != tid1 || p.asked[0].Key != "" {
				t.Errorf("%s: %v, asked %+v", st, err, p.asked)
			}
		default:
			if fault.CodeOf(err) != fault.Conflict || isNew || !p.retried || !strings.Contains(fault.From(err).Public(), "offline") {
				t.Errorf("%s: the engine's refusal became %v", st, err)
			}
		}
	}
}

// retrier refuses every retry, as the machine does for a device that is offline.
type retrier struct {
	parts
	retried bool
}

func (r *retrier) Retry(context.Context, command.TID, string, string) (command.Command, error) {
	r.retried = true
	return command.Command{}, fmt.Errorf("engine: %w", &command.NotAllowedError{State: command.Sent, Kind: command.Retry, Why: "and its device is offline"})
}

func TestPolicyIsCompleted(t *testing.T) {
	s := New(Options{Policy: command.Policy{AckBy: command.Duration(time.Second), Backoff: command.Linear}})
	p := s.Policy()
	if err := p.Check(); err != nil || p.AckBy.D() != time.Second || p.Backoff != command.Linear || p.FinishBy != command.Defaults.FinishBy || p.Jitter != 0 {
		t.Errorf("got %+v %v", p, err)
	}
}

// BenchmarkSendBulk is the service's own share of a bulk request of 1,000.
func BenchmarkSendBulk(b *testing.B) {
	p := &parts{known: map[wire.Address]store.Device{valve: {}}}
	s := newService(p)
	orders := make([]Order, MaxBulk)
	for i := range orders {
		orders[i] = Order{Device: valve, Name: "valve.open", Params: json.RawMessage(`{"percent":40,"slowly":true,"why":"bench"}`), Policy: json.RawMessage(`{"ackBy":"7s"}`)}
	}
	for b.Loop() {
		p.asked = p.asked[:0]
		if _, err := s.SendBulk(b.Context(), Principal{Grants: fleet.Everywhere(Operator)}, orders); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/MaxBulk, "ns/command")
}

// TestStreamsEndWithTheIssuersToken: who came by a token of an issuer elsewhere
// looks on until that expires.
func TestStreamsEndWithTheIssuersToken(t *testing.T) {
	s := newService(&parts{})
	p := Principal{Name: "ann", Grants: fleet.Everywhere(Viewer), Until: time.Now().Add(time.Hour)}
	tail, err := s.Tail(t.Context(), p, EventFilter{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	tail.who.Until = time.Now()
	if err := tail.narrow(); fault.CodeOf(err) != fault.Unauthenticated {
		t.Error(err)
	}
}
