package fleet

import (
	"testing"

	"github.com/wilco-iot/wilco/wire"
)

// TestAnEdgeNodeHasItsOwnTopicsOnly: for the node, the devices behind it, and
// nobody else's, and only where the fleet is told so.
func TestAnEdgeNodeHasItsOwnTopicsOnly(t *testing.T) {
	type may struct{ publish, receive, subscribe bool }
	up, down, none := may{publish: true}, may{receive: true, subscribe: true}, may{}
	topics := map[string]may{
		"spBv1.0/g/NBIRTH/n": up, "spBv1.0/g/NDEATH/n": up, "spBv1.0/g/NDATA/n": up,
		"spBv1.0/g/DBIRTH/n/d": up, "spBv1.0/g/DDEATH/n/d": up, "spBv1.0/g/DDATA/n/d": up,
		"spBv1.0/g/NCMD/n": down, "spBv1.0/g/DCMD/n/d": down, "spBv1.0/STATE/host": down,
		"spBv1.0/g/DCMD/n/+": {subscribe: true}, "spBv1.0/g/DCMD/n/#": {subscribe: true},
		"spBv1.0/g/NDATA/m": none, "spBv1.0/h/NDATA/n": none, "spBv1.0/g/DDATA/m/n": none, "spBv1.0/g/NCMD/m": none,
		"spBv1.0/g/DCMD/+/d": none, "spBv1.0/g/+/n": none, "spBv1.0/g/NCMD/+": none, "spBv1.0/g/NCMD/#": none, "spBv1.0/STATE/+": none,
		"spBv1.0/#": none, "#": none, "spBv1.0/g/NDATA/n/d": none, "spBv1.0/g/DDATA/n": none, "spBv1.0/g/XDATA/n": none,
		"spBv1.0/g/DDATA/n/d/e": none, "STATE/host": none, "spBv1.0/STATE": none, "spBv1.0/g/NDATA/": none,
	}
	for topic, want := range topics {
		e := edge{wire.Address{Group: "g", Device: "n"}}
		if got := (may{e.mayPublish(topic), e.mayReceive(topic), e.maySubscribe(topic)}); got != want {
			t.Errorf("%s: %+v, want %+v", topic, got, want)
		}
		e = edge{}
		if got := (may{e.mayPublish(topic), e.mayReceive(topic), e.maySubscribe(topic)}); got != none {
			t.Errorf("%s without Sparkplug: %+v", topic, got)
		}
	}
}

// TestWhoIsDisabledIsNoEdgeNode: the rights are those of the moment.
func TestWhoIsDisabledIsNoEdgeNode(t *testing.T) {
	r := newRig(t)
	r.opt.Sparkplug = true
	i := r.login(pump, r.add(pump, ""))
	topic := "spBv1.0/" + pump.Group + "/NDATA/" + pump.Device
	filter := "spBv1.0/" + pump.Group + "/DCMD/" + pump.Device + "/+"
	if !i.MayPublish(topic) || !i.MaySubscribe(filter) {
		t.Fatal("it has no rights at all")
	}
	yes := true
	if _, err := r.Change(t.Context(), pump, DeviceChange{Disabled: &yes}); err != nil {
		t.Fatal(err)
	}
	if i.MayPublish(topic) || i.MaySubscribe(filter) {
		t.Error("it has rights though it is disabled")
	}
}

// TestWhoASparkplugDeviceIs: its address names the node and what is behind it, and only
// the node itself may speak.
func TestWhoASparkplugDeviceIs(t *testing.T) {
	for name, want := range map[string]struct {
		node, device string
		ok, speaks   bool
	}{
		"n": {"n", "", true, true}, "n:d": {"n", "d", true, false}, "n:d:e": {"n", "d:e", true, false},
		"n:": {"n", "", false, false}, ":d": {"", "d", false, false},
	} {
		a := wire.Address{Group: "g", Device: name}
		node, device, ok := EdgeOf(a)
		if node != want.node || device != want.device || ok != want.ok {
			t.Errorf("%s is %q %q %v", name, node, device, ok)
		}
		topic := "spBv1.0/g/NDATA/" + name
		if got := edgeOf(SparkplugProfile, a).mayPublish(topic); got != want.speaks {
			t.Errorf("%s may publish to %s: %v", name, topic, got)
		}
		if !edgeOf("wilco", a).mayPublish(topic) {
			t.Errorf("%s of another profile may not publish to %s", name, topic)
		}
	}
}
