package wire

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

var stateProfile = NewWilco("").(StateProfile)

func TestStateGolden(t *testing.T) {
	a, raw := Address{Group: "g", Device: "d"}, func(s string) json.RawMessage { return json.RawMessage(s) }
	reply := func(on StateTopic, r StateReply) func() ([]byte, error) {
		return func() ([]byte, error) { return stateProfile.AppendStateReply(nil, on, r) }
	}
	for name, tt := range map[string]struct {
		topic  StateTopic
		append func() ([]byte, error)
		want   string
	}{
		"update": {StateReport, func() ([]byte, error) {
			return stateProfile.AppendStateUpdate(nil, StateUpdate{State: raw(`{"a":null}`), TS: at, Boot: "b", TID: "t-1", ClientToken: "7"})
		}, `{"state":{"a":null},"ts":"2026-03-04T04:06:07.891Z","boot":"b","tid":"t-1","clientToken":"7"}`},
		"get": {StateAsk, func() ([]byte, error) { return stateProfile.AppendStateGet(nil, StateGet{ClientToken: "8"}) }, `{"clientToken":"8"}`},
		"accepted": {StateReportAccepted, reply(StateReportAccepted, StateReply{Version: 3, DesiredVersion: 2, Timestamp: at, ClientToken: "7"}),
			`{"version":3,"desiredVersion":2,"timestamp":"2026-03-04T04:06:07.891Z","clientToken":"7"}`},
		"rejected": {StateReportRejected, reply(StateReportRejected, StateReply{Code: "malformed", Field: "state", Text: "must be an object"}),
			`{"code":"malformed","field":"state","text":"must be an object"}`},
		"delta": {StateDelta, reply(StateDelta, StateReply{State: raw(`{"a":1}`), TID: "t-1", Version: 3, DesiredVersion: 3}),
			`{"state":{"a":1},"tid":"t-1","version":3,"desiredVersion":3}`},
		"whole": {StateAskAccepted, reply(StateAskAccepted, StateReply{Desired: raw(`{"a":1}`), Reported: raw(`{}`), Delta: raw(`{"a":1}`), Version: 1, ClientToken: "8"}),
			`{"state":{"desired":{"a":1},"reported":{},"delta":{"a":1}},"version":1,"clientToken":"8"}`},
	} {
		got, err := tt.append()
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: %v\ngot  %s\nwant %s", name, err, got, tt.want)
		}
		topic := stateProfile.StateTopic(a, tt.topic)
		on, down := stateProfile.StateReplyTopic(a, topic)
		_, err = stateProfile.ParseUp(topic, got)
		if up := tt.topic == StateReport || tt.topic == StateAsk; up == down || up != (err == nil) || down && on != tt.topic {
			t.Errorf("%s: %s is up %v, down %v", name, topic, err, down)
		}
	}
}

func TestStateUpdateIsReadStrictly(t *testing.T) {
	for doc, field := range map[string]string{
		`{}`: "state", `{"state":null}`: "state", `{"state":[]}`: "state", `{"state":1}`: "state", `[]`: "document", ``: "document",
		`{"state":{},"state":{}}`: "state", `{"state":{},"boot":1}`: "boot", `{"state":{},"tid":"#"}`: "tid",
		`{"state":{},"ts":"yesterday"}`: "ts", `{"state":{}}x`: "document", `{"state":{"a":}}`: "document",
		`{"state":{},"clientToken":"` + strings.Repeat("x", MaxToken+1) + `"}`: "clientToken",
	} {
		_, err := stateProfile.ParseUp("wilco/g/d/state/update", []byte(doc))
		var e *Error
		if !errors.As(err, &e) || e.Field != field {
			t.Errorf("%s: %v, want the field %s", doc, err, field)
		}
	}
	up, err := stateProfile.ParseUp("wilco/g/d/state/update", []byte(`{"clientToken":"7","state":1}`))
	if err == nil || up.Kind != UpStateUpdate || !reflect.DeepEqual(up.Update, StateUpdate{ClientToken: "7"}) {
		t.Errorf("%+v %v: the token is needed to answer", up, err)
	}
	if up, err := stateProfile.ParseUp("wilco/g/d/state/get", nil); err != nil || up.Kind != UpStateGet {
		t.Errorf("an empty question: %+v %v", up, err)
	}
}

func TestStateRepliesThatAreNone(t *testing.T) {
	for on, bad := range map[StateTopic][]string{
		StateDelta:          {`{}`, `{"state":1}`, `{"state":[1]}`},
		StateReportRejected: {`{}`, `{"code":1}`},
		StateAskAccepted:    {`{"state":1}`, `{"state":{"desired":1}}`, `{"version":-1}`},
	} {
		for _, doc := range bad {
			if r, err := stateProfile.ParseStateReply(on, []byte(doc)); err == nil {
				t.Errorf("%s: %s gave %+v", on, doc, r)
			}
		}
	}
	for _, r := range []StateReply{{State: json.RawMessage(`1`)}, {}} {
		if b, err := stateProfile.AppendStateReply([]byte("kept"), StateDelta, r); err == nil || string(b) != "kept" {
			t.Errorf("%+v was written: %s", r, b)
		}
	}
}

// FuzzStateReply: whatever arrives at a device, there is an answer and no panic,
// and what is accepted is written and read again without a change.
func FuzzStateReply(f *testing.F) {
	for _, s := range seeds {
		for i := range StateReplies {
			f.Add(uint8(i), []byte(s))
		}
	}
	f.Fuzz(func(t *testing.T, i uint8, payload []byte) {
		on := StateReplies[int(i)%len(StateReplies)]
		r, err := stateProfile.ParseStateReply(on, payload)
		checkError(t, err)
		if err != nil {
			return
		}
		r.Timestamp = r.Timestamp.Truncate(time.Millisecond)
		again, err := stateProfile.AppendStateReply(nil, on, r)
		if err != nil {
			t.Fatalf("cannot write what was read: %v", err)
		}
		twice, err := stateProfile.ParseStateReply(on, again)
		if err != nil || !reflect.DeepEqual(twice, only(on, r)) {
			t.Fatalf("read %+v, %v\nwant %+v\nfrom %s", twice, err, r, again)
		}
	})
}

// only leaves of r what belongs on the topic.
func only(on StateTopic, r StateReply) StateReply {
	out := StateReply{Version: r.Version, DesiredVersion: r.DesiredVersion, Timestamp: r.Timestamp, ClientToken: r.ClientToken}
	switch on {
	case StateReportRejected, StateAskRejected:
		out.Code, out.Field, out.Text = r.Code, r.Field, r.Text
	case StateDelta:
		out.State, out.TID = r.State, r.TID
	case StateAskAccepted:
		out.Desired, out.Reported, out.Delta = r.Desired, r.Reported, r.Delta
	}
	return out
}
