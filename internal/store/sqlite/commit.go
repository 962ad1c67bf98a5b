package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	codes "modernc.org/sqlite/lib"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/store"
)

// batch is a store.Batch encoded by its caller, so that the writer does not
// have to and the caller may change its batch even when it has stopped waiting.
type batch struct {
	commands  []commandRow
	documents []store.DocumentWrite
	presence  []store.Presence
	anomalies []anomalyRow
	events    []eventBlock
}

type commandRow struct {
	tid                       command.TID
	device, name, requestedBy string
	key, digest               string
	group                     string
	created, wake, ended      int64
	version, was              int64
	priority                  int64
	interlocked               bool
	open                      bool
	state                     command.State
	doc                       []byte
}

type anomalyRow struct {
	device string
	body   []byte
}

type endKey struct {
	group string
	state command.State
}

// Commit writes the batch as package store says, and returns the ID of the last
// event written so far: those of the batch are the last ones up to it. It blocks
// until the batch is durable or refused. An empty batch costs nothing.
func (s *Store) Commit(ctx context.Context, b *store.Batch) (lastEvent int64, err error) {
	if b.Empty() {
		return s.lastEvent.Load(), nil
	}
	e, err := encode(b)
	if err != nil {
		return 0, fmt.Errorf("store: encode batch: %w", err)
	}
	return s.submit(ctx, e)
}

func encode(b *store.Batch) (*batch, error) {
	e := &batch{presence: slices.Clone(b.Presence), events: packEvents(b.Events)}
	if len(b.Commands) > 0 {
		e.commands = make([]commandRow, len(b.Commands))
	}
	for i := range b.Commands {
		if err := e.commands[i].encode(&b.Commands[i]); err != nil {
			return nil, err
		}
	}
	if len(b.Documents) > 0 {
		var err error
		if e.documents, err = copyDocuments(b.Documents); err != nil {
			return nil, err
		}
	}
	for i := range b.Anomalies {
		body, err := json.Marshal(&b.Anomalies[i])
		if err != nil {
			return nil, err
		}
		e.anomalies = append(e.anomalies, anomalyRow{b.Anomalies[i].Device.String(), body})
	}
	return e, nil
}

func (r *commandRow) encode(w *store.CommandWrite) error {
	c := &w.Command
	doc, err := packCommand(make([]byte, 0, 256+80*len(c.Timeline)+len(c.Params)+len(c.Result)+len(c.DeviceState)), c)
	if err != nil {
		return fmt.Errorf("command %s: %w", c.TID, err)
	}
	*r = commandRow{
		tid: c.TID, device: c.Device.String(), group: c.Device.Group, name: c.Name, requestedBy: c.RequestedBy,
		key: c.Key, digest: c.Digest, created: c.Created.UnixMilli(), wake: millis(c.Wake), ended: millis(c.Ended),
		version: c.Version, was: w.Was, open: !c.Final(), state: c.State, doc: doc, priority: int64(c.Priority()),
		interlocked: c.Interlocked(),
	}
	return nil
}

func (b *batch) rows() int {
	return len(b.commands) + len(b.documents) + len(b.presence) + len(b.anomalies) + len(b.events)
}

// apply writes the batch. Without care it finds out about a conflict when it
// may have written already, and asks for the whole transaction to be repeated.
func (b *batch) apply(t *tx) error {
	if t.careful {
		if err := b.compare(t); err != nil {
			return err
		}
	}
	for i := range b.commands {
		if err := t.swap(&b.commands[i]); err != nil {
			return err
		}
	}
	for i := range b.documents {
		if err := t.putDocument(&b.documents[i]); err != nil {
			return err
		}
	}
	for i := range b.presence {
		if err := t.putPresence(&b.presence[i]); err != nil {
			return err
		}
	}
	for i := range b.anomalies {
		if err := t.putAnomaly(&b.anomalies[i]); err != nil {
			return err
		}
	}
	for _, e := range b.events {
		t.addEvents(e)
	}
	return nil
}

// compare refuses the batch when anything is not as it expects. A row sees
// what the rows before it in the batch will have written.
func (b *batch) compare(t *tx) error {
	var culprits []command.TID
	versions := make(map[command.TID]int64, len(b.commands))
	keys := map[[2]string]bool{}
	for i := range b.commands {
		r := &b.commands[i]
		version, known := versions[r.tid]
		if !known {
			var err error
			version, err = t.number(context.Background(), "SELECT version FROM commands WHERE tid = ?", r.tid[:])
			if err != nil {
				return err
			}
		}
		ok := version == r.was
		if ok && r.was == 0 && r.key != "" {
			taken, err := t.number(context.Background(), "SELECT 1 FROM commands WHERE device = ? AND key = ?", r.device, r.key)
			if err != nil {
				return err
			}
			k := [2]string{r.device, r.key}
			ok = taken == 0 && !keys[k]
			keys[k] = true
		}
		if ok {
			version = r.version
		} else if !slices.Contains(culprits, r.tid) {
			culprits = append(culprits, r.tid)
		}
		versions[r.tid] = version
	}
	documents, err := b.compareDocuments(t)
	if err != nil {
		return err
	}
	if culprits != nil || documents != nil {
		return refusal{&store.ConflictError{TIDs: culprits, Documents: documents}}
	}
	return nil
}

// swap writes one command in place of the version that it expects.
func (t *tx) swap(r *commandRow) error {
	switch {
	case r.was == 0:
		return t.insert(r)
	case t.careful:
		return t.overwrite(r)
	case r.open:
		n, err := t.exec(`UPDATE commands SET version = ?, state = ?, wake = ?, doc = ?
			WHERE tid = ? AND version = ? AND open = 1`,
			r.version, string(r.state), r.wake, r.doc, r.tid[:], r.was)
		if err == nil && n == 0 {
			err = errSurprise
		}
		return err
	}
	n, err := t.exec(`UPDATE commands SET version = ?, open = 0, state = ?, wake = ?, ended = ?, doc = ?
		WHERE tid = ? AND version = ? AND open = 1`,
		r.version, string(r.state), r.wake, r.ended, r.doc, r.tid[:], r.was)
	if err == nil && n == 0 {
		return errSurprise // a conflict, or it had ended before: what is new may be an anomaly
	}
	t.count(r.group, r.state, 1)
	return err
}

// overwrite is swap for a row of which nothing is known but that it fits.
func (t *tx) overwrite(r *commandRow) error {
	_, err := t.one(context.Background(), func(v []driver.Value) error {
		if v[0].(int64) == 0 {
			t.count(r.group, command.State(v[1].(string)), -1)
		}
		return nil
	}, "SELECT open, state FROM commands WHERE tid = ?", r.tid[:])
	if err != nil {
		return err
	}
	if !r.open {
		t.count(r.group, r.state, 1)
	}
	_, err = t.exec(`UPDATE commands SET version = ?, open = ?, state = ?, wake = ?, ended = ?, doc = ? WHERE tid = ?`,
		r.version, flag(r.open), string(r.state), r.wake, r.ended, r.doc, r.tid[:])
	return err
}

func (t *tx) insert(r *commandRow) error {
	var key, digest driver.Value
	if r.key != "" {
		key, digest = r.key, r.digest
	}
	_, err := t.exec(`INSERT INTO commands
		(tid, device, name, requested_by, created, key, digest, version, open, state, wake, ended, doc, priority, interlocked)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		r.tid[:], r.device, r.name, r.requestedBy, r.created, key, digest,
		r.version, flag(r.open), string(r.state), r.wake, r.ended, r.doc, r.priority, flag(r.interlocked))
	if isCode(err, codes.SQLITE_CONSTRAINT) && !t.careful {
		return errSurprise
	}
	if err != nil {
		return err
	}
	if !r.open {
		t.count(r.group, r.state, 1)
	}
	return t.list(r)
}

// count notes that n commands of a group have ended in state s.
func (t *tx) count(group string, s command.State, n int64) {
	if t.ended == nil {
		t.ended = map[endKey]int64{}
	}
	t.ended[endKey{group, s}] += n
}

func (t *tx) writeEnded() error {
	for k, n := range t.ended {
		_, err := t.exec(`INSERT INTO ended (grp, state, n) VALUES (?, ?, ?)
			ON CONFLICT DO UPDATE SET n = n + excluded.n`, k.group, string(k.state), n)
		if err != nil {
			return err
		}
	}
	return nil
}

// putPresence writes what a device last said; an unregistered device has no row
// and is passed over.
func (t *tx) putPresence(p *store.Presence) error {
	var commands []byte
	if len(p.Commands) > 0 {
		var err error
		if commands, err = json.Marshal(p.Commands); err != nil {
			return err
		}
	}
	_, err := t.exec(`UPDATE devices SET known = ?, online = ?, boot = ?, firmware = ?, since = ?, seen = ?, commands = ? WHERE address = ?`,
		flag(p.Known), flag(p.Online), p.Boot, p.Firmware, millis(p.Since), millis(p.Seen), string(commands), p.Device.String())
	return err
}

// putAnomaly keeps an anomaly in the place of the oldest one; those of
// unregistered devices are passed over.
func (t *tx) putAnomaly(a *anomalyRow) error {
	n, err := t.number(context.Background(), `UPDATE devices SET anomalies = anomalies + 1 WHERE address = ? RETURNING anomalies`, a.device)
	if err != nil || n == 0 {
		return err
	}
	_, err = t.exec(`INSERT OR REPLACE INTO anomalies (device, slot, number, body) VALUES (?, ?, ?, ?)`,
		a.device, n%store.AnomaliesKept, n, a.body)
	return err
}

// millis is how times are stored: milliseconds since 1970, 0 for the zero time.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// instant is the time that millis has stored.
func instant(v driver.Value) time.Time {
	if ms, _ := v.(int64); ms != 0 {
		return time.UnixMilli(ms).UTC()
	}
	return time.Time{}
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// groupRange is the range of device addresses of a group: "g/" to "g0", the
// character after the slash.
func groupRange(group string) (from, to string) { return group + "/", group + "0" }
