package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/mqtt"
	mqttclient "github.com/wilco-iot/wilco/mqtt/client"
)

// TestGatewayMirrorsToServer: a gateway mirrors to wilco serve what the users file there
// allows it, for a dashboard of that file; each message comes once and in its order, also
// when the server is killed. On topics of devices nobody of the file has a word.
func TestGatewayMirrorsToServer(t *testing.T) {
	t.Parallel()
	const messages = 200
	var addresses [3]string
	for i := range addresses {
		var err error
		if addresses[i], err = freeAddress(); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	file := func(name, format string, args ...any) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	secret, hash := brokerSecret(t)
	users := file("above.yaml", "users:\n  - {name: dashboard, secret: %s, publish: [recipes/#], subscribe: [telemetry/#]}\n"+
		"  - {name: plant-1/gw-1, publish: [telemetry/#], subscribe: [recipes/#]}\n", hash)
	data := filepath.Join(dir, "server")
	start := func() *server {
		t.Helper()
		s, err := serve([]string{"WILCO_DATA=" + data, "WILCO_HTTP_ADDRESS=" + addresses[0], "WILCO_MQTT_TCP=" + addresses[1], "WILCO_MQTT_USERS=" + users, "WILCO_LOG_LEVEL=warn"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.kill() })
		return s
	}
	s := start()
	gateway, err := apiOf(t, addresses[0], data).AddDevice(t.Context(), client.NewDevice{Device: "plant-1/gw-1"})
	if err != nil {
		t.Fatal(err)
	}
	atSite := file("site.yaml", "users:\n  - {name: panel, secret: %s, publish: [telemetry/#], subscribe: [recipes/#]}\n", hash)
	config := file("gateway.yaml", "name: plant-1/gw-1\nupstream: {url: mqtt://%s, secret: %s, keepAlive: 1s}\ndata: %s\nhttp: {address: 127.0.0.1:0}\n"+
		"mqtt: {tcp: %s, users: %s}\nmirror: {up: [telemetry/#], down: [recipes/#]}\nlog: {level: warn}\n",
		addresses[1], gateway.Secret, filepath.Join(dir, "gateway"), addresses[2], atSite)
	gw, err := serving("wilco gateway", nil, "gateway", "--config", config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { gw.kill() })

	dashboard := newCounting(t, addresses[1], "dashboard", secret, "telemetry/#")
	panel := newCounting(t, addresses[2], "panel", secret, "recipes/#")
	panel.mouth(t, "telemetry/first", 1)
	dashboard.await(t, 1) // so the gateway has subscribed above
	dashboard.mouth(t, "recipes/first", 1)
	panel.await(t, 1)
	var talking sync.WaitGroup
	talking.Go(func() { panel.mouth(t, "telemetry/plant-1", messages) })
	s.kill()
	s = start()
	talking.Wait()
	dashboard.await(t, 1+messages)
	dashboard.mouth(t, "recipes/x", messages)
	panel.await(t, 1+messages)
	for name, h := range map[string]*counting{"dashboard": dashboard, "panel": panel} {
		if repeats := h.inOrder(t); repeats > 0 {
			t.Errorf("%s: %d came twice", name, repeats)
		}
	}

	err = dashboard.Publish(t.Context(), mqttclient.Message{Topic: "wilco/plant-1/gw-1/command", Payload: []byte("{}"), QoS: mqtt.AtLeastOnce})
	if err == nil || !strings.Contains(err.Error(), "not authorized") {
		t.Errorf("a command of the dashboard's own: %v", err)
	}
	if t.Failed() {
		t.Logf("server:\n%s\ngateway:\n%s", s.out.String(), gw.out.String())
	}
}
