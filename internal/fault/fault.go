// Package fault is the one table of errors that people and programs see.
//
// An error that crosses a boundary (HTTP, MQTT, the command line) carries a
// [Code] of this table, a message for the one who asked, the name of the field
// that is wrong where there is one, and a hidden cause for the log. What has no
// code is [Internal] and its text stays inside.
//
// The table is data; every value is immutable and safe for concurrent use.
package fault

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"
)

// Code names a kind of fault. Codes are sent to clients: stored; never change.
type Code string

// The codes. Their meanings for HTTP, MQTT and the command line are in the table.
const (
	Invalid          Code = "invalid"           // the request is wrong and stays wrong
	Unauthenticated  Code = "unauthenticated"   // who are you?
	Forbidden        Code = "forbidden"         // you may not
	NotFound         Code = "not_found"         // there is no such thing
	Conflict         Code = "conflict"          // not in this state
	Changed          Code = "changed"           // somebody else has changed it since
	Exists           Code = "exists"            // there is one already
	KeyReused        Code = "key_reused"        // same idempotency key, another body
	TooLarge         Code = "too_large"         // above a documented size
	TooMany          Code = "too_many"          // above a documented number or rate
	Unavailable      Code = "unavailable"       // a part is down; try again
	StorageFull      Code = "storage_full"      // nothing more can be kept
	Timeout          Code = "timeout"           // not done in the time given
	OutcomeUnknown   Code = "outcome_unknown"   // sent, and nobody knows what became of it
	CommandFailed    Code = "command_failed"    // the device says it failed
	CommandRejected  Code = "command_rejected"  // the device refused it
	CommandExpired   Code = "command_expired"   // never sent, certainly not executed
	CommandCancelled Code = "command_cancelled" // cancelled or denied
	Internal         Code = "internal"          // our fault
)

// Meaning is what a code is at each boundary.
type Meaning struct {
	HTTP   int    // status of an HTTP answer
	MQTT   byte   // MQTT 5 reason code
	Exit   int    // exit code of the command line
	Public string // said when the error has no message of its own
	Cure   string // what to do about it
}

var table = map[Code]Meaning{
	Invalid:          {http.StatusBadRequest, 0x83, 2, "the request is not valid", "correct the field that is named and ask again"},
	Unauthenticated:  {http.StatusUnauthorized, 0x86, 3, "no valid credentials were given", "give a token or user name and password that are in force"},
	Forbidden:        {http.StatusForbidden, 0x87, 3, "not allowed", "ask for the right, or use another identity"},
	NotFound:         {http.StatusNotFound, 0x83, 4, "not found", "check the name"},
	Conflict:         {http.StatusConflict, 0x83, 5, "not possible in its present state", "look at the present state first"},
	Changed:          {http.StatusPreconditionFailed, 0x83, 5, "somebody else has changed it since", "look at it as it is now, and decide anew"},
	Exists:           {http.StatusConflict, 0x83, 5, "it exists already", "use another name, or the one that exists"},
	KeyReused:        {http.StatusConflict, 0x83, 5, "the idempotency key was used with another body", "use a new key for a new request"},
	TooLarge:         {http.StatusRequestEntityTooLarge, 0x95, 2, "too large", "send less"},
	TooMany:          {http.StatusTooManyRequests, 0x97, 6, "too many", "slow down and try again"},
	Unavailable:      {http.StatusServiceUnavailable, 0x88, 6, "not available now", "try again later"},
	StorageFull:      {http.StatusInsufficientStorage, 0x97, 6, "the storage is full", "free space on the server's disk"},
	Timeout:          {http.StatusGatewayTimeout, 0x80, 7, "not done in the time given", "ask for the present state, or wait longer"},
	OutcomeUnknown:   {http.StatusOK, 0x80, 10, "sent, and the outcome is unknown", "ask again later: a late answer still settles it"},
	CommandFailed:    {http.StatusOK, 0x80, 11, "the device says that it failed", "read the device's reason"},
	CommandRejected:  {http.StatusOK, 0x80, 12, "the device refused it", "read the device's reason"},
	CommandExpired:   {http.StatusOK, 0x80, 13, "never sent, certainly not executed", "send it again when the device is online"},
	CommandCancelled: {http.StatusOK, 0x80, 14, "cancelled or denied", "see who and why with wilco explain"},
	Internal:         {http.StatusInternalServerError, 0x80, 1, "internal error", "see the server's log"},
}

// Codes lists all codes in the order of their names.
func Codes() []Code { return slices.Sorted(maps.Keys(table)) }

// Of gives the meaning of c; an unknown code means what Internal means.
func (c Code) Of() Meaning {
	if m, ok := table[c]; ok {
		return m
	}
	return table[Internal]
}

// Error is a fault that may be shown. The cause never is.
type Error struct {
	Code    Code
	Field   string        // the field that is wrong, as the client wrote it; "" when none
	Message string        // for the one who asked
	Cure    string        // what to do about it; "": that of its code
	After   time.Duration // when asking again may help; 0: nobody knows
	cause   error
}

// Error gives code, field, message and cause: the text for a log, not for a client.
func (e *Error) Error() string {
	s := string(e.Code) + ": "
	if e.Field != "" {
		s += e.Field + ": "
	}
	s += e.Public()
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

// Public is the message for the one who asked.
func (e *Error) Public() string {
	if e.Message != "" {
		return e.Message
	}
	return e.Code.Of().Public
}

// Unwrap gives the hidden cause.
func (e *Error) Unwrap() error { return e.cause }

// Is makes errors.Is match by code: errors.Is(err, fault.New(fault.NotFound, "")).
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Field == "" && t.Message == "" && t.cause == nil
}

// New makes an error of code c; the message is formatted and public.
func New(c Code, format string, args ...any) *Error {
	return &Error{Code: c, Message: fmt.Sprintf(format, args...)}
}

// Field makes an Invalid error about one field.
func Field(field, format string, args ...any) *Error {
	return &Error{Code: Invalid, Field: field, Message: fmt.Sprintf(format, args...)}
}

// Wrap gives cause the code c and a public message. Wrap of nil is nil.
func Wrap(cause error, c Code, format string, args ...any) error {
	if cause == nil {
		return nil
	}
	return &Error{Code: c, Message: fmt.Sprintf(format, args...), cause: cause}
}

// From finds the fault in err's chain. What has none becomes Internal with err
// as its hidden cause. From of nil is nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Code: Internal, cause: err}
}

// CodeOf is the code of err, Internal when it has none, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	return From(err).Code
}
