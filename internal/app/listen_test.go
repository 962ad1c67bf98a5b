package app

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	_ "modernc.org/sqlite" // the driver of the program that holds the lock

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/engine"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/wire"
)

// lamp speaks the profile atlas: what it says is never asked for again.
var lamp = wire.Address{Group: wire.AtlasGroup, Device: "lamp"}

const lampTopic = "commands/lamp/ack"

// startAt starts a server with one MQTT listener at an address.
func startAt(t *testing.T, data, address, durability string) *Server {
	t.Helper()
	s := New(Options{Data: data, HTTP: "127.0.0.1:0", Logger: quiet(), Durability: durability,
		Listeners: []broker.Listener{{Name: "tcp", Network: "tcp", Address: address}}})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func addLamp(t *testing.T, s *Server) (secret string) {
	t.Helper()
	_, secret, err := s.Fleet.Add(t.Context(), fleet.NewDevice{Address: lamp, Profile: "atlas"})
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func connectLamp(t *testing.T, address, secret string, o client.Options) *client.Client {
	t.Helper()
	o.Servers, o.ClientID, o.Username, o.Password = []string{"mqtt://" + address}, lamp.String(), lamp.String(), []byte(secret)
	c, err := client.New(o)
	if err != nil {
		t.Fatal(err)
	}
	c.Start()
	t.Cleanup(func() { _ = c.Stop(context.Background()) })
	return c
}

// A device that speaks the moment the listener opens, and until it is sent away,
// again and again: the server has heard every word that was acknowledged.
// Shows [B4d].
func TestNoWordIsAcknowledgedAndNotHeard(t *testing.T) {
	address, data := testkit.FreeAddress(t), t.TempDir()
	s := startAt(t, data, address, "memory")
	secret := addLamp(t, s)
	var acked, unheard atomic.Int64
	var heard int64
	c := connectLamp(t, address, secret, client.Options{Backoff: client.Backoff{Min: time.Millisecond, Max: time.Millisecond}})
	ctx, stop := context.WithCancel(t.Context())
	done, spoke := make(chan struct{}), make(chan struct{}, 1)
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			word := fmt.Appendf(nil, `{"tid":%q,"status":"SUCCESS"}`, uuid.NewString())
			var r client.Result
			answered := make(chan struct{})
			if err := c.PublishAsync(client.Message{Topic: lampTopic, Payload: word, QoS: 1}, func(x client.Result) { r = x; close(answered) }); err != nil {
				return
			}
			select {
			case <-answered:
			case <-ctx.Done():
				return
			}
			if acked.Add(1); r.Err != nil || r.Reason == mqtt.NoMatchingSubscribers {
				unheard.Add(1)
			}
			select {
			case spoke <- struct{}{}:
			default:
			}
		}
	}()
	for range 10 {
		for range 10 {
			testkit.Receive(t, spoke)
		}
		stopServer(t, s)
		heard += s.Engine.Stats().Received
		s = startAt(t, data, address, "memory")
	}
	stop()
	testkit.Receive(t, done)
	stopServer(t, s)
	heard += s.Engine.Stats().Received
	if n := unheard.Load(); n > 0 || heard < acked.Load() {
		t.Errorf("%d words acknowledged, %d of them to nobody; %d heard", acked.Load(), n, heard)
	}
}

// What the server cannot keep is not acknowledged: here the database is locked
// from before the word until after the device was sent away. A clean stop takes
// it all the same.
// Shows [B4d].
func TestNothingIsAcknowledgedBeforeTheServerHasKeptIt(t *testing.T) {
	for _, durability := range []string{"memory", "fsync"} {
		t.Run(durability, func(t *testing.T) {
			data := t.TempDir()
			s := startAt(t, data, "127.0.0.1:0", durability)
			asked := make(chan []byte, 1)
			down := make(chan struct{}, 1)
			c := connectLamp(t, s.MQTTAddr("tcp").String(), addLamp(t, s), client.Options{Backoff: client.Backoff{Min: time.Hour, Max: time.Hour},
				Subscriptions: []mqtt.Subscription{{Filter: "commands/lamp", QoS: 1}},
				OnMessage:     func(d *client.Delivery) { d.Ack(); asked <- d.CorrelationData },
				OnDown:        func(error) { down <- struct{}{} }})
			if err := c.AwaitUp(t.Context()); err != nil {
				t.Fatal(err)
			}
			out, err := s.Engine.Create(t.Context(), []engine.Request{{Device: lamp, Name: "on", By: "test"}})
			if err != nil || out[0].Err != nil {
				t.Fatal(err, out[0].Err)
			}
			tid := testkit.Receive(t, asked)
			release := lockDatabase(t, filepath.Join(data, "wilco.db"))
			answered := make(chan client.Result, 1)
			if err := c.PublishAsync(client.Message{Topic: lampTopic, QoS: 1, Payload: fmt.Appendf(nil, `{"tid":%q,"status":"SUCCESS"}`, tid)},
				func(r client.Result) { answered <- r }); err != nil {
				t.Fatal(err)
			}
			for s.Broker.Queued(ownClient) == 0 {
				runtime.Gosched()
			}
			stopped := make(chan struct{})
			go func() { stopServer(t, s); close(stopped) }()
			testkit.Receive(t, down)
			select {
			case r := <-answered:
				t.Errorf("acknowledged before it was kept: %+v", r)
			default:
			}
			release()
			testkit.Receive(t, stopped)
			s = startAt(t, data, "127.0.0.1:0", durability)
			defer stopServer(t, s)
			got, err := s.Store.Command(t.Context(), out[0].Command.TID)
			if err != nil || got.State != command.Executed {
				t.Errorf("%s is %s: %v", tid, got.State, err)
			}
		})
	}
}

// lockDatabase takes SQLite's write lock, as another program would.
func lockDatabase(t *testing.T, path string) (release func()) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(20000)&_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(errors.Join(err, db.Close()))
	}
	return func() {
		if err := errors.Join(tx.Rollback(), db.Close()); err != nil {
			t.Error(err)
		}
	}
}
