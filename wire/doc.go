// Package wire is the contract between a server and its devices: the topics,
// the JSON documents on them, and the profiles that give both their shape.
//
//	server --- command (REQUEST, CANCEL, QUERY) ---> device
//	server <-- ack     (RECEIVED, REJECTED) -------- device
//	server <-- result  (RUNNING, then one final) --- device
//	server <-- status  (online, boot id, retained) - device
//	server <-> state/… (what is, and what should be) device
//
// # Reading
//
// Documents from devices are read strictly where a mistake could change what
// became of a command, and tolerantly elsewhere:
//
//   - a document is one JSON object in UTF-8 of at most [MaxDocument] bytes,
//     nested at most [MaxDepth] deep, with nothing but white space after it;
//   - fields that are not known are ignored; null means absent;
//   - field names are case-sensitive; a known field said twice is an error,
//     because two readers could choose differently;
//   - statuses are read in any case and by their usual synonyms (see
//     [Synonyms]), and always handed on as the canonical constants;
//   - texts for people longer than [MaxText] are cut, not refused: the outcome
//     of a command is worth more than the end of a sentence.
//
// What is wrong comes back as an [*Error] that names the field and the cure.
//
// # Writing
//
// The Append functions write without reflection, fields always in the same
// order, times as RFC 3339 in UTC with milliseconds, optional fields only when
// they are set. They refuse what the parsers would refuse, and then return dst
// as it was.
//
// # Use
//
// The package is pure: no clock, no network, no disk, no log. All values are
// safe for concurrent use as long as nobody writes to them. Raw JSON in parsed
// documents (Params, Result, State) borrows the bytes of the payload; whoever
// reuses that memory must copy first.
package wire
