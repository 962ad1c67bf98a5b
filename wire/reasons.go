package wire

// Reason codes that devices say in ack and result documents.
// Stored; never change.
const (
	// ReasonStaleSeq: the tid is unknown and its seq is not above the highest
	// the device has journalled in this epoch. Not executed.
	ReasonStaleSeq = "stale_seq"
	// ReasonStaleEpoch: the tid is unknown and its epoch is below the highest
	// the device has journalled: an old server is still talking. Not executed.
	ReasonStaleEpoch = "stale_epoch"
	// ReasonExpired: notAfter had passed before execution began. Not executed.
	ReasonExpired = "expired"
	// ReasonRetained: the command came as a retained message. Not executed.
	ReasonRetained = "retained"
	// ReasonUnknownCommand: no handler for this cmd. Not executed.
	ReasonUnknownCommand = "unknown_command"
	// ReasonBadDocument: the command document could not be read. Not executed.
	ReasonBadDocument = "bad_document"
	// ReasonBadParams: the parameters do not fit the command. Not executed.
	ReasonBadParams = "bad_params"
	// ReasonPreconditionUnmet: the state that the command's condition asks of
	// does not hold any more. Not executed.
	ReasonPreconditionUnmet = "precondition_unmet"
	// ReasonBusy: the device's queue of waiting commands is full. Not executed.
	ReasonBusy = "busy"
	// ReasonNotReceived: answer to QUERY about a tid the device had never
	// seen, and from now on refuses. Not executed.
	ReasonNotReceived = "not_received"
	// ReasonCancelled: cancelled by a CANCEL document.
	ReasonCancelled = "cancelled"
	// ReasonCancelRefused: answer to CANCEL of a command that cannot be
	// cancelled any more; it goes on.
	ReasonCancelRefused = "cancel_refused"
	// ReasonInterrupted: the device restarted while the command was running;
	// it may have had part of its effect.
	ReasonInterrupted = "interrupted"
	// ReasonHandlerError: the device's handler returned an error.
	ReasonHandlerError = "handler_error"
	// ReasonHandlerPanic: the device's handler panicked.
	ReasonHandlerPanic = "handler_panic"
	// ReasonBadResult: with SUCCESS: executed, but the handler's result could
	// not be encoded or was too large, and was left out.
	ReasonBadResult = "bad_result"
)
