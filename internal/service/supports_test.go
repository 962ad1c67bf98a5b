package service

import (
	"strings"
	"testing"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// TestWhatADeviceDoesNotKnow is refused, if it has said what it knows; but not what
// the server asks for by itself.
func TestWhatADeviceDoesNotKnow(t *testing.T) {
	p := &parts{known: map[wire.Address]store.Device{valve: {}}}
	s := newService(p)
	ops := Principal{Name: "ops", Grants: fleet.Everywhere(Operator)}
	send := func(name string) error {
		_, err := s.Send(t.Context(), ops, Order{Device: valve, Name: name})
		return err
	}
	if err := send("moove"); err != nil {
		t.Errorf("a device that has said nothing: %v", err)
	}
	if ok, known := s.Supports(valve, "moove"); !ok || known {
		t.Errorf("supports %v, known %v", ok, known)
	}
	p.knows = []string{"a1", "a2", "a3", "a4", "a5", "move"}
	for name, want := range map[string]string{
		"move": "", "state.desired": "",
		"moove": "the device plant/valve does not know moove; did you mean move?",
		"paint": "the device plant/valve does not know paint; it knows a1, a2, a3, a4, a5 and 1 more",
	} {
		err := send(name)
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if f := fault.From(err); f.Code != fault.Invalid || f.Field != "name" || !strings.Contains(f.Public(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if ok, known := s.Supports(valve, "paint"); ok || !known {
		t.Errorf("supports %v, known %v", ok, known)
	}
}
