package device

import (
	"fmt"

	"github.com/wilco-iot/wilco/device/internal/ledger"
	"github.com/wilco-iot/wilco/wire"
)

// handedTogether is how many notes that an answer was handed over wait for one
// another.
const handedTogether = 64

// commit makes the batch durable and then acts on it. An error means that the
// device must stop: it does not know what its journal holds.
func (r *run) commit() error {
	if !r.stopping {
		r.ledger.Start(&r.batch, r.cfg.Clock())
	}
	r.keepState()
	batch, arrived := r.batch, r.arrived
	r.batch, r.arrived = ledger.Batch{}, nil
	if err := r.write(batch.Records); err != nil {
		return fmt.Errorf("%w: %w", ErrJournal, err)
	}
	for _, d := range arrived {
		d.Ack() // journalled: the server need not send it again
	}
	r.observe(batch.Records)
	for _, a := range batch.Actions {
		r.act(a)
	}
	if r.cameUp {
		// Only now: a greeting tells what the ledger holds, and must not be
		// ahead of the journal.
		r.cameUp, r.up = false, true
		r.greet()
	}
	r.pump()
	if !r.talk.asked {
		r.pumpState()
	}
	return nil
}

// write appends records to the journal. The note that an answer was handed over
// may be lost (the answer is then given twice), so it is not worth an fsync of
// its own, and waits for company.
func (r *run) write(records []ledger.Record) error {
	records = append(r.handed, records...)
	r.handed = nil
	if len(records) == 0 {
		return nil
	}
	if onlyHanded(records) && len(records) < handedTogether && !r.stopping {
		r.handed = records
		return nil
	}
	encoded, err := encodeAll(records)
	if err != nil {
		return err
	}
	if err := r.journal.Append(encoded...); err != nil {
		return err
	}
	r.appended += len(encoded)
	if r.appended > r.needed+compactAfter {
		return r.compact()
	}
	return nil
}

func onlyHanded(records []ledger.Record) bool {
	for i := range records {
		if records[i].Kind != ledger.Handed {
			return false
		}
	}
	return true
}

// compact writes the journal anew without what is not needed any more.
func (r *run) compact() error {
	r.ledger.Forget(r.cfg.Clock())
	encoded, err := encodeAll(r.ledger.Snapshot())
	if err != nil {
		return err
	}
	if err := r.journal.Replace(encoded); err != nil {
		return err
	}
	r.needed, r.appended = len(encoded), 0
	return nil
}

// recordSize is room for a record of a small command.
const recordSize = 256

// encodeAll encodes the records one behind the other.
func encodeAll(records []ledger.Record) ([][]byte, error) {
	encoded := make([][]byte, len(records))
	all := make([]byte, 0, recordSize*len(records))
	for i := range records {
		start := len(all)
		var err error
		if all, err = records[i].Append(all); err != nil {
			return nil, err
		}
		encoded[i] = all[start:len(all):len(all)]
	}
	return encoded, nil
}

// observe tells the observer which commands ended.
func (r *run) observe(records []ledger.Record) {
	o := &r.cfg.Observer
	for i := range records {
		record := &records[i]
		if record.Kind != ledger.Ended {
			continue
		}
		executed := r.ran[record.TID]
		delete(r.ran, record.TID)
		switch {
		case executed && o.Executed != nil:
			o.Executed(resultOf(record.TID, record.Final))
		case !executed && o.Refused != nil:
			o.Refused(record.TID, *record.Final.Reason)
		}
	}
}

// resultOf is a final answer as a document.
func resultOf(tid string, f *ledger.Final) wire.Result {
	return wire.Result{TID: tid, Status: f.Status, Result: f.Result, Reason: f.Reason, State: f.State}
}
