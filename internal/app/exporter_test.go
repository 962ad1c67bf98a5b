package app

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
)

func fetch(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatal(url, r.Status, err)
	}
	return string(body)
}

// TestBrokerMetrics runs a broker alone, with metrics, and a policy for its
// listeners; $SYS is for those who may receive it.
func TestBrokerMetrics(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- RunBroker(ctx, BrokerOptions{TCP: "127.0.0.1:0", Anonymous: true, Metrics: "127.0.0.1:0", Overflow: "oldest", Shares: []string{"jobs=key:topic/oldest"}, Version: "9.9"}, nil, w, quiet())
		_ = w.Close()
	}()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	parts := regexp.MustCompile(`^ready tcp=(\S+) metrics=(\S+)\n$`).FindStringSubmatch(line)
	if parts == nil {
		t.Fatalf("%q", line)
	}
	version := make(chan string, 1)
	c, err := client.New(client.Options{Servers: []string{"mqtt://" + parts[1]}, ClientID: "c",
		Subscriptions: []mqtt.Subscription{{Filter: "$SYS/broker/version"}, {Filter: "mine", QoS: 1}},
		OnMessage: func(d *client.Delivery) {
			if string(d.Topic) == "$SYS/broker/version" {
				version <- string(d.Payload)
			} // else it stays unacknowledged
		}})
	if err != nil {
		t.Fatal(err)
	}
	c.Start()
	select {
	case v := <-version:
		if v != "wilco 9.9" {
			t.Error(v)
		}
	case <-time.After(time.Minute):
		t.Fatal("no version")
	}
	if err := c.Publish(t.Context(), client.Message{Topic: "mine", QoS: 1}); err != nil {
		t.Fatal(err)
	}
	all := fetch(t, "http://"+parts[2]+"/metrics")
	for _, want := range []string{
		"wilco_broker_connections 1", "wilco_broker_sessions 1", "wilco_broker_publish_in_total 1",
		`wilco_broker_dropped_total{reason="queue_full"} 0`, `wilco_broker_dropped_total{reason="store_full"} 0`,
		`wilco_broker_dropped_total{reason="damaged"} 0`, "wilco_broker_store_damaged_total 0",
		"wilco_broker_queued_messages 1", "wilco_broker_subscriptions 2",
		`wilco_broker_shares{share="+"} 0`, `wilco_broker_shares{share="jobs"} 0`, `wilco_broker_share_waiting_messages{share="jobs"} 0`,
		`wilco_broker_share_draining_messages{share="jobs"} 0`, `wilco_broker_share_lent_messages{share="jobs"} 0`,
	} {
		if !strings.Contains(all, "\n"+want+"\n") {
			t.Errorf("no %s in\n%s", want, all)
		}
	}
	if got := fetch(t, "http://"+parts[2]+"/healthz"); got != "ok\n" {
		t.Error(got)
	}
	stop, end := context.WithTimeout(context.Background(), time.Minute)
	defer end()
	_ = c.Stop(stop) // a message stays unacknowledged
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for field, o := range map[string]BrokerOptions{
		"overflow": {TCP: "127.0.0.1:0", Anonymous: true, Overflow: "youngest"},
		"":         {TCP: "127.0.0.1:0", Anonymous: true, Metrics: "127.0.0.1:none"},
	} {
		var f *fault.Error
		if err := RunBroker(t.Context(), o, nil, io.Discard, quiet()); !errors.As(err, &f) || f.Field != field {
			t.Errorf("%q: %v", field, err)
		}
	}
}
