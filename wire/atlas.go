package wire

import "strings"

const (
	atlasName = "atlas" // stored; never change

	// AtlasGroup is the group of every device of the atlas profile, whose
	// topics have no level for one.
	AtlasGroup = "default"
)

// atlas is the profile for firmware written to the command pattern of the IoT
// Atlas: commands/{device} down, commands/{device}/ack up.
type atlas struct{}

// Atlas returns the atlas profile.
//
// Its documents are {"cmd","tid","status"} down, with "params" only when there
// are any, and {"tid","status"} up. It has no epoch, seq, deadline or presence,
// and no CANCEL or QUERY: such firmware looks at cmd alone and would execute
// them, so AppendCommand refuses with [ErrUnsupported]. Fields of the wilco
// documents (reason, progress, result, state) are read when a device sends them.
func Atlas() DeviceProfile { return atlas{} }

func (atlas) Name() string          { return atlasName }
func (atlas) ReportsPresence() bool { return false }
func (atlas) Ordered() bool         { return false }
func (atlas) Filters() []string     { return []string{"commands/+/ack"} }

func (atlas) Topic(a Address) string         { return "commands/" + a.Device }
func (atlas) AckTopic(a Address) string      { return "commands/" + a.Device + "/ack" }
func (p atlas) ResultTopic(a Address) string { return p.AckTopic(a) }
func (atlas) StatusTopic(Address) string     { return "" }

func (atlas) ParseUp(topic string, payload []byte) (Up, error) {
	rest, ok := strings.CutPrefix(topic, "commands/")
	if !ok {
		return Up{}, ErrNotUp
	}
	device, ok := strings.CutSuffix(rest, "/ack")
	if !ok || strings.Contains(device, "/") {
		return Up{}, ErrNotUp
	}
	up := Up{Address: Address{Group: AtlasGroup, Device: device}, Kind: UpResult}
	if err := up.Address.Valid(); err != nil {
		return Up{}, err
	}
	result, err := parseResult(payload, atlasStatuses)
	if err != nil {
		return up, err
	}
	// One topic answers both questions; the status tells which.
	if result.Status == Received || result.Status == Rejected {
		up.Kind = UpAck
		up.Ack = Ack{TID: result.TID, Status: result.Status, Reason: result.Reason}
		return up, nil
	}
	up.Result = result
	return up, nil
}

func (atlas) ParseCommand(payload []byte) (Command, error) { return parseCommand(payload) }

func (atlas) AppendCommand(dst []byte, c Command) ([]byte, error) { return appendAtlasCommand(dst, c) }

func (atlas) AppendAck(dst []byte, a Ack) ([]byte, error) {
	return appendAtlasAnswer(dst, a.TID, a.Status, ackStatuses)
}

func (atlas) AppendResult(dst []byte, r Result) ([]byte, error) {
	return appendAtlasAnswer(dst, r.TID, r.Status, resultStatuses)
}

func (atlas) AppendStatus(dst []byte, _ Status) ([]byte, error) { return dst, ErrUnsupported }
