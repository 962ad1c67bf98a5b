package node

import "github.com/wilco-iot/wilco/sparkplug"

// hostState is what the primary host said last in this connection.
type hostState struct {
	seen bool
	last sparkplug.HostState
}

// Host takes a STATE message of the host of that name, also while Connecting:
// the retained one may come before the answer to our last subscription.
//
// Words of Sparkplug 2.2 count when the configuration says so, and until a
// document of 3.0 has come: a host that says both has left the words to a server
// which may keep old ones.
func (c *Core) Host(name string, s sparkplug.HostState) {
	switch {
	case c.cfg.PrimaryHost == "" || name != c.cfg.PrimaryHost: // [tck-id-message-flow-edge-node-birth-publish-phid-wait-id]
		return
	case c.state == Offline || c.state == Ending:
		return
	case s.Legacy && (!c.cfg.Legacy || c.host.seen && !c.host.last.Legacy):
		return
	case c.host.seen && !s.Counts(c.host.last):
		// [tck-id-message-flow-edge-node-birth-publish-phid-wait-timestamp]
		// [tck-id-operational-behavior-edge-node-termination-host-offline-timestamp]
		return
	}
	c.host = hostState{true, s}
	c.heed()
}

// heed acts on what is known of the primary host.
func (c *Core) heed() {
	switch {
	case !c.host.seen:
	case c.host.last.Online:
		if c.state == Waiting {
			// [tck-id-message-flow-edge-node-birth-publish-phid-wait]
			// [tck-id-message-flow-edge-node-birth-publish-phid-wait-online]
			c.birth()
		}
	case c.state == Birthing || c.state == Online:
		// [tck-id-message-flow-edge-node-birth-publish-phid-offline]
		// [tck-id-operational-behavior-edge-node-termination-host-offline]
		c.Leave(HostOffline)
	case c.state == Waiting && c.cfg.Servers > 1:
		// [tck-id-operational-behavior-primary-application-state-with-multiple-servers-walk]
		c.Leave(HostOffline)
	}
}
