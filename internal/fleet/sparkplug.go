package fleet

import (
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/wire"
)

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
