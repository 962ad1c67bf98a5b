// Package mqtt is the codec of MQTT 3.1.1 and MQTT 5.0: every packet, property
// and reason code, and the rules of topic names and filters. It uses the
// standard library only and knows no clock, network or log.
//
// # Wire layout
//
//	 byte 1          bytes 2-5           body, Length bytes
//	+------+-------+------------------+------------------------------------+
//	| Type | Flags | Remaining Length | variable header, properties, rest  |
//	+------+-------+------------------+------------------------------------+
//	  4 bit  4 bit   7 bits per byte
//	\______________  ______________/   \________________  _______________/
//	               \/                                   \/
//	     ParseHeader -> Header                 Packet.Decode(h, body, v)
//	\_________________________________  __________________________________/
//	                                  \/
//	        Reader.Next -> Header, body        Packet.Append(dst, v)
//
//	CONNECT      name, level, flags, keep alive | props | id, [will props,
//	             topic, payload], [user name], [password]
//	CONNACK      session present, code          | props |
//	PUBLISH      topic, [packet id]             | props | payload
//	PUBACK ...   packet id, [code]              | props |
//	SUBSCRIBE    packet id                      | props | (filter, options)...
//	SUBACK       packet id                      | props | code...
//	UNSUBSCRIBE  packet id                      | props | filter...
//	UNSUBACK     packet id                      | props | code...
//	DISCONNECT   [code]                         | props |
//	AUTH         code                           | props |
//
//	props: length, then (identifier, value)...; MQTT 5.0 only
//
// # Ownership
//
// Decoding borrows: byte slices in a packet are parts of the body they were
// decoded from, and hold only as long as that buffer is left alone; for a body
// from Reader, until the next call of Next. Strings are copies. A [Publish],
// the packet that matters, is all byte slices and is decoded without
// allocating; [Publish.Clone] makes it own its bytes. Encoding appends to the
// caller's buffer, which grows at most once, and keeps nothing. To send one
// message to many receivers encode it once, as a [Template].
//
// # Strictness
//
// What the standard forbids is refused, in both directions, with an [*Error]
// that carries the reason code to answer with: [MalformedPacket] for bytes that
// cannot be a packet, [ProtocolError] for a packet that may not be sent, and
// the more special codes where the standard names one. Four rules go beyond
// its letter, or choose where it leaves a choice:
//
//   - A variable byte integer must have its shortest form in 3.1.1 too.
//   - Strings may hold every character but NUL, control characters and
//     non-characters included, in all fields alike. Whoever logs one quotes it.
//   - A topic has at most [MaxLevels] levels, a packet at most
//     [MaxUserProperties], [MaxSubscriptionIDs] and [MaxFilters] of each.
//   - Filters that begin with "$share/" are shared subscriptions in 3.1.1 too.
//
// What only a connection can judge is left to it: who may send a packet and
// when, limits that were agreed on, and what a topic alias stands for.
//
// # Clauses
//
// Comments name the statement that a line obeys, as [MQTT-3.3.1-4] of MQTT 5.0
// or [MQTT-3.1.2-22 v3.1.1]. Where both versions number the same rule alike it
// is named once.
//
// # Concurrency
//
// Functions are safe for concurrent use, and so is a Template. Packets and
// Readers are plain values: one goroutine at a time.
package mqtt
