// Package sqlite keeps wilco's state in one SQLite file; it is the store of a
// single node. See package store for what every store promises.
//
// # One writer
//
//	Commit ─┐  encode      ┌── writer goroutine ─────────────────┐
//	Commit ─┼────────────► │ take all that is queued             │
//	Commit ─┘   queue      │ BEGIN, write every batch, COMMIT ───┼─► one fsync
//	   ▲                   │ answer all of them                  │
//	   └────── answer ──── └─────────────────────────────────────┘
//
// Callers encode their own batches and queue them. One goroutine owns the only
// writing connection: it takes everything that has queued up while the disk
// was busy, writes it in one transaction, and answers all callers after the
// COMMIT. So one fsync is shared by as many callers as there are, and a lone
// caller waits for no timer.
//
// The transaction is first tried in good faith: every command is swapped by one
// UPDATE ... WHERE version = ?, and nothing is read. If any row turns out not to
// be as its batch expected, the whole transaction is rolled back and done again
// with care: each batch is compared first and written only when all of it fits,
// so that one caller's conflict never touches another's batch, and savepoints,
// which copy every page they touch, are not needed.
//
// Readers have a small pool of connections of their own. In WAL mode they
// neither wait for the writer nor hold it up; scans are read in pages, so that
// no snapshot lives long enough to keep the WAL from being reset.
//
// # Tables
//
//   - commands: one row a command, by tid, which rises with time. Only what is
//     selected by is a column; the whole command, timeline included, is packed
//     in doc (file commandcodec.go). Indexes: the open ones by tid, which holds nothing that changes
//     while a command is open, so that a step of its life leaves it alone; and
//     by idempotency key where there is one, the key first, because keys that
//     rise with time then fill one page after the other.
//   - listed: the commands by device. It is filled late, some thousand commands
//     at a time and in its own order, so that a page of it is written once for
//     many commands; the youngest ones are found in memory (file listed.go).
//   - ended: how many commands of a group ended how, so that counting does not
//     read the commands.
//   - events: one row for up to 256 events of one transaction. The writer numbers
//     them, so that the numbers have no gaps and follow the order of commit.
//   - documents: what other parts keep, by kind and key.
//   - devices, anomalies, meta.
//
// # Settings of SQLite, and why
//
//   - journal_mode=WAL, synchronous=FULL: each COMMIT is synced before it is
//     answered. With shared commits FULL costs what NORMAL costs, and NORMAL
//     would lose acknowledged commits in a power cut.
//   - page_size=8192: a row of a WITHOUT ROWID table stays in its page up to a
//     quarter of it; what is longer goes to overflow pages, which is twice the
//     CPU and twice the bytes. A command with small params takes about 0.6 KB, and
//     2 KB leave room for larger ones; 16384 gains nothing more.
//   - wal_autocheckpoint=4096 pages (32 MiB): a command is written about four
//     times in its life; the longer the WAL, the more of these writes reach the
//     database file as one. journal_size_limit cuts the file back to that size.
//   - cache_size 8 MiB: the commands at work are the youngest, and so near each
//     other. SQLite looks through the whole cache at each COMMIT: with 64 MiB that
//     was a tenth of the server's CPU.
//   - busy_timeout 5 s: another process (a backup, the sqlite3 shell) may hold
//     the write lock for that long before commits fail as unavailable.
//   - SQLite's version is 3.51.3 or newer: older ones can corrupt a database
//     when a WAL is reset while another connection writes; a test says so.
//
// The file, its WAL and its lock have mode 0600. Two processes cannot have it
// open for writing at once: Open takes an exclusive lock on path + ".lock".
package sqlite
