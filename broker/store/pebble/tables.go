package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"math/big"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// version is a key as one table has it. key and value are valid until the table's next.
type version struct {
	key   []byte
	seq   uint64 // Pebble's, of the batch that wrote it; 0 when nothing older can be
	kind  pebble.InternalKeyKind
	value []byte
}

// table reads all of one table, without the list of files that says what it is for.
type table struct {
	path string
	r    *sstable.Reader
	it   sstable.Iterator
	now  version
	last []byte // key read last
	lost func(from, to []byte, err error)
}

// deleted is a range that was deleted at seq.
type deleted struct {
	from, to []byte
	seq      uint64
}

// openTable begins to read a table. lost is told of each range of keys, from included
// and to not, of which a part cannot be read; to is nil for all that follow. An error
// says that nothing can be read.
func openTable(fs vfs.FS, path string, o sstable.ReaderOptions, lost func(from, to []byte, err error)) (*table, []deleted, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, nil, err
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	t := &table{path: path, lost: lost}
	if t.r, err = sstable.NewReader(context.Background(), readable, o); err != nil {
		return nil, nil, err // which has closed it
	}
	ranges, err := t.deletions()
	if err != nil {
		lost(nil, nil, err) // what they have deleted may be back
	}
	t.begin(nil)
	return t, ranges, nil
}

// deletions reads the ranges that the table deletes.
func (t *table) deletions() (list []deleted, err error) {
	it, err := t.r.NewRawRangeDelIter(context.Background(), sstable.NoFragmentTransforms, sstable.NoReadEnv)
	if err != nil || it == nil {
		return nil, err
	}
	defer it.Close()
	span, err := it.First()
	for ; span != nil && err == nil; span, err = it.Next() {
		for _, k := range span.Keys {
			list = append(list, deleted{bytes.Clone(span.Start), bytes.Clone(span.End), uint64(k.SeqNum())})
		}
	}
	return list, err
}

// begin reads on from a key, and behind what is damaged there.
func (t *table) begin(from []byte) {
	for {
		err := t.seek(from)
		if err == nil {
			return
		}
		next := t.beyond(from)
		t.lost(from, next, err)
		if next == nil {
			t.now.key = nil
			return
		}
		from = next
	}
}

// seek reads the first key from a place on; after the last one, now has no key.
func (t *table) seek(from []byte) error {
	if t.it != nil {
		_ = t.it.Close() // of an error that was seen
	}
	var err error
	if t.it, err = t.r.NewIter(sstable.NoTransforms, from, nil, sstable.AssertNoBlobHandles); err != nil {
		t.it = nil
		return err
	}
	return t.step(true)
}

// step makes now of the first key, or the next.
func (t *table) step(first bool) error {
	move := t.it.Next
	if first {
		move = t.it.First
	}
	t.now = version{}
	kv := move()
	if kv == nil {
		return t.it.Error()
	}
	v, _, err := kv.Value(nil)
	if err != nil {
		return err
	}
	t.now = version{key: kv.K.UserKey, seq: uint64(kv.K.SeqNum()), kind: kv.K.Kind(), value: v}
	return nil
}

// next reads the next version.
func (t *table) next() {
	t.last = append(t.last[:0], t.now.key...)
	if t.step(false) != nil {
		t.begin(append(bytes.Clone(t.last), 0)) // older versions of that key are of no use
	}
}

// keyReach is how many bytes of a key are told apart in the search for where a table can
// be read again: names that are the same for longer may go with the block before them.
const keyReach = 40

// beyond finds the first place behind from, where nothing can be read, from which the
// table can be read: ever larger steps until one succeeds, then by halves back. It
// returns nil when there is none.
func (t *table) beyond(from []byte) []byte {
	low := keyNumber(from)
	one := big.NewInt(1)
	end := new(big.Int).Lsh(one, 8*keyReach)
	end.Sub(end, one)
	step, high := big.NewInt(1), new(big.Int)
	for {
		if high.Add(low, step); high.Cmp(end) > 0 {
			high.Set(end)
		}
		if t.seek(keyOf(high)) == nil {
			break
		}
		if high.Cmp(end) == 0 {
			return nil
		}
		low.Set(high)
		step.Lsh(step, 4)
	}
	for gap := new(big.Int).Sub(high, low); gap.Cmp(one) > 0; gap.Sub(high, low) {
		if mid := gap.Add(low, gap.Rsh(gap, 1)); t.seek(keyOf(mid)) == nil {
			high.Set(mid)
		} else {
			low.Set(mid)
		}
	}
	return keyOf(high)
}

// keyNumber is the first bytes of a key as a number.
func keyNumber(key []byte) *big.Int {
	var b [keyReach]byte
	copy(b[:], key)
	return new(big.Int).SetBytes(b[:])
}

// keyOf is the first key of that number.
func keyOf(n *big.Int) []byte {
	var b [keyReach]byte
	return bytes.TrimRight(n.FillBytes(b[:]), "\x00")
}

func (t *table) close() error {
	var err error
	if t.it != nil {
		err = t.it.Close()
	}
	return errors.Join(err, t.r.Close())
}

// tablesOf lists the tables in dir.
func tablesOf(fs vfs.FS, dir string) (paths []string, err error) {
	names, err := fs.List(dir)
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") {
			paths = append(paths, filepath.Join(dir, name))
		}
	}
	slices.Sort(paths)
	return paths, err
}
