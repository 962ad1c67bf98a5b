package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/mqtt"
	mqttclient "github.com/wilco-iot/wilco/mqtt/client"
)

// counter is a device of raw MQTT at the gateway, that reports rising numbers.
func (e *edge) counter() *mqttclient.Client {
	e.t.Helper()
	c, err := mqttclient.New(mqttclient.Options{Servers: []string{"mqtt://" + e.tcp}, ClientID: valve, Username: valve, Password: []byte(e.secret),
		SessionExpiry: time.Hour, Backoff: mqttclient.Backoff{Min: 10 * time.Millisecond, Max: 100 * time.Millisecond},
		OnUp: func(mqttclient.Up) {}})
	if err != nil {
		e.t.Fatal(err)
	}
	c.Start()
	e.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = c.Stop(ctx) // its broker may be gone by then
	})
	return c
}

// report publishes the numbers from first to last, and waits until the gateway has
// acknowledged each.
func (e *edge) report(c *mqttclient.Client, first, last int) {
	e.t.Helper()
	var wg sync.WaitGroup
	for n := first; n <= last; n++ {
		wg.Add(1)
		err := c.PublishAsync(mqttclient.Message{Topic: "wilco/" + valve + "/state/update", QoS: mqtt.AtLeastOnce,
			Payload: []byte(`{"state":{"n":` + strconv.Itoa(n) + `}}`)}, func(r mqttclient.Result) {
			if r.Err != nil {
				e.t.Errorf("report %d: %v", n, r.Err)
			}
			wg.Done()
		})
		if err != nil {
			e.t.Fatal(err)
		}
	}
	if err := waited(&wg); err != nil {
		e.t.Fatalf("reports %d to %d: %v", first, last, err)
	}
}

// waited is WaitGroup.Wait, but not for ever.
func waited(wg *sync.WaitGroup) error {
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("not all is answered within %s", patience)
	}
}

// inOrder follows what the valve reports at the server above, from the beginning
// up to last. Repeats may come after a cut; nothing may be missing, and no number
// may come first before a lower one.
func (e *edge) inOrder(last int) (repeats int) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), patience)
	defer cancel()
	next := 1
	group, name, _ := strings.Cut(valve, "/")
	for item, err := range e.above.Events(ctx, client.EventOptions{Group: group, Device: name}) {
		if err != nil {
			e.t.Fatalf("after %d: %v", next-1, err)
		}
		if item.Event == nil || item.Event.Type != "state" {
			continue
		}
		var got struct{ N int }
		if err := json.Unmarshal([]byte(item.Event.Detail), &got); err != nil {
			e.t.Fatal(err)
		}
		switch {
		case got.N > next:
			e.t.Fatalf("%d came after %d", got.N, next-1)
		case got.N < next:
			repeats++
		default:
			next++
		}
		if next > last {
			return repeats
		}
	}
	return repeats
}

// TestGatewayStoresAndForwards: 10,000 reports that are made while the line is cut,
// and a kill -9 of the gateway amid them and amid their way up, come to the server
// above in their order, and none is missing.
func TestGatewayStoresAndForwards(t *testing.T) {
	t.Parallel()
	e := newEdge(t, "")
	c := e.counter()
	e.report(c, 1, 100)
	e.line.Cut()
	e.report(c, 101, 5000)
	e.gw.kill()
	e.startGateway()
	e.report(c, 5001, 10000)
	e.line.Mend()
	began := time.Now()
	err := within(patience, func() error {
		_, err := e.reported("n", 2000)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	e.gw.kill()
	e.startGateway()
	repeats := e.inOrder(10000)
	t.Logf("10,000 reports came in order, %d repeats, all %s after the line was back", repeats, time.Since(began).Round(time.Millisecond))
}

// reported waits for nothing: it says whether the number at a name is at least so high.
func (e *edge) reported(name string, least int) (int, error) {
	s, err := e.above.State(e.t.Context(), valve, false)
	if err != nil {
		return 0, err
	}
	var m map[string]any
	err = json.Unmarshal(s.Reported, &m)
	n, _ := m[name].(float64)
	if err != nil || int(n) < least {
		err = fmt.Errorf("%s is %v at the server above: %v", name, m[name], err)
	}
	return int(n), err
}

const deadMan = `rules:
  - name: close
    when: {upstreamDown: 4s}
    do: {device: plant-1/valve-2, rollback: true}
`

// TestGatewayActsAlone: with the server above gone, the rule puts the valve back to
// its former state, and people at the gateway ask for more. When the server is back it has all of that in its history, and what it was asked for meanwhile, which
// contradicts, is marked, and comes after.
func TestGatewayActsAlone(t *testing.T) {
	t.Parallel()
	e := newEdge(t, deadMan)
	state := e.powerOn()
	if err := state.Report(map[string]any{"position": 10}); err != nil {
		t.Fatal(err)
	}
	e.sees(valve, true)
	e.comesTo(e.above, "", "10")
	opened := e.desires(e.above, 80)
	if opened.State != client.Executed {
		t.Fatalf("ended as %s (%s)", opened.State, opened.Reason)
	}

	e.line.Cut()
	e.comesTo(e.own, "10", "10") // the rule
	rule := e.lastOf(e.own, "rule:close")
	if rule == nil || rule.State != client.Executed {
		t.Fatalf("the command of the rule: %+v", rule)
	}
	e.gw.kill() // the rule has acted once, also over this
	e.startGateway()
	e.comesTo(e.own, "10", "10")
	mine := e.desires(e.own, 30) // by people at the gateway
	e.sees(valve, false)
	waiting := e.asks(e.above, 55) // which knows nothing of all that
	if d, r := e.positions(e.above); d != "55" || r != "80" {
		t.Errorf("the server above believes %s desired and %s reported", d, r)
	}

	e.line.Mend()
	if c := e.ended(e.above, waiting); c.State != client.Executed {
		t.Errorf("what waited ended as %s (%s)", c.State, c.Reason)
	}
	e.comesTo(e.above, "55", "55")
	e.comesTo(e.own, "55", "55")
	if got, want := strings.Join(e.done(), ", "), "position 80, position 10, position 30, position 55"; got != want {
		t.Errorf("the valve has done %s; want %s", got, want)
	}
	for _, x := range []*client.Command{rule, mine} {
		c, err := e.above.Get(t.Context(), x.TID)
		if err != nil || c.State != client.Executed || !strings.HasSuffix(c.RequestedBy, " at plant-1/gw-1") {
			t.Errorf("%s at the server above: %+v %v", x.TID, c, err)
		}
	}
	if c, err := e.above.Get(t.Context(), opened.TID); err != nil || c.UndoneBy != rule.TID {
		t.Errorf("the command that the rule took back: %+v %v", c, err)
	}
	line, err := e.above.Timeline(t.Context(), waiting)
	if err != nil {
		t.Fatal(err)
	}
	overtaken := 0
	for _, x := range line.Entries {
		if x.Kind == "overtaken" {
			overtaken++
		}
	}
	if overtaken != 2 {
		t.Errorf("%d of the gateway's commands are marked on what they overtook: %+v", overtaken, line.Entries)
	}
	list, err := e.above.Anomalies(t.Context(), valve, 0)
	if err != nil || len(list) < 4 {
		t.Errorf("contradictions that are shown: %+v %v", list, err)
	}
	conflicts := command("gateway", "conflicts", "plant-1/gw-1")
	conflicts.Env = append(append(os.Environ(), e.serverEnv...), "WILCO_SERVER=http://"+e.http)
	if out, err := conflicts.CombinedOutput(); err != nil ||
		!strings.Contains(string(out), "gateway_conflict") || !strings.Contains(string(out), "gateway_acted") || !strings.Contains(string(out), waiting) {
		t.Errorf("conflicts that are listed: %v\n%s", err, out)
	}
	if out, err := command("gateway", "ledger", "verify", filepath.Join(e.dir, "ledger")).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	e.flippedBit()
}

// lastOf gives the newest command that somebody has asked for.
func (e *edge) lastOf(api *client.Client, who string) *client.Command {
	e.t.Helper()
	page, err := api.List(e.t.Context(), client.ListOptions{RequestedBy: who})
	if err != nil {
		e.t.Fatal(err)
	}
	if len(page.Items) == 0 {
		return nil
	}
	if len(page.Items) > 1 {
		e.t.Errorf("%s has made %d commands", who, len(page.Items))
	}
	c := e.ended(api, page.Items[0].TID)
	return c
}

// flippedBit flips one in the ledger: it is found and told.
func (e *edge) flippedBit() {
	e.t.Helper()
	if err := e.gw.stop(); err != nil {
		e.t.Error(err)
	}
	dir := filepath.Join(e.dir, "ledger")
	file := filepath.Join(dir, "former-00000001.jsonl")
	b, err := os.ReadFile(file)
	if err != nil {
		e.t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(file, b, 0o600); err != nil {
		e.t.Fatal(err)
	}
	out, err := command("gateway", "ledger", "verify", dir).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "former-00000001.jsonl:") {
		e.t.Errorf("%v: %s", err, out)
	}
	e.startGateway()
	if err := within(patience, func() error {
		if !strings.Contains(e.gw.out.String(), "ledger of former states is damaged") {
			return fmt.Errorf("the damage is not told: %s", e.gw.out.String())
		}
		return nil
	}); err != nil {
		e.t.Error(err)
	}
}

// TestGatewayDiskFull: while the gateway's disk is full no report is acknowledged
// and no rule acts, and reading goes on; with room again both go on, without a
// restart, and nothing that was acknowledged is missing above.
func TestGatewayDiskFull(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "gateway")
	smallDisk(t, dir, 64<<20)
	e := newEdgeIn(t, dir, strings.ReplaceAll(deadMan, "rollback: true", "desired: {position: 0}"))
	c := e.counter()
	e.report(c, 1, 50)
	ballast := fill(t, filepath.Join(dir, "ballast"))
	e.line.Cut()
	big := strings.Repeat("x", 50_000)
	refused, last := false, 50
	for n := 51; n < 1000 && !refused; n++ {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err := c.Publish(ctx, mqttclient.Message{Topic: "wilco/" + valve + "/state/update", QoS: mqtt.AtLeastOnce,
			Payload: []byte(`{"state":{"n":` + strconv.Itoa(n) + `,"x":"` + big + `"}}`)})
		cancel()
		if refused = err != nil; !refused {
			last = n
		}
	}
	if !refused {
		t.Fatal("the disk is full, and all reports were taken")
	}
	said := func(text string) error {
		if !strings.Contains(e.gw.out.String(), text) {
			return fmt.Errorf("the gateway does not say %q", text)
		}
		return nil
	}
	if err := within(patience, func() error { return said("no rule acts before") }); err != nil {
		t.Error(err)
	}
	page, err := e.own.List(t.Context(), client.ListOptions{RequestedBy: "rule:close"})
	if err != nil || len(page.Items) > 0 {
		t.Errorf("with a full disk: %+v %v", page, err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := within(patience, func() error {
		page, err := e.own.List(t.Context(), client.ListOptions{RequestedBy: "rule:close"})
		if err == nil && len(page.Items) != 1 {
			err = fmt.Errorf("%d commands of the rule", len(page.Items))
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	e.report(c, 1001, 1010)
	e.line.Mend()
	if err := within(patience, func() error { _, err := e.reported("n", 1010); return err }); err != nil {
		t.Error(err)
	}
	history, err := e.above.StateHistory(t.Context(), valve, 0)
	if err != nil {
		t.Fatal(err)
	}
	came := map[int]bool{}
	for _, rev := range history {
		var got struct{ N int }
		if err := json.Unmarshal(rev.Patch, &got); err != nil {
			t.Fatal(err)
		}
		came[got.N] = true
	}
	for n := max(last-20, 1); n <= last; n++ {
		if !came[n] {
			t.Errorf("report %d was acknowledged, and is missing above", n)
		}
	}
}

// TestGatewayKeepsTheNewest: with a bounded queue and the policy oldest, what waited
// longest goes for what comes, but for the 512 that are on their way; what is left
// comes to the server above in its order.
func TestGatewayKeepsTheNewest(t *testing.T) {
	t.Parallel()
	const most, all = 1500, 3000
	e := newEdge(t, fmt.Sprintf("queue: {maxMessages: %d, maxBytes: 10000000, overflow: oldest}\n", most))
	c := e.counter()
	e.line.Cut()
	for n := 1; n <= all; n += 50 { // less at once than the queues of the gateway's own server take
		e.report(c, n, n+49)
	}
	e.line.Mend()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	group, name, _ := strings.Cut(valve, "/")
	last, came := 0, 0
	for item, err := range e.above.Events(ctx, client.EventOptions{Group: group, Device: name}) {
		if err != nil {
			t.Fatalf("after %d: %v", last, err)
		}
		if item.Event == nil || item.Event.Type != "state" {
			continue
		}
		var got struct{ N int }
		if err := json.Unmarshal([]byte(item.Event.Detail), &got); err != nil {
			t.Fatal(err)
		}
		if got.N <= last || last > 512 && last > all-most+512 && got.N != last+1 {
			t.Errorf("%d came after %d", got.N, last)
		}
		came++
		if last = got.N; last == all {
			break
		}
	}
	if came != most {
		t.Errorf("%d reports came of the %d that there was room for", came, most)
	}
}

// TestGatewayMirrors: named topics pass between two brokers, each way, and of the
// latest only the last word of each topic outlasts a cut.
func TestGatewayMirrors(t *testing.T) {
	t.Parallel()
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	p, err := spawn("wilco broker", nil, nil, program("wilco"), "broker", "--tcp", address, "--anonymous")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	line := newCable(t, address)
	local, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	secret, hash := brokerSecret(t)
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("users.yaml", "users:\n  - {name: panel, secret: "+hash+", publish: [all/#, last/#], subscribe: [all/#, down/#]}\n")
	write("gateway.yaml", fmt.Sprintf("name: s/gw\nupstream: {url: mqtt://%s, secret: x, keepAlive: 1s}\ndata: %s\nhttp: {address: 127.0.0.1:0}\nmqtt: {tcp: %s, users: %s}\n"+
		"mirror: {up: [all/#, {topics: last/#, overflow: latest}], down: [down/#]}\nlog: {level: warn}\n", line.Addr(), filepath.Join(dir, "data"), local, filepath.Join(dir, "users.yaml")))
	gw, err := serving("wilco gateway", nil, "gateway", "--config", filepath.Join(dir, "gateway.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { gw.kill() })
	above := listener(t, address, "above", "", "all/#", "last/#")
	panel := listener(t, local, "panel", secret, "down/#", "all/#")
	panel.say("all/a", "1", false)
	above.hears("all/a 1")
	panel.hears("all/a 1")
	above.say("down/x", "hello", false)
	panel.hears("down/x hello")
	// What is said before the gateway knows of the cut may go up: it knows soon.
	const words, tries = 3, 10
	n, came := 0, words
	for range tries {
		line.Cut()
		for range words {
			n++
			panel.say("all/a", strconv.Itoa(n+1), false)
			panel.say("last/b", strconv.Itoa(n), true)
			panel.hears("all/a " + strconv.Itoa(n+1))
		}
		line.Mend()
		if came = above.catchesUp(n-words+1, n); came == 1 {
			break
		}
	}
	if came > 1 {
		t.Errorf("%d of %d words that only the last counts of outlasted each of %d cuts", came, words, tries)
	}
	panel.say("last/b", "last", true)
	above.hears("last/b last")
}

// brokerSecret is a secret, and what a users file has of it.
func brokerSecret(t *testing.T) (secret, hash string) {
	t.Helper()
	out, err := command("broker", "secret", "--json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ Secret, Hash string }
	if err := json.Unmarshal(out, &made); err != nil {
		t.Fatal(err)
	}
	return made.Secret, made.Hash
}

// ear is a client of some broker that hears.
type ear struct {
	t *testing.T
	*mqttclient.Client
	heard chan string
}

func listener(t *testing.T, address, name, secret string, filters ...string) *ear {
	t.Helper()
	e := &ear{t: t, heard: make(chan string, 100)}
	o := mqttclient.Options{Servers: []string{"mqtt://" + address}, ClientID: name, Username: name, CleanStart: true,
		Backoff:   mqttclient.Backoff{Min: 10 * time.Millisecond, Max: 100 * time.Millisecond},
		OnMessage: func(d *mqttclient.Delivery) { d.Ack(); e.heard <- d.Topic + " " + string(d.Payload) }}
	if secret != "" {
		o.Password = []byte(secret)
	}
	for _, f := range filters {
		o.Subscriptions = append(o.Subscriptions, mqtt.Subscription{Filter: f, QoS: mqtt.AtLeastOnce})
	}
	var err error
	if e.Client, err = mqttclient.New(o); err != nil {
		t.Fatal(err)
	}
	e.Start()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := e.AwaitUp(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = e.Stop(ctx) // it may still wait for an answer, or for somebody to take what it heard
	})
	return e
}

// say says it once: a cut repeats nothing.
func (e *ear) say(topic, text string, retain bool) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), patience)
	defer cancel()
	if err := e.Publish(ctx, mqttclient.Message{Topic: topic, Payload: []byte(text), QoS: mqtt.ExactlyOnce, Retain: retain}); err != nil {
		e.t.Fatal(err)
	}
}

// catchesUp waits for what was said from first to last: all of all/a in order, and of
// last/b the last, which comes behind all else. It returns how many came of last/b.
func (e *ear) catchesUp(first, last int) (came int) {
	e.t.Helper()
	for next, end := first, "last/b "+strconv.Itoa(last); ; {
		got := e.next(end)
		if strings.HasPrefix(got, "last/b ") {
			came++
		} else if next++; got != "all/a "+strconv.Itoa(next) {
			e.t.Fatalf("heard %q, want %q", got, "all/a "+strconv.Itoa(next))
		}
		if got == end {
			if next != last+1 {
				e.t.Fatalf("heard %q after %q", got, "all/a "+strconv.Itoa(next))
			}
			return came
		}
	}
}

// hears waits for these and nothing else.
func (e *ear) hears(want ...string) {
	e.t.Helper()
	for _, w := range want {
		if got := e.next(w); got != w {
			e.t.Fatalf("heard %q, want %q", got, w)
		}
	}
}

// next waits for what comes next, in the hope of want.
func (e *ear) next(want string) string {
	e.t.Helper()
	select {
	case got := <-e.heard:
		return got
	case <-time.After(patience):
		e.t.Fatalf("did not hear %q", want)
		return ""
	}
}
