package bench

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/mqtt"
)

// brokers is our own, in this process, and Mosquitto, if it is installed.
func brokers(t *testing.T, run func(t *testing.T, url string, pid int)) {
	t.Run("ours", func(t *testing.T) {
		url, _ := ourBroker(t)
		run(t, url, os.Getpid())
	})
	t.Run("mosquitto", func(t *testing.T) {
		url, pid := mosquitto(t)
		run(t, url, pid)
	})
}

func TestMQTTQueue(t *testing.T) {
	brokers(t, func(t *testing.T, url string, pid int) {
		for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
			r, err := MQTTQueue(t.Context(), MQTTOptions{URL: url, Size: 64, Version: v, ServerPID: pid}, 3000)
			if err != nil {
				t.Fatal(err)
			}
			if r.QueueSeconds <= 0 || r.DrainSeconds <= 0 || r.QueuedPerSecond <= 0 || r.DrainedPerSecond <= 0 || r.PeakMemoryMiB <= 0 {
				t.Errorf("nothing measured: %+v", r)
			}
			if r.Lost != 0 || r.OutOfOrder != 0 || r.Duplicates != 0 || r.Refused != 0 {
				t.Errorf("flaws where there are none: %+v", r)
			}
		}
	})
}

// What a queue has no room for is refused or lost, and the report says so.
func TestMQTTQueueThatIsTooSmall(t *testing.T) {
	url := brokerWith(t, broker.Options{Authority: broker.AllowAnonymous(), Limits: broker.Limits{QueueMessages: 1000}})
	r, err := MQTTQueue(t.Context(), MQTTOptions{URL: url, Size: 64}, 1500)
	if err != nil {
		t.Fatal(err)
	}
	if r.Refused+r.Lost != 500 {
		t.Errorf("%d refused and %d lost of 500 too many", r.Refused, r.Lost)
	}
}

func TestMQTTIdle(t *testing.T) {
	brokers(t, func(t *testing.T, url string, pid int) {
		r, err := MQTTIdle(t.Context(), MQTTOptions{URL: url, ServerPID: pid}, 50)
		if err != nil {
			t.Fatal(err)
		}
		if r.Connections != 50 || r.BeforeMiB <= 0 || r.AfterMiB <= 0 || r.PeakMemoryMiB < r.AfterMiB {
			t.Errorf("%+v", r)
		}
		if each := (r.AfterMiB - r.BeforeMiB) * 1024 / 50; r.KiBPerConnection != each {
			t.Errorf("%g KiB a connection, want %g", r.KiBPerConnection, each)
		}
	})
}

func TestMQTTConnect(t *testing.T) {
	brokers(t, func(t *testing.T, url string, pid int) {
		r, err := MQTTConnect(t.Context(), MQTTOptions{URL: url, ServerPID: pid, For: 200 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		if r.Connected < connecting || r.PerSecond <= 0 || r.P50Ms <= 0 || r.P99Ms < r.P50Ms {
			t.Errorf("%+v", r)
		}
	})
}

// The user and password of the URL are given, and a broker that does not take
// them ends the measurement.
func TestMQTTConnectAsUser(t *testing.T) {
	url := brokerWith(t, broker.Options{Authority: onlyUser{broker.AllowAnonymous()}})
	as := func(user string) (MQTTConnectReport, error) {
		return MQTTConnect(t.Context(), MQTTOptions{URL: strings.Replace(url, "//", "//"+user+"@", 1), For: 50 * time.Millisecond})
	}
	if r, err := as("u:p"); err != nil || r.Connected == 0 || r.URL != url {
		t.Errorf("%+v %v", r, err)
	}
	if _, err := as("u:q"); err == nil {
		t.Error("a wrong password was taken")
	}
}

// onlyUser lets user u in with password p.
type onlyUser struct{ broker.Authority }

func (a onlyUser) Authenticate(ctx context.Context, c broker.Credentials) (broker.Identity, error) {
	if c.Username != "u" || string(c.Password) != "p" {
		return nil, errors.New("wrong user or password")
	}
	return a.Authority.Authenticate(ctx, c)
}

func TestMQTTLoadsRefuseOptions(t *testing.T) {
	o := MQTTOptions{URL: "mqtt://h", Size: 64, ServerPID: 1}
	for name, measure := range map[string]func() error{
		"queue of nothing": func() error { _, err := MQTTQueue(t.Context(), o, 0); return err },
		"queue, no stamp":  func() error { o := o; o.Size = 23; _, err := MQTTQueue(t.Context(), o, 1); return err },
		"nobody idles":     func() error { _, err := MQTTIdle(t.Context(), o, 0); return err },
		"no process":       func() error { o := o; o.ServerPID = 0; _, err := MQTTIdle(t.Context(), o, 1); return err },
		"connect, no url":  func() error { _, err := MQTTConnect(t.Context(), MQTTOptions{}); return err },
	} {
		if measure() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// brokerWith runs a broker with one TCP listener and returns its URL.
func brokerWith(t *testing.T, o broker.Options) string {
	t.Helper()
	o.Listeners = []broker.Listener{{Name: "tcp", Network: "tcp", Address: "127.0.0.1:0"}}
	b, err := broker.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return "mqtt://" + b.Addr("tcp").String()
}
