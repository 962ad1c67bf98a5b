package requests

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/google/uuid"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/engine"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/service"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/wire"
)

// still is an engine whose commands never go on, and a store that keeps what was
// written.
type still struct{ docs []store.Document }

func (*still) Wait(ctx context.Context, _ command.TID, _ func(*command.Command) bool) (command.Command, error) {
	<-ctx.Done()
	return command.Command{}, ctx.Err()
}

func (s *still) Commit(_ context.Context, b *store.Batch) (int64, error) {
	for _, w := range b.Documents {
		s.docs = append(s.docs, store.Document{DocumentID: w.DocumentID, Version: w.Was + 1, Body: w.Body})
	}
	return 0, nil
}

func (s *still) Document(context.Context, store.DocumentID) (store.Document, error) {
	return store.Document{}, nil
}

func (s *still) Documents(_ context.Context, _ store.Kind, _, after string, limit int) ([]store.Document, error) {
	var page []store.Document
	for _, d := range s.docs { // their keys rise
		if d.Key > after && len(page) < limit {
			page = append(page, d)
		}
	}
	return page, nil
}

func answersOf(name string) address {
	return address{Topic: "wilco-replies/" + name + "/answers", Correlation: []byte("1")}
}

// TestNobodyKeepsOthersOut: one requester has only so many open requests, also after
// a restart, and the others have room.
func TestNobodyKeepsOthersOut(t *testing.T) {
	db := &still{}
	r := New(Options{Engine: db, Store: db})
	defer func() { _ = r.Stop(context.Background()); r.running.Wait() }()
	for i := range maxOpenEach {
		if err := r.room(answersOf("ann")); err != nil {
			t.Fatal(i, err)
		}
		if err := r.follow(t.Context(), &command.Command{TID: uuid.UUID{0: byte(i >> 8), 1: byte(i)}}, answersOf("ann")); err != nil {
			t.Fatal(err)
		}
	}
	again := New(Options{Engine: db, Store: db})
	if err := again.takeUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*Runner{r, again} {
		if err := r.room(answersOf("ann")); fault.CodeOf(err) != fault.TooMany {
			t.Error(err)
		}
		if err := r.room(answersOf("bo")); err != nil {
			t.Error(err)
		}
	}
	again.forget(again.open[uuid.UUID{}])
	if err := again.room(answersOf("ann")); err != nil {
		t.Error(err)
	}
}

// TestNobodyTakesAnswersAway: a request that comes again by its key moves the answers
// within the space of its requester, and not into another's.
func TestNobodyTakesAnswersAway(t *testing.T) {
	db := &still{}
	r := New(Options{Engine: db, Store: db})
	defer func() { _ = r.Stop(context.Background()); r.running.Wait() }()
	c := &command.Command{TID: uuid.UUID{1}}
	elsewhere := address{Topic: "wilco-replies/ann/elsewhere", Correlation: []byte("2")}
	for _, to := range []address{answersOf("ann"), elsewhere} {
		if err := r.follow(t.Context(), c, to); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.follow(t.Context(), c, answersOf("bo")); fault.CodeOf(err) != fault.Conflict {
		t.Error(err)
	}
	var kept address
	if err := json.Unmarshal(db.docs[len(db.docs)-1].Body, &kept); err != nil || kept.Topic != elsewhere.Topic {
		t.Errorf("%+v %v", kept, err)
	}
}

// once is a service that has made one command, by a key.
type once struct {
	key  string
	made command.Command
}

func (s *once) Send(_ context.Context, _ service.Principal, o service.Order) (service.Created, error) {
	if o.Key == s.key {
		return service.Created{Created: engine.Created{Command: s.made, Existed: true}}, nil
	}
	return service.Created{Created: engine.Created{Command: command.Command{TID: uuid.UUID{0xff}}}}, o.Room()
}

// TestARequestThatComesAgainNeedsNoRoom: it is told of its command, however many are
// open; one that is new is not taken.
func TestARequestThatComesAgainNeedsNoRoom(t *testing.T) {
	db := &still{}
	r := New(Options{Engine: db, Store: db, Service: &once{key: "k"}})
	defer func() { _ = r.Stop(context.Background()); r.running.Wait() }()
	for i := range maxOpenEach {
		if err := r.follow(t.Context(), &command.Command{TID: uuid.UUID{0: byte(i >> 8), 1: byte(i)}}, answersOf("ann")); err != nil {
			t.Fatal(err)
		}
	}
	send := func(key string) error {
		d := &client.Delivery{Message: client.Message{Payload: []byte(`{"name":"n","key":"` + key + `"}`)}}
		return r.send(t.Context(), service.Principal{Name: "ann"}, "app", wire.Address{Group: "g", Device: "d"}, answersOf("ann"), d)
	}
	if err := send("k"); err != nil {
		t.Error("the same again:", err)
	}
	if err := send("new"); fault.CodeOf(err) != fault.TooMany {
		t.Error("a new one:", err)
	}
}
