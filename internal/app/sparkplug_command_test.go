package app

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/edgelink"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/edge"
	"github.com/wilco-iot/wilco/sparkplug/host"
	"github.com/wilco-iot/wilco/wire"
)

// plant is a server with a registered edge node and a device behind it.
type plant struct {
	t      *testing.T
	s      *Server
	dir    string
	secret string
	api    *client.Client
	// stick says whether the node keeps what is written to setpoint.
	stick func() bool
	at    string // URL of the node's broker
	more  []string
}

func startPlant(t *testing.T, servers ...string) *plant {
	p := &plant{t: t, more: servers, dir: t.TempDir(), stick: func() bool { return true }}
	p.start()
	t.Cleanup(func() { stopServer(t, p.s) })
	var err error
	if _, p.secret, err = p.s.Fleet.Add(t.Context(), fleet.NewDevice{Address: wire.Address{Group: "plant", Device: "line"}, Profile: fleet.SparkplugProfile}); err != nil {
		t.Fatal(err)
	}
	if _, _, err = p.s.Fleet.Add(t.Context(), fleet.NewDevice{Address: wire.Address{Group: "plant", Device: "line:pump"}, Profile: fleet.SparkplugProfile}); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *plant) start() {
	p.t.Helper()
	p.s = New(Options{Data: p.dir, HTTP: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler),
		Listeners: []broker.Listener{{Name: "tcp", Network: "tcp", Address: "127.0.0.1:0"}},
		Sparkplug: Sparkplug{On: true, Role: host.Primary, HostID: "scada", Filters: []string{"spBv1.0/#"}, Reported: []string{"#"}, Servers: p.more}})
	if err := p.s.Start(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	p.at = "mqtt://" + p.s.MQTTAddr("tcp").String()
	hc := &http.Client{Transport: &http.Transport{}}
	p.t.Cleanup(hc.CloseIdleConnections)
	token := p.s.FirstToken()
	if token == "" {
		var err error
		if _, token, err = p.s.Fleet.CreateToken(p.t.Context(), fleet.NewToken{Name: "again", Grants: []fleet.Grant{{Role: fleet.Admin}}}); err != nil {
			p.t.Fatal(err)
		}
	}
	var err error
	if p.api, err = client.New("http://"+p.s.HTTPAddr().String(), client.Token(token), client.HTTP(hc)); err != nil {
		p.t.Fatal(err)
	}
}

// taking is a metric that becomes what is written to it.
func taking(m sparkplug.Metric) edge.Metric {
	return edge.Metric{Metric: m, Write: func(_ context.Context, want sparkplug.Metric) (sparkplug.Metric, error) { return want, nil }}
}

// node is the edge node until end is called.
func (p *plant) node(setpoint float32) (end func()) {
	p.t.Helper()
	definition := &sparkplug.Template{Definition: true, Members: []sparkplug.Metric{edge.Sample("speed", int32(0)), edge.Sample("torque", float32(0))}}
	n, err := edge.New(edge.Config{Group: "plant", Node: "line", Servers: []string{p.at},
		Username: "plant/line", Password: []byte(p.secret), File: filepath.Join(p.dir, "bdseq"), Aliases: true,
		Metrics: []edge.Metric{edge.Writable("name", "north", func(_ context.Context, want string) (string, error) { return want, nil }),
			{Metric: sparkplug.Metric{Name: []byte("Motor"), Datatype: sparkplug.TypeTemplate, Template: definition}},
			taking(sparkplug.Metric{Name: []byte("recipe"), Datatype: sparkplug.TypeDataSet, DataSet: &sparkplug.DataSet{}}),
			taking(sparkplug.Metric{Name: []byte("motor"), Datatype: sparkplug.TypeTemplate,
				Template: &sparkplug.Template{Ref: []byte("Motor"), Members: definition.Members}})},
		Devices: []edge.Device{{Name: "pump", Metrics: []edge.Metric{
			edge.Writable("control/setpoint", setpoint, func(_ context.Context, want float32) (float32, error) {
				if p.stick() {
					setpoint = want
				}
				return setpoint, nil
			}), edge.Readable("speed", int32(-7))}}}})
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- n.Run(ctx) }()
	p.presence("plant/line:pump", true)
	return func() {
		cancel()
		if err := <-ran; err != nil {
			p.t.Error(err)
		}
		p.presence("plant/line:pump", false)
	}
}

// presence waits until the engine takes a device for online, or offline.
func (p *plant) presence(device string, online bool) {
	p.t.Helper()
	late := time.After(time.Minute)
	for {
		changed := p.s.Store.Changed()
		if p.online(device) == online {
			return
		}
		select {
		case <-changed:
		case <-late:
			p.t.Fatalf("%s: online is not %v", device, online)
		}
	}
}

// online is what the last event about a device says.
func (p *plant) online(device string) (online bool) {
	p.t.Helper()
	list, err := p.s.Store.Events(p.t.Context(), 0, 10_000)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, e := range list {
		if e.Online != nil && e.Device.String() == device {
			online = *e.Online
		}
	}
	return online
}

func (p *plant) send(device, name, params string, o client.Policy) *client.Command {
	p.t.Helper()
	order := client.Order{Name: name, Policy: &o}
	if params != "" {
		order.Params = json.RawMessage(params)
	}
	c, err := p.api.Send(p.t.Context(), device, order)
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

// end waits until a command has ended, or its outcome is unknown.
func (p *plant) end(c *client.Command, state client.State, parts ...string) *client.Command {
	p.t.Helper()
	c, err := p.api.Await(p.t.Context(), c.TID)
	if err != nil {
		p.t.Fatal(err)
	}
	all := c.Detail + string(c.Result)
	if c.Progress != nil {
		all += c.Progress.Note
	}
	if c.State != state {
		p.t.Errorf("%s %s: %s (%s), not %s; %s", c.Name, c.Params, c.State, c.Reason, state, all)
	}
	for _, part := range parts {
		if !strings.Contains(all, part) {
			p.t.Errorf("%s %s: no %q in %q", c.Name, c.Params, part, all)
		}
	}
	return c
}

// settled waits until a command whose outcome was unknown has ended.
func (p *plant) settled(c *client.Command, state client.State) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	for {
		changed := p.s.Store.Changed()
		now, err := p.api.Get(ctx, c.TID)
		if err != nil {
			p.t.Fatal(err)
		}
		if now.Ended && now.State != client.TimedOut {
			if now.State != state {
				p.t.Errorf("%s: %s, not %s", c.TID, now.State, state)
			}
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			p.t.Fatalf("%s stays %s: %s", c.TID, now.State, now.Detail)
		}
	}
}

const pump = "plant/line:pump"

// TestWritesAreConfirmed: by DATA, rounded as the metric is; by the value that was
// there; and births by an NBIRTH.
func TestWritesAreConfirmed(t *testing.T) {
	p := startPlant(t)
	defer p.node(1)()
	c := p.send(pump, edgelink.Write, `{"metrics": {"control/setpoint": 0.1}}`, client.Policy{})
	p.end(c, client.Executed, `"confirmedBy":"data"`)
	c = p.send(pump, edgelink.Write, `{"metrics": {"control/setpoint": 0.1}}`, client.Policy{})
	p.end(c, client.Executed, `"confirmedBy":"present_value"`, `"already":["control/setpoint"]`)
	c = p.send("plant/line", edgelink.Write, `{"metrics": {"name": "south"}}`, client.Policy{})
	p.end(c, client.Executed, `"confirmedBy":"data"`)
	c = p.send("plant/line", edgelink.Rebirth, "", client.Policy{})
	p.end(c, client.Executed, `"confirmedBy":"birth"`)
	p.presence(pump, true)
	got, err := p.api.SparkplugNode(t.Context(), "plant/line")
	if err != nil || string(got.Metrics[1].Value) != `"south"` {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestTablesAndTemplates are written, a template also in part, and shown in the form
// that they are written in.
func TestTablesAndTemplates(t *testing.T) {
	p := startPlant(t)
	defer p.node(1)()
	write := func(metric, value, by string) {
		t.Helper()
		c := p.send("plant/line", edgelink.Write, `{"metrics": {"`+metric+`": `+value+`}}`, client.Policy{})
		p.end(c, client.Executed, `"confirmedBy":"`+by+`"`)
	}
	shown := func(metric, want string) {
		t.Helper()
		got, err := p.api.SparkplugNode(t.Context(), "plant/line")
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range got.Metrics {
			if m.Name == metric && string(m.Value) != want {
				t.Errorf("%s is %s, not %s", metric, m.Value, want)
			}
		}
	}
	table := `{"columns":["step","heat"],"types":["Int32","Float"],"rows":[[1,0.1],[null,20.5]]}`
	write("recipe", table, "data")
	shown("recipe", table)
	write("recipe", table, "present_value")
	write("motor", `{"ref":"Motor","members":[{"name":"speed","value":1500}]}`, "data")
	shown("motor", `{"ref":"Motor","members":[{"name":"speed","datatype":"Int32","value":1500},{"name":"torque","datatype":"Float","value":0}]}`)
	whole := `{"ref":"Motor","members":[{"name":"speed","datatype":"Int32","value":3},{"name":"torque","datatype":"Float","value":0.1}]}`
	write("motor", whole, "data")
	shown("motor", whole)
}

// TestAWriteIsTakenBack by another one with the former values; not when somebody else
// has written since.
func TestAWriteIsTakenBack(t *testing.T) {
	p := startPlant(t)
	defer p.node(1)()
	reported := func() string {
		t.Helper()
		st, err := p.api.State(t.Context(), pump, true)
		if err != nil {
			t.Fatal(err)
		}
		return string(st.Reported)
	}
	write := func(params string) *client.Command {
		t.Helper()
		return p.end(p.send(pump, edgelink.Write, params, client.Policy{}), client.Executed)
	}
	write(`{"metrics": {"control/setpoint": 2.5}}`)
	c := write(`{"metrics": {"control/setpoint": 0.123456789}}`) // reported in 32 bits
	back, err := p.api.Rollback(t.Context(), c.TID, client.RollbackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	back = p.end(back, client.Executed, `"confirmedBy":"data"`)
	if back.Name != edgelink.Write || string(back.Params) != `{"metrics":{"control/setpoint":2.5}}` {
		t.Errorf("taken back by %s %s", back.Name, back.Params)
	}
	if got := reported(); !strings.Contains(got, `"setpoint":2.5`) {
		t.Errorf("reported is %s", got)
	}
	c = write(`{"metrics": {"control/setpoint": 3}}`)
	write(`{"metrics": {"control/setpoint": 4}}`)
	var refused *client.Error
	if _, err := p.api.Rollback(t.Context(), c.TID, client.RollbackOptions{}); !errors.As(err, &refused) || refused.Code != "conflict" {
		t.Errorf("the work of another command is taken back: %v", err)
	}

	// A part of a template, and a table.
	device := "plant/line"
	for _, x := range []struct{ metric, first, then string }{
		{"motor", `{"ref":"Motor","members":[{"name":"speed","value":7}]}`, `{"ref":"Motor","members":[{"name":"speed","value":9}]}`},
		{"recipe", `{"columns":["a"],"types":["Int8"],"rows":[[1]]}`, `{"columns":[],"types":[],"rows":[]}`},
	} {
		p.end(p.send(device, edgelink.Write, `{"metrics":{"`+x.metric+`":`+x.first+`}}`, client.Policy{}), client.Executed)
		c := p.end(p.send(device, edgelink.Write, `{"metrics":{"`+x.metric+`":`+x.then+`}}`, client.Policy{}), client.Executed)
		back, err := p.api.Rollback(t.Context(), c.TID, client.RollbackOptions{})
		if err != nil {
			t.Errorf("%s: %v", x.metric, err)
			continue
		}
		p.end(back, client.Executed, `"confirmedBy":"data"`)
	}
}

// TestWhatCannotBeWritten is refused before a command is made, with the field.
func TestWhatCannotBeWritten(t *testing.T) {
	p := startPlant(t)
	defer p.node(1)()
	for _, tt := range []struct{ device, name, params, field, text string }{
		{pump, edgelink.Write, `{"metrics": {"control/setpiont": 1}}`, "params.metrics.control/setpiont", "did you mean control/setpoint?"},
		{pump, edgelink.Write, `{"metrics": {"control/setpoint": "fast"}}`, "params.metrics.control/setpoint", "is Float"},
		{pump, edgelink.Write, `{"metrics": {}}`, "params.metrics", "names no metric"},
		{pump, edgelink.Write, `{"metric": {"speed": 1}}`, "params", "must be"},
		{pump, edgelink.Write, ``, "params", "must be"},
		{pump, edgelink.Write, `{"metrics": {"Node Control/Rebirth": true}}`, "params.metrics", edgelink.Rebirth},
		{pump, edgelink.Rebirth, ``, "name", "it knows sparkplug.write"},
		{pump, "valve.open", `{}`, "name", "it knows sparkplug.write"},
		{"plant/line", edgelink.Write, `{"metrics": {"recipe": {"columns": ["a"], "types": [], "rows": []}}}`, "params.metrics.recipe", "a type for each column"},
		{"plant/line", edgelink.Write, `{"metrics": {"motor": {"ref": "Motor", "members": [{"name": "sped", "value": 1}]}}}`, "params.metrics.motor", `no member "sped"`},
		{"plant/line", edgelink.Write, `{"metrics": {"Motor": {"ref": "Motor", "members": [{"name": "speed", "value": 1}]}}}`, "params.metrics.Motor", "is the definition of a template"},
		{"plant/line", edgelink.Rebirth, `{"now": true}`, "params", "takes none"},
	} {
		order := client.Order{Name: tt.name}
		if tt.params != "" {
			order.Params = json.RawMessage(tt.params)
		}
		_, err := p.api.Send(t.Context(), tt.device, order)
		var e *client.Error
		if !errors.As(err, &e) || e.Code != "invalid" || e.Field != tt.field || !strings.Contains(e.Detail, tt.text) {
			t.Errorf("%s %s %s: %v", tt.device, tt.name, tt.params, err)
		}
	}
	if _, err := p.api.SetDesired(t.Context(), pump, client.Desire{Patch: json.RawMessage(`{"speed": 1}`)}); err == nil {
		t.Error("a state was desired of a Sparkplug device")
	}
}

// TestWhatTheNodeDoesNotDo: another value than what was asked for is told, and the
// outcome is unknown; a birth with the value settles it.
func TestWhatTheNodeDoesNotDo(t *testing.T) {
	p := startPlant(t)
	quick := client.Policy{FinishBy: client.Duration(time.Second)}
	p.stick = func() bool { return false }
	end := p.node(1)
	// The node says nothing at all: its value has not changed, so there is no DATA.
	c := p.send(pump, edgelink.Write, `{"metrics": {"control/setpoint": 5}}`, quick)
	p.end(c, client.TimedOut)
	// It is asked for its births then, and they say what it has.
	other := p.send(pump, edgelink.Write, `{"metrics": {"control/setpoint": 6}}`, quick)
	p.end(other, client.TimedOut)
	end()
	// It comes back with what the first one asked for.
	defer p.node(5)()
	p.settled(c, client.Executed)
	if now, err := p.api.Get(t.Context(), other.TID); err != nil || now.State != client.TimedOut {
		t.Errorf("the other one: %+v, %v", now, err)
	}
}

// TestANodeThatIsAwayCostsNoAttempt: the command waits for its birth, and is checked
// against that.
func TestANodeThatIsAwayCostsNoAttempt(t *testing.T) {
	p := startPlant(t)
	p.node(1)()
	waits := p.send(pump, edgelink.Write, `{"metrics": {"control/setpoint": 3}}`, client.Policy{})
	wrong := p.send(pump, edgelink.Write, `{"metrics": {"control/none": 3}}`, client.Policy{})
	if waits.State != "created" || waits.Attempt != 0 {
		t.Errorf("%+v", waits)
	}
	defer p.node(1)()
	if c := p.end(waits, client.Executed, `"confirmedBy":"data"`); c.Attempt != 1 {
		t.Errorf("%d attempts", c.Attempt)
	}
	p.end(wrong, "rejected", "no such metric")
}

// TestAServerThatComesBackAsks: what was open when the server stopped is settled by
// the values that the node has.
func TestAServerThatComesBackAsks(t *testing.T) {
	p := startPlant(t)
	p.stick = func() bool { return false }
	end := p.node(1)
	done := p.send(pump, edgelink.Write, `{"metrics": {"control/setpoint": 5}}`, client.Policy{})
	for c := done; c.State != "acknowledged" && c.State != "running"; {
		changed := p.s.Store.Changed()
		var err error
		if c, err = p.api.Get(t.Context(), done.TID); err != nil {
			t.Fatal(err)
		}
		if c.State == "sent" || c.State == "created" {
			testkit.Receive(t, changed)
		}
	}
	stopServer(t, p.s)
	p.start()
	end2 := func() {}
	defer func() { end2() }()
	end()
	p.stick = func() bool { return true }
	end2 = p.node(5)
	p.end(done, client.Executed, `"confirmedBy"`)
}

// TestReportedState: values are the device's state, a null and a value that is gone
// take theirs away.
func TestReportedState(t *testing.T) {
	p := startPlant(t)
	defer p.node(1)()
	p.end(p.send(pump, edgelink.Write, `{"metrics": {"control/setpoint": 2.5}}`, client.Policy{}), client.Executed)
	deadline := time.Now().Add(time.Minute)
	for {
		changed := p.s.Store.Changed()
		st, err := p.api.State(t.Context(), pump, true)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(st.Reported); got == `{"control":{"setpoint":2.5},"speed":-7}` {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("reported is %s", got)
		}
		select {
		case <-changed:
		case <-time.After(time.Until(deadline)):
		}
	}
}

// TestEdgeNodesAreFollowed: values and deaths, as they happen.
func TestEdgeNodesAreFollowed(t *testing.T) {
	p := startPlant(t)
	end := p.node(1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	events := make(chan client.SparkplugEvent, 100_000)
	failed := make(chan error, 1)
	go func() {
		defer close(events)
		for e, err := range p.api.SparkplugEvents(ctx, client.SparkplugEventOptions{Group: "plant", Node: "line", Values: true}) {
			if err != nil {
				failed <- err
				return
			}
			if events <- e; e.Kind == "node_death" {
				return
			}
		}
	}()
	if e := <-events; e.Kind != client.Connected {
		t.Fatalf("began with %+v", e)
	}
	p.end(p.send(pump, edgelink.Write, `{"metrics": {"control/setpoint": 2}}`, client.Policy{}), client.Executed)
	end()
	var last client.SparkplugEvent
	told := 0
	for e := range events {
		if e.Kind == "data" {
			told++
		}
		if e.Kind == "data" && (e.Device != "pump" || e.Node != "plant/line" || e.Server != "broker" || len(e.Values) != 1 ||
			e.Values[0].Name != "control/setpoint" || e.Values[0].Quality != "good" || e.Values[0].Datatype != "Float" || len(e.Values[0].Value) == 0) {
			t.Errorf("%+v", e)
		}
		last = e
	}
	if last.Kind != "node_death" || told != 1 {
		t.Errorf("%d values, and ended with %+v", told, last)
	}
	select {
	case err := <-failed:
		t.Error(err)
	default:
	}
}

// TestANodeAtAnotherBroker is written to where it is.
func TestANodeAtAnotherBroker(t *testing.T) {
	b, err := broker.New(broker.Options{Authority: broker.AllowAnonymous(), Listeners: []broker.Listener{{Name: "tcp", Network: "tcp", Address: "127.0.0.1:0"}}})
	if err == nil {
		err = b.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Stop(context.Background()) }()
	other := "mqtt://" + b.Addr("tcp").String()
	p := startPlant(t, "other="+other)
	p.at = other
	defer p.node(1)()
	p.end(p.send(pump, edgelink.Write, `{"metrics": {"control/setpoint": 7}}`, client.Policy{}), client.Executed, `"confirmedBy":"data"`)
	if n, err := p.api.SparkplugNode(t.Context(), "plant/line"); err != nil || n.Status != "online" {
		t.Errorf("%+v, %v", n, err)
	}
}
