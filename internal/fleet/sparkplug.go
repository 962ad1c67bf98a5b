package fleet

import (
	"strings"

	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/wire"
)

// SparkplugProfile is the profile of a device that is a Sparkplug edge node, or a
// device behind one. Stored; never change.
const SparkplugProfile = "sparkplug"

// EdgeOf is who a device of the profile sparkplug is: GROUP/NODE, or
// GROUP/NODE:DEVICE, which the first colon divides; device is "" for the node
// itself. ok is false when one of the names is empty.
func EdgeOf(a wire.Address) (node, device string, ok bool) {
	node, device, behind := strings.Cut(a.Device, ":")
	return node, device, node != "" && behind == (device != "")
}

// edgeOf is what a device with that profile may be as an edge node. One behind a
// node speaks through it, and is none itself.
func edgeOf(profile string, a wire.Address) edge {
	if _, device, ok := EdgeOf(a); profile == SparkplugProfile && (device != "" || !ok) {
		return edge{}
	}
	return edge{a}
}

// edge is a device as the Sparkplug edge node of the same group and name. It may
// speak for itself and the devices behind it, and hear its commands and the
// STATE of hosts; the zero edge may nothing.
type edge struct{ wire.Address }

func (e edge) mayPublish(topic string) bool {
	t, err := sparkplug.ParseTopic(topic)
	if err != nil || e.Address == (wire.Address{}) || t.Group != e.Group || t.Node != e.Device {
		return false
	}
	switch t.Type {
	case sparkplug.NBirth, sparkplug.NDeath, sparkplug.NData, sparkplug.DBirth, sparkplug.DDeath, sparkplug.DData:
		return true
	}
	return false
}

func (e edge) mayReceive(topic string) bool {
	t, err := sparkplug.ParseTopic(topic)
	if err != nil || e.Address == (wire.Address{}) {
		return false
	}
	switch t.Type {
	case sparkplug.State:
		return !t.Legacy
	case sparkplug.NCmd, sparkplug.DCmd:
		return t.Group == e.Group && t.Node == e.Device
	}
	return false
}

// maySubscribe knows the two filters that the commands of all devices behind the
// node need; whatever else has a wildcard is refused.
func (e edge) maySubscribe(filter string) bool {
	if e.Address == (wire.Address{}) {
		return false
	}
	devices := sparkplug.Namespace + "/" + e.Group + "/DCMD/" + e.Device
	return filter == devices+"/+" || filter == devices+"/#" || e.mayReceive(filter)
}
