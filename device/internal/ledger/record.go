package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/wilco-iot/wilco/wire"
)

// Kind says what a record tells of a command. Stored; never change.
type Kind string

// The kinds of records.
const (
	Received   Kind = "received"   // taken; will be executed
	Started    Kind = "started"    // its handler is about to run
	Cancelling Kind = "cancelling" // its handler has been asked to stop
	Ended      Kind = "ended"      // what became of it, for ever
	Handed     Kind = "handed"     // the server has been told so
	Floor      Kind = "floor"      // the highest (epoch, seq) seen, and the highest tid forgotten
	Reported   Kind = "reported"   // the state that the device has reported, in place of the one before
)

// Record is one line of the journal: a change of the ledger. The ledger is
// the fold of its records, so a device that has lost its memory finds itself
// again by applying them in order.
type Record struct {
	Kind     Kind            `json:"kind"`
	TID      string          `json:"tid,omitempty"`
	Cmd      string          `json:"cmd,omitempty"`
	Params   json.RawMessage `json:"params,omitempty"`
	Epoch    int64           `json:"epoch,omitempty"`
	Seq      int64           `json:"seq,omitempty"`
	NotAfter time.Time       `json:"notAfter,omitzero"`
	If       json.RawMessage `json:"if,omitempty"`
	At       time.Time       `json:"at,omitzero"`
	Final    *Final          `json:"final,omitempty"`
	State    json.RawMessage `json:"state,omitempty"` // of Reported
}

// Final is the answer to a command that will never change again.
type Final struct {
	Status string          `json:"status"` // a final status of package wire
	Result json.RawMessage `json:"result,omitempty"`
	Reason *wire.Reason    `json:"reason,omitempty"`
	State  json.RawMessage `json:"state,omitempty"`
	// Refused: never accepted, so the answer is an ack and not a result.
	Refused bool `json:"refused,omitempty"`
}

// Decode reads what Append wrote.
func Decode(b []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return Record{}, fmt.Errorf("decode journal record: %w", err)
	}
	if err := r.valid(); err != nil {
		return Record{}, fmt.Errorf("decode journal record: %w", err)
	}
	return r, nil
}

func (r *Record) valid() error {
	switch r.Kind {
	case Floor:
		if r.TID != "" && !wire.ValidTID(r.TID) {
			return errors.New("the tid that it has forgotten is not one")
		}
		return nil
	case Reported:
		if len(r.State) == 0 {
			return errors.New("it reports no state")
		}
		return nil
	case Received, Started, Cancelling, Handed:
	case Ended:
		if r.Final == nil || !wire.Final(r.Final.Status) {
			return errors.New("it ends a command without a final status")
		}
	default:
		return errors.New("its kind is not known; was it written by a newer version?")
	}
	if !wire.ValidTID(r.TID) {
		return errors.New("it has no proper tid")
	}
	return nil
}
