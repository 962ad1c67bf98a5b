// Package node decides what a Sparkplug B edge node says: the states of its
// connection, its births and deaths, sequence numbers, aliases, what waits to
// be sent, and what commands ask for. It reads no clock and no network: events
// and the time go in, messages come out of [Core.Send] in the order in which
// they must leave, and all else out of [Core.Actions].
//
//	         Connecting     Connected              STATE online, or no primary host
//	Offline ───────────▶ Connecting ───▶ Waiting ───────────▶ Birthing ──────▶ Online
//	   ▲                     │              │                  │  ▲ NBIRTH, then │
//	   │                     │              │                  │  │ each DBIRTH  │
//	   │ Disconnected        ▼     Leave    ▼      Leave       ▼  └──────────────┤
//	   └────────────────── Ending ◀─────────┴──────────────────┴────── rebirth ──┘
//	     from every state  NDEATH, then Disconnect
//
// # Streams
//
// The edge node and each device are a stream: metrics with their present value,
// and a queue of samples in the order in which they were given. A sample always
// goes through the queue of its stream. A birth says the present values, so it
// turns what waits in the queue into history (is_historical) and drops what is
// transient or what the birth itself says. Offline, blocked, birthing and
// waiting for the host are therefore one case: the queue is not served. It is
// bounded for all streams together; the oldest sample makes room.
//
// # Invariants
//
//   - A sequence number is used by a message that publish has taken, and by
//     nothing else.
//   - Between an NBIRTH and the last DBIRTH of its block there is no other message.
//   - DATA is of a stream whose birth is out in this connection, and which has
//     not died since.
//   - Nothing follows an NDEATH in the same connection.
//   - An NBIRTH follows every request for one that came after its last NBIRTH.
//
// # Concurrency and ownership
//
// A Core is a plain value for one goroutine at a time. What is given to it is
// copied; what it gives out is not touched again.
package node
