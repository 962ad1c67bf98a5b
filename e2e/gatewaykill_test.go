package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/mqtt"
	mqttclient "github.com/wilco-iot/wilco/mqtt/client"
)

// until asks for n things, one after the other, each again until somebody has taken it,
// and gives the identifiers of the commands.
func (e *edge) until(n int, name string, api func() *client.Client) (tids []string) {
	for i := range n {
		o := client.Order{Name: name, Params: json.RawMessage(strconv.Itoa(i)), Key: name + strconv.Itoa(i)}
		err := within(patience, func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			c, err := api().Send(ctx, valve, o)
			if err == nil {
				tids = append(tids, c.TID)
			}
			return err
		})
		if err != nil {
			e.t.Errorf("%s %d: %v", name, i, err)
			return tids
		}
	}
	return tids
}

// TestGatewayKillNine kills the server above and the gateway at random moments, while
// both ask the same valve for things. Each is done once, those of each asker in their
// order; and when all is quiet, both histories have all of them, with the same ends.
func TestGatewayKillNine(t *testing.T) {
	t.Parallel()
	const orders = 150
	rounds := roundsOf(t, 6)
	rnd := rand.New(rand.NewPCG(seedOf(t), 27))
	e := newEdge(t, "")
	e.powerOn()
	e.sees(valve, true)
	var asking sync.WaitGroup
	var above, own []string
	asking.Go(func() { above = e.until(orders, "turn", func() *client.Client { return e.above }) })
	asking.Go(func() { own = e.until(orders, "mine", func() *client.Client { return e.own }) })
	for range rounds {
		<-time.After(time.Duration(rnd.Int64N(int64(time.Second))))
		if rnd.IntN(2) == 0 {
			e.srv.kill()
			e.startServer()
		} else {
			e.gw.kill()
			e.startGateway()
		}
	}
	asking.Wait()
	ends := map[string]int{}
	for _, tid := range above {
		ends[string(e.ended(e.above, tid).State)]++
	}
	for _, tid := range own {
		e.ended(e.own, tid)
		err := within(patience, func() error { // told above when it has ended
			c, err := e.above.Get(t.Context(), tid)
			if err == nil && (c.State != client.Executed || !strings.HasSuffix(c.RequestedBy, " at plant-1/gw-1")) {
				err = fmt.Errorf("is %s, asked for by %s", c.State, c.RequestedBy)
			}
			return err
		})
		if err != nil {
			t.Errorf("%s at the server above: %v", tid, err)
		}
	}
	if ends[string(client.Executed)] != orders {
		t.Errorf("the server's %d ended as %v", orders, ends)
	}
	next := map[string]int{}
	for _, what := range e.done() {
		name, n, _ := strings.Cut(what, " ")
		if n != strconv.Itoa(next[name]) {
			t.Errorf("%s was done where %d was due", what, next[name])
		}
		next[name]++
	}
	if next["turn"] != orders || next["mine"] != orders {
		t.Errorf("done: %v", next)
	}
}

// TestGatewayMirrorsOnce kills the gateway and the broker above at random moments under
// load both ways. Up, each message comes once and in its order; down, in its order, and
// again only if its acknowledgement was under way at a kill.
func TestGatewayMirrorsOnce(t *testing.T) {
	t.Parallel()
	const messages = 4000
	rounds := roundsOf(t, 8)
	rnd := rand.New(rand.NewPCG(seedOf(t), 28))
	var addresses [2]string
	for i := range addresses {
		var err error
		if addresses[i], err = freeAddress(); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "gateway.yaml")
	secret, hash := brokerSecret(t)
	files := map[string]string{
		filepath.Join(dir, "users.yaml"): "users:\n  - {name: panel, secret: " + hash + ", publish: [up/#], subscribe: [down/#]}\n",
		file: fmt.Sprintf("name: s/gw\nupstream: {url: mqtt://%s, secret: x, keepAlive: 1s}\ndata: %s\nhttp: {address: 127.0.0.1:0}\nmqtt: {tcp: %s, users: %s}\n"+
			"mirror: {up: [up/#], down: [down/#]}\nlog: {level: error}\n", addresses[0], filepath.Join(dir, "gateway"), addresses[1], filepath.Join(dir, "users.yaml")),
	}
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	startGateway := func() *server {
		gw, err := serving("wilco gateway", nil, "gateway", "--config", file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { gw.kill() })
		return gw
	}
	startBroker := func() *process {
		p, err := spawn("wilco broker", nil, nil, program("wilco"), "broker", "--tcp", addresses[0], "--anonymous", "--data", filepath.Join(dir, "broker"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.kill)
		return p
	}
	up, gw := startBroker(), startGateway()
	above := newCounting(t, addresses[0], "above", "", "up/#")
	panel := newCounting(t, addresses[1], "panel", secret, "down/#")
	above.mouth(t, "down/first", 1) // it passes when both sides have subscribed
	panel.mouth(t, "up/first", 1)
	above.await(t, 1)
	panel.await(t, 1)
	var talking sync.WaitGroup
	talking.Go(func() { above.mouth(t, "down/x", messages) })
	talking.Go(func() { panel.mouth(t, "up/x", messages) })
	for range rounds {
		<-time.After(time.Duration(rnd.Int64N(int64(700 * time.Millisecond))))
		if rnd.IntN(3) == 0 {
			up.kill()
			up = startBroker()
		} else {
			gw.kill()
			gw = startGateway()
		}
	}
	talking.Wait()
	above.await(t, 1+messages)
	panel.await(t, 1+messages)
	if repeats := above.inOrder(t); repeats > 0 {
		t.Errorf("up, %d came twice", repeats)
	}
	t.Logf("%d messages each way over %d kills; %d came twice down", messages, rounds, panel.inOrder(t))
}

// counting is a client with a lasting session that hears numbers, and says some.
type counting struct {
	*mqttclient.Client
	mu    sync.Mutex
	heard []int
}

func newCounting(t *testing.T, address, name, secret string, filter string) *counting {
	t.Helper()
	h := &counting{}
	o := mqttclient.Options{Servers: []string{"mqtt://" + address}, ClientID: name, Username: name, SessionExpiry: time.Hour, MaxInflight: 200,
		Backoff:       mqttclient.Backoff{Min: 10 * time.Millisecond, Max: 100 * time.Millisecond},
		Subscriptions: []mqtt.Subscription{{Filter: filter, QoS: mqtt.ExactlyOnce}},
		OnMessage: func(d *mqttclient.Delivery) {
			n, err := strconv.Atoi(string(d.Payload))
			if err != nil {
				t.Error(err)
			}
			h.mu.Lock()
			h.heard = append(h.heard, n)
			h.mu.Unlock()
			d.Ack()
		}}
	if secret != "" {
		o.Password = []byte(secret)
	}
	var err error
	if h.Client, err = mqttclient.New(o); err != nil {
		t.Fatal(err)
	}
	h.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = h.Stop(ctx) // its broker may be gone
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := h.AwaitUp(ctx); err != nil {
		t.Fatal(err)
	}
	return h
}

// mouth says the numbers below n, and waits until they are taken.
func (h *counting) mouth(t *testing.T, topic string, n int) {
	var taken sync.WaitGroup
	for i := range n {
		taken.Add(1)
		m := mqttclient.Message{Topic: topic, Payload: []byte(strconv.Itoa(i)), QoS: mqtt.ExactlyOnce}
		err := h.PublishAsync(m, func(r mqttclient.Result) {
			if r.Err != nil {
				t.Errorf("%s %d: %v", topic, i, r.Err)
			}
			taken.Done()
		})
		if err != nil {
			t.Errorf("%s %d: %v", topic, i, err)
			taken.Done()
		}
		if i%10 == 9 {
			<-time.After(10 * time.Millisecond) // the load goes on while both are killed
		}
	}
	if err := waited(&taken); err != nil {
		t.Errorf("%s: %v", topic, err)
	}
}

// await waits until so many different numbers were heard.
func (h *counting) await(t *testing.T, n int) {
	t.Helper()
	err := within(patience, func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.heard) < n || h.heard[len(h.heard)-1] != max(n-2, 0) {
			return fmt.Errorf("%d of %d were heard, the last %v", len(h.heard), n, h.heard[max(0, len(h.heard)-3):])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// inOrder says how many were heard again; behind the first 0, none may be missing.
func (h *counting) inOrder(t *testing.T) (repeats int) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	next := 0
	for _, n := range h.heard[1:] {
		switch {
		case n == next:
			next++
		case n < next:
			repeats++
		default:
			t.Fatalf("%d was heard where %d was due", n, next)
		}
	}
	return repeats
}
