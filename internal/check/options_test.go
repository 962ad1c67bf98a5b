package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/mqtt"
)

func TestRunRefusesWhatIsWrong(t *testing.T) {
	nobody := "mqtt://" + testkit.FreeAddress(t)
	for name, x := range map[string]struct {
		o    Options
		code fault.Code
	}{
		"no URL":          {Options{}, fault.Invalid},
		"another scheme":  {Options{URL: "http://localhost"}, fault.Invalid},
		"no such case":    {Options{URL: nobody, Cases: []string{"O99"}}, fault.Invalid},
		"no broker":       {Options{URL: nobody}, fault.Unavailable},
		"no such command": {Options{URL: nobody, Start: []string{"/nonexistent/broker"}}, fault.Invalid},
		"no such data":    {Options{URL: nobody, Data: "/nonexistent/data"}, fault.Invalid},
		"a bad bridge":    {Options{URL: nobody, Bridge: "http://localhost"}, fault.Invalid},
		"it ends at once": {Options{URL: nobody, Start: []string{"false"}}, fault.Unavailable},
	} {
		if _, err := Run(t.Context(), x.o); fault.CodeOf(err) != x.code {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		url := startLiar(t, "")
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		_, err := Run(ctx, Options{URL: url, open: connect, Cases: []string{"O17"}, Progress: func(Event) { cancel() }})
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("it took %s", d)
		}
	})
}

func TestReport(t *testing.T) {
	own := startBroker(t, broker.RoundRobin, broker.Listener{Name: "tcp", Network: "tcp", Address: "127.0.0.1:0"})
	url := "mqtt://me:secret@" + own.Addr("tcp").String()
	var events []Event
	r := mustRun(t, Options{URL: url, Version: mqtt.V311, Cases: []string{"o12", "O08"}, Seed: 7, Progress: func(e Event) { events = append(events, e) }})
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	r.Print(&text)
	for _, s := range []string{string(b), text.String()} {
		if strings.Contains(s, "secret") || !strings.Contains(s, "me@127.0.0.1") {
			t.Errorf("the broker is not named as it should: %s", s)
		}
		if !strings.Contains(s, "STRICT") || !strings.Contains(s, "needs MQTT 5") {
			t.Errorf("a verdict or a reason is missing: %s", s)
		}
	}
	if r.Seed != 7 || r.Version != "3.1.1" || len(r.Cases) != 2 || r.Cases[0].ID != "O08" {
		t.Errorf("%+v", r)
	}
	if len(events) != 4 || events[3].Done != 2 || events[3].Result == nil {
		t.Errorf("%+v", events)
	}
}

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := parseURL(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestBridge has one broker at both ends, which is as good as a bridge can be.
func TestBridge(t *testing.T) {
	t.Parallel()
	for lie, want := range map[string]Verdict{"": Strict, "lose": LossAcked, "swap": ReorderFirst} {
		virtually(t, lie, func(t *testing.T) {
			url := startLiar(t, lie)
			r := mustRun(t, Options{URL: url, Bridge: url, open: connect, Cases: []string{"O34"}, Patience: time.Second})
			if c := r.Cases[0]; !slices.Contains(c.Verdicts, want) {
				t.Errorf("%s: %s", c.Line(), c.Detail)
			}
		})
	}
	virtually(t, "none", func(t *testing.T) {
		r := mustRun(t, Options{URL: startLiar(t, ""), Bridge: startLiar(t, ""), open: connect, Cases: []string{"O34"}, Patience: time.Second})
		if c := r.Cases[0]; !strings.Contains(c.Skipped, "comes through the bridge") {
			t.Errorf("without a bridge: %s", c.Line())
		}
	})
}

// TestSoak draws cases until one of them finds the lie; its line is enough to
// find it again.
func TestSoak(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testSoak)
}

func testSoak(t *testing.T) {
	o := Options{URL: startLiar(t, "twice"), open: connect, Cases: []string{"O38"}, For: 2 * time.Second, Patience: time.Second, Seed: 3}
	c := mustRun(t, o).Cases[0]
	if !c.Violated || c.Counts["cases"] < 2 {
		t.Fatalf("%s: %v, %s", c.Line(), c.Counts, c.Detail)
	}
	var again Options
	var id string
	if _, err := fmt.Sscanf(c.Detail, "--case %s --seed %d", &id, &again.Seed); err != nil {
		t.Fatalf("%v: %s", err, c.Detail)
	}
	again.URL, again.open, again.Cases, again.Patience = o.URL, connect, []string{id}, time.Second
	if x := mustRun(t, again).Cases[0]; !x.Violated {
		t.Errorf("%s", x.Line())
	}
}
