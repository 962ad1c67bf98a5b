package store

// Document is a record that a part of the server keeps beside the commands, and
// that changes with them in one batch: a command type, the replica of a device, a
// roll-out. The store knows its name and its version, and nothing of its body.
type Document struct {
	DocumentID
	Version int64 // rises by one with every write; 1 is the first, and that of one made anew
	Body    []byte
}

// DocumentID names a document.
type DocumentID struct {
	Kind Kind
	Key  string // 1 to MaxKey bytes; documents of a kind are in the order of their keys' bytes
}

// MaxKey is the longest key of a document, in bytes.
const MaxKey = 512

func (id DocumentID) String() string { return string(id.Kind) + " " + id.Key }

// Kind is what documents are of. Stored; never change.
type Kind string

// DocumentWrite puts a document in place of its version Was; 0 means that it must
// not exist. A nil Body takes it away. A batch may write one document several
// times; each sees the one before.
type DocumentWrite struct {
	DocumentID
	Was  int64
	Body []byte
}
