package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/wilco-iot/wilco/wire"
)

// Handler executes one command. What it returns decides how the command ends:
//
//	result, nil                  SUCCESS with the result, encoded as JSON (nil: none)
//	Reject(code, text)           REJECTED: nothing was done
//	Fail(code, text)             FAILURE with a code of your own
//	ctx.Err() after a CANCEL     CANCELLED
//	any other error, or a panic  FAILURE "handler_error" or "handler_panic"
//
// ctx ends when the server cancels the command or the device stops; a handler
// that can stop halfway should, and leave things safe. A handler that finishes
// all the same has succeeded, and says so.
type Handler func(ctx context.Context, r *Request) (result any, err error)

// Option changes how a command is handled.
type Option func(*handling)

// handling is one registered command.
type handling struct {
	run         Handler
	resume      Handler // nil: a reboot interrupts the command
	validate    func(json.RawMessage) error
	cancellable bool
}

// Cancellable tells whether a running command may be cancelled. Default true;
// when false, a CANCEL that comes after the start is answered "cancel_refused".
func Cancellable(yes bool) Option { return func(h *handling) { h.cancellable = yes } }

// Resumable makes a command go on after a reboot or a stop: instead of ending
// as interrupted, it is handed to resume, which must find out for itself how
// far the first run had come. If the command had been cancelled, ctx has ended
// already when resume is called.
func Resumable(resume Handler) Option { return func(h *handling) { h.resume = resume } }

// Validate checks the parameters before the command is accepted; on error it is
// refused as "bad_params" with the error's text, and the handler is not called.
// Check must give the same answer every time and return soon.
func Validate(check func(params json.RawMessage) error) Option {
	return func(h *handling) { h.validate = check }
}

// Request is a command being executed. Its methods are safe for concurrent use,
// and do nothing once the handler has returned.
type Request struct {
	TID    string
	Name   string
	Params json.RawMessage // "{}" when the command has none

	job *job
}

// Unmarshal decodes the parameters into v. Its error is a refusal as
// "bad_params": return it before doing anything.
func (r *Request) Unmarshal(v any) error {
	if err := json.Unmarshal(r.Params, v); err != nil {
		return Reject(wire.ReasonBadParams, err.Error())
	}
	return nil
}

// Progress tells the server how far the command has come. It does not block:
// the server is told at once when nothing was said in the last second, else
// with the next RUNNING. Percent is brought into 0 to 100; NaN leaves it out.
func (r *Request) Progress(percent float64, note string) { r.job.setProgress(percent, note) }

// State sets the device's state that is sent along with the result, and with
// RUNNING until then. The last call counts. It fails when v cannot be encoded
// as JSON or is larger than wire.MaxValue.
func (r *Request) State(v any) error {
	state, err := encodeValue(v)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	r.job.setState(state)
	return nil
}

// Reject returns the error of a handler that has done nothing, and will not.
func Reject(code, text string) error { return &outcome{wire.Rejected, code, text} }

// Fail returns the error of a handler that failed, with a code for programs;
// plain errors have the code "handler_error".
func Fail(code, text string) error { return &outcome{wire.Failure, code, text} }

// outcome is an error that says how the command ends.
type outcome struct{ status, code, text string }

func (o *outcome) Error() string { return o.code + ": " + o.text }

// encodeValue encodes a handler's value so that it fits into a document, and
// encodes to the same bytes again.
func encodeValue(v any) (json.RawMessage, error) {
	if v == nil {
		return nil, nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(b) > wire.MaxValue {
		return nil, fmt.Errorf("%d bytes are more than %d", len(b), wire.MaxValue)
	}
	// A MarshalJSON of somebody else may have written anything.
	if _, err := probe.AppendResult(nil, wire.Result{TID: "t", Status: wire.Success, Result: b}); err != nil {
		return nil, err
	}
	return b, nil
}

var probe = wire.NewWilco("")

var errCancelled = errors.New("device: the server has cancelled the command")
