package wire

import (
	"slices"
	"strings"
)

// The canonical statuses. Stored; never change.
const (
	Request = "REQUEST" // command: do this
	Cancel  = "CANCEL"  // command: stop doing, or never do, this tid
	Query   = "QUERY"   // command: say what became of this tid

	Received  = "RECEIVED"  // ack: journalled, will be executed
	Rejected  = "REJECTED"  // ack, result: refused before any effect; final
	Running   = "RUNNING"   // result: being executed
	Success   = "SUCCESS"   // result: executed; final
	Failure   = "FAILURE"   // result: execution failed; final
	Cancelled = "CANCELLED" // result: cancelled on request; final
)

// Final tells whether a canonical status ends a command.
func Final(status string) bool {
	switch status {
	case Rejected, Success, Failure, Cancelled:
		return true
	}
	return false
}

// words maps every spelling that is read, in capitals and without spaces,
// hyphens and underscores, to the canonical status.
var words = map[string]string{
	"REQUEST": Request, "REQUESTED": Request,
	"CANCEL": Cancel,
	"QUERY":  Query,

	"RECEIVED": Received, "ACCEPTED": Received, "ACK": Received,
	"ACKNOWLEDGED": Received, "QUEUED": Received,

	"REJECTED": Rejected, "REFUSED": Rejected, "DENIED": Rejected,
	"NACK": Rejected, "DECLINED": Rejected,

	"RUNNING": Running, "INPROGRESS": Running, "STARTED": Running,
	"EXECUTING": Running, "PROCESSING": Running, "WORKING": Running,

	"SUCCESS": Success, "SUCCEEDED": Success, "SUCCESSFUL": Success,
	"OK": Success, "DONE": Success, "COMPLETED": Success,
	"COMPLETE": Success, "FINISHED": Success, "EXECUTED": Success,

	"FAILURE": Failure, "FAILED": Failure, "FAIL": Failure,
	"ERROR": Failure,

	"CANCELLED": Cancelled, "CANCELED": Cancelled, "ABORTED": Cancelled,
}

// Synonyms returns the spellings that are read as a canonical status, sorted,
// the status itself included. Case, spaces, hyphens and underscores make no
// difference when a status is read: "In-Progress" is INPROGRESS.
func Synonyms(status string) []string {
	var all []string
	for word, canonical := range words {
		if canonical == status {
			all = append(all, word)
		}
	}
	slices.Sort(all)
	return all
}

// maxWord bounds the letters of a status that are looked at; no spelling is longer.
const maxWord = 16

// canonicalStatus returns the canonical status for a spelling, or "".
func canonicalStatus(b []byte) string {
	// Nearly every document says the canonical word: no map, no folding.
	switch string(b) {
	case Request:
		return Request
	case Received:
		return Received
	case Running:
		return Running
	case Success:
		return Success
	case Failure:
		return Failure
	}
	var folded [maxWord]byte
	n := 0
	for _, c := range b {
		if c == '_' || c == '-' || c == ' ' {
			continue
		}
		if n == maxWord {
			return ""
		}
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		folded[n] = c
		n++
	}
	return words[string(folded[:n])]
}

// The statuses each kind of document may carry.
var (
	commandStatuses = []string{Request, Cancel, Query}
	ackStatuses     = []string{Received, Rejected}
	resultStatuses  = []string{Running, Success, Failure, Rejected, Cancelled}
	atlasStatuses   = []string{Received, Rejected, Running, Success, Failure, Cancelled}
)

func statusError(allowed []string) *Error {
	return &Error{Field: "status", Text: "must be one of " + strings.Join(allowed, ", ")}
}
