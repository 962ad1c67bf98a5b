package bench

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/mqtt"
)

// ourBroker runs a broker in this process and returns its URLs.
func ourBroker(t *testing.T) (tcp, ws string) {
	t.Helper()
	b, err := broker.New(broker.Options{Authority: broker.AllowAnonymous(), Listeners: []broker.Listener{
		{Name: "tcp", Network: "tcp", Address: "127.0.0.1:0"},
		{Name: "ws", Network: "ws", Address: "127.0.0.1:0"},
	}})
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
	return "mqtt://" + b.Addr("tcp").String(), "ws://" + b.Addr("ws").String()
}

// mosquitto runs Eclipse Mosquitto, with queues that have no bounds, and returns
// its URL and process.
func mosquitto(t *testing.T) (string, int) {
	t.Helper()
	address := testkit.FreeAddress(t)
	pid := testkit.StartMosquitto(t, testkit.MosquittoConfig(t, "max_queued_messages 0", "max_inflight_messages 0", "connection_messages false",
		testkit.MosquittoListener(address)))
	return "mqtt://" + address, pid
}

// measure runs a short measurement that has to end without a flaw.
func measure(t *testing.T, o MQTTOptions) MQTTReport {
	t.Helper()
	if o.For == 0 {
		o.For = 100 * time.Millisecond
	}
	o.quiet = time.Minute // nothing is lost, and the machine may stand still
	r, err := MQTT(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Published == 0 || r.Delivered != r.Published*int64(o.Subscribers) {
		t.Errorf("%d delivered of %d published to %d", r.Delivered, r.Published, o.Subscribers)
	}
	flawless(t, r)
	return r
}

func flawless(t *testing.T, r MQTTReport) {
	t.Helper()
	if r.Lost != 0 || r.OutOfOrder != 0 || r.Duplicates != 0 || r.Refused != 0 || r.Unacknowledged != 0 {
		t.Errorf("flaws where there are none: %+v", r)
	}
	if r.Size >= checkedSize && r.Subscribers > 0 && (r.P50Ms <= 0 || r.P99Ms < r.P50Ms || r.P999Ms < r.P99Ms) {
		t.Errorf("percentiles %v, %v, %v", r.P50Ms, r.P99Ms, r.P999Ms)
	}
}

var shapes = []struct{ pubs, subs int }{{1, 1}, {1, 20}, {20, 1}}

// all measures each QoS, version and shape against one broker.
func all(t *testing.T, url string, pid int) {
	for qos := range 3 {
		for name, version := range map[string]mqtt.Version{"3.1.1": mqtt.V311, "5": mqtt.V5} {
			for _, s := range shapes {
				t.Run(fmt.Sprintf("qos%d/%s/%d-%d", qos, name, s.pubs, s.subs), func(t *testing.T) {
					measure(t, MQTTOptions{URL: url, QoS: qos, Publishers: s.pubs, Subscribers: s.subs, Size: 64, Version: version, ServerPID: pid})
				})
			}
		}
	}
}

func TestMQTTOurBroker(t *testing.T) {
	url, _ := ourBroker(t)
	all(t, url, 0)
}

func TestMQTTMosquitto(t *testing.T) {
	url, pid := mosquitto(t)
	all(t, url, pid)
	t.Run("persistent", func(t *testing.T) {
		measure(t, MQTTOptions{URL: url, QoS: 2, Subscribers: 3, Size: 64, Persistent: true})
	})
	t.Run("process", func(t *testing.T) {
		r := measure(t, MQTTOptions{URL: url, QoS: 1, Subscribers: 1, Size: 64, ServerPID: pid, For: time.Second})
		if r.CPUSecondsPerMillion <= 0 || r.LoadCPUSecondsPerMillion <= 0 || r.PeakMemoryMiB <= 0 {
			t.Errorf("nothing about the process: %+v", r)
		}
	})
}

func TestMQTTKinds(t *testing.T) {
	tcp, ws := ourBroker(t)
	for name, o := range map[string]MQTTOptions{
		"websocket":        {URL: ws, QoS: 2, Publishers: 3, Subscribers: 3, Size: 64},
		"persistent":       {URL: tcp, QoS: 1, Subscribers: 2, Size: 64, Persistent: true},
		"nobody listens":   {URL: tcp, QoS: 1, Size: 64},
		"empty":            {URL: tcp, QoS: 1, Subscribers: 2},
		"small":            {URL: tcp, QoS: 0, Subscribers: 2, Size: checkedSize - 1},
		"larger than read": {URL: tcp, QoS: 1, Subscribers: 2, Size: 400_000},
		"window of one":    {URL: tcp, QoS: 2, Subscribers: 1, Size: 24, Window: 1},
		"window too wide":  {URL: tcp, QoS: 1, Subscribers: 1, Size: 24, Window: 65_535},
	} {
		t.Run(name, func(t *testing.T) { measure(t, o) })
	}
}

func TestMQTTRequests(t *testing.T) {
	url, _ := ourBroker(t)
	for _, rate := range []float64{0, 1000} {
		r, err := MQTTRequests(t.Context(), MQTTOptions{URL: url, QoS: 2, Publishers: 5, Subscribers: 2, Size: 32, Window: 1,
			Rate: rate, For: 200 * time.Millisecond, quiet: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		flawless(t, r)
		if r.Published == 0 || r.Delivered != r.Published {
			t.Errorf("%d answers to %d requests", r.Delivered, r.Published)
		}
		if r.BesidePerSecond > 0 != (rate > 0) {
			t.Errorf("%g messages a second beside the requests, asked for %g", r.BesidePerSecond, rate)
		}
	}
}

func TestMQTTRate(t *testing.T) {
	for qos := range 3 {
		virtually(t, fmt.Sprint("qos", qos), func(t *testing.T) {
			l := testkit.NewListener()
			b, err := broker.New(broker.Options{Authority: broker.AllowAnonymous(), Listeners: []broker.Listener{
				{Name: "memory", Network: "tcp", Open: func() (net.Listener, error) { return l, nil }}}})
			if err == nil {
				err = b.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = b.Stop(context.Background()) }()
			r, err := MQTT(t.Context(), MQTTOptions{URL: "mqtt://memory", dial: l.Dial, QoS: qos, Publishers: 4, Subscribers: 1, Size: 64, Rate: 2000, For: 500 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			if r.Published < 990 || r.Published > 1004 || r.Delivered != r.Published || r.Lost != 0 {
				t.Errorf("%d messages published, %d delivered, %d lost in %.2f s at 2000/s", r.Published, r.Delivered, r.Lost, r.Seconds)
			}
		})
	}
}

// A session that outlived a measurement would be a queue that only grows.
func TestMQTTLeavesNoSession(t *testing.T) {
	ended := make(chan string, 100)
	b, err := broker.New(broker.Options{
		Authority: broker.AllowAnonymous(), Events: broker.Events{SessionEnded: func(id string) { ended <- id }},
		Listeners: []broker.Listener{{Name: "tcp", Network: "tcp", Address: "127.0.0.1:0"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		measure(t, MQTTOptions{URL: "mqtt://" + b.Addr("tcp").String(), QoS: 1, Subscribers: 3, Size: 64, Persistent: true, Version: v})
	}
	timeout := time.After(time.Minute)
	for b.Stats().Sessions > 0 { // the last connection's end may still be under way
		select {
		case <-ended:
		case <-timeout:
			t.Fatalf("%d sessions are left", b.Stats().Sessions)
		}
	}
	if err := b.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestMQTTRefusesOptions(t *testing.T) {
	for name, o := range map[string]MQTTOptions{
		"no url":   {},
		"scheme":   {URL: "http://127.0.0.1"},
		"no host":  {URL: "mqtt:///x"},
		"qos":      {URL: "mqtt://h", QoS: 3},
		"window":   {URL: "mqtt://h", Window: 65_536},
		"negative": {URL: "mqtt://h", Subscribers: -1},
	} {
		if _, err := MQTT(t.Context(), o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, o := range map[string]MQTTOptions{
		"no stamp":    {URL: "mqtt://h", Subscribers: 1, Size: checkedSize - 1},
		"no answerer": {URL: "mqtt://h", Size: 64},
	} {
		if _, err := MQTTRequests(t.Context(), o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
