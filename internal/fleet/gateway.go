package fleet

import (
	"strings"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// A gateway is a device that others are registered behind. It logs in for them:
// it has their rights besides its own, as long as they are registered so. They are
// of its group, so that whoever manages a group decides about its gateways alone.

// checkGateway says what is wrong with the gateway of a new device. f.changing is
// held.
func (f *Fleet) checkGateway(n NewDevice) error {
	if n.Via == (wire.Address{}) {
		return nil
	}
	gateway, ok := f.Device(n.Via)
	switch {
	case n.Certificate:
		return fault.Field("certificate", "a device behind a gateway does not log in here; leave it out")
	case n.Via == n.Address:
		return fault.Field("via", "a device cannot be its own gateway")
	case n.Via.Group != n.Address.Group:
		return fault.Field("via", "%s is of another group; a gateway serves its own", n.Via)
	case !ok:
		return fault.Field("via", "there is no device %s; register the gateway first: wilco device add %s", n.Via, n.Via)
	case gateway.Via != wire.Address{}:
		return fault.Field("via", "%s is behind a gateway itself, %s", n.Via, gateway.Via)
	case len(f.Behind(n.Address)) > 0:
		return fault.Field("via", "%s is a gateway itself", n.Address)
	}
	for _, p := range []string{gateway.Profile, n.Profile} {
		if name := f.profile(p).Name(); name != "wilco" {
			return fault.Field("via", "gateways and the devices behind them speak the profile wilco, not %s", name)
		}
	}
	return nil
}

// place notes which gateway d is behind. f.mu is held.
func (f *Fleet) place(d store.Device) {
	if d.Via == (wire.Address{}) {
		return
	}
	if f.behind[d.Via] == nil {
		f.behind[d.Via] = map[wire.Address]struct{}{}
	}
	f.behind[d.Via][d.Address] = struct{}{}
}

// Behind lists the devices that are registered behind a gateway, in no order. It
// does not block.
func (f *Fleet) Behind(gateway wire.Address) (list []wire.Address) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for a := range f.behind[gateway] {
		list = append(list, a)
	}
	return list
}

// InOrder says that what a gateway publishes keeps its order also when it is refused for
// want of room: see broker.InOrder.
func (i *Identity) InOrder() bool {
	i.fleet.mu.RLock()
	defer i.fleet.mu.RUnlock()
	return len(i.fleet.behind[i.address]) > 0
}

// standsFor gives the rights of the device whose topic this is, if it is behind i
// and not disabled; none otherwise.
func (i *Identity) standsFor(topic string) Rights {
	group, ok := strings.CutSuffix(i.rights.base, i.address.Device+"/")
	if !ok {
		return Rights{}
	}
	rest, ok := strings.CutPrefix(topic, group)
	if !ok {
		return Rights{}
	}
	name, _, _ := strings.Cut(rest, "/")
	a := wire.Address{Group: i.address.Group, Device: name}
	i.fleet.mu.RLock()
	d, behind := i.fleet.devices[a]
	i.fleet.mu.RUnlock()
	if !behind || d.Via != i.address || d.Disabled {
		return Rights{}
	}
	return RightsOf(i.profile, a)
}
