package fleet

import (
	"slices"
	"strings"

	"github.com/wilco-iot/wilco/wire"
)

// leaves are the ends of the topics below a device's own base.
type leaves struct{ publish, receive []string }

// The rights of a device, by profile. Whatever is not here is denied.
var (
	wilcoLeaves = leaves{
		publish: []string{"ack", "result", "status", "state/update", "state/get", "gateway/act"},
		receive: []string{"command", "state/update/accepted", "state/update/rejected", "state/update/delta",
			"state/get/accepted", "state/get/rejected"},
	}
	atlasLeaves = leaves{publish: []string{"/ack"}, receive: []string{""}}
)

// Rights are the topics that a device of some profile may use: exact names, no
// filters. The zero Rights are none.
type Rights struct {
	base string
	leaves
}

// RightsOf are the rights of the device at a, if it speaks p. A profile that has
// none here gives none.
func RightsOf(p wire.Profile, a wire.Address) Rights {
	if a.Valid() != nil {
		return Rights{}
	}
	return rightsOf(p, a)
}

// RightsOfAll are those of all devices of p together: their topics are filters,
// with + in the place of group and device. They are for the configuration of a
// broker, not for any device.
func RightsOfAll(p wire.Profile) Rights {
	all := wire.Address{Group: "+", Device: "+"}
	if p.Name() == "atlas" {
		all.Group = wire.AtlasGroup
	}
	return rightsOf(p, all)
}

func rightsOf(p wire.Profile, a wire.Address) Rights {
	switch p.Name() {
	case "wilco":
		return Rights{strings.TrimSuffix(p.Topic(a), "command"), wilcoLeaves}
	case "atlas":
		if a.Group == wire.AtlasGroup {
			return Rights{p.Topic(a), atlasLeaves}
		}
	}
	return Rights{}
}

// Publish lists the topics that the device may publish to.
func (r Rights) Publish() []string { return r.topics(r.publish) }

// Receive lists the topics that the device may subscribe to and receive from.
func (r Rights) Receive() []string { return r.topics(r.receive) }

func (r Rights) topics(leaves []string) (list []string) {
	for _, leaf := range leaves {
		list = append(list, r.base+leaf)
	}
	return list
}

func (r Rights) have(topic string, leaves []string) bool {
	leaf, ok := strings.CutPrefix(topic, r.base)
	return ok && slices.Contains(leaves, leaf)
}

// Identity is a device that has logged in. Its rights are those that it has at
// the moment of asking: none once it is disabled, removed, or registered anew
// with another profile.
type Identity struct {
	fleet   *Fleet
	address wire.Address
	profile wire.Profile
	rights  Rights
	edge    edge
}

// Name is "group/device".
func (i *Identity) Name() string { return i.address.String() }

// Address is the device's address.
func (i *Identity) Address() wire.Address { return i.address }

// MayPublish says whether the device, or one that it is the gateway of, may
// publish to the topic.
func (i *Identity) MayPublish(topic string) bool {
	if i.rights.have(topic, i.rights.publish) || i.edge.mayPublish(topic) {
		return i.live()
	}
	r := i.standsFor(topic)
	return r.have(topic, r.publish) && i.live()
}

// MaySubscribe says whether the device may subscribe to the filter: only to the
// exact name of a topic that it may receive from. A wildcard, even one that
// matches nothing else, is refused, because what it matches is not a matter of
// this list; but for that of an edge node's DCMD.
func (i *Identity) MaySubscribe(filter string) bool {
	return i.MayReceive(filter) || i.edge.maySubscribe(filter) && i.live()
}

// MayReceive says whether a message on the topic may be delivered to the device,
// or to one that it is the gateway of.
func (i *Identity) MayReceive(topic string) bool {
	if i.rights.have(topic, i.rights.receive) || i.edge.mayReceive(topic) {
		return i.live()
	}
	r := i.standsFor(topic)
	return r.have(topic, r.receive) && i.live()
}

func (i *Identity) live() bool {
	i.fleet.mu.RLock()
	defer i.fleet.mu.RUnlock()
	d, ok := i.fleet.devices[i.address]
	return ok && !d.Disabled && i.fleet.profile(d.Profile) == i.profile
}
