package command

import "github.com/wilco-iot/wilco/wire/state"

// Terms are what a command's type says of it beside its policy, as the type was
// when the command was made. Commands of one type share them: nobody writes to
// Terms once a command has them. Stored; never change the names.
type Terms struct {
	TypeVersion int              `json:"typeVersion,omitempty"` // 0: there was no type of that name
	Priority    int              `json:"priority,omitempty"`    // among those that wait for a device the highest goes first
	Window      int              `json:"window,omitempty"`      // commands of the name in flight on the device at once; 0: as many as it takes
	If          *state.Condition `json:"if,omitempty"`          // must hold of the reported state when it is sent, and when the device begins
	Unmet       Unmet            `json:"unmet,omitempty"`       // default: Refuse
	AtMost      *AtMost          `json:"atMost,omitempty"`      // in flight at once, over several devices
	Effects     []PathEffect     `json:"effects,omitempty"`     // what it changes of the device's state
	Exclusive   string           `json:"exclusive,omitempty"`   // of all commands of a group with the same word, one is in flight at a time
	// RebootExpected: that the device restarts is part of the work.
	RebootExpected bool `json:"rebootExpected,omitempty"`
}

// PathEffect is one value of the device's state that a command changes.
type PathEffect struct {
	Path string `json:"path"` // in the reported state
	// Param is the parameter, as a path, that the value is set by. When all effects
	// have one, a rollback is a command of the same type with the former values as
	// parameters; else it is a change of desired state.
	Param string `json:"param,omitempty"`
}

// Unmet says what becomes of a command that must not be sent yet. Stored; never
// change.
type Unmet string

// The ways.
const (
	Refuse Unmet = "refuse" // it ends as denied
	Hold   Unmet = "hold"   // it waits, until deliver-by
)

// AtMost bounds how many commands of a type are in flight at once.
type AtMost struct {
	Count int    `json:"count"`
	Of    string `json:"of,omitempty"` // "group" (default): of the devices of one group; "all": of all devices; "tag:NAME": of the devices with that tag
}

// noTerms are those of a command without any.
var noTerms Terms

// terms gives the command's terms, never nil.
func (c *Command) terms() *Terms {
	if c.Terms == nil {
		return &noTerms
	}
	return c.Terms
}

// TypeVersion is the version of the type that the command was made by; 0: none.
func (c *Command) TypeVersion() int { return c.terms().TypeVersion }

// Priority is the command's place among those that wait for its device.
func (c *Command) Priority() int { return c.terms().Priority }

// Effects are what the command's type says that it changes of the device's state.
func (c *Command) Effects() []PathEffect { return c.terms().Effects }

// Interlocked says whether the command needs places that others may have taken:
// whether Terms bound how many are in flight beside it.
func (c *Command) Interlocked() bool { return c.terms().AtMost != nil || c.terms().Exclusive != "" }

// Outstanding says whether the device may be at work on the command: it is in
// flight, or its outcome is unknown and may still come.
func (c *Command) Outstanding() bool {
	return c.State.InFlight() || c.State == TimedOut && !c.Closed
}

// unmet: its turn had come, and it must not be sent. One that others have overruled
// is not held: it would only wait to take back what they did. One that is held already
// for the same reason stays as it is, however often it is looked at.
func unmet(m *move) error {
	if m.c.terms().Unmet != Hold || m.ev.Because == ChangedSince {
		m.to(Denied, m.ev.Because)
		return nil
	}
	if m.c.Held && m.c.Reason == m.ev.Because {
		return nil
	}
	m.c.Held = true
	m.to(Created, m.ev.Because)
	return nil
}

// misfit keeps that the result is not what the type promises. The command is
// executed all the same: the device has said so.
func misfit(m *move) error {
	m.anomaly(BadResult)
	return nil
}

// overtaken keeps that the gateway of the device has done something else first.
func overtaken(m *move) error {
	m.anomaly(GatewayActed)
	return nil
}
