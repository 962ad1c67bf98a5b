package fleet

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/wire"
)

var gw = wire.Address{Group: pump.Group, Device: "gw-1"}

func (r *rig) behind(a wire.Address) {
	r.t.Helper()
	if _, secret, err := r.Add(r.t.Context(), NewDevice{Address: a, Via: gw}); err != nil || secret != "" {
		r.t.Fatalf("%q %v", secret, err)
	}
}

// TestAGatewayHasTheRightsOfThoseBehindIt: exactly theirs and its own, also after a
// restart, and not those of who is disabled, removed, or behind another.
func TestAGatewayHasTheRightsOfThoseBehindIt(t *testing.T) {
	r := newRig(t)
	secret := r.add(gw, "")
	r.behind(pump)
	other := wire.Address{Group: pump.Group, Device: "valve"}
	r.add(other, "")
	check := func(of ...wire.Address) {
		t.Helper()
		i := r.login(gw, secret)
		ask := func(t interface{ Errorf(string, ...any) }, topic string) {
			publish, receive := false, false
			for _, a := range append([]wire.Address{gw}, of...) {
				rights := RightsOf(wire.NewWilco("plant"), a)
				publish = publish || rights.have(topic, rights.publish)
				receive = receive || rights.have(topic, rights.receive)
			}
			if i.MayPublish(topic) != publish || i.MayReceive(topic) != receive || i.MaySubscribe(topic) != receive {
				t.Errorf("%q: publish %v, receive %v, subscribe %v; want %v, %v", topic, i.MayPublish(topic), i.MayReceive(topic), i.MaySubscribe(topic), publish, receive)
			}
		}
		for _, a := range []wire.Address{gw, pump, other} {
			rights := RightsOf(wire.NewWilco("plant"), a)
			for _, topic := range append(rights.Publish(), rights.Receive()...) {
				ask(t, topic)
			}
		}
		level := rapid.SampledFrom([]string{"plant", pump.Group, pump.Device, "valve", "gw-1", "ack", "command", "status", "gateway", "act", "+", "#", ""})
		rapid.Check(t, func(t *rapid.T) { ask(t, strings.Join(rapid.SliceOfN(level, 1, 6).Draw(t, "levels"), "/")) })
	}
	check(pump)
	r.restart()
	check(pump)
	yes := true
	if _, err := r.Change(t.Context(), pump, DeviceChange{Disabled: &yes}); err != nil {
		t.Fatal(err)
	}
	check()
	if err := r.Remove(t.Context(), pump); err != nil {
		t.Fatal(err)
	}
	check()
	if list := r.Behind(gw); len(list) > 0 {
		t.Errorf("behind it is %v", list)
	}
}

func TestWhoIsBehindAGatewayCannotLogIn(t *testing.T) {
	r := newRig(t)
	r.add(gw, "")
	r.behind(pump)
	for _, secret := range []string{"", "x"} {
		if _, err := r.Login(pump.String(), []byte(secret), pump.String()); fault.CodeOf(err) != fault.Unauthenticated {
			t.Errorf("%q: %v", secret, err)
		}
	}
	if _, err := r.LoginCertificate(pump.String(), "", nil, pump.String()); fault.CodeOf(err) != fault.Unauthenticated {
		t.Errorf("by certificate: %v", err)
	}
	if _, _, err := r.Rotate(t.Context(), pump); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("rotated: %v", err)
	}
	if err := r.Remove(t.Context(), gw); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("a gateway with devices was removed: %v", err)
	}
}

func TestGatewaysThatCannotBe(t *testing.T) {
	r := newRig(t)
	r.add(gw, "")
	r.behind(pump)
	lamp := wire.Address{Group: wire.AtlasGroup, Device: "lamp"}
	r.add(lamp, "atlas")
	fresh := wire.Address{Group: pump.Group, Device: "fresh"}
	for name, n := range map[string]NewDevice{
		"itself":        {Address: fresh, Via: fresh},
		"another group": {Address: wire.Address{Group: "elsewhere", Device: "x"}, Via: gw},
		"nobody":        {Address: fresh, Via: wire.Address{Group: pump.Group, Device: "nobody"}},
		"a chain":       {Address: fresh, Via: pump},
		"atlas":         {Address: wire.Address{Group: wire.AtlasGroup, Device: "y"}, Via: lamp},
		"certificate":   {Address: fresh, Via: gw, Certificate: true},
	} {
		if _, _, err := r.Add(t.Context(), n); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, ok := r.Device(fresh); ok {
		t.Error("a device was made all the same")
	}
}
