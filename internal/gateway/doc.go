// Package gateway makes a server at the edge out of a server: `wilco gateway`.
//
// A gateway is a whole wilco server for the devices behind it: broker, engine,
// store, API. So commands, their undoing, state and the audit log work there with
// nobody above. This package joins that server to the one above, as one client of
// its broker under the name of the gateway:
//
//	server above                               gateway                            device
//	  command ──► down ──► engine.Create with the same tid ──► lane ──► command ──►
//	  ◄── ack, result, state/update ◄── uplink ◄── a lasting session at its broker ◄
//	  ◄── status (once all that waited has gone up) ◄───────────────────────────────
//	  ◄── gateway/act ◄── acts ◄── commands that were made here, when they have ended
//
// A device sees one server, with one epoch and one seq: its gateway. What comes
// from above and what is asked for here are commands of one lane, in one order.
//
// # What is promised
//
//   - Up: see package uplink. What devices say is one lane, each filter that the file
//     names is another: in its order and once, over cuts and kill -9 of either side.
//   - Down: a command is acknowledged to the server above when it is durable here, and
//     waits for no mirrored message while that has room in its lane. A mirrored one
//     is when it is at the gateway's broker; a kill between the two repeats it.
//   - Own commands are told above when they have ended, at least once; the server
//     above knows them by their tid.
//   - Devices' statuses are not kept while the server above is out of reach. When it
//     is back they are said anew, behind all that waited and all own commands: only
//     then does it send, and by then it knows what happened.
//
// # Goroutines
//
// One each for arrivals (what is to be done when the server above is back), for acts,
// for the ledger, for the rules, and for each filter that is mirrored down; and those of
// the uplink. Stop ends and awaits them all.
package gateway
