package order

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// Limits of a [Stamp].
const (
	MaxStream = 128           // longest stream name, in bytes
	MaxSeq    = math.MaxInt64 // highest number, so that databases and JSON libraries can hold it
)

// Names of the MQTT 5 user properties that carry a stamp. A broker hands user
// properties on unaltered and in order [MQTT-3.3.2-17] [MQTT-3.3.2-18]. Sent;
// never change.
const (
	PropertyStream = "wilco-stream"
	PropertyEpoch  = "wilco-epoch" // decimal, without leading zeros
	PropertySeq    = "wilco-seq"   // decimal, without leading zeros
)

var (
	// ErrUnstamped says that a message carries no stamp at all.
	ErrUnstamped = errors.New("message carries no stamp")
	// ErrStamp says that a stamp is not as it must be: incomplete, twice, or
	// with a field out of its range.
	ErrStamp = errors.New("stamp is malformed")
)

// Stamp is the place of a message in its stream.
type Stamp struct {
	Stream string // 1 to MaxStream bytes of UTF-8 without control characters
	Epoch  uint64 // any; a higher one is newer
	Seq    uint64 // 1 to MaxSeq
}

// String returns stream/epoch/seq.
func (s Stamp) String() string {
	return s.Stream + "/" + strconv.FormatUint(s.Epoch, 10) + "/" + strconv.FormatUint(s.Seq, 10)
}

// Valid returns nil, or an error that is [ErrStamp] and names the field.
func (s Stamp) Valid() error {
	if s.Seq-1 >= MaxSeq {
		return fmt.Errorf("%w: number %d, 1 to %d are allowed", ErrStamp, s.Seq, uint64(MaxSeq))
	}
	return validStream(s.Stream)
}

// validStream keeps to what an MQTT string can hold [MQTT-1.5.4-1]
// [MQTT-1.5.4-2], and to what a log line can show.
func validStream(s string) error {
	if len(s) == 0 || len(s) > MaxStream {
		return fmt.Errorf("%w: stream of %d bytes, 1 to %d are allowed", ErrStamp, len(s), MaxStream)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%w: stream is not UTF-8", ErrStamp)
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return fmt.Errorf("%w: control character in stream", ErrStamp)
		}
	}
	return nil
}

// Stamper numbers the messages of one stream. It is not safe for concurrent
// use: number and publish under one lock, or the numbers are not in the order
// of publication.
type Stamper struct {
	last Stamp
}

// NewStamper begins a stream at number 1. epoch must be higher than every epoch
// this stream has had; see [ResumeStamper] for a publisher that remembers.
func NewStamper(stream string, epoch uint64) (*Stamper, error) {
	if err := validStream(stream); err != nil {
		return nil, err
	}
	return &Stamper{Stamp{Stream: stream, Epoch: epoch}}, nil
}

// ResumeStamper goes on after last, the last stamp that may have been
// published. To remember a later one than was published costs a gap; to
// remember an earlier one makes different messages look like duplicates.
func ResumeStamper(last Stamp) (*Stamper, error) {
	if err := last.Valid(); err != nil {
		return nil, err
	}
	return &Stamper{last}, nil
}

// Next returns the stamp of the next message. Each call uses up a number: a
// message that is then not published is a gap to its receivers, and one that is
// published again keeps its stamp. After the last number comes a new epoch.
func (s *Stamper) Next() Stamp {
	if s.last.Seq == MaxSeq {
		s.last.Epoch, s.last.Seq = s.last.Epoch+1, 0
	}
	s.last.Seq++
	return s.last
}

// Last returns what Next returned last; its Seq is 0 when there was none.
func (s *Stamper) Last() Stamp { return s.last }

// AppendProperties adds s to the user properties of an MQTT 5 PUBLISH. P is the
// property type of any MQTT library that has a Key and a Value, such as this
// module's mqtt.UserProperty. An invalid stamp leaves dst as it is.
func AppendProperties[P ~struct{ Key, Value string }](dst []P, s Stamp) ([]P, error) {
	if err := s.Valid(); err != nil {
		return dst, err
	}
	return append(dst,
		P(property{PropertyStream, s.Stream}),
		P(property{PropertyEpoch, strconv.FormatUint(s.Epoch, 10)}),
		P(property{PropertySeq, strconv.FormatUint(s.Seq, 10)})), nil
}

// ParseProperties reads the stamp out of the user properties of a PUBLISH, in
// whatever order they come and among others. Errors: [ErrUnstamped] when none
// of the three is there; [ErrStamp] when one is missing, is there twice, or is
// not as AppendProperties writes it.
func ParseProperties[P ~struct{ Key, Value string }](list []P) (Stamp, error) {
	var s Stamp
	var seen [3]bool
	for _, p := range list {
		var err error
		kv, i := property(p), 0
		switch kv.Key {
		case PropertyStream:
			s.Stream = kv.Value
		case PropertyEpoch:
			i = 1
			s.Epoch, err = parseNumber(kv)
		case PropertySeq:
			i = 2
			s.Seq, err = parseNumber(kv)
		default:
			continue
		}
		if err != nil {
			return Stamp{}, err
		}
		if seen[i] {
			return Stamp{}, fmt.Errorf("%w: %s is there twice", ErrStamp, kv.Key)
		}
		seen[i] = true
	}
	switch seen {
	case [3]bool{}:
		return Stamp{}, ErrUnstamped
	case [3]bool{true, true, true}:
	default:
		return Stamp{}, fmt.Errorf("%w: %s, %s and %s go together", ErrStamp, PropertyStream, PropertyEpoch, PropertySeq)
	}
	if err := s.Valid(); err != nil {
		return Stamp{}, err
	}
	return s, nil
}

type property = struct{ Key, Value string }

// parseNumber takes one form for each number, so that equal stamps are equal
// bytes. ParseUint alone takes leading zeros.
func parseNumber(p property) (uint64, error) {
	n, err := strconv.ParseUint(p.Value, 10, 64)
	if err != nil || len(p.Value) > 1 && p.Value[0] == '0' {
		return 0, fmt.Errorf("%w: %s is not a plain decimal number of 64 bits", ErrStamp, p.Key)
	}
	return n, nil
}

// magic begins a payload prefix. Its first byte occurs nowhere in UTF-8, so no
// text and no JSON is taken for a stamp; the last is the version of the format.
// Sent; never change.
const magic = "\xF7ws\x01"

// AppendPrefix adds s to dst as the prefix of a payload, for MQTT 3.1.1, which
// has no user properties. The payload follows it directly. An invalid stamp
// leaves dst as it is. The format:
//
//	bytes  F7 77 73 01
//	byte   n, length of the stream's name
//	bytes  n bytes of name
//	uint64 epoch, big endian
//	uint64 number, big endian
func AppendPrefix(dst []byte, s Stamp) ([]byte, error) {
	if err := s.Valid(); err != nil {
		return dst, err
	}
	dst = append(dst, magic...)
	dst = append(dst, byte(len(s.Stream)))
	dst = append(dst, s.Stream...)
	dst = binary.BigEndian.AppendUint64(dst, s.Epoch)
	return binary.BigEndian.AppendUint64(dst, s.Seq), nil
}

// CutPrefix reads the stamp in front of a payload and returns the payload,
// which borrows b. Errors: [ErrUnstamped], with b as payload, when b does not
// begin like a stamp; [ErrStamp] when it does and is not one.
func CutPrefix(b []byte) (s Stamp, payload []byte, err error) {
	if len(b) < len(magic) || string(b[:len(magic)]) != magic {
		return Stamp{}, b, ErrUnstamped
	}
	rest := b[len(magic):]
	if len(rest) == 0 || len(rest) < 1+int(rest[0])+16 {
		return Stamp{}, nil, fmt.Errorf("%w: prefix is cut short", ErrStamp)
	}
	name, rest := rest[1:1+int(rest[0])], rest[1+int(rest[0]):]
	s = Stamp{Stream: string(name), Epoch: binary.BigEndian.Uint64(rest), Seq: binary.BigEndian.Uint64(rest[8:])}
	if err := s.Valid(); err != nil {
		return Stamp{}, nil, err
	}
	return s, rest[16:], nil
}
