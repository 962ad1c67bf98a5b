package sparkplug

import "strconv"

// Code is the kind of an [Error]; the set is closed.
type Code uint8

// The codes.
const (
	Malformed      Code = iota + 1 // no Protocol Buffers message, array or STATE document
	Truncated                      // ends early: the rest of it may be missing
	TooDeep                        // nested above Limits.Depth
	TooLarge                       // above Limits.Bytes or Limits.Ratio
	TooMany                        // above Limits.Elements
	BadDatatype                    // a datatype that is unknown, missing, or not allowed here
	Mismatch                       // the value is in a field that the datatype does not use
	OutOfRange                     // a number that the datatype cannot hold
	BadText                        // a text that is not UTF-8, or has a character that may not be there
	BadShape                       // keys without values, rows of another width than the columns
	BadName                        // an identifier that may not be part of a topic
	BadTopic                       // in the namespace, and no topic of it
	ForeignTopic                   // not in the namespace: somebody else's message
	BadCompression                 // a compressed body that cannot be opened
	Missing                        // what must be there is not
)

var codeNames = [...]string{
	Malformed: "malformed", Truncated: "truncated", TooDeep: "too deep", TooLarge: "too large", TooMany: "too many",
	BadDatatype: "bad datatype", Mismatch: "mismatch", OutOfRange: "out of range", BadText: "bad text",
	BadShape: "bad shape", BadName: "bad name", BadTopic: "bad topic", ForeignTopic: "foreign topic",
	BadCompression: "bad compression", Missing: "missing",
}

// String returns the code in words.
func (c Code) String() string {
	if int(c) < len(codeNames) && codeNames[c] != "" {
		return codeNames[c]
	}
	return "code " + strconv.Itoa(int(c))
}

// Error is why bytes, a value or a name were refused. Every error of this
// package is a *Error. Match it with errors.As and its Code.
type Error struct {
	Code Code
	Text string // what was wrong, for logs; holds no bytes of the peer
}

// Error returns "sparkplug: code: text".
func (e *Error) Error() string { return "sparkplug: " + e.Code.String() + ": " + e.Text }

// Is matches another *Error of the same code that has no text, as in
// errors.Is(err, &Error{Code: Mismatch}).
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Text == "" && t.Code == e.Code
}
