package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/wire"
)

// puppet is a connection with the credentials of a device, or of the server,
// that says what the script wants, be it right or wrong.
type puppet struct {
	name  string
	boot  string // "" says no status
	going atomic.Bool
	c     *client.Client
	got   chan *client.Delivery
	epoch int64 // of the last request
	seq   int64
}

func (w *world) versionName() string {
	if w.version == mqtt.V311 {
		return "3.1.1"
	}
	return "5"
}

// dial connects a puppet and subscribes to filters. With a boot id it then says at each
// connection that it is online, as devices do, and has a Will.
func (w *world) dial(name, boot, user, secret string, filters ...string) (*puppet, error) {
	p := &puppet{name: name, boot: boot, got: make(chan *client.Delivery, 256)}
	var will *mqtt.Will
	if off := p.status(false); boot != "" {
		will = &mqtt.Will{Topic: off.Topic, QoS: off.QoS, Retain: off.Retain, Payload: off.Payload}
	}
	var subs []mqtt.Subscription
	for _, f := range filters {
		subs = append(subs, mqtt.Subscription{Filter: f, QoS: mqtt.AtLeastOnce})
	}
	var err error
	p.c, err = client.New(client.Options{Servers: []string{"mqtt://" + w.mqtt}, Version: w.version, ClientID: name, Username: user,
		Password: []byte(secret), CleanStart: true, Subscriptions: subs, Will: func() *mqtt.Will { return will },
		OnMessage: func(d *client.Delivery) { d.Ack(); p.got <- d },
		OnUp: func(client.Up) {
			if boot != "" && !p.going.Load() {
				_ = p.c.PublishAsync(p.status(true), func(client.Result) {}) // who waits for it sees that it is missing
			}
		}})
	if err != nil {
		return nil, err
	}
	p.c.Start()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.c.AwaitUp(ctx); err != nil {
		p.stop()
		return nil, fmt.Errorf("%s does not get in: %w", name, err)
	}
	return p, nil
}

func (p *puppet) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = p.c.Stop(ctx) // it may have been thrown out already
}

func (p *puppet) publish(m client.Message) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return p.c.Publish(ctx, m)
}

func (p *puppet) status(online bool) client.Message {
	return client.Message{Topic: "wilco/" + p.name + "/status", QoS: mqtt.AtLeastOnce, Retain: true,
		Payload: fmt.Appendf(nil, `{"online":%v,"boot":%q}`, online, p.boot)}
}

// wordPuppet: puppet GROUP/DEVICE BOOT connects as a device that listens to its
// commands and says that it is online with this boot id. BOOT - says nothing.
func wordPuppet(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, len(args) == 2, "puppet GROUP/DEVICE BOOT|-")
	w := of(ts)
	name := args[0]
	if w.puppets[name] != nil {
		ts.Fatalf("%s is there already", name)
	}
	boot := args[1]
	if boot == "-" {
		boot = ""
	}
	p, err := w.dial(name, boot, name, w.secret(name), "wilco/"+name+"/command")
	ts.Check(err)
	w.puppets[name] = p
	if boot != "" {
		wordOnline(ts, false, args[:1])
	}
}

// wordLeave: leave GROUP/DEVICE has a puppet say that it goes, and go.
func wordLeave(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 1, "leave GROUP/DEVICE")
	w := of(ts)
	p := w.puppet(args[0])
	delete(w.puppets, args[0])
	p.going.Store(true) // a connection made from now on must not say the opposite
	ts.Check(p.publish(p.status(false)))
	p.stop()
	wordOffline(ts, false, args)
}

// puppet finds a puppet; "server" is one with the credentials that Mosquitto
// has for the server.
func (w *world) puppet(name string) *puppet {
	p := w.puppets[name]
	if p == nil && name == "server" && w.broker != nil {
		var err error
		p, err = w.dial("somebody-else", "", w.broker.serverUser, w.broker.serverSecret)
		w.ts.Check(err)
		w.puppets[name] = p
	}
	if p == nil {
		w.ts.Fatalf("%s is not there", name)
	}
	return p
}

// wordExpect: expect GROUP/DEVICE STATUS [CMD] waits for the next message on a
// puppet's command topic, which must be a document of this status, and keeps its
// fields as $TID and $ATTEMPT. A request must have a higher epoch and seq than
// all before it.
func wordExpect(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && (len(args) == 2 || len(args) == 3), "expect GROUP/DEVICE STATUS [CMD]")
	w := of(ts)
	p := w.puppet(args[0])
	timer := time.NewTimer(patience)
	defer timer.Stop()
	var d *client.Delivery
	select {
	case d = <-p.got:
	case <-timer.C:
		ts.Fatalf("nothing came for %s", args[0])
	}
	ts.Logf("%s %s", d.Topic, d.Payload)
	if want := "wilco/" + p.name + "/command"; d.Topic != want || d.Retain {
		ts.Fatalf("a message on %s, retained %v; want %s", d.Topic, d.Retain, want)
	}
	c, err := wire.NewWilco("").ParseCommand(d.Payload)
	ts.Check(err)
	if c.Status != args[1] || len(args) == 3 && c.Cmd != args[2] {
		ts.Fatalf("%s %s, want %q", c.Status, c.Cmd, args[1:])
	}
	if c.Status == wire.Request {
		if c.Epoch < p.epoch || c.Epoch == p.epoch && c.Seq <= p.seq {
			ts.Fatalf("epoch %d seq %d after epoch %d seq %d", c.Epoch, c.Seq, p.epoch, p.seq)
		}
		p.epoch, p.seq = c.Epoch, c.Seq
		if string(d.CorrelationData) != c.TID && w.version == mqtt.V5 {
			ts.Fatalf("correlation data %q, want the tid", d.CorrelationData)
		}
	}
	ts.Setenv("TID", c.TID)
	ts.Setenv("ATTEMPT", fmt.Sprint(c.Attempt))
}

// wordPub: [!] pub [-retain] [-qos N] [-pad N] WHO TOPIC PAYLOAD publishes, with
// QoS 1 unless told otherwise. What
// is negated must be refused as not authorized; MQTT 3.1.1 has no way to say so,
// and the script must look at what did not happen. -pad puts N bytes in place of
// the word PAD.
func wordPub(ts *testscript.TestScript, neg bool, args []string) {
	f := flag.NewFlagSet("pub", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	retain := f.Bool("retain", false, "")
	pad := f.Int("pad", 0, "")
	qos := f.Int("qos", 1, "")
	need(ts, f.Parse(args) == nil && f.NArg() == 3, "[!] pub [-retain] [-qos N] [-pad N] WHO TOPIC PAYLOAD")
	w := of(ts)
	p := w.puppet(f.Arg(0))
	m := client.Message{Topic: f.Arg(1), QoS: mqtt.QoS(*qos), Retain: *retain,
		Payload: []byte(strings.ReplaceAll(f.Arg(2), "PAD", strings.Repeat("x", *pad)))}
	if neg && w.version == mqtt.V311 {
		m.QoS = mqtt.AtMostOnce // or a broker that cuts the connection would be told it again for ever
	}
	err := p.publish(m)
	var reason *client.ReasonError
	switch {
	case !neg:
		ts.Check(err)
	case w.version == mqtt.V5 && !(errors.As(err, &reason) && reason.Packet == mqtt.TypePuback && reason.Code == mqtt.NotAuthorized):
		ts.Fatalf("not refused by a PUBACK with 0x87, but %v", err)
	}
}

// wordSub: [!] sub WHO FILTER subscribes. What is negated must be refused by a
// SUBACK; Mosquitto does not refuse it, but delivers nothing.
func wordSub(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, len(args) == 2, "[!] sub WHO FILTER")
	w := of(ts)
	err := w.subscribe(w.puppet(args[0]), args[1])
	if !neg {
		ts.Check(err)
		return
	}
	var refused refusedError
	if w.broker == nil && !errors.As(err, &refused) {
		ts.Fatalf("not refused, but %v", err)
	}
}

type refusedError mqtt.ReasonCode

func (e refusedError) Error() string { return "SUBACK: " + mqtt.ReasonCode(e).String() }

func (w *world) subscribe(p *puppet, filter string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	codes, err := p.c.Subscribe(ctx, mqtt.Subscription{Filter: filter, QoS: mqtt.AtLeastOnce})
	if err != nil {
		return err
	}
	if len(codes) != 1 || codes[0].Failed() {
		return refusedError(codes[0])
	}
	return nil
}
