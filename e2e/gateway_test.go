package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/device"
	"github.com/wilco-iot/wilco/wire"
)

// cable is the line between a gateway and the server above, in the test's hands.
type cable struct {
	net.Listener
	to string

	mu    sync.Mutex
	cut   bool // nothing is let through, and who comes is turned away
	stuck bool // what is sent vanishes, and nobody is told
	ends  map[net.Conn]struct{}
}

func newCable(t *testing.T, to string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{Listener: l, to: to, ends: map[net.Conn]struct{}{}}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { c.join(near) })
		}
	})
	t.Cleanup(func() { l.Close(); c.Cut(); running.Wait() })
	return c
}

func (c *cable) join(near net.Conn) {
	defer near.Close()
	far, err := net.Dial("tcp", c.to)
	if err != nil {
		return
	}
	defer far.Close()
	c.mu.Lock()
	if c.cut || c.stuck {
		c.mu.Unlock()
		return
	}
	c.ends[near], c.ends[far] = struct{}{}, struct{}{}
	c.mu.Unlock()
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
		go func() {
			b := make([]byte, 32<<10)
			for {
				n, err := pair[0].Read(b)
				if n > 0 && !c.isStuck() {
					if _, err := pair[1].Write(b[:n]); err != nil {
						break
					}
				}
				if err != nil {
					break
				}
			}
			done <- struct{}{}
		}()
	}
	<-done
	near.Close()
	far.Close()
	<-done
	c.mu.Lock()
	delete(c.ends, near)
	delete(c.ends, far)
	c.mu.Unlock()
}

func (c *cable) isStuck() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stuck
}

// Cut breaks the line, and both ends are told.
func (c *cable) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = true
	for end := range c.ends {
		end.Close()
	}
}

// Stick breaks the line, and nobody is told.
func (c *cable) Stick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stuck = true
}

// Mend lets new connections through.
func (c *cable) Mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stuck {
		for end := range c.ends {
			end.Close()
		}
	}
	c.cut, c.stuck = false, false
}

// edge is a server, a gateway below it, the line between, and a valve behind.
type edge struct {
	t          *testing.T
	srv, gw    *server
	line       *cable
	above, own *client.Client // APIs of the two
	serverEnv  []string
	http       string // address of the server's API
	config     string // of the gateway
	dir        string // of its data
	tcp        string // address of its broker

	secret string // of the valve, at the gateway

	mu    sync.Mutex
	order []string // what the valve has done
}

const valve = "plant-1/valve-2"

// newEdge starts all but the valve; more is added to the gateway's file.
func newEdge(t *testing.T, more string) *edge {
	t.Helper()
	return newEdgeIn(t, filepath.Join(t.TempDir(), "gateway"), more)
}

// newEdgeIn is newEdge with the data of the gateway in dir.
func newEdgeIn(t *testing.T, dir, more string) *edge {
	t.Helper()
	e := &edge{t: t, dir: dir}
	var addresses [4]string
	for i := range addresses {
		var err error
		if addresses[i], err = freeAddress(); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(t.TempDir(), "server")
	e.serverEnv = []string{"WILCO_DATA=" + data, "WILCO_HTTP_ADDRESS=" + addresses[0], "WILCO_MQTT_TCP=" + addresses[1], "WILCO_LOG_LEVEL=warn"}
	e.startServer()
	e.http = addresses[0]
	e.above = apiOf(t, e.http, data)
	gateway, err := e.above.AddDevice(t.Context(), client.NewDevice{Device: "plant-1/gw-1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.above.AddDevice(t.Context(), client.NewDevice{Device: valve, Via: "plant-1/gw-1"}); err != nil {
		t.Fatal(err)
	}
	e.line = newCable(t, addresses[1])
	e.tcp = addresses[3]
	e.config = filepath.Join(t.TempDir(), "gateway.yaml")
	text := fmt.Sprintf("name: plant-1/gw-1\nupstream: {url: mqtt://%s, secret: %s, keepAlive: 1s}\ndata: %s\nhttp: {address: %s}\nmqtt: {tcp: %s}\nlog: {level: warn}\n%s",
		e.line.Addr(), gateway.Secret, e.dir, addresses[2], e.tcp, more)
	if err := os.WriteFile(e.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e.startGateway()
	e.own = apiOf(t, addresses[2], e.dir)
	d, err := e.own.AddDevice(t.Context(), client.NewDevice{Device: valve})
	if err != nil {
		t.Fatal(err)
	}
	e.secret = d.Secret
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("server:\n%s\ngateway:\n%s", e.srv.out.String(), e.gw.out.String())
		}
	})
	return e
}

func apiOf(t *testing.T, address, data string) *client.Client {
	t.Helper()
	c, err := client.New("http://"+address, client.Token(adminToken(t, data)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (e *edge) startServer() {
	e.t.Helper()
	var err error
	if e.srv, err = serve(e.serverEnv); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { e.srv.kill() })
}

func (e *edge) startGateway() {
	e.t.Helper()
	var err error
	if e.gw, err = serving("wilco gateway", nil, "gateway", "--config", e.config); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { e.gw.kill() })
}

// powerOn starts the valve, of the device library. It reports its position, and
// takes commands "turn" and "mine".
func (e *edge) powerOn() *device.Replica[map[string]any] {
	e.t.Helper()
	a, err := wire.ParseAddress(valve)
	if err != nil {
		e.t.Fatal(err)
	}
	d, err := device.New(device.Config{Address: a, Servers: []string{"mqtt://" + e.tcp}, Password: []byte(e.secret), Journal: new(device.MemoryJournal)})
	if err != nil {
		e.t.Fatal(err)
	}
	state := device.NewReplica[map[string]any](d)
	state.OnDesired("position", func(_ context.Context, v json.RawMessage) error {
		e.did("position " + string(v))
		return nil
	})
	for _, name := range []string{"turn", "mine"} {
		d.Handle(name, func(_ context.Context, r *device.Request) (any, error) {
			e.did(name + " " + string(r.Params))
			return nil, nil
		})
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	e.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			e.t.Error(err)
		}
	})
	return state
}

func (e *edge) did(what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.order = append(e.order, what)
}

func (e *edge) done() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.order...)
}

// sees waits until the server above says whether a device is there.
func (e *edge) sees(name string, online bool) {
	e.t.Helper()
	err := within(patience, func() error {
		d, err := e.above.Device(e.t.Context(), name)
		if err == nil && d.Presence.Online != online {
			err = fmt.Errorf("%s: online is %v at the server above", name, d.Presence.Online)
		}
		return err
	})
	if err != nil {
		e.t.Fatal(err)
	}
}

// desires asks for a position and waits for the end of that.
func (e *edge) desires(api *client.Client, position int) *client.Command {
	e.t.Helper()
	return e.ended(api, e.asks(api, position))
}

func (e *edge) asks(api *client.Client, position int) string {
	e.t.Helper()
	c, err := api.SetDesired(e.t.Context(), valve, client.Desire{Patch: json.RawMessage(fmt.Sprintf(`{"position":%d}`, position))})
	if err != nil {
		e.t.Fatal(err)
	}
	return c.TID
}

func (e *edge) ended(api *client.Client, tid string) *client.Command {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), patience)
	defer cancel()
	c, err := api.Await(ctx, tid)
	if err != nil {
		e.t.Fatal(err)
	}
	return c
}

// positions of the valve at one of the servers: desired and reported.
func (e *edge) positions(api *client.Client) (desired, reported string) {
	e.t.Helper()
	s, err := api.State(e.t.Context(), valve, false)
	if err != nil {
		e.t.Fatal(err)
	}
	at := func(doc json.RawMessage) string {
		var m map[string]json.RawMessage
		if err := json.Unmarshal(doc, &m); err != nil {
			e.t.Fatal(err)
		}
		return string(m["position"])
	}
	return at(s.Desired), at(s.Reported)
}

func (e *edge) comesTo(api *client.Client, desired, reported string) {
	e.t.Helper()
	err := within(patience, func() error {
		if d, r := e.positions(api); d != desired || r != reported {
			return fmt.Errorf("desired %s, reported %s; want %s and %s", d, r, desired, reported)
		}
		return nil
	})
	if err != nil {
		e.t.Fatal(err)
	}
}

// TestGatewayPassesCommands: a command of the server above is executed behind the
// gateway; one that is asked for while the line is broken waits, costs no attempt,
// and is executed when the line is back. So it is when the line breaks silently.
func TestGatewayPassesCommands(t *testing.T) {
	t.Parallel()
	e := newEdge(t, "")
	e.powerOn()
	e.sees(valve, true)
	turn := func() string {
		c, err := e.above.Send(t.Context(), valve, client.Order{Name: "turn", Params: json.RawMessage(`{}`)})
		if err != nil {
			t.Fatal(err)
		}
		return c.TID
	}
	if c := e.ended(e.above, turn()); c.State != client.Executed {
		t.Errorf("ended as %s (%s): %s", c.State, c.Reason, c.Detail)
	}
	e.desires(e.above, 7)
	e.comesTo(e.above, "7", "7")
	e.comesTo(e.own, "7", "7")
	for name, broken := range map[string]func(){"cut": e.line.Cut, "half-open": e.line.Stick} {
		broken()
		e.sees("plant-1/gw-1", false)
		e.sees(valve, false)
		tid := turn()
		e.line.Mend()
		c := e.ended(e.above, tid)
		if c.State != client.Executed || c.Attempt != 1 {
			t.Errorf("%s: ended as %s (%s) after %d attempts", name, c.State, c.Reason, c.Attempt)
		}
		e.sees(valve, true)
	}
	if got := len(e.done()); got != 4 {
		t.Errorf("the valve has done %q", e.done())
	}
}
