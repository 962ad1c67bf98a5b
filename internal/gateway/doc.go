// Package gateway makes a server at the edge out of a server: `wilco gateway`.
//
// A gateway is a whole wilco server for the devices behind it: broker, engine,
// store, API. So commands, their undoing, state and the audit log work there with
// nobody above. This package joins that server to the one above, as one client of
// its broker under the name of the gateway:
//
//	server above                               gateway                            device
//	  command ──► down ──► engine.Create with the same tid ──► lane ──► command ──►
//	  ◄── ack, result, state/update ◄── up ◄── a lasting session at its broker ◄────
//	  ◄── status (once all that waited has gone up) ◄───────────────────────────────
//	  ◄── gateway/act ◄── acts ◄── commands that were made here, when they have ended
//
// A device sees one server, with one epoch and one seq: its gateway. What comes
// from above and what is asked for here are commands of one lane, in one order.
//
// # What is promised
//
//   - Up: a message is acknowledged to the device when it is durable in the lasting
//     session, and taken out when the server above has acknowledged it; first in,
//     first out over all topics, over cuts and kill -9 of either side. Repeats come
//     after a cut only.
//   - Down: a command is acknowledged to the server above when it is durable here.
//   - Own commands are told above when they have ended, at least once; the server
//     above knows them by their tid.
//   - Devices' statuses are not kept while the server above is out of reach. When it
//     is back they are said anew, behind all that waited and all own commands: only
//     then does it send, and by then it knows what happened.
//
// # Goroutines
//
// One each for the link up, for arrivals (what is to be done when the server above
// is back), for acts, for the ledger and for the rules. Stop ends and awaits them.
// Both MQTT clients have their own, which Stop awaits too.
package gateway
