// Package spcommand knows what became of what was asked of the metrics of one
// Sparkplug edge node and the devices behind it. It is pure: what was sent, DATA,
// births and deaths come in, [Verdict]s go out.
//
// Sparkplug answers no command. What a host can do is to look: a write is
// confirmed when the metric is reported with the value that was asked for, in a
// message received after the write went out and, by the node's own clock, not
// older than what was known before.
//
//	          ┌── equal: Already (once it is written) ──────────────────┐
//	present ──┤                                                         ▼
//	value     └── other, or not known ──▶ pending ── DATA, birth: equal ──▶ Confirmed
//	                                       │   ▲
//	                   DATA, birth: other ─┘   └─ Contradicted: told once, it goes on waiting
//	                   death, new session ──▶ Lost: from now on only a birth confirms
//	                   a newer write of the metric is confirmed ──▶ Superseded
//
// A node reports by exception: a write of the value that a metric has brings no
// DATA. Such a write is sent all the same, because some metrics are buttons, and
// the value that was there confirms it, if it was good and no other write to the
// metric is open.
//
// Of a template each member is such a metric: DATA may have some of them only.
//
// After a death a later DATA with the value says nothing about the write, which may
// have died with the node; a birth says what the node has kept. A command that asks for
// births has no writes, and the next NBIRTH confirms it.
//
// # Ownership
//
// A [Book] belongs to one goroutine at a time. It keeps what it is given in a
// [Command], and borrows everything else.
package spcommand
