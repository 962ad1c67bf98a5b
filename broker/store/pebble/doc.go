// Package pebblestore is a [store.Store] on a disk, over the Pebble key-value
// store. What it says is done survives a crash of the process, and by default
// of the machine.
//
// # Commit
//
//	Commit ──encode──▶ open group ──▶ committer ──one batch, one sync──▶ notifier ──done, in order
//
// Commit encodes the changes into the open group, which is memory only, and
// returns. One goroutine, the committer, takes the group, writes it as one
// atomic Pebble batch and waits for its sync; what is committed meanwhile makes
// the next group. So the sync is shared by all who wait for it, and the slower
// the disk is, the larger the groups become. A second goroutine, the notifier,
// calls the done functions in the order of the Commit calls, while the
// committer is at the next group.
//
// # Keys
//
//	F                      format of all that follows
//	N                      highest sequence number appended
//	s client               record of a session, with its number
//	t session              bounds and totals of its queue
//	e session seq          entry of its queue
//	u session filter       subscription
//	x session id           inbound QoS 2 packet id
//	v session seq          packet id reserved for an entry
//	l session id           outbound QoS 2 handshake that awaits PUBCOMP
//	d session              ended; its entries are being taken away
//	m seq                  message with several receivers, and how many still need it
//	r topic                retained message
//
// session is a number that is given anew to each session, seq the message's; in
// keys both are eight bytes, big endian, and so in order. A message with one
// receiver is in the entry itself. One with several is stored once: each entry
// that goes is merged into its counter, and the last one takes the message away,
// in compactions, without anybody having to read it.
//
// # Reclaiming
//
// Clients acknowledge nearly in order, so of each queue the low-water mark is
// kept: everything below it is gone. It costs no write of its own, a range
// deletion now and then takes away what lies below, and no read ever starts
// there, so it never has to step over what was deleted. What is acknowledged
// above the mark is deleted one by one.
//
// # Memory
//
// Queues are not in memory. A session holds its totals, and the numbers of the
// first entries of its queue: of up to 64 while its client is away, and 4096
// otherwise, 16 bytes each.
//
// # Damage
//
// Values carry no checksum of their own: Pebble checks one for each block of a
// table, and each chunk of its log, whenever it reads them from the disk; a
// second would only find what memory damages.
//
// A damaged log is replaced, before Pebble reads it, by one with the records
// that are whole. A record that is not costs itself; when its length cannot be
// believed either, the rest of its block of 32 KiB. That is logged, counted and
// told to MQTT 5 subscribers that miss messages; the file is kept as
// NUMBER.log.damaged, of which the last four stay. What a missing group means for
// those after it is on the type putright.
//
// A torn end of the log, as a machine leaves it that dies while writing, is
// nothing that was ever said to be done, and so is dropped. It is told from
// damage by the writes after it, which begin only when it was synced; of the very
// last write nothing can say so, unless the log was brought to an end in good order.
//
// A damaged block of a queue's table is skipped and reported, and the rest is
// delivered. Any other damage, of a table, the MANIFEST, a marker or the OPTIONS,
// has the start make the store anew of all tables and logs that can be read: see
// the type rebuilding. The old files are kept in damaged-N, of which the last stays.
//
// With OS nothing was synced, and damage looks like what a machine that died has
// not written: all from there on goes, so that what is left is how things were.
//
// # Invariants
//
//   - reads see every group up to applied; Queue waits for more only when it
//     has come to the end of that
//   - of a session, entries with seq < low are gone, those in ring that are not
//     marked are live, and ring has all of low..known; above known only the disk
//     knows
//   - a group is all of it on the disk or none of it, and once one failed, all
//     later ones fail
package pebblestore
