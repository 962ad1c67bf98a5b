// Package session is the server side of one MQTT session as a pure state
// machine: it decides, and does nothing. It has no clock, network, disk, log or
// goroutine; time comes in as an argument, bytes go out through slices.
//
// The shell calls [Session.Receive] with each packet of the client,
// [Session.Enqueue] with each message for it, and [Session.Next] when it can
// write. What has to be done comes back in [Actions]. The one rule that the
// shell must keep: what a step says in Actions.Store is durable before what the
// same step says in Actions.Send leaves. What Next returns may leave at once:
// where it must wait for the store, Next itself waits for [Session.Confirm].
//
// The way of a message to the client:
//
//	Enqueue, QoS 1 and 2 ─▶ queue ──admit──▶ fly ──────────▶ done: PUBACK, PUBREC >= 0x80
//	   │ too many, or away    ▲   (packet id)  │
//	   └▶ the store ──Feed────┘                └──PUBREC──▶ rel ──PUBCOMP──▶ done
//	Enqueue, QoS 0 ───────▶ zero ─────────────────────────▶ done: written
//
// queue, fly and rel are each first in, first out. Sequence numbers rise along
// them, from fly's head to queue's tail, and on into the store, so nothing can
// overtake. A cursor marks how far fly has been sent on this connection; on
// resume it goes back to the head, and that alone gives the order that the
// standard asks for: unacknowledged PUBLISHes with DUP, then PUBRELs, then the
// backlog, then what is live [MQTT-4.4.0-1] [MQTT-4.6.0-1]. QoS 0 is merged in
// by sequence number, except that it may pass messages that wait for the
// client's window.
//
// The shell may lend a message, which it keeps itself: it goes the same way, is
// never stored here, is reported in Actions.Ended when done, and can be taken
// back by [Session.Recall]. It has a Seq of this session, but says nothing about
// how far the stored queue was read. A client that keeps its messages itself is lent
// all that need not be stored, see [Session.Takes].
//
// Invariants, between any two calls:
//
//   - a packet id is in use exactly when ids has it: then it is that of one
//     entry of fly or of rel that is not gone
//   - live + released never exceeds Limits.Inflight, except after a resume with
//     ids that were in use before
//   - quota is what the client still allows on this connection, 0 to the
//     Receive Maximum it sent
//   - behind means that the store holds messages past the cursor which are not
//     in queue; then nothing newer enters queue except through Feed
//
// A queue at its limit does what its [Overflow] policy says. The shell calls
// [Session.Offer] before it routes a message, since a refusal must reach nobody.
// To drop the oldest, a session has to know what they are: those in queue it
// does, those behind them it learns through Unread and Scout, a few at a time.
// What the client loses is told by its next message, see [GapProperty].
//
// A Session is not safe for concurrent use. It holds a reference to each
// [Message] in its queues and releases it when done.
package session
