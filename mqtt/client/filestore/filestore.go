// Package filestore keeps the outgoing session state of an MQTT client in a
// file, so that publishes which the server has not acknowledged survive the
// process.
//
// The file is a log. Each entry is
//
//	length uint32 | CRC-32C of these four bytes | CRC-32C of the body | body
//	body: kind byte | seq uvarint | what the kind needs
//
// in little-endian order, after a header of eight bytes. Add appends a whole
// message, Mark and Remove a few bytes about one. AddFrom is an Add that says in the
// same entry where the message has come from, for who takes it over from another
// queue and must know after a crash whether it has. Open replays the log. When
// more of it is dead than alive, what lives is copied to a new file, which takes
// the old one's name after an fsync.
//
// A last entry that is cut short or damaged, or one behind which the file has only
// zeros, is what a crash in a write leaves: Open drops it, nothing that was synced
// is in it. Damage before that is not guessed at: Open returns ErrCorrupt and leaves
// the file as it is.
//
// One process at a time may use a file.
package filestore

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/wilco-iot/wilco/mqtt/client"
)

// ErrCorrupt is returned by Open when the file is damaged before its end, or is
// no file of this package.
var ErrCorrupt = errors.New("filestore: the file is damaged")

const (
	magic     = "wilcoq1\n" // stored; never change
	prefix    = 12          // bytes before a body
	maxBody   = 300 << 20   // above the largest MQTT packet
	compactAt = 1 << 20     // a smaller file is never compacted
)

// Kinds of entries. Stored; never change.
const (
	kindAdd    = 1
	kindMark   = 2
	kindRemove = 3
	kindFrom   = 4 // source, place, then the body of an Add
	kindPlace  = 5 // source, place: what is left of kindFrom in a compacted file
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Options of a Store.
type Options struct {
	// NoFsync leaves it to the system when the file reaches the disk: a crash
	// of the process loses nothing, a power cut may.
	NoFsync bool
}

// Store implements client.Store. It is safe for concurrent use.
//
// Add reaches the system before it returns. Mark and Remove wait in memory for
// the next Add or Sync: to lose them costs a repetition, never a message.
type Store struct {
	mu      sync.Mutex
	path    string
	file    *os.File
	options Options
	size    int64 // of the file
	alive   int64 // bytes of it that are entries of live records
	pending []byte
	dirty   bool // something was written since the last fsync
	live    map[uint64]place
	places  map[string]uint64
	broken  error // the file could not be brought back to a whole end; everything after it is refused
}

// place is where the Add entry of a live record is.
type place struct {
	at, size int64
	id       uint16
	released bool
}

var _ client.Store = (*Store)(nil)

// Open opens or creates the file at path, with mode 0600. What it finds is durable then:
// a process that was killed may have left it to the system.
func Open(path string, options Options) (*Store, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("filestore: %w", err)
	}
	s := &Store{path: path, file: f, options: options, live: make(map[uint64]place), places: make(map[string]uint64)}
	if err := s.replay(); err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

// replay reads the log, and cuts off what a crash left at its end.
func (s *Store) replay() error {
	info, err := s.file.Stat()
	if err != nil {
		return fmt.Errorf("filestore: %w", err)
	}
	end := info.Size()
	r := bufio.NewReaderSize(io.NewSectionReader(s.file, 0, end), 64<<10)
	head := make([]byte, len(magic))
	n, err := io.ReadFull(r, head)
	switch {
	case err == nil && string(head) == magic:
		s.size = int64(len(magic))
	case err != nil && string(head[:n]) == magic[:n]: // new, or cut short at birth
		return s.begin()
	default:
		return fmt.Errorf("%w: it begins with something else", ErrCorrupt)
	}
	for s.size < end {
		body, err := readEntry(r, end-s.size)
		if errors.Is(err, errTorn) {
			break
		}
		if err == nil {
			err = s.apply(body, s.size)
		}
		if err != nil {
			return fmt.Errorf("%w: entry at %d: %w", ErrCorrupt, s.size, err)
		}
		s.size += int64(prefix + len(body))
	}
	if s.size < end {
		if err := s.file.Truncate(s.size); err != nil {
			return fmt.Errorf("filestore: cut off the torn end: %w", err)
		}
	}
	if err := s.fsync(s.file); err != nil {
		return fmt.Errorf("filestore: %w", err)
	}
	return nil
}

// begin writes the header of an empty file.
func (s *Store) begin() error {
	if err := s.file.Truncate(0); err != nil {
		return fmt.Errorf("filestore: %w", err)
	}
	if _, err := s.file.WriteAt([]byte(magic), 0); err != nil {
		return fmt.Errorf("filestore: %w", err)
	}
	s.size = int64(len(magic))
	if err := s.fsync(s.file); err != nil {
		return err
	}
	return s.syncDirectory()
}

var (
	errTorn = errors.New("cut short")
	errBody = errors.New("it cannot be read")
)

// readEntry reads one entry of a file of which rest bytes are left. errTorn
// means that the entry is the last one, and was not written whole: a file may have
// grown before the bytes arrived, and then has zeros in their place.
func readEntry(r *bufio.Reader, rest int64) ([]byte, error) {
	if rest < prefix {
		return nil, errTorn
	}
	var head [prefix]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	// The length has a checksum of its own: else one flipped bit of it, which
	// makes the entry reach past the end, would look like a torn write.
	if crc32.Checksum(head[:4], castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
		if zeros(r) {
			return nil, errTorn
		}
		return nil, errors.New("wrong checksum of its length")
	}
	size := int64(binary.LittleEndian.Uint32(head[:]))
	if size == 0 || size > maxBody {
		return nil, errBody
	}
	if prefix+size > rest {
		return nil, errTorn
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(head[8:]) {
		if zeros(r) {
			return nil, errTorn
		}
		return nil, errors.New("wrong checksum")
	}
	return body, nil
}

func zeros(r io.Reader) bool {
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		if bytes.Count(buf[:n], []byte{0}) != n {
			return false
		}
		if err != nil {
			return err == io.EOF
		}
	}
}

// apply notes what an entry at a place in the file says.
func (s *Store) apply(body []byte, at int64) error {
	size := int64(prefix + len(body))
	if body[0] == kindFrom || body[0] == kindPlace {
		source, place, rest, err := readPlace(body)
		if err != nil {
			return err
		}
		s.places[source] = max(s.places[source], place)
		if body[0] == kindPlace {
			return nil
		}
		body = rest
	}
	d := decoder{b: body[1:]}
	seq := d.uvarint()
	switch body[0] {
	case kindAdd:
		s.live[seq] = place{at: at, size: size}
		s.alive += size
	case kindMark:
		id, released := uint16(d.uvarint()), d.uvarint() == 1
		s.mark(seq, id, released)
	case kindRemove:
		s.forget(seq)
	default:
		return errBody
	}
	return d.err
}

func (s *Store) mark(seq uint64, id uint16, released bool) {
	if p, ok := s.live[seq]; ok {
		p.id, p.released = id, released
		s.live[seq] = p
	}
}

func (s *Store) forget(seq uint64) {
	s.alive -= s.live[seq].size
	delete(s.live, seq)
}

// Load returns all records in rising order of Seq.
func (s *Store) Load() ([]client.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.flush(); err != nil {
		return nil, err
	}
	records := make([]client.Record, 0, len(s.live))
	for _, seq := range s.order() {
		p := s.live[seq]
		entry := make([]byte, p.size)
		if _, err := s.file.ReadAt(entry, p.at); err != nil {
			return nil, fmt.Errorf("filestore: %w", err)
		}
		r, err := readRecord(entry[prefix:])
		if err != nil {
			return nil, fmt.Errorf("%w: record %d: %w", ErrCorrupt, seq, err)
		}
		r.PacketID, r.Released = p.id, p.released
		records = append(records, r)
	}
	return records, nil
}

func (s *Store) order() []uint64 {
	seqs := make([]uint64, 0, len(s.live))
	for seq := range s.live {
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	return seqs
}

// Add appends a record and hands it to the system.
func (s *Store) Add(r client.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.add(open(s.pending), &r)
}

// AddFrom is Add, and makes place the one that Place gives for the source, in one: a
// crash leaves both or none.
func (s *Store) AddFrom(r client.Record, source string, place uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.add(appendPlace(append(open(s.pending), kindFrom), source, place), &r); err != nil {
		return err
	}
	s.places[source] = max(s.places[source], place)
	return nil
}

// Place is the highest place that AddFrom was given for a source, 0 for none.
func (s *Store) Place(source string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.places[source]
}

// add writes what waits, and r behind what b has more than that.
func (s *Store) add(b []byte, r *client.Record) error {
	at := s.size + int64(len(s.pending))
	before := len(s.pending)
	s.pending = seal(appendRecord(b, r), before)
	size := int64(len(s.pending) - before)
	if err := s.flush(); err != nil {
		s.pending = s.pending[:before]
		return err
	}
	s.live[r.Seq] = place{at: at, size: size, id: r.PacketID, released: r.Released}
	s.alive += size
	if r.PacketID != 0 {
		s.appendMark(r.Seq, r.PacketID, r.Released)
	}
	return nil
}

// Mark notes how far the handshake of a record has come.
func (s *Store) Mark(seq uint64, packetID uint16, released bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mark(seq, packetID, released)
	s.appendMark(seq, packetID, released)
	return s.broken
}

func (s *Store) appendMark(seq uint64, id uint16, released bool) {
	before := len(s.pending)
	b := binary.AppendUvarint(append(open(s.pending), kindMark), seq)
	b = binary.AppendUvarint(b, uint64(id))
	s.pending = seal(binary.AppendUvarint(b, flag(released)), before)
}

// Remove forgets a record, and compacts the file when that is worth it.
func (s *Store) Remove(seq uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(seq)
	before := len(s.pending)
	s.pending = seal(binary.AppendUvarint(append(open(s.pending), kindRemove), seq), before)
	return s.broken
}

// Sync writes what waits and, unless NoFsync is set, brings it to the disk.
func (s *Store) Sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.flush(); err != nil {
		return err
	}
	if s.size > compactAt && s.size > 2*s.alive {
		if err := s.compact(); err == nil || s.broken != nil {
			return err
		}
	}
	if !s.dirty {
		return nil
	}
	s.dirty = false
	return s.keepError(s.fsync(s.file))
}

// Close syncs and closes the file. The store must not be used afterwards.
func (s *Store) Close() error {
	err := s.Sync()
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(err, s.file.Close())
}

func (s *Store) flush() error {
	if s.broken != nil || len(s.pending) == 0 {
		return s.broken
	}
	if _, err := s.file.WriteAt(s.pending, s.size); err != nil {
		// A full disk may have room again. What was written in part goes, or what
		// is appended next would be behind half an entry.
		if cut := s.file.Truncate(s.size); cut != nil {
			return s.keepError(errors.Join(err, cut))
		}
		return fmt.Errorf("filestore: %w", err)
	}
	s.size += int64(len(s.pending))
	s.pending, s.dirty = s.pending[:0], true
	return nil
}

// keepError makes an error final, after which nobody knows what the file has.
func (s *Store) keepError(err error) error {
	if err != nil && s.broken == nil {
		s.broken = fmt.Errorf("filestore: %w", err)
	}
	return s.broken
}

func (s *Store) fsync(f *os.File) error {
	if s.options.NoFsync {
		return nil
	}
	return f.Sync()
}

// syncDirectory makes a new name durable.
func (s *Store) syncDirectory() error {
	d, err := os.Open(filepath.Dir(s.path))
	if err != nil {
		return fmt.Errorf("filestore: %w", err)
	}
	defer d.Close()
	return s.fsync(d)
}

// compact writes the live records to a new file and puts it in the place of the
// old one. A crash before the rename leaves the old file as it was.
func (s *Store) compact() error {
	temporary := s.path + ".new"
	f, err := os.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("filestore: %w", err)
	}
	live, size, err := s.copyLive(f)
	if err == nil {
		err = s.fsync(f)
	}
	if err == nil {
		err = os.Rename(temporary, s.path)
	}
	if err != nil {
		f.Close()
		os.Remove(temporary) // it may be what has filled the disk; the old file goes on
		return fmt.Errorf("filestore: %w", err)
	}
	s.file.Close()
	s.file, s.live, s.size, s.dirty = f, live, size, false
	s.alive = 0
	for _, p := range live {
		s.alive += p.size
	}
	return s.keepError(s.syncDirectory())
}

func (s *Store) copyLive(f *os.File) (live map[uint64]place, size int64, err error) {
	w := bufio.NewWriterSize(f, 64<<10)
	w.WriteString(magic) // an error of w stays, and Flush returns it
	size = int64(len(magic))
	live = make(map[uint64]place, len(s.live))
	for source, at := range s.places {
		n, _ := w.Write(seal(appendPlace(append(open(nil), kindPlace), source, at), 0))
		size += int64(n)
	}
	for _, seq := range s.order() {
		p := s.live[seq]
		if _, err := io.Copy(w, io.NewSectionReader(s.file, p.at, p.size)); err != nil {
			return nil, 0, err
		}
		p.at = size
		size += p.size
		live[seq] = p
		if p.id != 0 {
			b := binary.AppendUvarint(append(open(nil), kindMark), seq)
			b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(p.id)), flag(p.released))
			n, _ := w.Write(seal(b, 0))
			size += int64(n)
		}
	}
	return live, size, w.Flush()
}
