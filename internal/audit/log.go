// Package audit keeps who did what: a chain of entries, each with the hash of the
// one before, so that a change of any of them shows.
//
//	Record ─┐            ┌── whoever comes first writes for all ──┐
//	Record ─┼─ waiting ─►│ number, chain, hash; one commit        │─► all answered
//	Record ─┘            └────────────────────────────────────────┘
//
// The chain is one line for the whole server, so entries cannot go into the
// commits of commands: those are made by many goroutines at once, and would wait
// for each other. An act is recorded before it is answered instead. What changes
// documents alone (hooks) is committed together with its entry by [Log.Commit].
// A server that dies in between has done what it never answered: the command's own
// timeline, written with it, still says who.
//
// A chain proves that nothing before its head was changed only to those who know
// the head from elsewhere: whoever can write the database can compute a whole new
// chain. [Verifier] takes such heads.
//
// Entries are never purged. A Log is safe for concurrent use; one process owns the
// chain of a store, and a second one that wrote to it would meet a conflict.
package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
)

// Store is where entries are kept.
type Store interface {
	Commit(ctx context.Context, b *store.Batch) (lastEvent int64, err error)
	Documents(ctx context.Context, kind store.Kind, prefix, after string, limit int) ([]store.Document, error)
}

// Log writes and reads entries. Make one with Open.
type Log struct {
	store Store
	now   func() time.Time

	mu      sync.Mutex
	waiting []*job
	writing bool

	head Head // written by who leads, under mu
}

// job is an entry to write, with what must be written with it.
type job struct {
	entry  Entry
	docs   []store.DocumentWrite
	events []store.Event
	done   chan error
	lead   chan struct{} // its caller is the one who writes now
}

// most bounds the entries of one commit, and so how long one keeps the store's writer.
const most = 500

// Open finds the end of the chain. Now is the clock; nil means time.Now.
func Open(ctx context.Context, s Store, now func() time.Time) (*Log, error) {
	if now == nil {
		now = time.Now
	}
	l := &Log{store: s, now: now}
	last, err := l.find(ctx)
	if err != nil {
		return nil, fmt.Errorf("audit: the end of the log: %w", err)
	}
	l.head = last
	return l, nil
}

// find halves the range in which the last place must be, so that few entries are
// read, however many there are.
func (l *Log) find(ctx context.Context) (Head, error) {
	var last Head // there is an entry at its place, or it is zero
	for end := int64(1) << 60; end-last.Seq > 1; {
		middle := last.Seq + (end-last.Seq)/2
		e, err := l.from(ctx, middle)
		if err != nil {
			return Head{}, err
		}
		if e == nil {
			end = middle
			continue
		}
		last.Seq, _ = placeOf(e.Key)
		last.Hash = e.Hash
	}
	return last, nil
}

// from is the first entry at the place of seq or behind it; nil: there is none.
// What stands at no place at all is passed over: Verifier is who tells of it.
func (l *Log) from(ctx context.Context, seq int64) (*Entry, error) {
	for after := KeyOf(seq - 1); ; {
		page, err := l.Page(ctx, after, 0)
		if err != nil || len(page) == 0 {
			return nil, err
		}
		for i := range page {
			if place, err := placeOf(page[i].Key); err == nil && place >= seq {
				return &page[i], nil
			}
		}
		after = page[len(page)-1].Key
	}
}

// Record keeps one act, and returns when it is durable. Seq, At, Prev and Hash are
// filled in; texts that are too long are cut.
func (l *Log) Record(ctx context.Context, e Entry) error { return l.Commit(ctx, e, nil) }

// Commit keeps one act together with the documents that it changes, and the events
// that tell of it: all are durable when it returns nil, and none is there when it
// returns an error. It blocks until then, also when ctx ends before: the act has
// been done. Errors: those of a store's Commit, *store.ConflictError among them.
func (l *Log) Commit(ctx context.Context, e Entry, docs []store.DocumentWrite, events ...store.Event) error {
	j := &job{entry: e, docs: docs, events: events, done: make(chan error, 1), lead: make(chan struct{}, 1)}
	l.mu.Lock()
	l.waiting = append(l.waiting, j)
	if !l.writing {
		l.writing = true
		j.lead <- struct{}{}
	}
	l.mu.Unlock()
	select {
	case err := <-j.done:
		return err
	case <-j.lead:
		l.write(context.WithoutCancel(ctx))
		return <-j.done
	}
}

// write serves those who wait, its caller first among them, and hands on to the
// next who has come meanwhile: nobody's answer waits for the entries of others
// that came after it.
func (l *Log) write(ctx context.Context) {
	l.mu.Lock()
	n := 1
	for n < min(len(l.waiting), most) && l.waiting[0].docs == nil && l.waiting[n].docs == nil {
		n++ // what may meet a conflict of its own is committed alone
	}
	jobs := l.waiting[:n]
	l.waiting = l.waiting[n:]
	l.mu.Unlock()
	err := l.append(ctx, jobs)
	for _, j := range jobs {
		j.done <- err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		l.waiting, l.writing = nil, false
		return
	}
	l.waiting[0].lead <- struct{}{}
}

func (l *Log) append(ctx context.Context, jobs []*job) error {
	head := l.Head()
	at := l.now().UTC().Truncate(time.Millisecond)
	var b store.Batch
	for _, j := range jobs {
		e := j.entry
		e.Seq, e.At, e.Prev = head.Seq+1, at, head.Hash
		e.Who, e.Target, e.Detail = cut(e.Who), cut(e.Target), cut(e.Detail)
		e.Hash = e.Sum()
		body, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("audit: entry: %w", err)
		}
		b.Documents = append(b.Documents, store.DocumentWrite{DocumentID: store.DocumentID{Kind: kind, Key: KeyOf(e.Seq)}, Body: body})
		b.Documents = append(b.Documents, j.docs...)
		b.Events = append(b.Events, j.events...)
		head = Head{Seq: e.Seq, Hash: e.Hash}
	}
	if _, err := l.store.Commit(ctx, &b); err != nil {
		var conflict *store.ConflictError
		if errors.As(err, &conflict) && len(conflict.Documents) > 0 && conflict.Documents[0].Kind == kind {
			return fault.Wrap(err, fault.Internal, "somebody else writes the audit log")
		}
		return err
	}
	l.mu.Lock()
	l.head = head
	l.mu.Unlock()
	return nil
}

// maxText bounds a text of an entry, in bytes.
const maxText = 256

func cut(s string) string {
	s = strings.ToValidUTF8(s, "?") // as JSON would, before the hash
	for len(s) > maxText {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

// Head is the end of the chain as it is now; its Seq is 0 when there is none.
func (l *Log) Head() Head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head
}

// IsKey says whether after can be given to Page: it is "", a place, be there an entry yet or
// not, or the key of what somebody put between the places.
func (l *Log) IsKey(ctx context.Context, after string) (bool, error) {
	if _, err := placeOf(after); err == nil || after == "" {
		return true, nil
	}
	docs, err := l.store.Documents(ctx, kind, after, "", 1) // the key itself comes first of those that begin so
	return len(docs) > 0 && docs[0].Key == after, err
}

// Page gives up to limit entries behind the key after, "" for the first, in the
// order of their keys, what somebody put between the places included. Limit is 1
// to 1000; 0 means 100. KeyOf makes keys.
func (l *Log) Page(ctx context.Context, after string, limit int) ([]Entry, error) {
	docs, err := l.store.Documents(ctx, kind, "", after, limit)
	if err != nil {
		return nil, err
	}
	list := make([]Entry, len(docs))
	for i := range docs {
		list[i] = decode(docs[i])
	}
	return list, nil
}
