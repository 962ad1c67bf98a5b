package pebblestore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// lostRange is keys of a table that could not be read.
type lostRange struct {
	File string `json:"file"`
	From []byte `json:"from"`
	To   []byte `json:"to"` // the first key after it; nil: none
}

// has tells whether a part of the keys from a to b, b not included, is in it.
func (l lostRange) has(a, b []byte) bool {
	return bytes.Compare(l.From, b) < 0 && (l.To == nil || bytes.Compare(a, l.To) < 0)
}

// rebuilding makes a store anew.
//
// A store that cannot be used as it is, since its list of tables, its options, or a
// table that is not only queues' is damaged, is made anew of what can be read:
//
//	tables, merged ─┐
//	logs behind them ┴─▶ rebuild/ ─▶ write REBUILT ─▶ old files to damaged-N/ ─▶ files of rebuild/ up
//	  ─▶ Pebble opens ─▶ sessions are put right, durably ─▶ remove SALVAGE
//
// A crash before REBUILT has the next start begin anew, and one after it has it go on.
// Of a key, that is right which was written last. The list of tables would have said
// which of them are of no use any more; Pebble removes those at once, so that what a
// crash may have left of them is all that can be back.
type rebuilding struct {
	s      *Store
	fs     *files
	dir    string
	found  *salvage
	db     *pebble.DB
	batch  *pebble.Batch
	tables []*table
	ranges []deleted // by from
	active []deleted // that the merge has reached
	last   uint64    // newest message of the tables
	keys   int
	ours   bool  // the tables say the format
	alien  error // why a table cannot be read that is not damaged
}

// rebuild makes the store anew. found is what damaged logs have cost, or nil. It
// returns what was lost in all.
func (s *Store) rebuild(fs *files, found *salvage, cause error) (*salvage, error) {
	if _, err := pebble.Peek(s.dir, fs); err != nil {
		return nil, err // it is of another version, perhaps
	}
	s.log.Error("broker store: it is damaged, and made anew of what can be read", "dir", s.dir, "error", cause)
	if err := s.roomToRebuild(fs); err != nil {
		return nil, err
	}
	if found == nil {
		found = new(salvage)
	}
	found.Rebuilt = true
	r := &rebuilding{s: s, fs: fs, dir: filepath.Join(s.dir, rebuildDir), found: found}
	if err := fs.RemoveAll(r.dir); err != nil {
		return nil, err
	}
	if err := fs.MkdirAll(r.dir, 0); err != nil {
		return nil, err
	}
	if err := r.fill(); err != nil {
		return nil, errors.Join(fmt.Errorf("make the store anew: %w", err), fs.RemoveAll(r.dir)) // it may have filled the disk
	}
	aside, err := nextAside(fs, s.dir)
	if err != nil {
		return nil, err
	}
	if err := writeJSON(fs, s.dir, swapFile, swap{Aside: aside}); err != nil {
		return nil, err
	}
	s.log.Error("broker store: made anew", "keys", r.keys, "tables", len(r.tables), "lost", len(found.Ranges),
		"aside", filepath.Join(s.dir, aside))
	return found, s.finishSwap(fs)
}

// roomToRebuild tells whether the disk has room for another copy of everything.
func (s *Store) roomToRebuild(fs vfs.FS) error {
	u, err := s.disk()
	if err != nil {
		return nil // then it shows
	}
	names, err := fs.List(s.dir)
	if err != nil {
		return err
	}
	var size uint64
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".log") {
			info, err := fs.Stat(filepath.Join(s.dir, name))
			if err != nil {
				return err
			}
			size += uint64(info.Size())
		}
	}
	if size > u.AvailBytes {
		return fmt.Errorf("it is damaged, and to make it anew takes %d bytes of free space, of which there are %d; make room, and start again",
			size, u.AvailBytes)
	}
	return nil
}

// fill writes the new store. Pebble tries for ever what it does in the background: when
// that fails, it is left to the end of the process.
func (r *rebuilding) fill() error {
	o := r.s.pebbleOptions(r.fs)
	o.EventListener.DataCorruption = nil // it is told as what was lost
	o.DisableWAL = true                  // a crash has it begin anew
	failed, done := make(chan error, 1), make(chan error, 1)
	o.EventListener.BackgroundError = func(err error) {
		select {
		case failed <- err:
		default:
		}
	}
	go func() { done <- r.write(o) }()
	select {
	case err := <-done:
		return err
	case err := <-failed:
		return err
	}
}

func (r *rebuilding) write(o *pebble.Options) (err error) {
	if r.db, err = pebble.Open(r.dir, o); err != nil {
		return err
	}
	r.batch = r.db.NewBatch()
	err = errors.Join(r.openTables(o), r.put([]byte{keyFormat}, []byte(format)))
	if err == nil {
		err = r.merge()
	}
	if err == nil && !r.ours && (r.alien != nil || !r.lostFormat()) {
		err = errors.Join(errors.New("nothing says that it is a store of wilco; use another directory"), r.alien)
	}
	for _, t := range r.tables {
		_ = t.close() // what could not be read was told
	}
	if err == nil {
		err = r.addLogs()
	}
	if err == nil {
		err = errors.Join(r.apply(), r.db.Flush())
	}
	if err = errors.Join(err, r.batch.Close(), r.db.Close()); err != nil {
		return err
	}
	if err := r.fs.Remove(filepath.Join(r.dir, "LOCK")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return writeJSON(r.fs, r.dir, salvageFile, r.found)
}

// openTables begins to read all tables.
func (r *rebuilding) openTables(o *pebble.Options) error {
	paths, err := tablesOf(r.fs, r.s.dir)
	for _, path := range paths {
		lost := func(from, to []byte, err error) {
			r.s.damaged.Add(1)
			r.found.Ranges = append(r.found.Ranges, lostRange{path, bytes.Clone(from), bytes.Clone(to)})
			r.s.log.Error("broker store: a part of a table cannot be read; what was in it is lost",
				"file", path, "from", fmt.Sprintf("%q", from), "to", fmt.Sprintf("%q", to), "error", err)
		}
		t, ranges, err := openTable(r.fs, path, o.MakeReaderOptions(), lost)
		if err != nil {
			switch {
			case isSystem(err):
				return err
			case !isDamage(err):
				r.alien = err
			}
			lost(nil, nil, err)
			continue
		}
		r.tables = append(r.tables, t)
		r.ranges = append(r.ranges, ranges...)
	}
	slices.SortFunc(r.ranges, func(a, b deleted) int { return bytes.Compare(a.from, b.from) })
	return err
}

// lostFormat tells whether what cannot be read may have said the format.
func (r *rebuilding) lostFormat() bool {
	key := []byte{keyFormat}
	return len(r.tables) == 0 || slices.ContainsFunc(r.found.Ranges, func(l lostRange) bool { return l.has(key, append(key, 0)) })
}

// merge writes the newest version of each key.
func (r *rebuilding) merge() error {
	var versions []version
	for {
		var key []byte
		for _, t := range r.tables {
			if t.now.key != nil && (key == nil || bytes.Compare(t.now.key, key) < 0) {
				key = t.now.key
			}
		}
		if key == nil {
			return nil
		}
		key, versions = bytes.Clone(key), versions[:0]
		for _, t := range r.tables {
			for bytes.Equal(t.now.key, key) && t.now.key != nil {
				v := t.now
				v.key, v.value = key, bytes.Clone(v.value)
				versions = append(versions, v)
				t.next()
			}
		}
		if err := r.choose(key, versions); err != nil {
			return err
		}
	}
}

// choose writes what a key has, if it has anything.
func (r *rebuilding) choose(key []byte, versions []version) error {
	slices.SortStableFunc(versions, func(a, b version) int {
		switch {
		case a.seq > b.seq:
			return -1
		case a.seq < b.seq:
			return 1
		}
		return 0
	})
	gone := r.deletedUpTo(key)
	for _, v := range versions {
		switch {
		case v.seq < gone:
			return nil
		case v.kind == pebble.InternalKeyKindSet || v.kind == pebble.InternalKeyKindSetWithDelete:
		case v.kind == pebble.InternalKeyKindMerge && key[0] == keyMessage:
			// How many need a message is too many then: it goes with those that are
			// older than all queues. Too few would lose it.
			if len(v.value) < refsHead || v.value[0] != refsMessage {
				continue
			}
		default:
			return nil // deleted
		}
		switch key[0] {
		case keyFormat:
			if string(v.value) != format {
				return fmt.Errorf("its format is %q, not %q: another version made it", v.value, format)
			}
			r.ours = true
			return nil
		case keyLast:
			d := newDecoder(v.value)
			r.last = max(r.last, d.uint())
		case keyEntry:
			r.last = max(r.last, second(key))
		case keyMessage:
			r.last = max(r.last, number(key))
		}
		return r.put(key, v.value)
	}
	return nil
}

// deletedUpTo is the newest deletion of a range that a key is in. The keys must come in
// order.
func (r *rebuilding) deletedUpTo(key []byte) (seq uint64) {
	for len(r.ranges) > 0 && bytes.Compare(r.ranges[0].from, key) <= 0 {
		r.active = append(r.active, r.ranges[0])
		r.ranges = r.ranges[1:]
	}
	r.active = slices.DeleteFunc(r.active, func(d deleted) bool { return bytes.Compare(d.to, key) <= 0 })
	for _, d := range r.active {
		seq = max(seq, d.seq)
	}
	return seq
}

// put writes a key.
func (r *rebuilding) put(key, value []byte) error {
	r.keys++
	if err := r.batch.Set(key, value, nil); err != nil {
		return err
	}
	if r.batch.Len() < memTableSize/8 {
		return nil
	}
	return r.apply()
}

// apply writes what the batch has.
func (r *rebuilding) apply() error {
	err := r.db.Apply(r.batch, pebble.NoSync) // the tables are flushed at the end
	r.batch.Reset()
	return err
}

// addLogs writes the groups of the logs that the tables do not have. Each that appends
// says up to which message, and those before it are in the tables when it is.
func (r *rebuilding) addLogs() error {
	if err := r.apply(); err != nil {
		return err
	}
	logs, err := readLogs(r.fs, r.s.dir, true)
	if err != nil {
		return err
	}
	var groups [][]byte
	for _, l := range logs {
		for _, x := range l.records {
			if n, ok := lastOf(x.batch); ok && n <= r.last {
				groups = groups[:0]
				continue
			}
			groups = append(groups, x.batch)
		}
	}
	for _, g := range groups {
		if err := r.addGroup(g); err != nil {
			return err
		}
	}
	return nil
}

// lastOf is the highest number appended, as a group says.
func lastOf(group []byte) (n uint64, ok bool) {
	for b := batchrepr.Read(group); ; {
		kind, key, value, more, err := b.Next()
		if !more || err != nil {
			return n, ok
		}
		if kind == pebble.InternalKeyKindSet && len(key) == 1 && key[0] == keyLast {
			d := newDecoder(value)
			n, ok = d.uint(), true
		}
	}
}

// addGroup writes one group. The tables may have it already, if it appends nothing: so
// no counter is changed, and no low-water mark goes back.
func (r *rebuilding) addGroup(group []byte) error {
	b := r.db.NewBatch()
	for rd := batchrepr.Read(group); ; {
		kind, key, value, more, err := rd.Next()
		if err != nil {
			return errors.Join(err, b.Close())
		}
		if !more {
			break
		}
		switch kind {
		case pebble.InternalKeyKindSet:
			if key[0] == keyTotals && r.older(key, value) {
				continue
			}
			err = b.Set(key, value, nil)
		case pebble.InternalKeyKindDelete:
			err = b.Delete(key, nil)
		case pebble.InternalKeyKindRangeDelete:
			err = b.DeleteRange(key, value, nil)
		}
		if err != nil {
			return errors.Join(err, b.Close())
		}
		r.keys++
	}
	return errors.Join(r.db.Apply(b, pebble.NoSync), b.Close())
}

// older tells whether the store has totals with a higher low-water mark.
func (r *rebuilding) older(key, value []byte) bool {
	v, closer, err := r.db.Get(key)
	if err != nil {
		return false
	}
	defer r.s.closeQuietly(closer)
	has, err := decodeTotals(v)
	comes, err2 := decodeTotals(value)
	return err == nil && err2 == nil && comes.low < has.low
}

// unlisted tells whether the directory has messages, and nothing that says which of its
// tables count: Pebble would take it for a new one, and remove them. The list itself is
// read to its end, since Pebble takes a damaged part of it for the end.
func (s *Store) unlisted(fs vfs.FS) error {
	d, err := pebble.Peek(s.dir, fs)
	if err != nil {
		return err
	}
	if !d.Exists {
		tables, err := tablesOf(fs, s.dir)
		if err == nil && len(tables) > 0 {
			err = fmt.Errorf("%w: there are tables, and no list of them", errMalformed)
		}
		return err
	}
	f, err := fs.Open(d.ManifestFilename)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w", errMalformed, err)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	for r := record.NewReader(f, 0); ; {
		part, err := r.Next()
		if err == nil {
			_, err = io.Copy(io.Discard, part)
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil && isSystem(err):
			return err
		case err != nil:
			return fmt.Errorf("%w: %s: %w", errMalformed, d.ManifestFilename, err)
		}
	}
}
