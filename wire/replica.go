package wire

import (
	"encoding/json"
	"time"
)

// The documents of a device's state. What they mean is in package wire/state; here
// a document of state is raw JSON that begins with a brace.
//
//	device -- state/update {"state":{patch},"ts","boot","tid","clientToken"} -> server
//	device <- state/update/accepted, state/update/rejected ------------------- server
//	device <- state/update/delta {"state":{what is outstanding}} ------------- server
//	device -- state/get {"clientToken"}, or nothing at all -----------------> server
//	device <- state/get/accepted {"state":{"desired","reported","delta"}} ---- server
//	device <- state/get/rejected --------------------------------------------- server

// StateUpdate is what a device reports of itself.
type StateUpdate struct {
	State       json.RawMessage // a merge patch of what it has reported
	TS          time.Time       // by the device's clock
	Boot        string
	TID         string // of the command that it is about
	ClientToken string // given back in the answer
}

// StateGet asks for the whole state.
type StateGet struct{ ClientToken string }

// StateReply is what a server says of a device's state. Which of its fields are
// said depends on the topic:
//
//	update/accepted  Version, DesiredVersion
//	update/delta     State, Version, DesiredVersion, TID
//	get/accepted     Desired, Reported, Delta, Version, DesiredVersion
//	…/rejected       Code, Field, Text
//
// Timestamp and ClientToken may be in all of them.
type StateReply struct {
	State                    json.RawMessage // the delta
	Desired, Reported, Delta json.RawMessage
	Version, DesiredVersion  int64
	Timestamp                time.Time
	TID                      string // of the last command that changed what is desired, where one did
	ClientToken              string
	Code, Field, Text        string
}

// StateDesired is the name of the command that changes what is desired of a
// device; its params are a merge patch. Stored; never change.
const StateDesired = "state.desired"

// MaxToken is the longest client token, in bytes.
const MaxToken = 64

// StateTopic names one of the topics of a device's state, by how it ends. Stored
// in brokers' rights; never change.
type StateTopic string

// The topics of a device's state. The device publishes to the first two.
const (
	StateReport         StateTopic = "state/update"
	StateAsk            StateTopic = "state/get"
	StateReportAccepted StateTopic = "state/update/accepted"
	StateReportRejected StateTopic = "state/update/rejected"
	StateDelta          StateTopic = "state/update/delta"
	StateAskAccepted    StateTopic = "state/get/accepted"
	StateAskRejected    StateTopic = "state/get/rejected"
)

// StateReplies are the topics on which a server answers.
var StateReplies = []StateTopic{StateReportAccepted, StateReportRejected, StateDelta, StateAskAccepted, StateAskRejected}

// StateProfile is a [DeviceProfile] whose devices have a replica of their state.
// Errors are as those of the profile.
type StateProfile interface {
	DeviceProfile
	StateTopic(Address, StateTopic) string
	// StateReplyTopic tells which of StateReplies a topic of the device is.
	StateReplyTopic(a Address, topic string) (StateTopic, bool)
	AppendStateUpdate(dst []byte, u StateUpdate) ([]byte, error)
	AppendStateGet(dst []byte, g StateGet) ([]byte, error)
	AppendStateReply(dst []byte, on StateTopic, r StateReply) ([]byte, error)
	ParseStateReply(on StateTopic, payload []byte) (StateReply, error)
}

func (p wilco) StateTopic(a Address, t StateTopic) string { return p.topic(a, "/"+string(t)) }

func (p wilco) StateReplyTopic(a Address, topic string) (StateTopic, bool) {
	for _, t := range StateReplies {
		if p.StateTopic(a, t) == topic {
			return t, true
		}
	}
	return "", false
}

func (wilco) AppendStateUpdate(dst []byte, u StateUpdate) ([]byte, error) {
	w := write(dst)
	w.state("state", u.State, true)
	w.time("ts", u.TS)
	w.label("boot", u.Boot, MaxLabel)
	if u.TID != "" {
		w.tid(u.TID)
	}
	w.label("clientToken", u.ClientToken, MaxToken)
	return w.done()
}

func (wilco) AppendStateGet(dst []byte, g StateGet) ([]byte, error) {
	w := write(dst)
	w.label("clientToken", g.ClientToken, MaxToken)
	return w.done()
}

func (wilco) AppendStateReply(dst []byte, on StateTopic, r StateReply) ([]byte, error) {
	w := write(dst)
	switch on {
	case StateReportAccepted:
	case StateReportRejected, StateAskRejected:
		if r.Code == "" {
			w.fail("code", "is missing; say why")
		}
		w.label("code", r.Code, MaxCode)
		w.label("field", r.Field, MaxDocument)
		w.label("text", r.Text, MaxText)
	case StateDelta:
		w.state("state", r.State, true)
		if r.TID != "" {
			w.tid(r.TID)
		}
	case StateAskAccepted:
		w.name("state")
		w.b = append(w.b, '{')
		w.comma = false
		w.state("desired", r.Desired, false)
		w.state("reported", r.Reported, false)
		w.state("delta", r.Delta, false)
		w.b = append(w.b, '}')
		w.comma = true
	default:
		w.fail("topic", "is none on which a server answers")
	}
	w.integer("version", r.Version)
	w.integer("desiredVersion", r.DesiredVersion)
	w.time("timestamp", r.Timestamp)
	w.label("clientToken", r.ClientToken, MaxToken)
	return w.done()
}

// state writes a document of state.
func (w *writer) state(name string, v json.RawMessage, needed bool) {
	switch {
	case len(v) == 0 && needed:
		w.fail(name, "is missing; it must be an object")
	case len(v) > 0 && v[0] != '{':
		w.fail(name, "must be an object")
	}
	w.raw(name, v)
}

// The known fields of the documents of state.
var (
	updateFields = []string{"state", "ts", "boot", "tid", "clientToken"}
	getFields    = []string{"clientToken"}
	replyFields  = []string{"code", "field", "text", "state", "tid", "version", "desiredVersion", "timestamp", "clientToken"}
	wholeFields  = []string{"desired", "reported", "delta"}
)

// parseStateUpdate reads a report. On an error the client token is there all the
// same, when that much could be read, so that the report can be answered.
func parseStateUpdate(payload []byte) (StateUpdate, error) {
	var u StateUpdate
	s := scan(payload)
	s.document(updateFields, func(field string) {
		switch field {
		case "state":
			u.State = s.state()
		case "ts":
			u.TS = s.time()
		case "boot":
			u.Boot = s.label(MaxLabel)
		case "tid":
			u.TID = s.tid()
		case "clientToken":
			u.ClientToken = s.label(MaxToken)
		}
	})
	if s.err == nil && u.State == nil {
		s.fail("state", "is missing; it must be an object")
	}
	if s.err != nil {
		return StateUpdate{ClientToken: u.ClientToken}, s.err
	}
	return u, nil
}

// parseStateGet reads a question; an empty payload is one too.
func parseStateGet(payload []byte) (StateGet, error) {
	var g StateGet
	if len(payload) == 0 {
		return g, nil
	}
	s := scan(payload)
	s.document(getFields, func(string) { g.ClientToken = s.label(MaxToken) })
	if s.err != nil {
		return StateGet{}, s.err
	}
	return g, nil
}

func (wilco) ParseStateReply(on StateTopic, payload []byte) (StateReply, error) {
	var r StateReply
	s := scan(payload)
	s.document(replyFields, func(field string) {
		switch field {
		case "code":
			r.Code = cut(s.text(), MaxCode)
		case "field":
			r.Field = s.text()
		case "text":
			r.Text = cut(s.text(), MaxText)
		case "state":
			if on == StateAskAccepted {
				s.whole(&r)
			} else {
				r.State = s.state()
			}
		case "tid":
			r.TID = s.tid()
		case "version":
			r.Version = s.integer()
		case "desiredVersion":
			r.DesiredVersion = s.integer()
		case "timestamp":
			r.Timestamp = s.time()
		case "clientToken":
			r.ClientToken = s.label(MaxToken)
		}
	})
	switch {
	case on == StateDelta && r.State == nil:
		s.fail("state", "is missing; it must be an object")
	case (on == StateReportRejected || on == StateAskRejected) && r.Code == "":
		s.fail("code", "is missing; say why")
	}
	if s.err != nil {
		return StateReply{}, s.err
	}
	return r, nil
}

// whole reads the three documents of an answer to state/get.
func (s *scanner) whole(r *StateReply) {
	s.object(wholeFields, func(field string) {
		switch field {
		case "desired":
			r.Desired = s.state()
		case "reported":
			r.Reported = s.state()
		case "delta":
			r.Delta = s.state()
		}
	})
}

// state reads a document of state as it stands.
func (s *scanner) state() json.RawMessage {
	if s.err == nil && s.peek() != '{' {
		s.wrong("must be an object")
		return nil
	}
	return s.raw()
}
