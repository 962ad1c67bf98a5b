package edgelink

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/engine"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/host"
	"github.com/wilco-iot/wilco/sparkplug/session"
	"github.com/wilco-iot/wilco/wire"
)

// rig is a Link with an engine and a host that are played by the test; the session
// of the node is a real one.
type rig struct {
	t        *testing.T
	l        *Link
	said     []string // by the Link to the engine, in short
	presence map[wire.Address]store.Presence
	devices  map[wire.Address]store.Device

	node     *session.Node
	out      session.Actions
	now      time.Time
	seq      uint64
	bdSeq    uint8
	online   bool
	units    map[string]*session.Unit
	values   map[string]host.Metric
	written  int
	asked    int
	writeErr error
}

var (
	press = wire.Address{Group: "g", Device: "n:press"}
	id    = host.NodeID{Group: "g", Node: "n"}
)

func newRig(t *testing.T) *rig {
	r := &rig{t: t, presence: map[wire.Address]store.Presence{}, now: time.Unix(1_700_000_000, 0),
		devices: map[wire.Address]store.Device{press: {Address: press, Profile: fleet.SparkplugProfile}}}
	r.restart()
	return r
}

// restart begins a new process: all that a Link and a host know is gone, and the
// engine takes nobody for online.
func (r *rig) restart() {
	r.node, r.units, r.values, r.online = session.New(&session.Config{}), map[string]*session.Unit{}, map[string]host.Metric{}, false
	if p, ok := r.presence[press]; ok {
		p.Online = false
		r.presence[press] = p
	}
	r.l = New(Options{Engine: r, Directory: r, Host: r, Reported: []string{"#"}})
	r.l.Learn(press)
	r.said = nil
}

func (r *rig) Device(a wire.Address) (store.Device, bool) { d, ok := r.devices[a]; return d, ok }

func (r *rig) Presence(a wire.Address) store.Presence { return r.presence[a] }

func (r *rig) Receive(m engine.Message) {
	up, err := Profile().ParseUp(m.Topic, m.Payload)
	if err != nil {
		r.t.Fatalf("%s %s: %v", m.Topic, m.Payload, err)
	}
	text := up.Kind.String()
	switch up.Kind {
	case wire.UpAck:
		text += " " + up.Ack.Status + " " + up.Ack.Reason.Code
	case wire.UpResult:
		text += " " + up.Result.Status + string(up.Result.Result)
		if p := up.Result.Progress; p != nil {
			text += " " + p.Note
		}
	case wire.UpStatus:
		text += fmt.Sprint(" ", up.Status.Online)
		p := r.presence[up.Address]
		if p.Online = up.Status.Online; p.Online {
			p.Boot = up.Status.Boot
		}
		r.presence[up.Address] = p
	case wire.UpStateUpdate:
		text += " " + string(up.Update.State)
	}
	r.said = append(r.said, text)
	m.Ack()
}

func (r *rig) Node(host.NodeID) (host.Node, []host.Device, bool) {
	n := host.Node{ID: id, BdSeq: int(r.bdSeq), Server: "one", Births: uint64(len(r.units)), Born: r.now}
	return n, nil, true
}

func (r *rig) Unit(_ host.NodeID, device string) (*session.Unit, bool) {
	u := r.units[device]
	return u, u != nil && r.online
}

func (r *rig) Value(_ host.NodeID, _, metric string) (host.Metric, bool) {
	m, ok := r.values[metric]
	return m, ok
}

func (r *rig) Write(_ host.NodeID, _ string, _ []sparkplug.Metric, done func(error)) error {
	if r.writeErr != nil {
		return r.writeErr
	}
	r.written++
	go done(nil)
	return nil
}

func (r *rig) Rebirth(host.NodeID) bool { r.asked++; return true }

// receive gives the Link what a message of the node is to the host.
func (r *rig) receive(kind sparkplug.MessageType, device string, x int64) {
	r.now = r.now.Add(time.Second)
	ms := uint64(r.now.UnixMilli())
	v, _ := sparkplug.NewInt(sparkplug.TypeInt32, x)
	p := sparkplug.Payload{Timestamp: ms, HasTimestamp: true}
	switch kind {
	case sparkplug.NBirth:
		r.seq, r.online = 0, true
		p.Metrics = []sparkplug.Metric{sparkplug.BdSeqMetric(r.bdSeq, ms)}
	case sparkplug.NDeath:
		r.online = false
		p = sparkplug.Payload{Timestamp: ms, HasTimestamp: true, Metrics: []sparkplug.Metric{sparkplug.BdSeqMetric(r.bdSeq, ms)}}
	default:
		r.seq++
		p.Metrics = []sparkplug.Metric{{Name: []byte("force"), Datatype: sparkplug.TypeInt32, Value: v, Timestamp: ms, HasTimestamp: true}}
	}
	if kind != sparkplug.NDeath {
		p.Seq, p.HasSeq = r.seq, true
	}
	r.node.Receive(session.Message{Type: kind, Device: device, Payload: p.Append(nil)}, r.now, &r.out)
	for i := range r.out.Events {
		e := &r.out.Events[i]
		switch e.Kind {
		case session.NodeBirth, session.DeviceBirth:
			r.units[e.Device] = e.Unit
		}
		for _, v := range e.Values {
			r.values[v.Metric.Name] = host.Metric{Metric: *v.Metric, Quality: host.Good, Known: true, Value: v.Raw.Value.Clone(), Timestamp: v.Raw.Timestamp, Received: r.now}
		}
		r.l.Event(&host.Event{Server: "one", Node: id, Event: *e})
	}
	r.out.Reset()
}

func (r *rig) born(x int64) {
	r.receive(sparkplug.NBirth, "", 0)
	r.receive(sparkplug.DBirth, "press", x)
}

// publish has the engine publish, and waits until the Link has done with it.
func (r *rig) publish(c *command.Command, e command.Effect) error {
	done := make(chan error, 1)
	r.l.Publish(engine.Publication{Topic: Profile().Topic(c.Device), Command: c, Effect: e}, func(err error) { done <- err })
	return testkit.Receive(r.t, done)
}

func (r *rig) command(x int) *command.Command {
	tid, err := uuid.NewV7()
	if err != nil {
		r.t.Fatal(err)
	}
	return &command.Command{TID: tid, Device: press, Name: Write, Params: json.RawMessage(fmt.Sprintf(`{"metrics":{"force":%d}}`, x)),
		State: command.Sent, Reason: command.TurnCame, FirstSent: r.now, Policy: command.Defaults, NotAfter: r.now.Add(time.Minute), FinishDue: r.now.Add(time.Hour)}
}

// expect compares what was said since the last time.
func (r *rig) expect(want ...string) {
	r.t.Helper()
	got := r.said
	r.said = nil
	ok := len(got) == len(want)
	for i := 0; ok && i < len(want); i++ {
		ok = strings.HasPrefix(got[i], want[i])
	}
	if !ok {
		r.t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// TestAWriteIsWrittenOnce: what the engine publishes again is a question.
func TestAWriteIsWrittenOnce(t *testing.T) {
	r := newRig(t)
	r.born(1)
	r.expect("status true")
	c := r.command(5)
	if err := r.publish(c, command.SendRequest); err != nil || r.written != 1 {
		t.Fatal(err, r.written)
	}
	r.expect("ack RECEIVED written")
	for _, why := range []command.Reason{command.NoAckYet, command.CameOnline} {
		again := *c
		again.Reason = why
		if err := r.publish(&again, command.SendRequest); err != nil || r.written != 1 {
			t.Errorf("%s: %v, written %d times", why, err, r.written)
		}
	}
	if err := r.publish(c, command.SendQuery); err != nil || r.asked != 3 {
		t.Errorf("%v; births were asked for %d times", err, r.asked)
	}
	r.expect()
	person := *c
	person.Reason = command.AskedAgain
	if err := r.publish(&person, command.SendRequest); err != nil || r.written != 2 {
		t.Errorf("a person's retry: %v, written %d times", err, r.written)
	}
	r.expect("ack RECEIVED written")
	r.receive(sparkplug.DData, "press", 4)
	r.expect("result RUNNING force is reported as 4")
	if err := r.publish(c, command.SendCancel); err != nil {
		t.Error(err)
	}
	r.expect("ack REJECTED cancel_refused")
	r.receive(sparkplug.DData, "press", 5)
	r.expect(`state update {"force":5}`, `result SUCCESS{"confirmedBy":"data"}`)
}

// TestWhatDidNotGoOutMayGoOutLater: only that is written when the engine publishes
// again.
func TestWhatDidNotGoOutMayGoOutLater(t *testing.T) {
	r := newRig(t)
	r.born(1)
	r.said = nil
	c := r.command(5)
	r.writeErr = client.ErrDown
	if err := r.publish(c, command.SendRequest); !errors.Is(err, engine.ErrRefused) {
		t.Fatal(err)
	}
	r.writeErr = nil
	again := *c
	again.Reason = command.CameOnline
	if err := r.publish(&again, command.SendRequest); err != nil || r.written != 1 {
		t.Errorf("%v, written %d times", err, r.written)
	}
	r.expect("ack RECEIVED written")

	r.online = false
	c = r.command(6)
	if err := r.publish(c, command.SendRequest); !errors.Is(err, engine.ErrRefused) {
		t.Fatal(err)
	}
	if err := r.publish(c, command.SendCancel); err != nil {
		t.Fatal(err)
	}
	r.expect("result CANCELLED")

	// What may not be sent any more is not remembered.
	c = r.command(7)
	if err := r.publish(c, command.SendRequest); !errors.Is(err, engine.ErrRefused) {
		t.Fatal(err)
	}
	n := r.l.node(id)
	if n.tick(c.NotAfter); len(n.unsent) != 1 {
		t.Error("forgotten too early")
	}
	if n.tick(c.NotAfter.Add(1)); len(n.unsent) != 0 {
		t.Error("remembered for ever")
	}
}

// TestKilledBetweenSendAndAnswer: the next process does not write again, and finds out
// by the values that the node has since.
func TestKilledBetweenSendAndAnswer(t *testing.T) {
	r := newRig(t)
	r.born(1)
	c := r.command(5)
	if err := r.publish(c, command.SendRequest); err != nil {
		t.Fatal(err)
	}
	c.Boot, c.Reason = r.presence[press].Boot, command.CameOnline
	boot := c.Boot
	r.restart()
	r.born(4)
	r.expect("status true") // of the same boot
	if now := r.presence[press].Boot; now != boot {
		t.Errorf("boot %q became %q over a rebirth", boot, now)
	}
	if err := r.publish(c, command.SendRequest); err != nil || r.written != 1 {
		t.Errorf("%v, written %d times", err, r.written)
	}
	r.expect("result RUNNING force is reported as 4", "result RUNNING force is reported as 4")
	r.receive(sparkplug.DData, "press", 5)
	r.expect(`state update {"force":5}`, `result SUCCESS{"confirmedBy":"data"}`)

	// And once more: the answer was seen, and not kept.
	c = r.command(6)
	if err := r.publish(c, command.SendRequest); err != nil {
		t.Fatal(err)
	}
	r.restart()
	r.born(6)
	r.said = nil
	if err := r.publish(c, command.SendQuery); err != nil {
		t.Fatal(err)
	}
	r.expect(`state update {"force":6}`, `result SUCCESS{"confirmedBy":"present_value"}`)
}

// TestPresence is what births, deaths and servers are to the engine.
func TestPresence(t *testing.T) {
	r := newRig(t)
	r.born(1)
	r.expect("status true")
	first := r.presence[press].Boot
	r.born(1)
	r.expect() // a rebirth is no news
	r.l.Event(&host.Event{Server: "two", Node: id, Event: session.Event{Kind: session.NodeDeath}})
	r.expect() // at a server that it has left
	r.l.Event(&host.Event{Server: "one", Node: id, Event: session.Event{Kind: session.Stale}})
	r.expect("status false")
	r.born(1)
	r.expect("status true")
	r.receive(sparkplug.NDeath, "", 0)
	r.expect("status false")
	r.bdSeq++
	r.born(1)
	r.expect("status true")
	if now := r.presence[press].Boot; now == first {
		t.Errorf("boot %q outlives a death", now)
	}
	// A session that began without a word about the end of the one before.
	r.bdSeq++
	r.receive(sparkplug.NBirth, "", 0)
	r.expect("status false")
	// A device that is not born again is gone after a while.
	r.receive(sparkplug.DBirth, "press", 1)
	r.said = nil
	r.receive(sparkplug.NBirth, "", 0)
	delete(r.units, "press")
	for _, n := range r.l.all() {
		n.tick(r.now)
		r.said = nil
		n.tick(r.now.Add(rebornGrace))
	}
	r.expect("status false")
	// Nobody is told of a device that is not registered any more.
	delete(r.devices, press)
	r.l.Learn(press)
	r.born(1)
	r.expect()
}

// TestReports: values by their path, once a tick, and gone with their metric.
func TestReports(t *testing.T) {
	r := newRig(t)
	r.born(1)
	r.receive(sparkplug.DData, "press", 2)
	r.said = nil
	n := r.l.node(id)
	n.tick(r.now)
	r.expect(`state update {"force":2}`)
	n.tick(r.now)
	r.expect()
	var rep report
	unit := func(names ...string) *session.Unit {
		u := &session.Unit{}
		for _, name := range names {
			u.Metrics = append(u.Metrics, session.Metric{Name: name})
		}
		return u
	}
	rep.declare(unit("A", "A/B", "C", "C//D", sparkplug.MetricBdSeq, "E/F"), []string{"A/#", "C/#", "bdSeq"})
	if got := fmt.Sprint(rep.paths); got != "map[A/B:[A B] C:[C]]" {
		t.Errorf("paths %s", got)
	}
	rep.declare(unit("C"), []string{"#"})
	if s, ok := rep.waiting["A/B"]; !ok || string(s.value) != "null" || len(rep.waiting) != 1 {
		t.Errorf("what is gone: %+v", rep.waiting)
	}
	rep.put("C", sample{path: []string{"C"}, value: json.RawMessage("2"), time: 20})
	rep.put("C", sample{path: []string{"C"}, value: json.RawMessage("1"), time: 10})
	if s := rep.waiting["C"]; string(s.value) != "2" {
		t.Errorf("an older value took the place of a newer one: %s", s.value)
	}
}

// TestReportOfAPart: what DATA leaves out of a template is reported as the host has it.
func TestReportOfAPart(t *testing.T) {
	r := newRig(t)
	r.born(1)
	n := r.l.node(id)
	n.tick(r.now)
	r.said = nil
	member := func(name string, x int64) sparkplug.Metric {
		v, _ := sparkplug.NewInt(sparkplug.TypeInt32, x)
		return sparkplug.Metric{Name: []byte(name), Datatype: sparkplug.TypeInt32, Value: v}
	}
	u := &session.Unit{Metrics: []session.Metric{{Name: "motor", Datatype: sparkplug.TypeTemplate}}}
	part := &sparkplug.Metric{Template: &sparkplug.Template{Ref: []byte("Motor"), Members: []sparkplug.Metric{member("speed", 2)}}}
	whole := &sparkplug.Template{Ref: []byte("Motor"), Members: []sparkplug.Metric{member("speed", 2), member("torque", 1)}}
	r.values["motor"] = host.Metric{Metric: u.Metrics[0], Quality: host.Good, Known: true, Template: whole}
	r.l.Event(&host.Event{Server: "one", Node: id, Event: session.Event{Kind: session.Data, Device: "press", Unit: u,
		Values: []session.Value{{Metric: &u.Metrics[0], Raw: part}}}})
	n.tick(r.now)
	r.expect(`state update {"force":null,"motor":{"ref":"Motor","members":[{"name":"speed","datatype":"Int32","value":2},{"name":"torque","datatype":"Int32","value":1}]}}`)
}

// TestReportWithoutAPlace: what a document has no room for, or what the host could not
// keep whole, is null there. The value before would pass for the present one, and a write
// would be taken back to it.
func TestReportWithoutAPlace(t *testing.T) {
	r := newRig(t)
	r.born(1)
	n := r.l.node(id)
	n.tick(r.now)
	r.said = nil
	u := &session.Unit{Metrics: []session.Metric{{Name: "force", Datatype: sparkplug.TypeString}, {Name: "motor", Datatype: sparkplug.TypeTemplate}}}
	long := &sparkplug.Metric{Value: sparkplug.NewText([]byte(strings.Repeat("x", maxValue)))}
	part := &sparkplug.Metric{Template: &sparkplug.Template{Ref: []byte("Motor")}}
	r.values["force"] = host.Metric{Metric: u.Metrics[0], Quality: host.Good, Known: true, Value: long.Value}
	r.values["motor"] = host.Metric{Metric: u.Metrics[1]}
	r.l.Event(&host.Event{Server: "one", Node: id, Event: session.Event{Kind: session.Data, Device: "press", Unit: u,
		Values: []session.Value{{Metric: &u.Metrics[0], Raw: long}, {Metric: &u.Metrics[1], Raw: part}}}})
	n.tick(r.now)
	r.expect(`state update {"force":null,"motor":null}`)
}

// TestEffects: what a write changes of the state, when all of it is reported.
func TestEffects(t *testing.T) {
	l := New(Options{Reported: []string{"a/#", "b.c"}})
	for _, tt := range []struct{ name, params, want string }{
		{Write, `{"metrics":{"a/x~y":1,"b.c":2}}`, "[{a.x~0y metrics.a/x~0y} {b~1c metrics.b~1c}]"},
		{Write, `{"metrics":{"a/x":1,"d":2}}`, "[]"},
		{Write, `{"metrics":{"a//x":1}}`, "[]"},
		{Write, `[]`, "[]"},
		{Rebirth, `{}`, "[]"},
	} {
		if got := fmt.Sprint(l.Effects(tt.name, json.RawMessage(tt.params))); got != tt.want {
			t.Errorf("%s %s: %s", tt.name, tt.params, got)
		}
	}
}
