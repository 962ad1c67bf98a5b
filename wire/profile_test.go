package wire

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestWilcoTopics(t *testing.T) {
	p := NewWilco("plant/a")
	a := Address{Group: "g", Device: "d"}
	for got, want := range map[string]string{
		p.Topic(a):       "plant/a/g/d/command",
		p.AckTopic(a):    "plant/a/g/d/ack",
		p.ResultTopic(a): "plant/a/g/d/result",
		p.StatusTopic(a): "plant/a/g/d/status",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if got, want := p.Filters(), []string{"plant/a/+/+/ack", "plant/a/+/+/result", "plant/a/+/+/status",
		"plant/a/+/+/state/update", "plant/a/+/+/state/get", "plant/a/+/+/gateway/act"}; !slices.Equal(got, want) {
		t.Errorf("filters %v, want %v", got, want)
	}
	if p.Name() != "wilco" || !p.ReportsPresence() || !p.Ordered() {
		t.Error("wilco has a name, presence and order")
	}
}

func TestAtlasTopics(t *testing.T) {
	p := Atlas()
	a := Address{Group: AtlasGroup, Device: "d"}
	if p.Topic(a) != "commands/d" || p.AckTopic(a) != "commands/d/ack" || p.ResultTopic(a) != "commands/d/ack" || p.StatusTopic(a) != "" {
		t.Error(p.Topic(a), p.AckTopic(a), p.ResultTopic(a), p.StatusTopic(a))
	}
	if p.Name() != "atlas" || p.ReportsPresence() || p.Ordered() || !slices.Equal(p.Filters(), []string{"commands/+/ack"}) {
		t.Error("atlas has one filter, no presence and no order")
	}
	up, err := p.ParseUp("commands/d/ack", []byte(`{"tid":"t","status":"ACCEPTED"}`))
	if err != nil || up.Kind != UpAck || up.Ack.Status != Received || up.Address != a {
		t.Errorf("%+v, %v", up, err)
	}
	up, err = p.ParseUp("commands/d/ack", []byte(`{"tid":"t","status":"SUCCESS","result":1}`))
	if err != nil || up.Kind != UpResult || up.Result.Status != Success || string(up.Result.Result) != "1" {
		t.Errorf("%+v, %v", up, err)
	}
}

func TestNotUp(t *testing.T) {
	for profile, topics := range map[Profile][]string{
		NewWilco("plant"): {"", "plant", "plant/", "plant/g", "plant/g/d", "plant/g/d/", "plant/g/d/command", "plant/g/d/ack/x",
			"plant/g/d/state/get/accepted", "plant/g/d/state", "plants/g/d/ack", "other/g/d/ack", "plantx/d/ack", "/plant/g/d/ack"},
		Atlas(): {"", "commands/", "commands/d", "commands/d/x", "commands/g/d/ack", "command/d/ack"},
	} {
		for _, topic := range topics {
			if _, err := profile.ParseUp(topic, []byte(`{"tid":"t","status":"ACK"}`)); !errors.Is(err, ErrNotUp) {
				t.Errorf("%s: %q: %v, want ErrNotUp", profile.Name(), topic, err)
			}
		}
	}
	for _, topic := range []string{"wilco//d/ack", "wilco/g/ü/ack", "wilco/g/" + strings.Repeat("d", 65) + "/ack"} {
		var e *Error
		if _, err := NewWilco("").ParseUp(topic, nil); !errors.As(err, &e) || (e.Field != "group" && e.Field != "device") {
			t.Errorf("%q: %v, want an error of the address", topic, err)
		}
	}
}

func TestLookup(t *testing.T) {
	if p, err := Lookup("wilco", ""); err != nil || p.Topic(Address{"g", "d"}) != "wilco/g/d/command" {
		t.Error(p, err)
	}
	if p, err := Lookup("atlas", ""); err != nil || p.Name() != "atlas" {
		t.Error(p, err)
	}
	for _, bad := range [][2]string{{"mqtt", ""}, {"", ""}, {"atlas", "x"}, {"wilco", "a/"}, {"wilco", "/a"}, {"wilco", "+"},
		{"wilco", "a/#"}, {"wilco", "$share"}, {"wilco", "a b"}, {"wilco", strings.Repeat("a/", 200) + "a"}} {
		var e *Error
		if _, err := Lookup(bad[0], bad[1]); !errors.As(err, &e) {
			t.Errorf("%q: %v, want an error", bad, err)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("NewWilco took a wildcard for a root")
		}
	}()
	NewWilco("#")
}

func TestAddress(t *testing.T) {
	a, err := ParseAddress("north/pump-7.b:1_x")
	if err != nil || a.String() != "north/pump-7.b:1_x" {
		t.Error(a, err)
	}
	for in, field := range map[string]string{"": "address", "north": "address", "/d": "group", "g/": "device", "g/d/e": "device",
		"g+/d": "group", "g/#": "device", "g/" + strings.Repeat("d", 65): "device", "g/d\x00": "device"} {
		var e *Error
		if _, err := ParseAddress(in); !errors.As(err, &e) || e.Field != field {
			t.Errorf("%q: %v, want an error of %s", in, err, field)
		}
	}
}

func TestUpKindString(t *testing.T) {
	if UpAck.String() != "ack" || UpResult.String() != "result" || UpStatus.String() != "status" || UpKind(9).String() != "unknown" {
		t.Error("kinds are named after their topics")
	}
}
