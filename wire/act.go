package wire

import (
	"encoding/json"
	"errors"
)

// Act is what a gateway tells of a command that it made itself, for a device
// behind it: once, when the command has ended.
//
//	gateway -- gateway/act {"device":"group/device","seen":"tid","command":{...}} -> server
type Act struct {
	Device Address // whose command it was
	// Seen is the tid of the last command of the server for this device that the
	// gateway had when it made its own; "" for none.
	Seen string
	// Command is the whole command as the gateway has kept it, its timeline
	// included: what `wilco get --json` of a server shows is made of the same.
	Command json.RawMessage
}

// actLeaf is how the topic of acts ends, below the gateway's own. Stored in
// brokers' rights; never change.
const actLeaf = "gateway/act"

// GatewayProfile is a [Profile] that has gateways.
type GatewayProfile interface {
	StateProfile
	// ActTopic is where a gateway tells of its own commands.
	ActTopic(gateway Address) string
	AppendAct(dst []byte, a Act) ([]byte, error)
}

func (p wilco) ActTopic(gateway Address) string { return p.topic(gateway, "/"+actLeaf) }

// actDoc is an act as it is sent. Never change the names.
type actDoc struct {
	Device  string          `json:"device"`
	Seen    string          `json:"seen,omitempty"`
	Command json.RawMessage `json:"command"`
}

func (wilco) AppendAct(dst []byte, a Act) ([]byte, error) {
	b, err := json.Marshal(actDoc{Device: a.Device.String(), Seen: a.Seen, Command: a.Command})
	if err != nil {
		return dst, &Error{Field: "command", Text: "is not JSON"}
	}
	return append(dst, b...), nil
}

func parseAct(payload []byte) (Act, error) {
	var doc actDoc
	if err := json.Unmarshal(payload, &doc); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) && wrong.Field != "" {
			return Act{}, &Error{Field: wrong.Field, Text: "is of the wrong kind"}
		}
		return Act{}, &Error{Field: "document", Text: "is not a JSON object"}
	}
	a, err := ParseAddress(doc.Device)
	switch {
	case err != nil:
		return Act{}, &Error{Field: "device", Text: "must be group/device"}
	case doc.Seen != "" && !ValidTID(doc.Seen):
		return Act{}, &Error{Field: "seen", Text: "is no tid"}
	case len(doc.Command) == 0 || doc.Command[0] != '{':
		return Act{}, &Error{Field: "command", Text: "must be an object"}
	}
	return Act{Device: a, Seen: doc.Seen, Command: doc.Command}, nil
}
