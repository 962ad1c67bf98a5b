// Package broker is an embeddable MQTT broker for 3.1.1 and 5.0, over TCP, TLS
// and WebSocket, that keeps the order of messages further than the standard
// asks: the messages of one publisher arrive in publish order across topics and
// across QoS 1 and 2, and all subscribers see one and the same interleaving of
// all publishers.
//
//	socket ─▶ conn.read: cut, decode, step own session ──▶ turn ─▶ hub: number, match, enqueue ─▶ store
//	                                                                   │                            │ done
//	socket ◀─ conn.write: collect, session.Next ◀── client.wake ◀──────┴──── answers, stored ◀──────┘
//
// How it works. Each connection has one goroutine, its reader. It makes one
// turn of all packets that one read brought, and runs it through the hub, whose
// one mutex gives messages their order; nothing under it waits. A message is
// copied once, on arrival, and then shared; queues hold references. A writer is
// a goroutine that exists only while its connection has something to be
// written; it encodes what differs between receivers (a few bytes of header)
// straight into its buffer. A slow client therefore costs its own bounded
// queue, and one buffer. What a session may do at what time is decided by the
// pure state machine in broker/session, on both sides.
//
// A PUBACK or PUBREC leaves only when the store has said that the message is
// durable for every persistent session that it matched; so do PUBREL, PUBCOMP
// and SUBACK for what they change, and stored messages are delivered only then.
// A client of DialHandover keeps its messages itself: for those of QoS 1 the PUBACK
// waits for its acknowledgement instead; see handover.go.
//
// A shared subscription has a queue of its own, and lends each message to a
// member when that can be sent it; see Share, and docs/adr/0012-shares-lend.md.
// The strategies with a key, and Sticky, keep the order of a key while members
// join, leave and die: all members together see the first copies of its messages
// in publish order, and never two members have messages of it that are not
// acknowledged. QoS 1 that a member has not acknowledged goes to another when it
// is away or its session has ended; QoS 2 that it may have had does not.
//
// A broker starts in two steps, Open and Listen, and stops in two, CloseListeners
// and Stop, for a program that must be subscribed whenever anybody can publish:
// between the first and before the last only Dial gets in.
//
// What a stranger can cost is bounded before it is authenticated (size, time,
// connections of an address), and what a known one can cost after it: queues,
// sessions, retained messages, aliases, and the rates of Limits. Rights are
// asked at each publication and at each delivery, so what is queued, retained
// or a will is checked again when it is due. docs/attacks.csv has the attacks,
// each with a test of its name.
//
// Nothing is dropped in silence. Who is slow fills its own queue, and then its
// Overflow policy says who loses; QoS 0 goes first. Each drop is counted by
// reason, told to Events, and in the log, where a line stands for all since the
// last; and an MQTT 5 subscriber is told by GapProperty.
//
// Locks are taken in this order: hub.mu, client.mu, Broker.mu. Identity's
// methods are called under the first two; Authority and Events under none.
//
// What 3.1.1 cannot say: a publication that is not allowed is acknowledged as
// normal, dropped and counted; one that there is no room for is not
// acknowledged, and the connection is closed, so that the client sends it
// again.
package broker
