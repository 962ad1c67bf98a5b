package app

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/config"
	"github.com/wilco-iot/wilco/internal/engine"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/wire"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func settings(data string) config.Config {
	c := config.Default()
	c.Data, c.HTTP.Address, c.MQTT.TCP, c.MQTT.WS, c.MQTT.TLS.Address = data, "127.0.0.1:0", "127.0.0.1:0", "", ""
	return c
}

// served runs f while run writes to a pipe, and gives the lines up to and with
// the ready line, and the error of run once its context has ended.
func served(t *testing.T, run func(context.Context, io.Writer) error) ([]string, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := run(ctx, w)
		w.CloseWithError(io.EOF)
		done <- err
	}()
	var lines []string
	in := bufio.NewScanner(r)
	for in.Scan() {
		lines = append(lines, in.Text())
		if strings.HasPrefix(in.Text(), "ready") {
			cancel()
		}
	}
	return lines, testkit.Receive(t, done)
}

func TestServeSaysWhenItIsReadyAndWhereTheFirstTokenIs(t *testing.T) {
	c := settings(t.TempDir())
	serve := func(ctx context.Context, out io.Writer) error { return Serve(ctx, c, "test", nil, out, quiet()) }
	ready := regexp.MustCompile(`^ready http=127\.0\.0\.1:\d+ tcp=127\.0\.0\.1:\d+$`)
	first, err := served(t, serve)
	if err != nil || len(first) != 2 || first[0] != "first admin token: in "+filepath.Join(c.Data, config.TokenFile)+", for this user only" || !ready.MatchString(first[1]) {
		t.Errorf("first start: %q, %v", first, err)
	}
	again, err := served(t, serve)
	if err != nil || len(again) != 1 || !ready.MatchString(again[0]) {
		t.Errorf("second start: %q, %v", again, err)
	}
}

func TestServeNamesTheSettingThatIsWrong(t *testing.T) {
	for _, test := range []struct {
		name  string
		wrong func(*config.Config)
		field string
		says  string
	}{
		{"broker URL", func(c *config.Config) { c.Broker.URL = "mqtt://[broken" }, "broker.url", ""},
		{"certificate", func(c *config.Config) {
			c.MQTT.TLS.Address, c.MQTT.TLS.Cert, c.MQTT.TLS.Key = "127.0.0.1:0", "/nowhere/cert.pem", "/nowhere/key.pem"
		}, "", "/nowhere/cert.pem"},
		{"root", func(c *config.Config) { c.Root = "a/+" }, "", "root"},
		{"HTTP address", func(c *config.Config) { c.HTTP.Address = "256.0.0.1:http" }, "", "http"},
		{"MQTT address", func(c *config.Config) { c.MQTT.TCP = "127.0.0.1:nonsense" }, "", "tcp"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := settings(t.TempDir())
			test.wrong(&c)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := Serve(ctx, c, "test", nil, io.Discard, quiet())
			if err == nil || ctx.Err() != nil {
				t.Fatalf("served: %v", err)
			}
			var f *fault.Error
			if test.field != "" && (!errors.As(err, &f) || f.Field != test.field) {
				t.Errorf("field of %v", err)
			}
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v does not say %q", err, test.says)
			}
		})
	}
}

func TestParseShares(t *testing.T) {
	got, err := parseShares([]string{"key:topic", " orders=sticky", "a=b=key:publisher/oldest", ""}, "share")
	want := map[string]broker.ShareRule{"": {How: broker.ByTopic}, "orders": {How: broker.Sticky},
		"a=b": {How: broker.ByPublisher, Overflow: broker.DropOldest}}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"key", "orders=", "=sticky", "a/b=sticky", "sticky,sticky", "x=sticky,x=round_robin", "sticky/most"} {
		var f *fault.Error
		if _, err := parseShares(strings.Split(bad, ","), "share"); !errors.As(err, &f) || f.Field != "share" {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestRunBroker(t *testing.T) {
	lines, err := served(t, func(ctx context.Context, out io.Writer) error {
		return RunBroker(ctx, BrokerOptions{TCP: "127.0.0.1:0", WS: "127.0.0.1:0", Anonymous: true}, nil, out, quiet())
	})
	if err != nil || len(lines) != 1 || !regexp.MustCompile(`^ready tcp=127\.0\.0\.1:\d+ ws=127\.0\.0\.1:\d+$`).MatchString(lines[0]) {
		t.Errorf("%q, %v", lines, err)
	}
	for field, o := range map[string]BrokerOptions{"tcp": {Anonymous: true}, "user": {TCP: "127.0.0.1:0"}} {
		var f *fault.Error
		if err := RunBroker(t.Context(), o, nil, io.Discard, quiet()); !errors.As(err, &f) || f.Field != field || f.Code != fault.Invalid {
			t.Errorf("without %s: %v", field, err)
		}
	}
}

func TestStopUndoesWhatStartDidInReverse(t *testing.T) {
	s := startServer(t, t.TempDir())
	var order []string
	var want []string
	for i := range s.undo {
		name, do := s.undo[i].name, s.undo[i].do
		want = append(want, name)
		s.undo[i].do = func(ctx context.Context) error { order = append(order, name); return do(ctx) }
	}
	slices.Reverse(want)
	stopServer(t, s)
	stopServer(t, s) // nothing is left to do
	if !slices.Equal(order, want) {
		t.Errorf("stopped %v, want %v", order, want)
	}
	// What was acknowledged must find its way in; what was committed must find its
	// way out, and be durable before it does.
	for _, pair := range [][2]string{{"http", "listeners"}, {"listeners", "engine"}, {"purge", "engine"},
		{"engine", "broker link"}, {"broker link", "broker"}, {"broker", "queues"}, {"queues", "store"}} {
		if a, b := slices.Index(order, pair[0]), slices.Index(order, pair[1]); a < 0 || b < 0 || a > b {
			t.Errorf("%s is not stopped before %s: %v", pair[0], pair[1], order)
		}
	}
}

func TestAStartThatFailsLeavesNothingBehind(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	data := t.TempDir()
	s := New(Options{Data: data, HTTP: taken.Addr().String(), Logger: quiet(),
		Listeners: []broker.Listener{{Name: "tcp", Network: "tcp", Address: "127.0.0.1:0"}}})
	if err := s.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "http") {
		t.Fatalf("started: %v", err)
	}
	if len(s.undo) != 0 {
		t.Errorf("%d parts are left", len(s.undo))
	}
	stopServer(t, startServer(t, data)) // the store is free again
}

func TestOfTwoServersOverOneDirectoryTheSecondIsRefused(t *testing.T) {
	data := t.TempDir()
	s := startServer(t, data)
	defer stopServer(t, s)
	second := New(Options{Data: data, HTTP: "127.0.0.1:0", Logger: quiet()})
	if err := second.Start(t.Context()); err == nil {
		stopServer(t, second)
		t.Fatal("two servers write into one store")
	}
}

func TestEpochsRise(t *testing.T) {
	s := startServer(t, t.TempDir())
	defer stopServer(t, s)
	now := time.Now()
	var last int64
	// The clock forward, the same again, a year back.
	for _, at := range []time.Time{now.Add(time.Hour), now.Add(time.Hour), now.AddDate(-1, 0, 0)} {
		epoch, err := nextEpoch(t.Context(), s.Store, at)
		if err != nil || epoch <= last || epoch < at.Unix() {
			t.Errorf("epoch %d after %d: %v", epoch, last, err)
		}
		last = epoch
	}
}

func TestMetricsParseAndNameNoDevice(t *testing.T) {
	s := startServer(t, t.TempDir())
	defer stopServer(t, s)
	a := wire.Address{Group: "secretgroup", Device: "secretdevice"}
	if _, _, err := s.Fleet.Add(t.Context(), fleet.NewDevice{Address: a}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Engine.Create(t.Context(), []engine.Request{{Device: a, Name: "secretname", By: "secretperson"}}); err != nil {
		t.Fatal(err)
	}
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.HTTPAddr().String()+"/metrics", nil)
	req.Header.Set("Authorization", "Bearer "+s.FirstToken())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, err)
	}
	if i := strings.Index(string(body), "secret"); i >= 0 {
		t.Errorf("somebody is named: %.100s", body[max(i-40, 0):])
	}
	line := regexp.MustCompile(`^(# (HELP|TYPE) .+|[a-z_]+(\{([a-z_]+)="[^"\\]*"\})? -?[0-9][0-9.e+-]*)$`)
	open := false
	for _, l := range strings.Split(strings.TrimSpace(string(body)), "\n") {
		parts := line.FindStringSubmatch(l)
		if parts == nil {
			t.Errorf("not a line of the exposition format, or more than one label: %q", l)
			continue
		}
		if !slices.Contains([]string{"", "state", "kind", "reason", "share"}, parts[4]) { // all of closed sets, or of the settings
			t.Errorf("label %s: %q", parts[4], l)
		}
		open = open || l == "wilco_commands_open 1"
	}
	if !open {
		t.Errorf("no wilco_commands_open 1 in\n%s", body)
	}
}

// listening reads up to the ready line and gives the address of a listener. What
// is written after it is thrown away.
func listening(t *testing.T, r io.Reader, name string) string {
	t.Helper()
	in := bufio.NewScanner(r)
	for in.Scan() {
		for word := range strings.FieldsSeq(in.Text()) {
			if address, ok := strings.CutPrefix(word, name+"="); ok {
				go func() { _, _ = io.Copy(io.Discard, r) }()
				return address
			}
		}
	}
	t.Fatalf("no listener %s", name)
	return ""
}
