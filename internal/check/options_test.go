package check

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/mqtt"
)

func TestRunRefusesWhatIsWrong(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "mqtt://" + ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		o    Options
		code fault.Code
	}{
		"no URL":          {Options{}, fault.Invalid},
		"another scheme":  {Options{URL: "http://localhost"}, fault.Invalid},
		"no such case":    {Options{URL: nobody, Cases: []string{"O99"}}, fault.Invalid},
		"no broker":       {Options{URL: nobody}, fault.Unavailable},
		"no such command": {Options{URL: nobody, Start: []string{"/nonexistent/broker"}}, fault.Invalid},
		"it ends at once": {Options{URL: nobody, Start: []string{"false"}}, fault.Unavailable},
	} {
		if _, err := Run(t.Context(), x.o); fault.CodeOf(err) != x.code {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	url := startLiar(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	began := time.Now()
	_, err := Run(ctx, Options{URL: url, Cases: []string{"O17"}, Progress: func(Event) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("it took %s", d)
	}
}

func TestReport(t *testing.T) {
	url := strings.Replace(ownBroker(t), "mqtt://", "mqtt://me:secret@", 1)
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
