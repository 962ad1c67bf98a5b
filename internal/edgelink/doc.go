// Package edgelink joins the engine to Sparkplug edge nodes. A registered device of
// the profile sparkplug, GROUP/NODE or GROUP/NODE:DEVICE, is one of them; to the
// engine it is a device like any other, and this package is its firmware:
//
//	            request, cancel, query              NCMD, DCMD
//	engine ──────────── Publish ─────────▶ Link ─────────────────▶ host ─▶ edge node
//	   ▲                                    │ ▲                              │
//	   └── ack, result, status, report ─────┘ └── births, deaths, DATA ◀─────┘
//	        as documents of the profile           (spcommand.Book decides)
//
// Two commands can be asked of such a device: sparkplug.write, with the params
// {"metrics": {NAME: VALUE, ...}}, and sparkplug.rebirth. A request is written once
// and never again by itself: there is no tid on the wire, so a second NCMD would be a
// second deed. What the engine publishes again, and its QUERY, are questions; they are
// answered from what the node has reported since, and an open one has the node asked
// for its births, which is the only question that Sparkplug knows.
//
// Births, deaths, gaps and the loss of the server are the device's presence: it is
// online while the host trusts its values. Values are reported to the engine as the
// device's state where Options.Reported says so, at most once a second and before a
// command is confirmed by them. What a write changes of that state is known from its
// params, so a write whose metrics are all reported can be taken back by another one.
//
// # Concurrency
//
// All methods are safe for concurrent use. Each edge node has a lock, which is held
// while the host is asked and the engine is told; both return at once. Nothing here is
// kept on disk: what was open at the end of a process is asked for by the next one.
package edgelink
