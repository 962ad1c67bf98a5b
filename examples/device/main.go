// Command device is a valve that takes commands over MQTT: the shortest useful
// program on top of package device.
//
//	go run ./examples/device --server mqtt://localhost:1883 --device north/valve-1 --secret s3cret --dir /tmp/valve-1
//
// It knows three commands:
//
//	set  {"position": 40}   jumps to a position
//	move {"position": 40}   goes there slowly, telling how far it has come; can be cancelled
//	fail                    breaks down
//
// and it reports its position as its state, where it can also be desired.
//
// Try to kill it while it moves, and start it again: the command ends as
// interrupted, and is not executed a second time.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/wilco-iot/wilco/device"
	"github.com/wilco-iot/wilco/wire"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "device:", err)
		os.Exit(1)
	}
}

func run() error {
	server := flag.String("server", "mqtt://localhost:1883", "URL of the MQTT server")
	name := flag.String("device", "north/valve-1", "address of this device, group/device")
	secret := flag.String("secret", "", "password of this device; empty: anonymous")
	ca := flag.String("ca", "", "PEM file with the authorities of the certificate of an mqtts server; empty: those of the system")
	dir := flag.String("dir", "./valve", "directory of the journal, which must survive restarts")
	flag.Parse()

	address, err := wire.ParseAddress(*name)
	if err != nil {
		return err
	}
	var password []byte
	if *secret != "" {
		password = []byte(*secret)
	}
	trusted, err := trust(*ca)
	if err != nil {
		return err
	}
	v := &valve{tell: func() {}}
	d, err := device.New(device.Config{
		Address:  address,
		Servers:  []string{*server},
		TLS:      trusted,
		Password: password,
		Dir:      *dir,
		Firmware: "example 1.0",
		State:    v.state,
		Logger:   slog.Default(),
	})
	if err != nil {
		return err
	}
	d.Handle("set", v.set)
	d.Handle("move", v.move)
	d.Handle("fail", func(context.Context, *device.Request) (any, error) {
		return nil, device.Fail("stuck", "the valve does not move")
	})

	// What is desired is done like a command; where the valve stands is reported
	// with every step, whoever has moved it.
	state := device.NewReplica[position](d)
	state.OnDesired("position", func(_ context.Context, value json.RawMessage) error {
		var to int
		if err := json.Unmarshal(value, &to); err != nil {
			return device.Reject(wire.ReasonBadParams, err.Error())
		}
		if to < 0 || to > 100 {
			return device.Reject(wire.ReasonBadParams, "position must be from 0 to 100")
		}
		v.moveTo(to)
		return nil
	})
	var telling sync.Mutex // so that the last report has the last position
	v.tell = func() {
		telling.Lock()
		defer telling.Unlock()
		if err := state.Report(position{v.where()}); err != nil {
			slog.Error("cannot report the position", "error", err)
		}
	}
	v.tell()

	// The first Ctrl-C stops the device cleanly: it says goodbye to the server.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return d.Run(ctx)
}

// trust reads the authorities in a file; nil, for "", means those of the system.
func trust(file string) (*tls.Config, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate", file)
	}
	return &tls.Config{RootCAs: pool}, nil
}

// valve is the thing that is controlled. Handlers run in their own goroutines,
// and the state may be asked for at any time.
type valve struct {
	mu       sync.Mutex
	position int
	tell     func() // told of every step, without mu
}

type position struct {
	Position int `json:"position"`
}

// target reads where the valve should go. A refusal must come before anything
// is done: the server then knows that nothing has happened.
func target(r *device.Request) (int, error) {
	var p position
	if err := r.Unmarshal(&p); err != nil {
		return 0, err
	}
	if p.Position < 0 || p.Position > 100 {
		return 0, device.Reject(wire.ReasonBadParams, "position must be from 0 to 100")
	}
	return p.Position, nil
}

func (v *valve) set(_ context.Context, r *device.Request) (any, error) {
	to, err := target(r)
	if err != nil {
		return nil, err
	}
	v.moveTo(to)
	return position{to}, r.State(v.state())
}

// move goes one step at a time. When the command is cancelled it stops where it
// is and returns ctx.Err(): the server learns that, and where the valve stands.
func (v *valve) move(ctx context.Context, r *device.Request) (any, error) {
	to, err := target(r)
	if err != nil {
		return nil, err
	}
	from := v.where()
	step := time.NewTicker(100 * time.Millisecond)
	defer step.Stop()
	for at := from; at != to; {
		select {
		case <-ctx.Done():
			r.State(v.state())
			return nil, ctx.Err()
		case <-step.C:
		}
		if at < to {
			at++
		} else {
			at--
		}
		v.moveTo(at)
		r.Progress(100*float64(at-from)/float64(to-from), fmt.Sprintf("at %d", at))
	}
	return position{to}, r.State(v.state())
}

func (v *valve) moveTo(at int) {
	v.mu.Lock()
	v.position = at
	v.mu.Unlock()
	v.tell()
}

func (v *valve) where() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.position
}

func (v *valve) state() any { return position{v.where()} }
