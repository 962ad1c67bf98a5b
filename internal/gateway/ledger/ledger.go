// Package ledger is a gateway's record of former states: what was desired and
// reported of the devices behind it, what that was before, who changed it and why.
//
// It is a list of entries in segment files, one JSON document a line. Each entry
// has the SHA-256 of itself and of the entry before, so that a byte that is not as
// it was written is found ([Verify]), told with its place, and costs that entry
// and no other: the chain goes on behind it. The directory is bounded; the oldest
// segment goes first, and the chain then begins in the middle.
//
//	former-00000001.jsonl   {"seq":1,...,"prev":"","hash":"9f86..."}
//	former-00000002.jsonl   {"seq":812,...,"prev":"51ab...","hash":"03c4..."}
//
// Append is durable when it returns, whole or not at all: what a crash or a full
// disk has left of a line is cut off, and the next Append tries again. One process
// writes; a Ledger is safe for concurrent use.
package ledger

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Entry is one change. Its hash covers every other field in the JSON form that
// they have here. Stored; never change the names or their order: a new field comes
// before Prev and is left out when it is empty, so that old hashes hold.
type Entry struct {
	Seq    int64           `json:"seq"` // 1 is the first; rises without gaps
	At     time.Time       `json:"at"`
	Device string          `json:"device"`
	Side   string          `json:"side"`             // desired, reported, or rule: what a rule is about to do
	Path   string          `json:"path,omitempty"`   // of the leaf
	Former json.RawMessage `json:"former,omitempty"` // absent: there was none, or it is not known any more
	Value  json.RawMessage `json:"value,omitempty"`  // absent: it was taken away
	TID    string          `json:"tid,omitempty"`    // of the command that it came with
	By     string          `json:"by,omitempty"`
	Event  int64           `json:"event,omitempty"` // of the gateway's server, which it was read from
	Prev   string          `json:"prev"`            // hash of the entry before; "" for the first
	Hash   string          `json:"hash,omitempty"`
}

// The sides of an entry. Stored; never change.
const (
	Desired  = "desired"
	Reported = "reported"
	Rule     = "rule"
)

// Sum is the hash that the entry must have.
func (e Entry) Sum() string {
	e.Hash = ""
	b, err := json.Marshal(e)
	if err != nil {
		return "" // bytes that are no entry
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

const (
	prefix   = "former-"
	suffix   = ".jsonl"
	segments = 8 // of which the oldest goes when the ledger is full
)

// Ledger is an open ledger. Make one with Open.
type Ledger struct {
	dir string
	max int64

	mu     sync.Mutex
	file   *os.File // the last segment
	number int      // of it
	size   int64    // of it, whole entries only
	total  int64    // of all segments
	seq    int64
	head   string // hash of the last entry
	event  int64
	values map[string]json.RawMessage // by side, device and path: what stands there
}

// Open opens the ledger in dir, which is made when it is not there, and bounds it
// to about max bytes. It reads all entries. Damage is returned beside the ledger,
// which goes on all the same behind it; a torn end is cut off. The error is that
// of the disk.
func Open(dir string, max int64) (*Ledger, []Damage, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("ledger: %w", err)
	}
	l := &Ledger{dir: dir, max: max, number: 1, values: map[string]json.RawMessage{}}
	var last, whole int64
	r, err := read(dir, 1, func(e Entry) error { l.take(&e); return nil }) // nobody else writes
	if err != nil {
		return nil, nil, err
	}
	l.seq, l.head = r.Seq, r.Head
	if n := len(r.Files); n > 0 {
		l.number, last, whole = r.numbers[n-1], r.sizes[n-1], r.whole
	}
	for _, s := range r.sizes {
		l.total += s
	}
	if l.file, err = os.OpenFile(l.path(l.number), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, nil, fmt.Errorf("ledger: %w", err)
	}
	if whole < last {
		if err := l.file.Truncate(whole); err != nil {
			return nil, nil, errors.Join(fmt.Errorf("ledger: %w", err), l.file.Close())
		}
	}
	l.size, l.total = whole, l.total-last+whole
	if err := syncDir(dir); err != nil { // the file may be new
		return nil, nil, errors.Join(fmt.Errorf("ledger: %w", err), l.file.Close())
	}
	return l, r.Damage, nil
}

func (l *Ledger) path(n int) string {
	return filepath.Join(l.dir, fmt.Sprintf("%s%08d%s", prefix, n, suffix))
}

// Close closes the file.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}

// Event is that of the last entry that has one: what was read up to there.
func (l *Ledger) Event() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.event
}

// Paths lists where something stands at path or below it.
func (l *Ledger) Paths(side, device, path string) (list []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := valueKey(side, device, path)
	for key := range l.values {
		if key == from || strings.HasPrefix(key, from+".") {
			list = append(list, key[len(from)-len(path):])
		}
	}
	slices.Sort(list)
	return list
}

func valueKey(side, device, path string) string { return side + "\x00" + device + "\x00" + path }

// take notes what an entry makes of the values.
func (l *Ledger) take(e *Entry) {
	l.event = max(l.event, e.Event)
	switch key := valueKey(e.Side, e.Device, e.Path); {
	case e.Side == Rule:
	case e.Value == nil:
		delete(l.values, key)
	default:
		l.values[key] = e.Value
	}
}

// Append writes entries, durably, all or none. It gives each its Seq, Former, Prev
// and Hash; of those that change nothing it keeps only what Event says. On an
// error the ledger is as it was before, and refuses until the disk takes it.
func (l *Ledger) Append(entries []Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(entries) == 0 {
		return nil
	}
	seq, head := l.seq, l.head
	overlay := map[string]json.RawMessage{}
	var b bytes.Buffer
	for i := range entries {
		e := &entries[i]
		key := valueKey(e.Side, e.Device, e.Path)
		former, known := overlay[key]
		if !known {
			former = l.values[key]
		}
		if e.Side != Rule {
			e.Former, overlay[key] = former, e.Value
		}
		seq++
		e.Seq, e.Prev, e.At = seq, head, e.At.UTC().Truncate(time.Millisecond)
		e.Hash = e.Sum()
		head = e.Hash
		line, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("ledger: %w", err)
		}
		b.Write(append(line, '\n'))
	}
	if err := l.write(b.Bytes()); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	l.seq, l.head = seq, head
	for i := range entries {
		l.take(&entries[i])
	}
	return nil
}

// write puts whole lines behind the last whole one, in a new segment when the
// present one is full.
func (l *Ledger) write(b []byte) (err error) {
	if l.size > 0 && l.size+int64(len(b)) > l.max/segments {
		if err := l.next(); err != nil {
			return err
		}
	}
	if _, err = l.file.WriteAt(b, l.size); err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		// What was written by half must not be read as an entry; if this fails too,
		// the next write goes over it.
		return errors.Join(err, l.file.Truncate(l.size))
	}
	l.size += int64(len(b))
	l.total += int64(len(b))
	return nil
}

// next begins a segment, and takes away the oldest ones that there is no room for.
func (l *Ledger) next() error {
	f, err := os.OpenFile(l.path(l.number+1), os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_ = l.file.Close() // all of it is synced
	l.file, l.size = f, 0
	l.number++
	files, numbers, err := list(l.dir)
	if err != nil {
		return err
	}
	for i, file := range files {
		if l.total <= l.max-l.max/segments || numbers[i] == l.number {
			break
		}
		info, err := os.Stat(file)
		if err == nil {
			err = os.Remove(file)
		}
		if err != nil {
			return err
		}
		l.total -= info.Size()
	}
	return syncDir(l.dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// list gives the segments in their order.
func list(dir string) (files []string, numbers []int, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries { // sorted by name
		var n int
		if _, err := fmt.Sscanf(e.Name(), prefix+"%08d"+suffix, &n); err == nil && strings.HasSuffix(e.Name(), suffix) {
			files, numbers = append(files, filepath.Join(dir, e.Name())), append(numbers, n)
		}
	}
	return files, numbers, nil
}

// Damage is a place that is not as it was written.
type Damage struct {
	File string `json:"file"`
	Line int    `json:"line"` // 1 is the first
	Seq  int64  `json:"seq"`  // of the entry that should be there
	What string `json:"what"`
}

func (d Damage) String() string {
	return fmt.Sprintf("%s:%d: entry %d %s", filepath.Base(d.File), d.Line, d.Seq, d.What)
}

// Report is what Read has found.
type Report struct {
	Files   []string
	First   int64 // seq of the first good entry; 0: there is none
	Seq     int64 // of the last
	Head    string
	Entries int // good ones
	Damage  []Damage

	numbers []int
	sizes   []int64
	whole   int64 // bytes of whole lines in the last file
}

// Read reads the ledger in dir and gives each entry that can be trusted to f, in
// their order. It changes nothing, and may be called while somebody writes: a
// segment that goes meanwhile is left out, and a torn end is damage only if nobody
// writes on. An error of f, or of the disk, ends it.
func Read(dir string, f func(Entry) error) (Report, error) { return read(dir, tornLooks, f) }

// read is Read; a last line that is not whole is looked at so often.
func read(dir string, looks int, f func(Entry) error) (Report, error) {
	files, numbers, err := list(dir)
	if err != nil {
		return Report{}, fmt.Errorf("ledger: %w", err)
	}
	r := Report{Files: files, numbers: numbers}
	sound := true // the entry before can be trusted
	for i, file := range files {
		b, err := readSegment(file, looks)
		if errors.Is(err, fs.ErrNotExist) { // the oldest goes when there is no room for it
			r.sizes, sound = append(r.sizes, 0), false
			continue
		}
		if err != nil {
			return r, fmt.Errorf("ledger: %w", err)
		}
		r.sizes, r.whole = append(r.sizes, int64(len(b))), 0
		in := bufio.NewReaderSize(bytes.NewReader(b), 64<<10)
		for line := 1; ; line++ {
			text, err := in.ReadBytes('\n')
			if err != nil {
				if len(text) > 0 && errors.Is(err, io.EOF) {
					r.damage(file, line, "is torn: its end is missing")
					sound = i < len(files)-1 && sound
				}
				break
			}
			r.whole += int64(len(text))
			e, wrong := r.check(text, sound)
			if wrong != "" {
				r.damage(file, line, wrong)
				r.Seq++
				sound = false
				continue
			}
			sound = true
			r.Seq, r.Head = e.Seq, e.Hash
			if r.First == 0 {
				r.First = e.Seq
			}
			r.Entries++
			if err := f(e); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

// How long an end that is torn may be that of an entry that is being written.
const (
	tornLooks = 5
	tornPause = 20 * time.Millisecond
)

// readSegment reads a file, again for a while when its last line is not whole.
func readSegment(file string, looks int) ([]byte, error) {
	for look := 1; ; look++ {
		b, err := os.ReadFile(file)
		if err != nil || len(b) == 0 || b[len(b)-1] == '\n' || look == looks {
			return b, err
		}
		time.Sleep(tornPause)
	}
}

func (r *Report) damage(file string, line int, what string) {
	r.Damage = append(r.Damage, Damage{File: file, Line: line, Seq: r.Seq + 1, What: what})
}

// check reads one line; wrong says why it cannot be trusted.
func (r *Report) check(line []byte, sound bool) (e Entry, wrong string) {
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil || dec.More() {
		return e, "cannot be read"
	}
	again, err := json.Marshal(e)
	first := r.Seq == 0
	switch {
	case e.Hash == "" || e.Sum() != e.Hash || err != nil || !slices.Equal(append(again, '\n'), line):
		return e, "is not what was written: its hash is another"
	case !first && (e.Seq <= r.Seq || sound && e.Seq > r.Seq+1): // damage may have joined lines
		return e, fmt.Sprintf("is not the next one: it says that it is entry %d", e.Seq)
	case !first && sound && e.Prev != r.Head:
		return e, "does not follow from the entry before"
	}
	return e, ""
}

// Verify reads the whole ledger in dir and reports what cannot be trusted.
func Verify(dir string) (Report, error) { return Read(dir, func(Entry) error { return nil }) }
