package hook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/internal/testkit"
)

func webhook(name, url string, on On) Rule {
	return Rule{Name: name, On: on, Webhook: &Webhook{URL: url, AllowPrivate: true}}
}

func TestAWebhookIsToldOfTheEndsItIsFor(t *testing.T) {
	g, v := newRig(t), newReceiver(t)
	g.end("a", "valve.open", command.Failed, nil) // before the hook
	v.secret = g.add(webhook("books", v.URL+"/x?y=1", On{States: []command.State{command.Failed, command.TimedOut}, Types: []string{"valve.*"}}))
	g.end("a", "valve.open", command.Executed, nil)
	g.end("a", "pump.start", command.Failed, nil)
	want := g.end("a", "valve.open", command.Failed, func(c *command.Command) { c.Result = json.RawMessage(`{"at":7}`) })
	g.end("b", "valve.shut", command.TimedOut, nil)
	got := v.await(t, count(2))
	slices.SortFunc(got, func(a, b *client.HookMessage) int { return int(a.Event - b.Event) })
	m := got[0]
	if len(got) != 2 || m.TID != want.TID.String() || m.Hook != "books" || m.Device != "plant/a" || m.State != client.Failed || m.From != client.Sent ||
		m.RequestedBy != "ops" || string(m.Result) != `{"at":7}` || string(m.Params) != `{"to":[1,"é"]}` || !m.Created.Equal(want.Created) {
		t.Errorf("%d: %+v", len(got), m)
	}
	if got[1].Name != "valve.shut" || got[1].ID == m.ID {
		t.Errorf("%+v", got[1])
	}
}

// A secret that was rotated is good beside the new one for a day, and no longer.
func TestRotate(t *testing.T) {
	g, v := newRig(t), newReceiver(t)
	first := g.add(webhook("h", v.URL, On{}))
	rotate := func() string {
		secret, w, err := g.r.Rotate("h")
		if err != nil {
			t.Fatal(err)
		}
		g.commit(store.Batch{Documents: []store.DocumentWrite{w}})
		if err := g.r.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		return secret
	}
	second := rotate()
	n := 0
	told := func(secret string) (taken bool) {
		v.mu.Lock()
		v.secret, v.bad = secret, nil
		before := len(v.got)
		v.mu.Unlock()
		g.end(string(rune('a'+n)), "x", command.Executed, nil)
		n++
		within(t, func() bool {
			v.mu.Lock()
			defer v.mu.Unlock()
			taken = len(v.got) > before
			return taken || len(v.bad) > 0
		}, v.news)
		return taken
	}
	if first == second || !told(second) || !told(first) {
		t.Error("both secrets should be good")
	}
	third := rotate()
	if !told(third) || !told(second) {
		t.Error("the last two secrets should be good")
	}
	g.stop()
	g.start(-1, false) // it is kept
	if !told(second) {
		t.Error("the secret before should be good after a restart")
	}
	if told(first) {
		t.Error("the first secret should be good no more")
	}
	v.mu.Lock()
	v.secret, v.bad = third, nil
	v.mu.Unlock()
	within(t, func() bool { return g.r.Rules()[0].Waiting == 0 }, v.news)
	if s := g.r.Rules()[0]; s.Webhook.Secret != nil || s.Webhook.Former != nil || s.Delivered < 2 || s.Failed == 0 {
		t.Errorf("%+v", s)
	}
	later := *g.r.rules["h"].Webhook
	d := &Delivery{ID: "d", Body: json.RawMessage("{}")}
	idle := New(Options{}) // nobody else reads its clock
	idle.now = func() time.Time { return later.FormerUntil }
	signed := make(chan string, 1)
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { signed <- r.Header.Get(headerSigned) }))
	defer silent.Close()
	later.URL = silent.URL
	if f := idle.call(t.Context(), &later, d); f != nil || strings.Contains(<-signed, " ") {
		t.Errorf("a day later the former secret still signs: %v", f)
	}
	g.add(Rule{Name: "al", Alarm: &Alarm{}})
	if _, _, err := g.r.Rotate("al"); fault.CodeOf(err) != fault.Invalid {
		t.Error(err)
	}
	if _, _, err := g.r.Rotate("nobody"); fault.CodeOf(err) != fault.NotFound {
		t.Error(err)
	}
}

// A receiver says no to one device's first message for a time: that device waits,
// in its order; the others do not.
func TestAFailureHoldsBackItsDeviceOnly(t *testing.T) {
	g, v := newRig(t), newReceiver(t)
	v.secret = g.add(webhook("h", v.URL, On{}))
	v.down = func(m *client.HookMessage) bool { return m.Device == "plant/a" }
	for range 10 {
		g.end("a", "x", command.Executed, nil)
		g.end("b", "x", command.Executed, nil)
	}
	inOrder(t, v.await(t, count(10)))
	v.mu.Lock()
	v.down = nil
	v.mu.Unlock()
	got := v.await(t, count(20))
	inOrder(t, got)
	for _, m := range got[:10] {
		if m.Device != "plant/b" {
			t.Errorf("%s was told while it could not be", m.Device)
		}
	}
}

// inOrder checks that the first time that each event is told is in the order of the
// events of its device.
func inOrder(t *testing.T, got []*client.HookMessage) {
	t.Helper()
	seen, last := map[string]bool{}, map[string]int64{}
	for _, m := range got {
		if seen[m.ID] {
			continue
		}
		seen[m.ID] = true
		if m.Event < last[m.Device] {
			t.Errorf("event %d of %s was told after %d", m.Event, m.Device, last[m.Device])
		}
		last[m.Device] = m.Event
	}
}

// The server dies at each of its commits in turn, before and after the commit has
// taken effect, over and over: nothing is lost, everything keeps its id and order,
// and follow-ups are made once.
func TestKilledBetweenAnyTwoSteps(t *testing.T) {
	g, v := newRig(t), newReceiver(t)
	var mu sync.Mutex
	made := map[string]int{} // by key
	g.send = func(_ context.Context, o Order) error {
		mu.Lock()
		defer mu.Unlock()
		made[o.Key] = 1 // as a server with idempotency keys
		return nil
	}
	v.secret = g.add(webhook("w", v.URL, On{}))
	g.add(Rule{Name: "f", Command: &FollowUp{Name: "next"}})
	g.add(Rule{Name: "al", Alarm: &Alarm{Text: "look"}})
	g.stop()
	ended := map[string]bool{}
	n := 0
	for kill := 1; kill <= 6; kill++ {
		for _, after := range []bool{false, true} {
			for i := range 6 {
				c := g.end(string(rune('a'+i%3)), "x", command.Executed, nil)
				ended[c.TID.String()] = true
				n++
			}
			g.start(kill, after)
			select {
			case <-g.fault.failed:
			case <-time.After(time.Minute):
				t.Fatalf("there were no %d commits", kill)
			}
			g.stop()
		}
	}
	g.start(-1, false)
	got := v.await(t, func(got []*client.HookMessage) bool {
		tids := map[string]bool{}
		for _, m := range got {
			tids[m.TID] = true
		}
		return len(tids) == len(ended)
	})
	inOrder(t, got)
	ids := map[string]string{}
	for _, m := range got {
		if was, told := ids[m.TID]; told && was != m.ID {
			t.Errorf("%s was told as %s and as %s", m.TID, was, m.ID)
		}
		ids[m.TID] = m.ID
	}
	g.settled("w")
	g.settled("f")
	mu.Lock()
	defer mu.Unlock()
	if len(made) != n {
		t.Errorf("%d follow-ups of %d ends", len(made), n)
	}
	alarms := 0
	events, err := g.db.Events(t.Context(), 0, 10000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Type == store.EventAlarm {
			alarms++
		}
	}
	if alarms != n {
		t.Errorf("%d alarms of %d ends", alarms, n)
	}
}

// settled waits until nothing is left to deliver.
func (g *rig) settled(hook string) {
	g.Helper()
	deadline := time.After(time.Minute)
	for {
		docs, err := g.db.Documents(g.Context(), kindDelivery, hook+placePending, "", 1)
		if err != nil {
			g.Fatal(err)
		}
		if len(docs) == 0 {
			return
		}
		select {
		case <-deadline:
			g.Fatalf("%s is still there", docs[0].Key)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func TestTheDeadAreKeptAndCanBeSentAgain(t *testing.T) {
	g, v := newRig(t), newReceiver(t)
	g.tries = 3
	v.secret = g.add(webhook("h", v.URL, On{}))
	v.down = func(*client.HookMessage) bool { return true }
	for range 3 {
		g.end("a", "x", command.Executed, nil)
	}
	dead := g.dead("h", 3)
	if d := dead[0]; d.Attempts != 3 || !strings.HasPrefix(d.Problem, "503") || !d.Dead {
		t.Errorf("%+v", d)
	}
	g.stop()
	g.start(-1, false) // the dead stay dead
	if s := g.r.Rules(); len(s) != 1 || s[0].Waiting != 0 || s[0].Webhook.Secret != nil {
		t.Errorf("%+v", s)
	}
	v.mu.Lock()
	v.down = nil
	v.mu.Unlock()
	g.redrive("h", dead[1].Event, 1)
	if got := v.await(t, count(1)); got[0].ID != dead[1].ID {
		t.Errorf("%+v", got[0])
	}
	if _, err := g.r.Redrive(t.Context(), "h", dead[1].Event); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("it lives: %v", err)
	}
	g.redrive("h", 0, 2)
	got := v.await(t, count(3))
	if got[1].ID != dead[0].ID || got[2].ID != dead[2].ID {
		t.Errorf("%s %s", got[1].ID, got[2].ID)
	}
	g.redrive("h", 0, 0)
}

func (g *rig) redrive(hook string, event int64, want int) {
	g.Helper()
	v, err := g.r.Redrive(g.Context(), hook, event)
	if err != nil || v.Count != want {
		g.Fatalf("%+v, %v", v, err)
	}
	g.commit(store.Batch{Documents: v.Writes})
	g.r.Revive(v)
}

// What a hook had still to deliver is forgotten with it, and does not come back
// with another one of its name.
func TestARemovedHookIsForgotten(t *testing.T) {
	g, v := newRig(t), newReceiver(t)
	v.secret = g.add(webhook("h", v.URL, On{}))
	v.down = func(m *client.HookMessage) bool { return m.Name == "old" }
	g.end("a", "old", command.Executed, nil)
	g.end("b", "old", command.Executed, nil)
	g.pending("h", 2)
	w, err := g.r.Unmake("h")
	if err != nil {
		t.Fatal(err)
	}
	g.commit(store.Batch{Documents: []store.DocumentWrite{w}})
	g.stop() // before Reload: as if killed there
	g.start(-1, false)
	secret := g.add(webhook("h", v.URL, On{}))
	v.mu.Lock()
	v.secret, v.down = secret, nil
	v.mu.Unlock()
	c := g.end("a", "new", command.Executed, nil)
	if got := v.await(t, count(1)); len(got) != 1 || got[0].TID != c.TID.String() {
		t.Errorf("%+v", got[0])
	}
	g.settled("h")
	if _, err := g.r.Unmake("none"); fault.CodeOf(err) != fault.NotFound {
		t.Error(err)
	}
	if _, _, _, err := g.r.Make(t.Context(), webhook("h", v.URL, On{})); fault.CodeOf(err) != fault.Exists {
		t.Error(err)
	}
}

func (g *rig) pending(hook string, n int) {
	g.Helper()
	deadline := time.After(time.Minute)
	for {
		docs, err := g.db.Documents(g.Context(), kindDelivery, hook+placePending, "", 0)
		if err != nil {
			g.Fatal(err)
		}
		if len(docs) == n {
			return
		}
		select {
		case <-deadline:
			g.Fatalf("%d deliveries wait, want %d", len(docs), n)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func TestBadReceivers(t *testing.T) {
	var elsewhere sync.Map
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Store("was", true) }))
	t.Cleanup(target.Close)
	cases := map[string]struct {
		serve http.HandlerFunc
		want  string
	}{
		"redirect elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, target.URL, http.StatusTemporaryRedirect)
		}, "307 Temporary Redirect: redirects are not followed"},
		"redirect to itself": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusPermanentRedirect) },
			"308 Permanent Redirect: redirects are not followed"},
		"slow": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // or it would not be told that its client has gone
			<-r.Context().Done()
		}, "no answer in time"},
		"talks for ever": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusTeapot)
			for r.Context().Err() == nil {
				if _, err := w.Write([]byte(strings.Repeat("\x1b[2J", 1000))); err != nil {
					return
				}
			}
		}, "418 I'm a teapot:  [2J"},
		"large header": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 64<<10))
		}, "net/http: server response headers exceeded"},
		"gone":       {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusGone) }, "410 Gone"},
		"breaks off": {func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	}
	for name, c := range cases {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			g := newRig(t)
			g.tries, g.r.within = 1, 300*time.Millisecond
			s := httptest.NewServer(c.serve)
			t.Cleanup(s.Close)
			g.add(webhook("h", s.URL, On{}))
			g.end("a", "x", command.Executed, nil)
			d := g.dead("h", 1)[0]
			if !strings.Contains(d.Problem, c.want) || len(d.Problem) > maxTold+40 {
				t.Errorf("%q, want %q", d.Problem, c.want)
			}
		})
	}
	if _, was := elsewhere.Load("was"); was {
		t.Error("a redirect was followed")
	}
}

// The address is checked when it is dialled, whatever the name is: localhost
// resolves as a name that was rebound does.
func TestPrivateAddressesAreRefused(t *testing.T) {
	g, v := newRig(t), newReceiver(t)
	g.tries = 1
	for i, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0.0.0.0"} {
		rule := webhook(fmt.Sprint("h", i), strings.Replace(v.URL, "127.0.0.1", host, 1), On{})
		rule.Webhook.AllowPrivate = false
		g.add(rule)
	}
	g.end("a", "x", command.Executed, nil)
	for i := range 5 {
		d := g.dead(fmt.Sprint("h", i), 1)[0]
		if d.Problem != errAddress.Error() && !strings.Contains(d.Problem, "no such host") {
			t.Errorf("%d: %q", i, d.Problem)
		}
	}
	if len(v.got)+len(v.bad) > 0 {
		t.Error("it was told")
	}
}

func TestFollowUps(t *testing.T) {
	g := newRig(t)
	g.tries = 3
	got := make(chan Order, 10)
	var fail error
	g.send = func(_ context.Context, o Order) error { got <- o; return fail }
	g.add(Rule{Name: "f", On: On{States: []command.State{command.Failed}}, Command: &FollowUp{Name: "back",
		Params: json.RawMessage(`{"to":"${params.to}","why":"${device}: ${state}, ${result.n}"}`)}})
	withResult := func(by string) func(*command.Command) {
		return func(c *command.Command) { c.RequestedBy, c.Result = by, json.RawMessage(`{"n":12345678901234567890}`) }
	}
	g.end("a", "x", command.Failed, withResult("ops"))
	o := testkit.Receive(t, got)
	if o.Name != "back" || o.By != "hook/f/1" || o.Device.Device != "a" || o.Key != "hook/f/2" ||
		string(o.Params) != `{"to":[1,"é"],"why":"a: failed, 12345678901234567890"}` {
		t.Errorf("%+v %s", o, o.Params)
	}
	g.end("a", "x", command.Failed, withResult("hook/other/4"))
	if o := testkit.Receive(t, got); o.By != "hook/f/5" {
		t.Errorf("%+v", o)
	}
	// The end of a circle, and a value that is not there.
	g.end("a", "x", command.Failed, withResult("hook/f/5"))
	g.end("a", "x", command.Failed, nil)
	dead := g.dead("f", 2)
	if !strings.HasPrefix(dead[0].Problem, "a circle") || dead[1].Problem != "params: ${result.n} is not there" {
		t.Errorf("%+v", dead)
	}
	g.redrive("f", 0, 0)
	g.settled("f")
	// What the server says of it: for ever, for now, and already made.
	for i, c := range []struct {
		err   error
		tries int
		dead  int
	}{{fault.New(fault.NotFound, "no such device"), 1, 3}, {fault.New(fault.Unavailable, "later"), 3, 4}, {errors.New("?"), 3, 5}, {fault.New(fault.KeyReused, "made"), 1, 5}} {
		fail = c.err
		g.end("a", "x", command.Failed, withResult("ops"))
		for range c.tries {
			testkit.Receive(t, got)
		}
		if n := len(g.dead("f", c.dead)); n != c.dead {
			t.Errorf("%d: %d are dead", i, n)
		}
		g.settled("f")
	}
	if len(got) > 0 {
		t.Errorf("sent once more: %+v", <-got)
	}
}

// TestHooksAreBounded: asking again cannot help, so it is no matter of too much at once.
func TestHooksAreBounded(t *testing.T) {
	g := newRig(t)
	g.r.mu.Lock()
	for i := range MaxHooks {
		g.r.rules[fmt.Sprint("h", i)] = &Rule{Name: fmt.Sprint("h", i), Alarm: &Alarm{Text: "x"}}
	}
	g.r.mu.Unlock()
	_, _, _, err := g.r.Make(t.Context(), Rule{Name: "more", Alarm: &Alarm{Text: "x"}})
	if fault.CodeOf(err) != fault.Conflict {
		t.Error(err)
	}
}
