// Package session is what a Sparkplug B host application knows of one edge
// node, as a pure state machine: births, deaths, sequence numbers, aliases. It
// has no clock, network, log or goroutine; messages and time come in, typed
// [Event]s go out.
//
// There is one [Node] for each (broker, group, edge node). The shell gives it
// every message of that node in the order of receipt, calls [Node.Due] when
// [Node.Deadline] has come and nothing received before waits to be given, and
// tells it of the connection to the broker by [Node.Lost] and [Node.Found].
//
//	Receive ─▶ header only ─▶ one of the inputs ─▶ table[state][input] ─▶ step ─▶ Actions.Events
//	                 │
//	                 ├─ seq is the next one ─▶ decode ─▶ aliases to names ─▶ Data, DeviceBirth, DeviceDeath
//	                 │                                     then what was held, as far as it follows
//	                 ├─ seq is 1 to 127 ahead ─▶ held, as bytes: decoded when it is its turn
//	                 └─ seq is behind ─▶ sent before the newest one applied: a repetition, Late
//	                                     else penned: its NBIRTH may be under way
//
// The states:
//
//	Unknown ─── NBIRTH ──▶ Online ◀── holes filled ── Reordering
//	   ▲                    │  ▲ └─── a hole ────────────▶ │
//	 made                   │  │ NBIRTH                    │ the oldest held message is older
//	                        │  └─────── Resync ◀───────────┘ than the reorder timeout
//	                        └─ NDEATH ─▶ Offline ── NBIRTH ──▶ Online
//
// # Time
//
// A hole is given Config.ReorderTimeout from the arrival of the oldest message
// that waits behind it; what is applied meanwhile does not put it off, and when
// one hole is filled the next one counts from its own oldest message. The same
// time is what a message may be ahead of its NBIRTH.
//
// Timestamps of an edge node are believed in two places only, because there are
// nodes that live in 1970: right after an NBIRTH, a message that claims to be
// older is left out as one of the time before it, and one with a number already
// passed is a repetition when it is not newer than all that was applied. A clock
// that was set back costs a rebirth or two: the first is given up for a node when
// holes come of it, the second after too many repetitions in a row.
//
// # What cannot be told
//
// A message of a session whose NBIRTH is late or lost, and whose number happens
// to be the one expected, is taken for one of the session before. The loss of exactly 256 messages, or of a multiple, with no death or birth
// seen, leaves no trace in the numbers, and a
// message that is repeated 256 messages later is taken for the one expected. An edge node that uses the same bdSeq in
// each session can be declared dead by the late NDEATH of the one before; its
// next message then asks for a rebirth.
//
// # Memory
//
// Held and penned messages are bounded by Config.HeldBytes and by number, what
// births declared by Config.Definitions; above that the node is as good as
// after a gap. A Node keeps the Payload of messages that it holds: the caller
// must leave those bytes alone. What events point to is borrowed until
// [Actions.Reset]; [Unit] and [Metric] are not changed once made, and may be
// kept and read by anybody.
//
// # Concurrency
//
// A Node and its Actions belong to one goroutine at a time. Nodes are
// independent, and may share an Actions that one goroutine uses for all of them.
package session
