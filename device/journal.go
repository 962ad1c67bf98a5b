package device

import (
	"bytes"
	"errors"
	"slices"
	"sync"
)

// Journal is where a device writes down what it is about to do before it does
// it. It keeps records in their order and does not look into them. One Run at a
// time uses a Journal, and calls it from one goroutine.
type Journal interface {
	// Load returns all records in the order in which they were appended.
	Load() ([][]byte, error)
	// Append adds records in one go and returns when they are durable. After a
	// crash in between, any number of the first of them may be there. After an
	// error the journal is not used again.
	Append(records ...[]byte) error
	// Replace puts other records in the place of all. After a crash in between,
	// either the old ones or the new ones are there.
	Replace(records [][]byte) error
	Close() error
}

// ErrJournal is matched by errors of Run that come from the journal: the device
// has stopped because it could not write down what it would do, or could not
// read what it had done.
var ErrJournal = errors.New("device: journal")

// MemoryJournal is a Journal in memory, for tests and simulations: it survives
// when a simulated device reboots and the next one is given the same journal.
// The zero value is ready. It is safe for concurrent use.
type MemoryJournal struct {
	// Fault, if set, is asked before each Append and Replace; its error is
	// returned and nothing is written.
	Fault func() error

	mu      sync.Mutex
	records [][]byte
}

// Load returns copies of the records.
func (j *MemoryJournal) Load() ([][]byte, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return cloneAll(j.records), nil
}

// Append keeps copies of the records.
func (j *MemoryJournal) Append(records ...[]byte) error {
	if j.Fault != nil {
		if err := j.Fault(); err != nil {
			return err
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.records = append(j.records, cloneAll(records)...)
	return nil
}

// Replace keeps copies of the records instead of all others.
func (j *MemoryJournal) Replace(records [][]byte) error {
	if j.Fault != nil {
		if err := j.Fault(); err != nil {
			return err
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.records = cloneAll(records)
	return nil
}

// Close does nothing: the records are still there.
func (j *MemoryJournal) Close() error { return nil }

func cloneAll(records [][]byte) [][]byte {
	all := slices.Clone(records)
	for i := range all {
		all[i] = bytes.Clone(all[i])
	}
	return all
}
