// Package uplink takes what is said at a gateway's broker to the broker of the server
// above: stored, forwarded in order, and once.
//
// What goes up is in lanes: one for what devices say, one for each filter that the
// gateway's file names. A lane is a lasting session of its own at the gateway's broker,
// with its own bounds and its own policy when these are reached.
//
//	lane's session ──► take ──► outbox (file) ──► client ──► server above
//	 fifo: bounded      │  ▲       512 messages,      QoS 2
//	 by its policy      ▼  │       of all lanes
//	                  latest (file): while nothing can go up, the last of each topic
//
// # What is promised
//
//   - The messages of a lane go up in the order in which the broker has numbered them.
//     Nothing is promised between lanes.
//   - A message leaves the lane's session when it is durable in the outbox, with its
//     number in the same write. A session's number that the outbox has had is left out
//     when it comes again, so a kill -9 between the two neither loses nor doubles it.
//   - From the outbox it goes with QoS 2 under a packet identifier that is durable
//     before it is used, and so reaches a server that keeps its session exactly once,
//     over cuts and kill -9 of either side. To a server that has lost the session, or
//     that knows no QoS 2, it may go twice.
//   - A message that the server above refuses for now is offered again, behind those of
//     the outbox that were on their way with it. The broker of wilco serve does not refuse a
//     gateway so: it ends the connection, and everything comes again in its order.
//   - What is not forwarded is counted by lane and reason, logged, and told above in a
//     gap note ([broker.GapProperty]) on the next message of the lane.
//
// # Goroutines
//
// Each lane has those of its client and, when it keeps the latest only, one that sends;
// the outbox has one that acknowledges what is durable and one that offers again what
// was refused. Stop ends and awaits them all.
package uplink
