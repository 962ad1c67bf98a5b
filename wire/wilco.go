package wire

import "strings"

const wilcoName = "wilco" // stored; never change

// wilco is the default profile: root/group/device/{command,ack,result,status}, and
// the topics of the state below root/group/device/state.
type wilco struct{ root string }

// NewWilco returns the wilco profile with its topics below root; empty means
// [DefaultRoot]. It panics when root is not usable as the beginning of a topic:
// for roots out of settings use [Lookup].
func NewWilco(root string) DeviceProfile {
	p, err := Lookup(wilcoName, root)
	if err != nil {
		panic(err)
	}
	return p
}

func (wilco) Name() string          { return wilcoName }
func (wilco) ReportsPresence() bool { return true }
func (wilco) Ordered() bool         { return true }

func (p wilco) Filters() []string {
	return []string{p.root + "/+/+/ack", p.root + "/+/+/result", p.root + "/+/+/status",
		p.root + "/+/+/" + string(StateReport), p.root + "/+/+/" + string(StateAsk), p.root + "/+/+/" + actLeaf}
}

func (p wilco) Topic(a Address) string       { return p.topic(a, "/command") }
func (p wilco) AckTopic(a Address) string    { return p.topic(a, "/ack") }
func (p wilco) ResultTopic(a Address) string { return p.topic(a, "/result") }
func (p wilco) StatusTopic(a Address) string { return p.topic(a, "/status") }

func (p wilco) topic(a Address, leaf string) string {
	return p.root + "/" + a.Group + "/" + a.Device + leaf
}

// split takes a topic below root apart: root/group/device/leaf.
func (p wilco) split(topic string) (a Address, leaf string, ok bool) {
	rest, ok := strings.CutPrefix(topic, p.root)
	if !ok || rest == "" || rest[0] != '/' {
		return a, "", false
	}
	group, rest, ok := strings.Cut(rest[1:], "/")
	if !ok {
		return a, "", false
	}
	device, leaf, ok := strings.Cut(rest, "/")
	return Address{Group: group, Device: device}, leaf, ok
}

func (p wilco) ParseUp(topic string, payload []byte) (Up, error) {
	address, leaf, ok := p.split(topic)
	if !ok {
		return Up{}, ErrNotUp
	}
	up := Up{Address: address}
	switch leaf {
	case "ack":
		up.Kind = UpAck
	case "result":
		up.Kind = UpResult
	case "status":
		up.Kind = UpStatus
	case string(StateReport):
		up.Kind = UpStateUpdate
	case string(StateAsk):
		up.Kind = UpStateGet
	case actLeaf:
		up.Kind = UpAct
	default:
		return Up{}, ErrNotUp
	}
	if err := address.Valid(); err != nil {
		return Up{}, err
	}
	var err error
	switch up.Kind {
	case UpAck:
		up.Ack, err = parseAck(payload)
	case UpResult:
		up.Result, err = parseResult(payload, resultStatuses)
	case UpStatus:
		up.Status, err = parseStatus(payload)
	case UpStateUpdate:
		up.Update, err = parseStateUpdate(payload)
	case UpStateGet:
		up.Get, err = parseStateGet(payload)
	case UpAct:
		up.Act, err = parseAct(payload)
	}
	return up, err
}

func (wilco) ParseCommand(payload []byte) (Command, error) { return parseCommand(payload) }

func (wilco) AppendCommand(dst []byte, c Command) ([]byte, error) { return appendCommand(dst, c) }
func (wilco) AppendAck(dst []byte, a Ack) ([]byte, error)         { return appendAck(dst, a) }
func (wilco) AppendResult(dst []byte, r Result) ([]byte, error)   { return appendResult(dst, r) }
func (wilco) AppendStatus(dst []byte, s Status) ([]byte, error)   { return appendStatus(dst, s) }
