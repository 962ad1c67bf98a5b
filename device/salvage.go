package device

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/wilco-iot/wilco/device/internal/ledger"
	"github.com/wilco-iot/wilco/wire"
)

// Salvaged says what [Salvage] has found.
type Salvaged struct {
	Kept    int    // tids that are still known
	Lost    int    // records that could not be read, or not be understood without others
	Damaged string // the damaged file, kept under this name; empty if nothing was wrong
}

// Salvage makes a journal usable again that [OpenJournal] refuses as damaged,
// by keeping what is whole. A command of which only traces are left ends as
// FAILURE "interrupted". One of which no trace is left can be executed a second
// time if the server sends it again with a new seq: that is what is risked.
// Nothing is changed when the journal is in order.
func Salvage(dir string) (Salvaged, error) {
	lock, err := lockDir(filepath.Join(dir, lockName))
	if err != nil {
		return Salvaged{}, fmt.Errorf("lock %s: %w", dir, err)
	}
	defer lock.Close() // an empty file
	name := filepath.Join(dir, journalName)
	b, err := os.ReadFile(name)
	if err != nil {
		return Salvaged{}, err
	}
	s := scanFile(b, true)
	l := ledger.New(ledger.Rules{}, nil)
	var found Salvaged
	for _, encoded := range s.records {
		record, err := ledger.Decode(encoded)
		if err != nil {
			found.Lost++
			continue
		}
		if l.Apply(record) != nil {
			found.Lost++
			presume(l, record)
		}
	}
	found.Kept = l.Len()
	if !s.damaged && found.Lost == 0 {
		return found, nil
	}
	found.Damaged = name + ".damaged"
	if err := os.WriteFile(found.Damaged, b, 0o600); err != nil {
		return Salvaged{}, err
	}
	encoded, err := encodeAll(l.Snapshot())
	if err != nil {
		return Salvaged{}, err
	}
	j := &FileJournal{dir: dir, fs: disk{}}
	if err := j.Replace(encoded); err != nil {
		return Salvaged{}, err
	}
	return found, j.Close()
}

// presume ends a command of which only a trace was found.
func presume(l *ledger.Ledger, trace ledger.Record) {
	if l.Get(trace.TID) != nil || trace.TID == "" {
		return
	}
	at := trace.At
	if at.IsZero() {
		at = time.Unix(0, 0)
	}
	// An unknown tid can always end.
	_ = l.Apply(ledger.Record{Kind: ledger.Ended, TID: trace.TID, At: at, Final: &ledger.Final{
		Status: wire.Failure,
		Reason: &wire.Reason{Code: wire.ReasonInterrupted, Text: "the device has lost part of its journal"},
	}})
}
