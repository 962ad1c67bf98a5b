package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	api "github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/device"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/wire"
)

// reply is what comes to a requester.
type reply struct {
	TID, State string
	Step       int
	Ended      bool
	Code       string
}

// TestRequestsOverKills has a hundred requests over MQTT under way, from a user that
// may operate valves, while the server is killed and comes back, twice: each is
// answered to its end, with the steps of its command in order, and was done once.
func TestRequestsOverKills(t *testing.T) {
	t.Parallel()
	const requests, devices = 100, 5
	data := t.TempDir()
	web, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"WILCO_DATA=" + data, "WILCO_HTTP_ADDRESS=" + web, "WILCO_MQTT_TCP=" + tcp, "WILCO_LOG_LEVEL=error"}
	srv, err := serve(env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.kill() })
	admin, err := api.New("http://"+web, api.Token(adminToken(t, data)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.AddUser(t.Context(), api.NewUser{Name: "ann", Password: "correct horse",
		Grants: []api.Grant{{Role: api.Operator, Groups: []string{"plant"}, Commands: []string{"valve.*"}}}}); err != nil {
		t.Fatal(err)
	}
	plant := newRequestedPlant(t, admin, tcp, devices)

	var mu sync.Mutex
	last := map[string]reply{}
	ended := make(chan string, requests)
	ann, err := client.New(client.Options{Servers: []string{"mqtt://" + tcp}, ClientID: "panel", Username: "ann", Password: []byte("correct horse"),
		SessionExpiry: time.Hour, Backoff: client.Backoff{Min: 20 * time.Millisecond, Max: 100 * time.Millisecond},
		Subscriptions: []mqtt.Subscription{{Filter: wire.ReplySpace("", "ann") + "#", QoS: mqtt.AtLeastOnce}},
		OnMessage: func(d *client.Delivery) {
			defer d.Ack()
			var r reply
			if err := json.Unmarshal(d.Payload, &r); err != nil || r.Code != "" {
				t.Errorf("%s: %v", d.Payload, err)
			}
			mu.Lock()
			defer mu.Unlock()
			was := last[string(d.CorrelationData)]
			if was.TID != "" && was.TID != r.TID {
				t.Errorf("%q became %s and %s", d.CorrelationData, was.TID, r.TID)
			}
			if r.Ended && !was.Ended {
				if r.State != "executed" {
					t.Errorf("%q ended as %s", d.CorrelationData, r.State)
				}
				ended <- string(d.CorrelationData)
			}
			if r.Step > was.Step {
				last[string(d.CorrelationData)] = r
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	ann.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = ann.Stop(ctx)
	})
	for i := range requests {
		m := client.Message{Topic: fmt.Sprintf("wilco/plant/v%d/request", i%devices), QoS: mqtt.AtLeastOnce, Payload: fmt.Appendf(nil, `{"name":"valve.open","params":%d}`, i),
			ResponseTopic: wire.ReplySpace("", "ann") + "panel", CorrelationData: fmt.Appendf(nil, "\x00%d", i)}
		if err := ann.PublishAsync(m, func(client.Result) {}); err != nil {
			t.Fatal(err)
		}
	}
	wait := time.After(2 * time.Minute)
	for n := range requests {
		if n == 10 || n == 60 {
			srv.kill()
			if srv, err = serve(env); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case <-ended:
		case <-wait:
			t.Fatalf("%d of %d requests were answered to the end", n, requests)
		}
	}
	plant.check(t, requests)
	if err := srv.stop(); err != nil {
		t.Error(err)
	}
}

// requestedPlant counts what its devices have done, by params.
type requestedPlant struct {
	mu   sync.Mutex
	done map[string]int
}

func newRequestedPlant(t *testing.T, admin *api.Client, tcp string, devices int) *requestedPlant {
	t.Helper()
	p := &requestedPlant{done: map[string]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for i := range devices {
		name := fmt.Sprintf("plant/v%d", i)
		made, err := admin.AddDevice(t.Context(), api.NewDevice{Device: name})
		if err != nil {
			t.Fatal(err)
		}
		a, _ := wire.ParseAddress(name)
		d, err := device.New(device.Config{Address: a, Servers: []string{"mqtt://" + tcp}, Password: []byte(made.Secret), Journal: &device.MemoryJournal{}})
		if err != nil {
			t.Fatal(err)
		}
		d.Handle("valve.open", func(_ context.Context, r *device.Request) (any, error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.done[string(r.Params)]++
			return nil, nil
		})
		running.Go(func() { _ = d.Run(ctx) })
	}
	t.Cleanup(func() { cancel(); running.Wait() })
	return p
}

func (p *requestedPlant) check(t *testing.T, requests int) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.done) != requests {
		t.Errorf("%d of %d were done", len(p.done), requests)
	}
	for params, n := range p.done {
		if n != 1 {
			t.Errorf("%s was done %d times", params, n)
		}
	}
}

// TestRequestByMosquitto asks with Mosquitto's own request/response client, where it
// is installed.
func TestRequestByMosquitto(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("mosquitto_rr"); errors.Is(err, exec.ErrNotFound) {
		t.Skip("mosquitto_rr is not installed")
	}
	data := filepath.Join(t.TempDir(), "data")
	srv, err := serve([]string{"WILCO_DATA=" + data, "WILCO_HTTP_ADDRESS=127.0.0.1:0", "WILCO_MQTT_TCP=127.0.0.1:0", "WILCO_LOG_LEVEL=error"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.kill() })
	admin, err := api.New("http://"+srv.http, api.Token(adminToken(t, data)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.AddDevice(t.Context(), api.NewDevice{Device: "plant/v0"}); err != nil {
		t.Fatal(err)
	}
	token, err := admin.CreateToken(t.Context(), api.NewToken{Name: "panel", Grants: []api.Grant{{Role: api.Operator, Groups: []string{"plant"}}}})
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := strings.Cut(srv.tcp, ":")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "mosquitto_rr", "-V", "5", "-h", host, "-p", port, "-u", "panel", "-P", token.Token, "-q", "1", "-W", "60",
		"-t", "wilco/plant/v0/request", "-e", "wilco-replies/panel/rr", "-D", "publish", "correlation-data", "7", "-m", `{"name":"valve.open"}`)
	cmd.Env = os.Environ()
	out, err := cmd.CombinedOutput()
	var r reply
	if err != nil || json.Unmarshal(out, &r) != nil || r.State != "created" || r.TID == "" {
		t.Errorf("%v\n%s", err, out)
	}
}
