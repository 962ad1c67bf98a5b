// Package host is a Sparkplug B host application: it follows all edge nodes of
// one or several MQTT servers, and always knows what their metrics are and
// whether that can be trusted.
//
//	server ─▶ mqtt/client ─▶ link ── by hash of group and node ─▶ shard ─▶ session.Node ─▶ Event
//	             ▲            │ ▲                                    │            │
//	             │            │ └── rebirth wanted, born, dead ──────┘            ├─▶ values, for Node and Nodes
//	  STATE, NCMD└── manager ◀┘     (internal/rebirth decides when)               └─▶ OnEvent, Watch
//
// A link is one server: a goroutine that connects, publishes STATE, and asks for
// rebirths. A shard is a goroutine that has a part of the edge nodes, over all
// servers, so that the messages of one node are processed one after the other, in
// the order of receipt. What decides is pure and stands elsewhere: sparkplug/session
// knows one node, internal/rebirth when to ask it, and presence when to say STATE
// again.
//
// # Trust
//
// Values are good between a birth and the next doubt: a death, a gap that was not
// closed in time, the loss of the server. Then they keep what they were and are
// stale [UNTAGGED-host-stale-on-server-loss]. Nothing but a birth makes them good
// again, and it is asked for.
//
// # Several servers
//
// An edge node is on one server at a time and may move. The server of its last
// NBIRTH counts; deaths and data by way of another one do not touch its values.
//
// # Back-pressure
//
// OnEvent may block; then its shard does, then the client, then the server's
// window. Messages keep the time of their receipt, and no hole is given up while
// messages wait to be read, so that a slow host does not look like a lossy network.
//
// # Memory
//
// Nodes, metrics, bytes held and bytes of texts are bounded by Options; what does
// not fit is told by an Alarm and counted. A [Watch] that does not keep up misses
// events, and is told how many.
//
// # Concurrency
//
// All methods of Host are safe for concurrent use. Callbacks come from the
// goroutines of the host; those about one edge node one after the other.
package host
