package node

import "github.com/wilco-iot/wilco/sparkplug"

// Kind is what an Action asks for.
type Kind uint8

// The kinds.
const (
	Write      Kind = iota + 1 // give Metric to whoever writes it
	Refused                    // tell somebody that Count metrics of a command were refused, the first because of Err
	Disconnect                 // end the connection, because of Reason
	Unfit                      // tell somebody that a message is too large for the server, see Err
)

// String is the kind in a word.
func (k Kind) String() string { return [...]string{"", "write", "refused", "disconnect", "unfit"}[k] }

// Reason is why a connection is to be ended.
type Reason uint8

// The reasons.
const (
	Stopped     Reason = iota + 1 // the program ends
	HostOffline                   // the primary host says that it is offline here
	HostAbsent                    // the primary host has not been seen here
	NextServer                    // a command says so
	TooLarge                      // the server does not take the NBIRTH
)

// String is the reason in words.
func (r Reason) String() string {
	return [...]string{"", "stopped", "primary host offline", "primary host absent", "told to go to the next server", "NBIRTH too large for the server"}[r]
}

// Action is something to be done by the shell.
type Action struct {
	Kind   Kind
	Device string           // empty: the edge node itself
	Metric sparkplug.Metric // of a Write, with name and datatype
	Count  int
	Err    error
	Reason Reason
	// Death says that this connection had births, and its NDEATH is out.
	Death bool
}

// Actions hands over what is to be done, in order.
func (c *Core) Actions() []Action {
	list := c.actions
	c.actions = nil
	return list
}

func (c *Core) act(a Action) { c.actions = append(c.actions, a) }
