package pebblestore

import "encoding/binary"

// First bytes of keys; see the package comment. Stored; never change.
const (
	keyFormat       = 'F'
	keyLast         = 'N'
	keySession      = 's'
	keyTotals       = 't'
	keyEntry        = 'e'
	keySubscription = 'u'
	keyReceived     = 'x'
	keyReserved     = 'v'
	keyReleased     = 'l'
	keyEnded        = 'd'
	keyMessage      = 'm'
	keyRetained     = 'r'
)

// format is the value under keyFormat. Stored; never change.
const format = "wilco broker 1"

// named is the key of what has a name: a session's record, a retained message.
func named(b []byte, kind byte, name string) []byte { return append(append(b[:0], kind), name...) }

// numbered is the key of what has a number: a session, or a message.
func numbered(b []byte, kind byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b[:0], kind), n)
}

// entryKey is the key of what a session has under a sequence number.
func entryKey(b []byte, kind byte, sid, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(numbered(b, kind, sid), seq)
}

// packetKey is the key of what a session has under a packet id.
func packetKey(b []byte, kind byte, sid uint64, id uint16) []byte {
	return binary.BigEndian.AppendUint16(numbered(b, kind, sid), id)
}

// number reads the number that follows the kind in a key.
func number(key []byte) uint64 {
	if len(key) < 9 {
		return 0
	}
	return binary.BigEndian.Uint64(key[1:])
}

// second reads the number that follows the session's in a key.
func second(key []byte) uint64 {
	if len(key) < 17 {
		return 0
	}
	return binary.BigEndian.Uint64(key[9:])
}
