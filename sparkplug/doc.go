// Package sparkplug is the codec of Sparkplug B 3.0.0: payloads, metrics and
// their datatypes, topic names, STATE, and what the specification says of one
// message by itself. Whoever keeps a session (births, deaths, sequence numbers,
// aliases) builds on it; it knows no clock, network or log.
//
//	topic ─▶ ParseTopic ─▶ Topic{Type, Group, Node, Device}
//	                          │
//	bytes ─▶ Peek ─▶ Header{Seq, Timestamp, Compressed}       before anything else is read
//	      ─▶ Payload.Decode ─▶ Metrics ─▶ Value ─▶ Int, Uint, Float, Bool, Text, Array
//	      ─▶ Inflater.Decode   the same, for payloads that may be compressed
//
//	Payload.Append ─▶ bytes                                   canonical: fields in rising order
//	HostState.Append, ParseState                              STATE, in the forms of 3.0 and 2.2
//	NodeDeath, HostDeath ─▶ Will                              topic, payload, QoS, retain
//	Violations                                                statements that a message breaks
//
// # Two steps
//
// Decoding judges the frame, not the meaning. It refuses what is no Protocol
// Buffers message and what is above [Limits], and takes everything else as it
// was written: one metric with a wrong value must not cost the thousand beside
// it in the same BIRTH. What a value means is asked of the [Value], with the
// datatype that the metric or its BIRTH names: [Metric.Check] and the readers
// of Value refuse a value that does not fit, with a code of its own.
//
// A metric of a DATA message may have neither name nor datatype; then Name is
// nil and Datatype 0, and its BIRTH has both.
//
// # Forms
//
// Other implementations write UInt32 as int_value (the specification) or as
// long_value (Tahu), and negative Int8 and Int16 in 32 bits or cut to their own
// width. Every integer is read from either field and in either way. A Value
// remembers the field it came in ([Value.Form]) and is written in it again, and
// [Value.In] gives another value the form that a BIRTH had, because some
// readers know one form only.
//
// # Ownership
//
// Decoding borrows: names, texts and bytes are parts of the bytes that were
// decoded, and hold as long as those are left alone. The Payload owns all other
// memory, nested messages included, and the next Decode into it uses that
// memory again. In steady state nothing is allocated. A Payload never gives
// memory back; let one go that has held an unusually large message.
//
// Appending writes to the caller's buffer and keeps nothing.
//
// # Protocol Buffers
//
// The messages are read and written by hand from their field numbers; no
// schema is registered, so any other Sparkplug library can live in the same
// program. The last value of a field counts, also among the fields of a
// oneof; a message field that comes twice is merged; fields come in any order.
// Unknown fields, groups and extensions are skipped and not written again.
// Optional fields whose absence means something have a Has field, or nil; for
// the others zero and false are what absence means.
//
// # Statements
//
// Comments name the statement of the specification that a line obeys, as
// [tck-id-payloads-timestamp-in-UTC].
//
// # Concurrency
//
// Functions are safe for concurrent use. Payload, Inflater and what they hold
// are plain values: one goroutine at a time, or any number that only read.
package sparkplug
