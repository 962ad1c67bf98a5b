package client

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Record is one unacknowledged publish with QoS 1 or 2.
type Record struct {
	Seq      uint64 // place in the order of publishing; never reused, not a time
	PacketID uint16 // 0: never sent
	Released bool   // QoS 2: PUBREC has come, PUBREL is due
	Message  Message
	Expires  time.Time // zero: never; Message.Expiry is not kept
}

// Store keeps the outgoing half of a session, so that another process can
// resume it. The client serialises all calls. Add, Mark and Remove are called
// while the client is locked: they should only hand bytes to the system. Sync
// is called before the packets that rely on them are written to the network,
// once for a whole batch, and may be slow.
//
// After an error of Add the message is refused. After an error of another
// method the connection is closed, and tried again with back-off: what the
// store does not know does not leave.
type Store interface {
	// Load returns all records in rising order of Seq.
	Load() ([]Record, error)
	// Add keeps a new record, whose Seq is above all before it. It must not
	// keep the message's slices after the record is removed.
	Add(Record) error
	// Mark sets PacketID and Released of a record.
	Mark(seq uint64, packetID uint16, released bool) error
	// Remove forgets a record; it is no error if there is none.
	Remove(seq uint64) error
	// Sync makes everything so far as durable as the store makes it.
	Sync() error
}

// MemoryStore is a Store that lives as long as the process: it lets a second
// Client continue where a first one stopped. The zero value is ready. It is
// safe for concurrent use, but one Client at a time may use it.
type MemoryStore struct {
	mu      sync.Mutex
	records map[uint64]Record
}

// Load returns the records in order.
func (s *MemoryStore) Load() ([]Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Record, 0, len(s.records))
	for _, r := range s.records {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Record) int { return cmp.Compare(a.Seq, b.Seq) })
	return all, nil
}

// Add never fails.
func (s *MemoryStore) Add(r Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.records == nil {
		s.records = make(map[uint64]Record)
	}
	s.records[r.Seq] = r
	return nil
}

// Mark never fails.
func (s *MemoryStore) Mark(seq uint64, packetID uint16, released bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.records[seq]; ok {
		r.PacketID, r.Released = packetID, released
		s.records[seq] = r
	}
	return nil
}

// Remove never fails.
func (s *MemoryStore) Remove(seq uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.records, seq)
	return nil
}

// Sync does nothing.
func (s *MemoryStore) Sync() error { return nil }
