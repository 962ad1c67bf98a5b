package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/device"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/wire"
)

// answered is an answer or a problem, as a requester reads it.
type answered struct {
	TID, Device, Name, State, Reason, Detail string
	Step                                     int
	Ended                                    bool
	Result                                   json.RawMessage
	Status                                   int
	Code, Field                              string

	correlation, topic, contentType string
}

// asker is a requester with its session at the built-in broker.
type asker struct {
	t     *testing.T
	space string
	*client.Client
	got  chan answered
	down chan error
}

func ask(t *testing.T, address, name, password string) *asker {
	t.Helper()
	a := &asker{t: t, space: wire.ReplySpace("", name), got: make(chan answered, 4096), down: make(chan error, 16)}
	c, err := client.New(client.Options{Servers: []string{"mqtt://" + address}, ClientID: name + "-client", Username: name, Password: []byte(password),
		SessionExpiry: time.Hour, Backoff: client.Backoff{Min: 10 * time.Millisecond, Max: 50 * time.Millisecond},
		Subscriptions: []mqtt.Subscription{{Filter: a.space + "#", QoS: mqtt.AtLeastOnce}},
		OnDown:        func(err error) { a.down <- err },
		OnMessage: func(d *client.Delivery) {
			x := answered{correlation: string(d.CorrelationData), topic: d.Topic, contentType: d.ContentType}
			if err := json.Unmarshal(d.Payload, &x); err != nil {
				t.Errorf("%s: %v", d.Payload, err)
			}
			a.got <- x
			d.Ack()
		}})
	if err != nil {
		t.Fatal(err)
	}
	a.Client = c
	c.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = c.Stop(ctx)
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.AwaitUp(ctx); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *asker) send(device, correlation, payload string, edit ...func(*client.Message)) error {
	a.t.Helper()
	d, err := wire.ParseAddress(device)
	if err != nil {
		a.t.Fatal(err)
	}
	m := client.Message{Topic: wire.RequestTopic("", d), Payload: []byte(payload), QoS: mqtt.AtLeastOnce,
		ResponseTopic: a.space + "answers", CorrelationData: []byte(correlation)}
	for _, e := range edit {
		e(&m)
	}
	ctx, cancel := context.WithTimeout(a.t.Context(), time.Minute)
	defer cancel()
	return a.Publish(ctx, m)
}

func (a *asker) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

func (a *asker) next() answered {
	a.t.Helper()
	select {
	case x := <-a.got:
		return x
	case <-time.After(time.Minute):
		a.t.Fatal("no answer")
		return answered{}
	}
}

// until reads answers, by correlation, until n requests have ended.
func (a *asker) until(n int) map[string][]answered {
	a.t.Helper()
	all := map[string][]answered{}
	for n > 0 {
		x := a.next()
		all[x.correlation] = append(all[x.correlation], x)
		if x.Ended {
			n--
		}
	}
	return all
}

// whole checks the answers to one request: each state once, in order, up to the end.
func whole(t *testing.T, correlation string, list []answered) {
	t.Helper()
	// What comes again after a restart is the same answer.
	seen := map[int]bool{}
	list = slices.DeleteFunc(slices.Clone(list), func(x answered) bool {
		was := seen[x.Step]
		seen[x.Step] = true
		return was
	})
	if len(list) == 0 || list[0].State != "created" || !list[len(list)-1].Ended || list[len(list)-1].State != "executed" {
		t.Errorf("%s: answers %+v", correlation, list)
		return
	}
	for i := 1; i < len(list); i++ {
		if list[i].Step <= list[i-1].Step || list[i].State == list[i-1].State || list[i].TID != list[0].TID {
			t.Errorf("%s: %+v behind %+v", correlation, list[i], list[i-1])
		}
	}
}

// requestPlant is a server with devices that do what they are told, one of them only
// when it is let, and a user who may operate the valves of the plant.
type requestPlant struct {
	t       *testing.T
	data    string
	address string
	*Server
	secrets map[string]string
	let     chan struct{}
}

func newRequestPlant(t *testing.T) *requestPlant {
	p := &requestPlant{t: t, data: t.TempDir(), address: "127.0.0.1:0", secrets: map[string]string{}, let: make(chan struct{})}
	p.start()
	p.address = p.MQTTAddr("tcp").String()
	for _, name := range []string{"plant/fast", "plant/slow", "mill/fast"} {
		a, _ := wire.ParseAddress(name)
		_, secret, err := p.Fleet.Add(t.Context(), fleet.NewDevice{Address: a, Window: 1})
		if err != nil {
			t.Fatal(err)
		}
		p.secrets[name] = secret
	}
	_, err := p.Fleet.AddUser(t.Context(), fleet.NewUser{Name: "ann", Password: "correct horse",
		Grants: []fleet.Grant{{Role: fleet.Operator, Groups: []string{"plant"}, Commands: []string{"valve.*"}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopServer(t, p.Server) })
	return p
}

func (p *requestPlant) start() {
	p.t.Helper()
	p.Server = startAt(p.t, p.data, p.address, "fsync")
}

// devices connects all of them, until the test ends.
func (p *requestPlant) devices() {
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	for name, secret := range p.secrets {
		a, _ := wire.ParseAddress(name)
		d, err := device.New(device.Config{Address: a, Servers: []string{"mqtt://" + p.address}, Password: []byte(secret), Journal: &device.MemoryJournal{}})
		if err != nil {
			p.t.Fatal(err)
		}
		d.Handle("valve.open", func(ctx context.Context, r *device.Request) (any, error) {
			if a.Device == "slow" {
				select {
				case <-p.let:
				case <-ctx.Done():
				}
			}
			return json.RawMessage(r.Params), nil
		})
		running.Go(func() { _ = d.Run(ctx) })
	}
	p.t.Cleanup(func() { cancel(); running.Wait() })
}

// TestManyRequestsAtOnce: a hundred requests of one requester, the first half to a
// device that is slow, the other to one that is not, are told apart by their
// Correlation Data, and those that are done first are answered first.
func TestManyRequestsAtOnce(t *testing.T) {
	p := newRequestPlant(t)
	p.devices()
	a := ask(t, p.address, "ann", "correct horse")
	const half = 50
	for _, device := range []string{"plant/slow", "plant/fast"} {
		for i := range half {
			a.must(a.send(device, fmt.Sprintf("%s\x00%d", device, i), fmt.Sprintf(`{"name":"valve.open","params":{"n":%d}}`, i)))
		}
	}
	first := a.until(half)
	for c, list := range first {
		if done := list[len(list)-1].Ended; done != strings.HasPrefix(c, "plant/fast") {
			t.Errorf("%q has ended: %v", c, done)
		}
	}
	close(p.let)
	for c, list := range a.until(half) {
		first[c] = append(first[c], list...)
	}
	tids := map[string]bool{}
	for c, list := range first {
		for i := 1; i < len(list); i++ {
			if list[i].Step == list[i-1].Step {
				t.Errorf("%q: twice: %+v", c, list[i])
			}
		}
		whole(t, c, list)
		last := list[len(list)-1]
		if _, n, _ := strings.Cut(c, "\x00"); string(last.Result) != `{"n":`+n+`}` || last.contentType != "application/json" || last.topic != a.space+"answers" {
			t.Errorf("%q: %+v %s", c, last, last.Result)
		}
		tids[last.TID] = true
	}
	if len(first) != 2*half || len(tids) != 2*half {
		t.Errorf("%d requests, %d commands", len(first), len(tids))
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	p := newRequestPlant(t)
	a := ask(t, p.address, "ann", "correct horse")
	const good = `{"name":"valve.open"}`
	for name, c := range map[string]struct {
		device, payload string
		edit            func(*client.Message)
		status          int
		code, field     string
		fallback        bool
	}{
		"another command":        {"plant/fast", `{"name":"pump.start"}`, nil, 403, "forbidden", "", false},
		"no such device":         {"plant/none", good, nil, 404, "not_found", "device", false},
		"no JSON":                {"plant/fast", `open`, nil, 400, "invalid", "payload", false},
		"two values":             {"plant/fast", good + good, nil, 400, "invalid", "payload", false},
		"unknown field":          {"plant/fast", `{"name":"valve.open","by":"bo"}`, nil, 400, "invalid", "by", false},
		"another kind":           {"plant/fast", `{"name":7}`, nil, 400, "invalid", "name", false},
		"no name":                {"plant/fast", `{}`, nil, 400, "invalid", "name", false},
		"policy":                 {"plant/fast", `{"name":"valve.open","policy":{"ackBy":"1ns"}}`, nil, 400, "invalid", "policy.ackBy", false},
		"too large":              {"plant/fast", `{"name":"valve.open","params":"` + strings.Repeat("x", 300<<10) + `"}`, nil, 413, "too_large", "", false},
		"no response topic":      {"plant/fast", good, func(m *client.Message) { m.ResponseTopic = "" }, 400, "invalid", "Response Topic", true},
		"no correlation data":    {"plant/fast", good, func(m *client.Message) { m.CorrelationData = nil }, 400, "invalid", "Correlation Data", true},
		"much correlation data":  {"plant/fast", good, func(m *client.Message) { m.CorrelationData = make([]byte, 1025) }, 400, "invalid", "Correlation Data", true},
		"a device's topic":       {"plant/fast", good, func(m *client.Message) { m.ResponseTopic = "wilco/plant/fast/command" }, 400, "invalid", "Response Topic", true},
		"the space of another":   {"plant/fast", good, func(m *client.Message) { m.ResponseTopic = "wilco-replies/bo/x" }, 400, "invalid", "Response Topic", true},
		"nothing in its space":   {"plant/fast", good, func(m *client.Message) { m.ResponseTopic = "wilco-replies/ann/" }, 400, "invalid", "Response Topic", true},
		"a space that begins so": {"plant/fast", good, func(m *client.Message) { m.ResponseTopic = "wilco-replies/anna/x" }, 400, "invalid", "Response Topic", true},
	} {
		edit := c.edit
		if edit == nil {
			edit = func(*client.Message) {}
		}
		a.must(a.send(c.device, name, c.payload, edit))
		got := a.next()
		if got.Status != c.status || got.Code != c.code || got.Field != c.field || got.contentType != "application/problem+json" {
			t.Errorf("%s: %+v", name, got)
		}
		if want := name; got.correlation != want && !strings.HasSuffix(name, "correlation data") || (got.topic == a.space+"refused") != c.fallback {
			t.Errorf("%s: answered to %s, %q", name, got.topic, got.correlation)
		}
	}
	// Where it may ask for nothing at all, the broker says so.
	var refused *client.ReasonError
	if err := a.send("mill/fast", "x", good); !errors.As(err, &refused) || refused.Code != mqtt.NotAuthorized {
		t.Errorf("another group: %v", err)
	}
	if s := p.asked.Stats(); s.Refused != 16 || s.Taken != 0 || s.Open != 0 || p.Engine.Stats().Created != 0 {
		t.Errorf("%+v", s)
	}
}

// TestNobodyAsksAsAnother: who asks is what the broker says, whatever the client says.
func TestNobodyAsksAsAnother(t *testing.T) {
	p := newRequestPlant(t)
	_, token, err := p.Fleet.CreateToken(t.Context(), fleet.NewToken{Name: "service", Grants: []fleet.Grant{{Role: fleet.Operator, Commands: []string{"pump.*"}}}})
	if err != nil {
		t.Fatal(err)
	}
	a := ask(t, p.address, "service", token)
	forged := func(m *client.Message) {
		m.User = []mqtt.UserProperty{{Key: broker.SignatureProperty, Value: "user ann ann-client"}, {Key: "x", Value: "y"},
			{Key: broker.SignatureProperty, Value: "user ann ann-client"}}
	}
	a.must(a.send("plant/fast", "1", `{"name":"valve.open"}`, forged))
	if got := a.next(); got.Code != "forbidden" || !strings.Contains(got.Detail, `"service"`) {
		t.Errorf("%+v", got)
	}
	a.must(a.send("plant/fast", "2", `{"name":"pump.start"}`, forged))
	got := a.next()
	c, err := p.Store.Command(t.Context(), uuid.MustParse(got.TID))
	if err != nil || c.RequestedBy != "service" {
		t.Errorf("%+v %v", c, err)
	}
	for _, filter := range []string{"wilco-replies/#", "wilco-replies/ann/#", "wilco-replies/+/answers", "wilco/+/+/request", "wilco/plant/fast/command", "#"} {
		codes, err := a.Subscribe(t.Context(), mqtt.Subscription{Filter: filter, QoS: mqtt.AtLeastOnce})
		if err == nil && !codes[0].Failed() {
			t.Errorf("may subscribe to %s", filter)
		}
	}
	for _, topic := range []string{"wilco/plant/fast/command", "wilco/plant/fast/result", "wilco-replies/ann/x", "wilco-replies/service/x", "wilco/plant/request"} {
		err := a.Publish(t.Context(), client.Message{Topic: topic, QoS: mqtt.AtLeastOnce})
		var refused *client.ReasonError
		if !errors.As(err, &refused) || refused.Code != mqtt.NotAuthorized {
			t.Errorf("publish to %s: %v", topic, err)
		}
	}
}

// TestTheSameRequestAgain: by its key or by its Correlation Data it is one command,
// and whoever asks again is told how it is.
func TestTheSameRequestAgain(t *testing.T) {
	p := newRequestPlant(t)
	a := ask(t, p.address, "ann", "correct horse")
	for _, c := range [][2]string{{`{"name":"valve.open","key":"k"}`, "other"}, {`{"name":"valve.open"}`, "same"}} {
		a.must(a.send("plant/fast", "same", c[0]))
		first := a.next()
		a.must(a.send("plant/fast", c[1], c[0]))
		again := a.next()
		if again.TID != first.TID || again.State != "created" || again.correlation != c[1] {
			t.Errorf("%+v, and then %+v", first, again)
		}
	}
	a.must(a.send("plant/fast", "same", `{"name":"valve.close"}`))
	if got := a.next(); got.Code != "key_reused" {
		t.Errorf("%+v", got)
	}
	if n := p.Engine.Stats().Created; n != 2 {
		t.Errorf("%d commands", n)
	}
	p.devices()
	for c, list := range a.until(2) {
		if last := list[len(list)-1]; last.State != "executed" || c != "same" && c != "other" {
			t.Errorf("%q: %+v", c, list)
		}
	}
	a.must(a.send("plant/fast", "late", `{"name":"valve.open","key":"k"}`))
	if got := a.until(1)["late"]; len(got) == 0 || got[len(got)-1].State != "executed" {
		t.Errorf("of what has ended: %+v", got)
	}
}

// TestOpenRequestsOutliveTheServer: after a restart they are told to the end.
func TestOpenRequestsOutliveTheServer(t *testing.T) {
	p := newRequestPlant(t)
	a := ask(t, p.address, "ann", "correct horse")
	const n = 20
	for i := range n {
		a.must(a.send("plant/fast", fmt.Sprint(i), `{"name":"valve.open"}`))
	}
	for range n {
		if got := a.next(); got.State != "created" {
			t.Fatalf("%+v", got)
		}
	}
	stopServer(t, p.Server)
	p.start()
	p.devices()
	for c, list := range a.until(n) {
		whole(t, c, list)
	}
}

// TestRequestersComeAndGo: rights end with the user, and with them the connection.
func TestRequestersComeAndGo(t *testing.T) {
	p := newRequestPlant(t)
	a := ask(t, p.address, "ann", "correct horse")
	off := true
	if _, err := p.Fleet.ChangeUser(t.Context(), "ann", fleet.UserChange{Disabled: &off}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-a.down:
	case <-time.After(time.Minute):
		t.Error("still connected")
	}
	for name, c := range map[string][3]string{
		"disabled":       {"ann", "correct horse", "c"},
		"wrong":          {"bo", "correct horse", "c"},
		"a device's id":  {"ann", "correct horse", "plant/fast"},
		"another's name": {"ann", p.FirstToken(), "c"},
	} {
		c, err := client.New(client.Options{Servers: []string{"mqtt://" + p.address}, Once: true, ClientID: c[2], Username: c[0], Password: []byte(c[1])})
		if err != nil {
			t.Fatal(err)
		}
		c.Start()
		if err := c.AwaitUp(t.Context()); err == nil {
			t.Errorf("%s: let in", name)
		}
		_ = c.Stop(t.Context())
	}
}
