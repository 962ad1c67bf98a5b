package wire

import "strings"

// Profile is what a server needs to talk to devices of one kind.
type Profile interface {
	// Name returns the profile's name as settings and the store have it.
	Name() string
	// ReportsPresence tells whether devices say when they are online.
	ReportsPresence() bool
	// Filters returns what the server subscribes to.
	Filters() []string
	// Topic returns the topic that takes commands to a device, never retained.
	Topic(Address) string
	// AppendCommand appends the command's document to dst. On error it
	// returns dst as it was: an [*Error], or [ErrUnsupported].
	AppendCommand(dst []byte, c Command) ([]byte, error)
	// ParseUp reads what a device has sent. It returns [ErrNotUp] for a topic
	// that is none of those of Filters, and an [*Error] for a document or an
	// address that is not right; the Address is then set if it could be read.
	ParseUp(topic string, payload []byte) (Up, error)
}

// DeviceProfile is a [Profile] that can also speak for a device.
type DeviceProfile interface {
	Profile
	// Ordered tells whether commands carry epoch and seq.
	Ordered() bool
	// AckTopic and ResultTopic return where the device answers.
	AckTopic(Address) string
	ResultTopic(Address) string
	// StatusTopic returns where the device says that it is there, or "" when
	// the profile does not report presence.
	StatusTopic(Address) string
	// ParseCommand reads a command document. On error the Command holds the
	// TID all the same when that much could be read, so that it can be
	// answered; otherwise it is zero.
	ParseCommand(payload []byte) (Command, error)
	// AppendAck, AppendResult and AppendStatus append documents to dst, or
	// return dst as it was with an [*Error] or [ErrUnsupported].
	AppendAck(dst []byte, a Ack) ([]byte, error)
	AppendResult(dst []byte, r Result) ([]byte, error)
	AppendStatus(dst []byte, s Status) ([]byte, error)
}

// DefaultRoot is the first topic level of the wilco profile when none is set.
const DefaultRoot = "wilco"

// Lookup returns a profile by its name, "wilco" or "atlas". Root is the first
// level, or levels, of wilco's topics; empty means [DefaultRoot]. The atlas
// profile has fixed topics and takes no root.
func Lookup(name, root string) (DeviceProfile, error) {
	switch name {
	case wilcoName:
		if root == "" {
			root = DefaultRoot
		}
		if err := validRoot(root); err != nil {
			return nil, err
		}
		return wilco{root: root}, nil
	case atlasName:
		if root != "" {
			return nil, &Error{Field: "root", Text: "the atlas profile has fixed topics; leave root empty"}
		}
		return atlas{}, nil
	}
	return nil, &Error{Field: "profile", Text: "is not known; choose wilco or atlas"}
}

func validRoot(root string) error {
	if len(root) > 256 || root[0] == '$' {
		return &Error{Field: "root", Text: "must be at most 256 bytes and not begin with $"}
	}
	for level := range strings.SplitSeq(root, "/") {
		if !validName(level) {
			return &Error{Field: "root", Text: "each level " + nameRule}
		}
	}
	return nil
}
