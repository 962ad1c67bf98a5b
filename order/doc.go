// Package order is for programs that need messages in order over any MQTT
// broker: it numbers them, sees what is missing, puts right what was shuffled,
// works in parallel without losing the order per key, and judges what a broker
// has done.
//
//	publisher                        broker                     subscriber
//	Stamper.Next ─▶ user properties ─▶ ? ─▶ ParseProperties ─▶ Tracker.Observe   what is missing?
//	              or payload prefix                           ─▶ Reorder.Push      in order again
//	                                                          ─▶ ParseGap, Explain why is it missing?
//	                                                          ─▶ Lanes.Submit      in parallel, per key in order
//	                                                               └▶ Ack, in submit order
//	                                            a tester      ─▶ Judge             what does this broker promise?
//
// MQTT keeps order only per topic, per publisher and per QoS [MQTT-4.6.0-5],
// most brokers drop from full queues without a word, and a cluster of brokers
// may shuffle. A sequence number in the message is what survives all of this.
//
// # Streams, epochs, numbers
//
// A stream is what one publisher wants to have in order. Its messages are
// numbered 1, 2, 3, ... within an epoch. A publisher that does not remember
// its last number begins a new epoch, which must be higher than all before;
// the Unix time of its start will do. Numbers of different epochs are not
// compared: of two messages, the one with the higher (epoch, number) was
// published later.
//
// # Time
//
// Nothing here reads a clock, the network or a disk. Where time matters, it is
// an argument, and [Reorder.Due] says when to call again.
//
// # Concurrency
//
// [Lanes] is safe for concurrent use, and is the only part that has goroutines;
// [Lanes.Stop] waits for them. [Stamper], [Tracker] and [Reorder] are owned by
// one goroutine at a time: they describe a sequence, and calls without an order
// of their own have none. [Judge] and the rest are functions.
//
// # Memory
//
// All of it is bounded by options: open gaps in a Tracker, items and bytes in a
// Reorder, unacknowledged items in Lanes. What passes a bound is told and
// counted, never silently forgotten.
package order
