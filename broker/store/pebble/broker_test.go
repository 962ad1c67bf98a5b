package pebblestore_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/broker/store/pebble"
	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
)

// brokerAddr tells the test binary that it is a broker that is to be killed.
const brokerAddr = "WILCO_TEST_BROKER"

func init() {
	if addr := os.Getenv(brokerAddr); addr != "" {
		if err := serve(addr, os.Getenv(brokerAddr+"_DATA")); err != nil {
			fmt.Println(err)
		}
		os.Exit(1)
	}
}

// serve runs a broker until the process is killed.
func serve(addr, dir string) error {
	s, err := pebblestore.Open(dir, pebblestore.Options{})
	if err != nil {
		return err
	}
	b, err := broker.New(broker.Options{
		Authority: broker.AllowAnonymous(), Store: s,
		Listeners: []broker.Listener{{Name: "tcp", Network: "tcp", Address: addr}},
	})
	if err != nil {
		return err
	}
	if err := b.Start(); err != nil {
		return err
	}
	fmt.Println("ready")
	select {}
}

// process starts the broker as a process of its own.
func process(t *testing.T, addr, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), brokerAddr+"="+addr, brokerAddr+"_DATA="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	var word string
	if _, err := fmt.Fscan(out, &word); err != nil || word != "ready" {
		t.Fatal("broker: ", word, err)
	}
	return cmd
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed, as it says
}

func connect(t *testing.T, o client.Options) *client.Client {
	t.Helper()
	o.SessionExpiry = time.Hour
	o.Backoff = client.Backoff{Min: 10 * time.Millisecond, Max: 50 * time.Millisecond}
	c, err := client.New(o)
	if err != nil {
		t.Fatal(err)
	}
	c.Start()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.AwaitUp(ctx); err != nil {
		t.Fatal(err)
	}
	return c
}

func stop(t *testing.T, c *client.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := c.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// TestBrokerKilled publishes at QoS 1 and 2 to two sessions that are away while
// the broker is killed several times, and then drains them: nothing that was
// acknowledged is lost, each publisher's messages are in order, and those of
// QoS 2 come once.
// Shows [B3c] [B4b].
func TestBrokerKilled(t *testing.T) {
	addr, dir := testkit.FreeAddress(t), t.TempDir()
	servers := []string{"mqtt://" + addr}
	cmd := process(t, addr, dir)
	receivers := []string{"one", "two"}
	for _, id := range receivers {
		stop(t, connect(t, client.Options{Servers: servers, ClientID: id,
			Subscriptions: []mqtt.Subscription{{Filter: "t/#", QoS: 2}}, OnMessage: func(d *client.Delivery) { d.Ack() }}))
	}

	const kills, each = 4, 400
	var publishers []*client.Client
	for q := 1; q <= 2; q++ {
		publishers = append(publishers, connect(t, client.Options{Servers: servers, ClientID: fmt.Sprint("pub", q)}))
	}
	n := 0
	for range kills {
		var acked sync.WaitGroup
		var half sync.WaitGroup
		for i, p := range publishers {
			half.Add(each / 4)
			for j := range each {
				acked.Add(1)
				err := p.PublishAsync(client.Message{Topic: fmt.Sprintf("t/%d", i), QoS: mqtt.QoS(i + 1), Payload: fmt.Append(nil, n+j)},
					func(r client.Result) {
						if r.Err != nil || r.Reason.Failed() {
							t.Error(r)
						}
						if j < each/4 {
							half.Done()
						}
						acked.Done()
					})
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		n += each
		half.Wait()
		kill(t, cmd)
		cmd = process(t, addr, dir)
		acked.Wait()
		kill(t, cmd) // all of it is acknowledged: all of it is there
		cmd = process(t, addr, dir)
	}
	for _, p := range publishers {
		stop(t, p)
	}
	for _, id := range receivers {
		drain(t, servers, id, n)
	}
	kill(t, cmd)
}

// drain takes the queue of a session, and looks at the order.
func drain(t *testing.T, servers []string, id string, want int) {
	t.Helper()
	got := map[string][]int{}
	all := make(chan struct{})
	c := connect(t, client.Options{Servers: servers, ClientID: id, OnMessage: func(d *client.Delivery) {
		var v int
		if _, err := fmt.Sscan(string(d.Payload), &v); err != nil {
			t.Error(err)
		}
		got[d.Topic] = append(got[d.Topic], v)
		d.Ack()
		if len(got["t/0"]) > 0 && len(got["t/1"]) > 0 && got["t/0"][len(got["t/0"])-1] == want-1 && got["t/1"][len(got["t/1"])-1] == want-1 {
			select {
			case <-all:
			default:
				close(all)
			}
		}
	}})
	select {
	case <-all:
	case <-time.After(time.Minute):
		t.Errorf("%s: the queue did not come to its end", id)
	}
	stop(t, c)
	for topic, list := range got {
		seen := map[int]bool{}
		high := -1
		for _, v := range list {
			if v > high+1 {
				t.Errorf("%s %s: %d after %d", id, topic, v, high)
			}
			if seen[v] && strings.HasSuffix(topic, "1") {
				t.Errorf("%s %s: %d came twice at QoS 2", id, topic, v)
			}
			seen[v] = true
			high = max(high, v)
		}
		if len(seen) != want {
			t.Errorf("%s %s: %d of %d messages", id, topic, len(seen), want)
		}
	}
}
