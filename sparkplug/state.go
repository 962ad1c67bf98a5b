package sparkplug

import (
	"encoding/json"
	"strconv"
)

// HostState is the content of a STATE message: is a host application there?
type HostState struct {
	Online    bool
	Timestamp uint64 // milliseconds since 1970, UTC; 0 when Legacy
	Legacy    bool   // ONLINE or OFFLINE in words, as in Sparkplug 2.2
}

// ParseState reads a STATE message: the JSON document of Sparkplug 3.0, whose
// other keys are ignored and of a key that comes twice the last counts, or the
// word of Sparkplug 2.2. An empty message, which deletes what was retained, is
// none of them. The error is of Code Malformed.
func ParseState(b []byte) (HostState, error) {
	switch string(b) {
	case "ONLINE":
		return HostState{Online: true, Legacy: true}, nil
	case "OFFLINE":
		return HostState{Legacy: true}, nil
	}
	// A map, because a struct would also take keys in other letter case.
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(b, &doc); err != nil {
		return HostState{}, badState("neither JSON nor ONLINE or OFFLINE")
	}
	var s HostState
	switch string(doc["online"]) {
	case "true":
		s.Online = true
	case "false":
	default:
		return HostState{}, badState("online is no boolean")
	}
	ms, err := strconv.ParseUint(string(doc["timestamp"]), 10, 63)
	if err != nil {
		return HostState{}, badState("timestamp is no number of milliseconds")
	}
	s.Timestamp = ms
	return s, nil
}

func badState(text string) error { return &Error{Malformed, "STATE: " + text} }

// Append appends the message to dst.
//
// [tck-id-host-topic-phid-birth-payload] [tck-id-host-topic-phid-death-payload]
// [tck-id-payloads-state-will-message-payload] [tck-id-payloads-state-birth-payload]
func (s HostState) Append(dst []byte) []byte {
	switch {
	case s.Legacy && s.Online:
		return append(dst, "ONLINE"...)
	case s.Legacy:
		return append(dst, "OFFLINE"...)
	}
	dst = strconv.AppendBool(append(dst, `{"online":`...), s.Online)
	dst = strconv.AppendUint(append(dst, `,"timestamp":`...), s.Timestamp, 10)
	return append(dst, '}')
}

// Counts tells whether s counts for an edge node that has seen last before:
// it is not older [tck-id-message-flow-edge-node-birth-publish-phid-wait-timestamp].
// Words have no time and always count. The first STATE counts without asking.
func (s HostState) Counts(last HostState) bool {
	return s.Legacy || last.Legacy || s.Timestamp >= last.Timestamp
}
