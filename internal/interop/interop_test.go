package interop

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"
	"go.uber.org/goleak"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute

// start runs a broker, and returns it with its host:port by transport.
func start(t *testing.T) (b *broker.Broker, tcp, ws string) {
	t.Helper()
	b, err := broker.New(broker.Options{
		Authority: broker.AllowAnonymous(),
		Listeners: []broker.Listener{
			{Name: "tcp", Network: "tcp", Address: "127.0.0.1:0"},
			{Name: "ws", Network: "ws", Address: "127.0.0.1:0"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := b.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return b, b.Addr("tcp").String(), b.Addr("ws").String()
}

// collect reads n strings.
func collect(t *testing.T, from <-chan string, n int) []string {
	t.Helper()
	end := time.After(patience)
	var got []string
	for len(got) < n {
		select {
		case s := <-from:
			got = append(got, s)
		case <-end:
			t.Fatalf("got %d of %d: %q", len(got), n, got)
		}
	}
	return got
}

// numbered expects "0", "1", "2" and so on.
func numbered(t *testing.T, got []string) {
	t.Helper()
	for i, s := range got {
		if s != fmt.Sprint(i) {
			t.Fatalf("message %d is %q", i, s)
		}
	}
}

// version5 connects paho.golang.
func version5(t *testing.T, addr, id string, onPublish func(*paho.Publish)) *paho.Client {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := paho.NewClient(paho.ClientConfig{
		Conn: nc, ClientID: id,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			if onPublish != nil {
				onPublish(p.Packet)
			}
			return true, nil
		}},
	})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	a, err := c.Connect(ctx, &paho.Connect{
		ClientID: id, KeepAlive: 30, CleanStart: false,
		Properties: &paho.ConnectProperties{SessionExpiryInterval: paho.Uint32(60), TopicAliasMaximum: paho.Uint16(5)},
	})
	if err != nil || a.ReasonCode != 0 {
		t.Fatalf("connect: %v %+v", err, a)
	}
	t.Cleanup(func() {
		_ = c.Disconnect(&paho.Disconnect{})
		<-c.Done()
	})
	return c
}

// Shows [B1a] [B11c].
func TestPahoVersion5(t *testing.T) {
	_, tcp, _ := start(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	const n = 200
	got := make(chan string, 3*n)
	properties := make(chan *paho.PublishProperties, 3*n)
	sub := version5(t, tcp, "sub", func(p *paho.Publish) {
		got <- string(p.Payload)
		properties <- p.Properties
	})
	identifier := 7
	a, err := sub.Subscribe(ctx, &paho.Subscribe{
		Properties:    &paho.SubscribeProperties{SubscriptionIdentifier: &identifier},
		Subscriptions: []paho.SubscribeOptions{{Topic: "a/+/#", QoS: 2}},
	})
	if err != nil || a.Reasons[0] != 2 {
		t.Fatalf("subscribe: %v %+v", err, a)
	}
	from := version5(t, tcp, "pub", nil)
	for i := range n {
		r, err := from.Publish(ctx, &paho.Publish{
			Topic: fmt.Sprintf("a/%d/x", i%3), QoS: byte(1 + i%2), Payload: fmt.Append(nil, i),
			Properties: &paho.PublishProperties{
				ResponseTopic: "r", CorrelationData: []byte{1}, ContentType: "text/plain",
				User: paho.UserProperties{{Key: "k", Value: "v"}},
			},
		})
		if err != nil || r.ReasonCode != 0 {
			t.Fatalf("publish: %v %+v", err, r)
		}
	}
	numbered(t, collect(t, got, n))
	p := testkit.Receive(t, properties)
	if p.ResponseTopic != "r" || p.User.Get("k") != "v" || p.ContentType != "text/plain" || *p.SubscriptionIdentifier != 7 {
		t.Errorf("%+v", p)
	}
	r, err := from.Publish(ctx, &paho.Publish{Topic: "nobody/listens", QoS: 1})
	if err != nil || r.ReasonCode != packets.PubackNoMatchingSubscribers {
		t.Errorf("%v %+v", err, r)
	}
	if _, err := sub.Unsubscribe(ctx, &paho.Unsubscribe{Topics: []string{"a/+/#"}}); err != nil {
		t.Error(err)
	}
}

// version311 connects paho.mqtt.golang.
func version311(t *testing.T, url, id string, clean bool) paho3.Client {
	t.Helper()
	o := paho3.NewClientOptions().AddBroker(url).SetClientID(id).SetCleanSession(clean).SetProtocolVersion(4).
		SetAutoReconnect(false).SetOrderMatters(true).SetWill("will", id, 1, false)
	c := paho3.NewClient(o)
	done(t, c.Connect())
	return c
}

func done(t *testing.T, token paho3.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("token: %v", token.Error())
	}
}

// Shows [B1a] [B11c].
func TestPahoVersion311(t *testing.T) {
	_, tcp, ws := start(t)
	for _, url := range []string{"tcp://" + tcp, "ws://" + ws} {
		t.Run(url[:3], func(t *testing.T) {
			const n = 200
			got := make(chan string, 2*n)
			take := func(_ paho3.Client, m paho3.Message) { got <- string(m.Payload()) }
			sub := version311(t, url, "sub3", false)
			done(t, sub.Subscribe("b/#", 2, take))
			from := version311(t, url, "pub3", true)
			for i := range n {
				done(t, from.Publish("b/x", byte(i%3), false, fmt.Sprint("before ", i)))
			}
			collect(t, got, n)
			// What comes while it is away waits for it, in order. What it had not
			// acknowledged when it went may come again before that.
			sub.Disconnect(100)
			waited := make(chan string, 2*n)
			take = func(_ paho3.Client, m paho3.Message) {
				if text := string(m.Payload()); !strings.HasPrefix(text, "before ") {
					waited <- text
				}
			}
			for i := range n {
				done(t, from.Publish("b/x", byte(1+i%2), false, fmt.Sprint(i)))
			}
			o := paho3.NewClientOptions().AddBroker(url).SetClientID("sub3").SetCleanSession(false).SetDefaultPublishHandler(take)
			sub = paho3.NewClient(o)
			done(t, sub.Connect())
			numbered(t, collect(t, waited, n))
			from.Disconnect(100)
			done(t, sub.Unsubscribe("b/#"))
			sub.Disconnect(100)
		})
	}
}

// tool skips where Mosquitto's clients are not installed.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return path
}

// Shows [B11c].
func TestMosquittoClients(t *testing.T) {
	sub, pub := tool(t, "mosquitto_sub"), tool(t, "mosquitto_pub")
	b, tcp, _ := start(t)
	host, port, err := net.SplitHostPort(tcp)
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"mqttv311", "mqttv5"} {
		t.Run(version, func(t *testing.T) {
			const n = 100
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			common := []string{"-h", host, "-p", port, "-V", version, "-q", "2"}
			for b.Stats().Subscriptions > 0 { // of the version before
				if ctx.Err() != nil {
					t.Fatal("mosquitto_sub did not leave")
				}
				time.Sleep(time.Millisecond)
			}
			listen := exec.CommandContext(ctx, sub, append(common, "-t", "m/#", "-C", fmt.Sprint(n))...)
			out, err := listen.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := listen.Start(); err != nil {
				t.Fatal(err)
			}
			for b.Stats().Subscriptions == 0 { // its output is buffered, so it cannot be asked
				if ctx.Err() != nil {
					t.Fatal("mosquitto_sub did not subscribe")
				}
				time.Sleep(time.Millisecond)
			}
			var text strings.Builder
			for i := range n {
				fmt.Fprintln(&text, i)
			}
			send := exec.CommandContext(ctx, pub, append(common, "-t", "m/x", "-l")...)
			send.Stdin = strings.NewReader(text.String())
			if out, err := send.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			var got []string
			for lines := bufio.NewScanner(out); lines.Scan(); {
				got = append(got, lines.Text())
			}
			if err := listen.Wait(); err != nil {
				t.Error(err)
			}
			if len(got) != n {
				t.Fatalf("%d messages", len(got))
			}
			numbered(t, got)
		})
	}
}
