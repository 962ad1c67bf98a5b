// Package store is what a broker keeps beyond a connection: sessions with their
// subscriptions and queues, retained messages and wills. [Store] is the port;
// [Memory] keeps all of it in the process.
//
// Everything that changes goes through [Store.Commit], in batches that are
// atomic and take effect in the order of the calls. A durable store collects
// the batches of many callers, writes them with one fsync, and then tells each
// that it is done; so a batch costs its share of a disk flush, and nobody waits
// inside Commit. The broker acknowledges to clients only from done.
//
// Queues hold references: a message for many sessions is stored once, with one
// entry for each session.
package store

import (
	"errors"
	"iter"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/mqtt"
)

// ErrFull says that the store had no room for the messages of a batch: what
// Append, PutRetained and a Received step would have kept is not kept, all else
// in the batch is, since that is what makes room. It ends when there is room,
// without a restart.
var ErrFull = errors.New("the store has no room for messages")

// Limited is what a Store may implement besides: it tells beforehand whether
// Commit would answer ErrFull, so that a message can be refused before anybody
// gets it. It is quick, and safe for concurrent use. Commit has the last word.
type Limited interface{ Full() bool }

// Store keeps the state of one broker. It is safe for concurrent use; the
// order of concurrent calls is theirs to settle.
type Store interface {
	Committer
	Reader
	// Close ends the store when all batches are done. Nothing may be called
	// after it.
	Close() error
}

// Committer takes changes.
type Committer interface {
	// Commit applies b, all of it or, with an error other than ErrFull, nothing. Reads that begin
	// after Commit returned see the changes. done is called once, when b is
	// durable or has failed: in the order of the Commit calls, from any
	// goroutine, perhaps before Commit returns. done is nil when nobody waits.
	// Commit does not wait for the disk. The store does not keep b itself, but
	// may keep references to the messages in it, which it holds. An empty batch
	// is done when those before it are.
	Commit(b *Batch, done func(error))
}

// Reader gives back what was committed.
type Reader interface {
	// Sessions yields all sessions, in any order. It is called before the first
	// Commit. An error ends the sequence.
	Sessions() iter.Seq2[Session, error]
	// Retained yields all retained messages, in any order, each with a
	// reference that goes to the caller. It is called before the first Commit.
	Retained() iter.Seq2[*session.Message, error]
	// Queue appends to dst up to limit messages of a session's queue, those
	// with the lowest Seq above after, in order. Each message comes with a
	// reference that goes to the caller. It may read from disk.
	Queue(dst []session.Delivery, client string, after uint64, limit int) ([]session.Delivery, error)
	// LastSeq is the highest Seq ever appended.
	LastSeq() uint64
}

// Session is what is known of one session without its queue.
type Session struct {
	Record
	Subscriptions []Subscription
	Saved         session.Saved
}

// Record is the part of a session that is put as a whole.
type Record struct {
	ClientID      string
	Owner         string // name of the identity that it belongs to
	ExpirySeconds uint32
	Overflow      session.Overflow
	Will          *mqtt.Will // not published yet; read only
	// DetachedAt is when its connection ended; zero while it has one, and so
	// after a crash.
	DetachedAt time.Time
}

// Subscription is a filter, as the client sent it, with its options.
type Subscription struct {
	mqtt.Subscription
	ID uint32 // subscription identifier, 0 for none
}

// Target is one session that a message is queued for.
type Target struct {
	Client          string
	QoS             mqtt.QoS
	Retain          bool
	SubscriptionIDs []uint32
}

// Kind says what an Op does.
type Kind uint8

// The kinds of Op, with the fields that each uses.
const (
	PutSession         Kind = iota // Record; makes the session when there is none
	DeleteSession                  // Client: with queue and subscriptions
	PutSubscription                // Client, Subscription; replaces one of the same filter
	DeleteSubscription             // Client, Subscription.Filter
	Append                         // Seq, Message, Targets, Moved; Seq above all before
	Step                           // Client, Change
	PutRetained                    // Message, under its topic
	DeleteRetained                 // Topic
)

// Op is one change.
type Op struct {
	Kind         Kind
	Client       string
	Topic        string
	Seq          uint64
	Message      *session.Message
	Targets      []Target
	Moved        bool // the message takes the place of another entry, and is never refused with ErrFull
	Change       session.Change
	Record       *Record
	Subscription *Subscription
}

// Batch is a row of changes that belong together.
type Batch struct{ Ops []Op }

// Empty tells whether b changes nothing.
func (b *Batch) Empty() bool { return len(b.Ops) == 0 }

// Reset empties b and keeps its memory.
func (b *Batch) Reset() {
	clear(b.Ops)
	b.Ops = b.Ops[:0]
}

// Add appends one change.
func (b *Batch) Add(op Op) { b.Ops = append(b.Ops, op) }

// Steps appends the changes of a session's state machine.
func (b *Batch) Steps(client string, list []session.Change) {
	for _, c := range list {
		b.Ops = append(b.Ops, Op{Kind: Step, Client: client, Change: c})
	}
}
