// Package client is an MQTT client for 3.1.1 and 5.0 that keeps order.
//
// It connects over TCP, TLS, WebSocket or in process, stays connected, resumes
// its session, and brings every message of QoS 1 and 2 to a result. The
// protocol itself, without network, clock and goroutines, is in internal/flow;
// this package is the shell around it.
//
// # Goroutines
//
//	 Publish, PublishAsync          Ack          Subscribe
//	       │                         │               │
//	       ▼                         ▼               ▼
//	┌─────────────────── one mutex: flow.Sender, flow.Receiver ───────────────┐
//	│ queue ─▶ window ─▶ encoded bytes            acknowledgements owed       │
//	└──┬──────────────────────┬──────────────────────▲───────────────┬────────┘
//	   │ results              │ one buffer           │ one packet    │ inbox
//	   ▼                      ▼                      │               ▼
//	results goroutine      writer ─▶ network ─▶ reader          delivery goroutine
//	   done(Result)        one Write for all                      OnMessage(d)
//	                       that has gathered
//
//	supervisor: dials, starts and ends writer and reader, keeps the connection
//	alive, backs off, calls OnUp and OnDown
//
// Five goroutines when connected, three when not. Stop waits for all of them.
// The caller of Publish encodes straight into the writer's buffer; while a
// write is under way the next one gathers, so that a busy connection costs few
// system calls and no allocation for a publish.
//
// # What is promised
//
//   - Messages leave in the order of the calls to Publish and PublishAsync,
//     whatever their topics and QoS, and results are told in that order.
//   - The server's Receive Maximum is kept [MQTT-3.3.4-7]. Its Maximum QoS,
//     Maximum Packet Size and Retain Available are kept by ending the message
//     with ErrQoS, ErrSize or ErrRetain.
//   - After a reconnect with the session present, unacknowledged messages are
//     resent first, in their original order: PUBLISH with DUP, PUBREL where
//     PUBREC had come [MQTT-4.4.0-1] [MQTT-4.6.0-1]. Nothing new overtakes.
//   - When the server has lost the session, they are sent again as new
//     messages, in the original order, those between PUBREC and PUBCOMP
//     included. That is a choice for at least once over at most once: a QoS 2
//     message can then be seen twice, but none is lost.
//   - OnMessage is called in the order of receipt. PUBACK and PUBREC leave in
//     that order, too, whatever the order of Ack [MQTT-4.6.0-2]
//     [MQTT-4.6.0-3]; PUBREL follows the order of PUBREC [MQTT-4.6.0-4].
//   - A QoS 2 message is delivered once, also over reconnects, as long as this
//     Client lives. What it has received is not in the Store: a new process may
//     be shown a QoS 2 message again that the old one had not acknowledged.
//   - Messages that wait for OnMessage when the connection ends are dropped if
//     the session is resumed, for the server sends them again. What was shown
//     and whose acknowledgement was lost is shown again: with Receive Maximum 1
//     one sees 1 2 2 3, never 1 2 3 2 3. A server of MQTT 3.1.1 cannot be told
//     to send one at a time; it takes a setting of its own.
//
// # Untrusted servers
//
// No bytes from the network make the client panic or grow without bound. A
// malformed packet, or one that the protocol does not allow, ends the
// connection with the DISCONNECT code that MQTT 5 names for it, and the client
// connects again with back-off. A server that sends more than our Receive
// Maximum is borne: the surplus waits, and then reading stops.
package client
