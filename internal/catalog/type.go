package catalog

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/wire/state"
)

// Type is one version of a command type. The JSON form is that of files and of the
// API, and what stores keep. Stored; never change the names.
type Type struct {
	Name        string `json:"name"`
	Version     int    `json:"version,omitempty"` // given by the server: 1, 2, 3, ...
	Description string `json:"description,omitempty"`

	Params json.RawMessage `json:"params,omitempty"` // JSON Schema (2020-12) of the parameters; none: anything
	Result json.RawMessage `json:"result,omitempty"` // JSON Schema of the result; none: anything

	// Policy is what differs from the server's default policy, as a JSON object
	// of the names of command.Policy.
	Policy   json.RawMessage `json:"policy,omitempty"`
	Window   int             `json:"window,omitempty"`   // commands of the type in flight on a device at once; 0: as many as the device takes
	Priority int             `json:"priority,omitempty"` // -9 to 9; among those that wait for a device the highest goes first
	OnReboot Reboot          `json:"onReboot,omitempty"` // default: fails

	Effects  []command.PathEffect `json:"effects,omitempty"`
	Approval *Approval            `json:"approval,omitempty"`

	If        *state.Condition `json:"if,omitempty"`        // must hold of the reported state when it is sent, and when the device begins
	Unmet     command.Unmet    `json:"unmet,omitempty"`     // what becomes of it when If does not hold, or there is no place; default: refuse
	AtMost    *command.AtMost  `json:"atMost,omitempty"`    // in flight at once, over several devices
	Exclusive string           `json:"exclusive,omitempty"` // of all commands of a group with the same word, one is in flight at a time

	Deprecated string    `json:"deprecated,omitempty"` // why, and what to use; new commands are warned of it
	Created    time.Time `json:"created,omitzero"`     // given by the server
	By         string    `json:"by,omitempty"`         // who applied it; given by the server
}

// Reboot says what it means that the device restarts while it executes a command
// of the type. Stored; never change.
type Reboot string

// The meanings.
const (
	RebootFails    Reboot = "fails"    // it was broken off: FAILURE interrupted
	RebootExpected Reboot = "expected" // it is part of the work: the device goes on, and says so
)

// Approval is who has to agree before a command of the type is sent. All that is
// said must apply; nothing said: always.
type Approval struct {
	Quorum  int              `json:"quorum,omitempty"`  // people who must agree, the requester apart; default 1
	Expires command.Duration `json:"expires,omitempty"` // after which it is not approved any more; default: deliver-by
	When    *state.Condition `json:"when,omitempty"`    // asked of the parameters; default: whatever they are
	Groups  []string         `json:"groups,omitempty"`  // of devices; default: all
	Tags    []string         `json:"tags,omitempty"`    // of devices, one of them is enough; default: all
	Targets int              `json:"targets,omitempty"` // from so many devices at once; default: 1
}

// Terms are what a command keeps of the type beside its policy.
func (t *Type) Terms() *command.Terms {
	return &command.Terms{TypeVersion: t.Version, Priority: t.Priority, Window: t.Window, If: t.If, Unmet: t.Unmet,
		AtMost: t.AtMost, Effects: t.Effects, Exclusive: t.Exclusive, RebootExpected: t.OnReboot == RebootExpected}
}

// PolicyOver gives base as the type changes it.
func (t *Type) PolicyOver(base command.Policy) command.Policy {
	if len(t.Policy) > 0 {
		// Parse has decoded it once, so it can be decoded.
		_ = json.Unmarshal(t.Policy, &base)
	}
	return base
}

// Next gives what applying want makes of the newest version have, nil when there
// is none, and whether that is a new version. Content alone counts: version, time
// and person are given by the caller.
func Next(have *Type, want Type) (Type, bool) {
	if have == nil {
		want.Version = 1
		return want, true
	}
	if want.content() == have.content() {
		return *have, false
	}
	want.Version = have.Version + 1
	return want, true
}

// content is the type as text without what the server gives.
func (t Type) content() string {
	t.Version, t.Created, t.By = 0, time.Time{}, ""
	for _, raw := range []*json.RawMessage{&t.Params, &t.Result, &t.Policy} {
		if len(*raw) == 0 {
			continue
		}
		var v any
		dec := json.NewDecoder(bytes.NewReader(*raw))
		dec.UseNumber()
		if dec.Decode(&v) == nil {
			*raw, _ = json.Marshal(v) // members sorted
		}
	}
	b, err := json.Marshal(t)
	if err != nil {
		return ""
	}
	return string(b)
}
