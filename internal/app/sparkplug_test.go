package app

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/sparkplug/edge"
	"github.com/wilco-iot/wilco/sparkplug/host"
	"github.com/wilco-iot/wilco/sparkplug/session"
	"github.com/wilco-iot/wilco/wire"
)

// TestAServerFollowsEdgeNodes: a registered device speaks Sparkplug, waits for
// the server as primary host, and is seen by the API with all its values.
func TestAServerFollowsEdgeNodes(t *testing.T) {
	s := New(Options{Data: t.TempDir(), HTTP: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler),
		Listeners: []broker.Listener{{Name: "tcp", Network: "tcp", Address: "127.0.0.1:0"}},
		Sparkplug: Sparkplug{On: true, Role: host.Primary, HostID: "scada", Filters: []string{"spBv1.0/#"}}})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer stopServer(t, s)
	_, secret, err := s.Fleet.Add(t.Context(), fleet.NewDevice{Address: wire.Address{Group: "plant", Device: "line"}})
	if err != nil {
		t.Fatal(err)
	}
	w := s.edges.Watch(1000)
	defer w.Close()
	n, err := edge.New(edge.Config{Group: "plant", Node: "line", Servers: []string{"mqtt://" + s.MQTTAddr("tcp").String()},
		Username: "plant/line", Password: []byte(secret), File: filepath.Join(t.TempDir(), "bdseq"), PrimaryHost: "scada",
		Metrics: []edge.Metric{edge.Readable("temperature", 21.5)},
		Devices: []edge.Device{{Name: "pump", Metrics: []edge.Metric{edge.Readable("speed", int32(-7))}}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- n.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	}()
	await(t, w, session.DeviceBirth)

	hc := &http.Client{Transport: &http.Transport{}}
	defer hc.CloseIdleConnections()
	c, err := client.New("http://"+s.HTTPAddr().String(), client.Token(s.FirstToken()), client.HTTP(hc))
	if err != nil {
		t.Fatal(err)
	}
	page, err := c.SparkplugNodes(t.Context(), client.SparkplugOptions{Group: "plant", Status: "online", Limit: 1})
	if err != nil || len(page.Items) != 1 || page.Items[0].Node != "plant/line" || page.Items[0].Births != 1 || page.Next != "" {
		t.Fatalf("%+v, %v", page, err)
	}
	d, err := c.SparkplugNode(t.Context(), "plant/line")
	if err != nil || len(d.Behind) != 1 || d.Behind[0].Device != "pump" || !d.Behind[0].Online || d.BdSeq == nil {
		t.Fatalf("%+v, %v", d, err)
	}
	if m := d.Behind[0].Metrics[0]; m.Name != "speed" || string(m.Value) != "-7" || m.Datatype != "Int32" || m.Quality != "good" || m.Time.IsZero() {
		t.Errorf("got %+v", m)
	}
	if err := c.SparkplugRebirth(t.Context(), "plant/line"); err != nil {
		t.Fatal(err)
	}
	await(t, w, session.DeviceBirth)
	if d, err = c.SparkplugNode(t.Context(), "plant/line"); err != nil || d.Births != 2 || d.Rebirths != 1 || d.Status != "online" {
		t.Errorf("after the rebirth: %+v, %v", d, err)
	}
	var missing *client.Error
	if _, err := c.SparkplugNode(t.Context(), "plant/none"); !errors.As(err, &missing) || missing.Code != "not_found" || missing.Field != "node" {
		t.Errorf("an unknown node: %v", err)
	}
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.HTTPAddr().String()+"/metrics", nil)
	req.Header.Set("Authorization", "Bearer "+s.FirstToken())
	r, err := hc.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	all := string(body)
	for _, want := range []string{`sparkplug_up 1`, `sparkplug_nodes{status="online"} 1`, `sparkplug_rebirths_total{reason="requested"} 1`,
		`sparkplug_events_total{kind="node_birth"} 2`, `sparkplug_alarms_total{kind="duplicate_node"} 0`} {
		if !regexp.MustCompile(`(?m)^wilco_` + regexp.QuoteMeta(want) + `$`).MatchString(all) {
			t.Errorf("no metric %s", want)
		}
	}
}

// await reads events until one of the kind.
func await(t *testing.T, w *host.Watch, kind session.Kind) {
	t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case e := <-w.C:
			if e.Kind == kind {
				return
			}
		case <-late:
			t.Fatalf("no %s", kind)
		}
	}
}
