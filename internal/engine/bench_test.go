package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/replica"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
	"github.com/wilco-iot/wilco/wire/state"
)

// nowhere is a store that takes everything and keeps nothing, so that the
// engine's own work is measured.
type nowhere struct{}

func (nowhere) Commit(context.Context, *store.Batch) (int64, error) { return 0, nil }
func (nowhere) Command(context.Context, command.TID) (command.Command, error) {
	return command.Command{}, fault.New(fault.NotFound, "not here")
}
func (nowhere) Commands(context.Context, []command.TID) ([]command.Command, error) { return nil, nil }
func (nowhere) Document(_ context.Context, id store.DocumentID) (store.Document, error) {
	return store.Document{}, fault.New(fault.NotFound, "there is no %s", id)
}

func (nowhere) CommandByKey(context.Context, wire.Address, string) (command.TID, string, error) {
	return command.TID{}, "", fault.New(fault.NotFound, "not here")
}
func (nowhere) List(context.Context, store.Query) ([]command.Command, string, error) {
	return nil, "", nil
}
func (nowhere) OpenCommands(context.Context) iter.Seq2[store.Open, error] {
	return func(func(store.Open, error) bool) {}
}

// unlinked takes publications and forgets them.
type unlinked struct{}

func (unlinked) Publish(_ Publication, done func(error)) { done(nil) }

// BenchmarkTurn runs turns of 100 devices, without a store and a broker: b.N
// counts commands.
func BenchmarkTurn(b *testing.B) {
	const fleet = 100
	dir := &directory{devices: map[wire.Address]store.Device{}}
	reqs := make([]Request, fleet)
	for i := range reqs {
		a := wire.Address{Group: "plant", Device: fmt.Sprint("valve-", i)}
		dir.devices[a] = store.Device{Address: a, Presence: store.Presence{Device: a, Known: true, Online: true, Boot: "b"}}
		reqs[i] = Request{Device: a, Name: "open", Params: json.RawMessage(`{"valve":"open","percent":40}`), By: "bench"}
	}
	profile := wire.NewWilco("")
	e := New(Options{Store: nowhere{}, Directory: dir, Link: unlinked{}, Profiles: []wire.Profile{profile}, Epoch: 1, Shards: 1,
		Logger: slog.New(slog.DiscardHandler)})
	for d := range dir.All() {
		e.shards[0].device(d.Address).presence = d.Presence
	}
	s := e.shards[0]
	s.linked = true
	create := func() []Created {
		j := &createJob{reqs: reqs, out: make([]Created, fleet), done: func() {}}
		for i := range reqs {
			j.index = append(j.index, i)
		}
		s.turn([]job{j})
		return j.out
	}
	answers := func(made []Created) (acks, results []job) {
		for i := range made {
			if made[i].Err != nil {
				b.Fatal(made[i].Err)
			}
			c := &made[i].Command
			up := wire.Up{Address: c.Device, Kind: wire.UpAck, Ack: wire.Ack{TID: c.TID.String(), Status: wire.Received}}
			acks = append(acks, &upJob{up: up, m: Message{Ack: func() {}}})
			up = wire.Up{Address: c.Device, Kind: wire.UpResult, Result: wire.Result{TID: c.TID.String(), Status: wire.Success}}
			results = append(results, &upJob{up: up, m: Message{Ack: func() {}}})
		}
		return acks, results
	}
	b.Run("create+dispatch", func(b *testing.B) {
		b.ReportAllocs()
		for n := 0; n < b.N; n += fleet {
			made := create()
			b.StopTimer()
			acks, results := answers(made)
			s.turn(append(acks, results...))
			b.StartTimer()
		}
	})
	b.Run("ack+result", func(b *testing.B) {
		b.ReportAllocs()
		for n := 0; n < b.N; n += fleet {
			b.StopTimer()
			acks, results := answers(create())
			b.StartTimer()
			s.turn(append(acks, results...))
		}
	})
	if n := e.Stats().Open; n != 0 {
		b.Errorf("%d commands have not ended", n)
	}
}

// BenchmarkSupersede makes a command that may supersede, for a device with a long
// queue of others.
func BenchmarkSupersede(b *testing.B) {
	for _, queue := range []int{10, 1000, 10000} {
		b.Run(fmt.Sprint(queue), func(b *testing.B) {
			dir := &directory{devices: map[wire.Address]store.Device{valve: {Address: valve}}}
			e := New(Options{Store: nowhere{}, Directory: dir, Link: unlinked{}, Profiles: []wire.Profile{wire.NewWilco("")}, Shards: 1,
				Logger: slog.New(slog.DiscardHandler)})
			s := e.shards[0]
			make := func(name string, n int, p command.Policy) {
				j := &createJob{out: make([]Created, n), done: func() {}}
				for i := range n {
					j.reqs = append(j.reqs, Request{Device: valve, Name: name, Policy: p})
					j.index = append(j.index, i)
				}
				s.turn([]job{j})
			}
			make("log", queue, command.Policy{DeliverBy: command.Duration(24 * time.Hour)})
			b.ReportAllocs()
			for b.Loop() {
				make("set", 1, command.Policy{Supersede: true})
			}
		})
	}
}

// BenchmarkTerms runs whole lives, without a store and a broker, for a command without a type, with
// one that says nothing of when it may go, and for those that do. b.N counts commands.
func BenchmarkTerms(b *testing.B) {
	for name, terms := range map[string]*command.Terms{
		"untyped":   nil,
		"typed":     {TypeVersion: 1},
		"condition": {TypeVersion: 1, If: &state.Condition{Path: "door", Op: state.Eq, Value: "closed"}},
		"exclusive": {TypeVersion: 1, Exclusive: "water"},
		"atMost":    {TypeVersion: 1, AtMost: &command.AtMost{Count: 1000}},
	} {
		b.Run(name, func(b *testing.B) {
			const fleet = 100
			dir := &directory{devices: map[wire.Address]store.Device{}}
			e := New(Options{Store: nowhere{}, Directory: dir, Link: unlinked{}, Profiles: []wire.Profile{wire.NewWilco("")}, Epoch: 1, Shards: 1,
				Logger: slog.New(slog.DiscardHandler)})
			s := e.shards[0]
			s.linked = true
			reqs, index := make([]Request, fleet), make([]int, fleet)
			for i := range reqs {
				a := wire.Address{Group: fmt.Sprint("plant-", i), Device: "valve"} // each has its own exclusive place
				dir.devices[a] = store.Device{Address: a}
				s.device(a).presence = store.Presence{Device: a, Known: true, Online: true, Boot: "b"}
				s.keepReplica(a, kept{Replica: replica.Replica{Reported: state.Object{"door": "closed"}}})
				reqs[i], index[i] = Request{Device: a, Name: "open", Params: json.RawMessage(`{"percent":40}`), By: "bench", Terms: terms}, i
			}
			b.ReportAllocs()
			for n := 0; n < b.N; n += fleet {
				j := &createJob{reqs: reqs, index: index, out: make([]Created, fleet), done: func() {}}
				s.turn([]job{j})
				ends := make([]job, fleet)
				for i := range j.out {
					c := &j.out[i].Command
					ends[i] = &upJob{up: wire.Up{Address: c.Device, Kind: wire.UpResult, Result: wire.Result{TID: c.TID.String(), Status: wire.Success}},
						m: Message{Ack: func() {}}}
				}
				s.turn(ends)
			}
			if n := e.Stats().Open; n != 0 {
				b.Errorf("%d commands have not ended", n)
			}
		})
	}
}
