package wire

import "errors"

// ErrNotUp says that a topic is none that devices answer on: an echo of a
// command, a state topic, or a topic of somebody else.
var ErrNotUp = errors.New("wire: not a topic that devices answer on")

// ErrUnsupported says that a profile has no words for what should be said,
// for instance CANCEL in the atlas profile. It is an [*Error]; match it with
// errors.Is.
var ErrUnsupported error = &Error{Field: "status", Text: "this profile has no such document; use the wilco profile for it"}

// Error says what is wrong with a document or an address.
type Error struct {
	// Field is the path of the field at fault ("tid", "progress.percent"),
	// or "document", "topic", "group", "device", "address", "root" for what
	// is wrong as a whole.
	Field string
	// Text says what is wrong with it and what would be right. It never
	// holds bytes of the document.
	Text string
}

// Error returns "wire: field: text".
func (e *Error) Error() string { return "wire: " + e.Field + ": " + e.Text }
