package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/wilco-iot/wilco/internal/store"
)

// kind of the documents that entries are kept as. Stored; never change.
const kind store.Kind = "audit"

// Entry is one act. Its hash covers every other field but Key, in the JSON form
// that they have here. Stored; never change the names or their order: a new field
// comes before Prev and is left out when it is empty, so that old hashes hold.
type Entry struct {
	Seq     int64     `json:"seq"` // 1 is the first; rises without gaps
	At      time.Time `json:"at"`  // UTC, to the millisecond
	Who     string    `json:"who"`
	Role    string    `json:"role"`
	Group   string    `json:"group,omitempty"` // the only one that who may touch; "" means all
	Act     string    `json:"act"`             // what was done: object.verb
	Target  string    `json:"target,omitempty"`
	Outcome string    `json:"outcome"`          // "ok", or the code of package fault
	Detail  string    `json:"detail,omitempty"` // at most 256 bytes
	Count   int       `json:"count,omitempty"`  // of the commands that were made
	Digest  string    `json:"digest,omitempty"` // SHA-256 over the 16 bytes of each of their tids, in order; hex
	Prev    string    `json:"prev"`             // hash of the entry before; "" for the first
	Hash    string    `json:"hash,omitempty"`

	// Key is the place at which the entry was found. It is that of Seq unless
	// somebody moved it.
	Key string `json:"-"`
}

// OK is the outcome of an act that was done. Stored; never change.
const OK = "ok"

// KeyOf is the place of the entry with this number.
func KeyOf(seq int64) string { return fmt.Sprintf("%016x", seq) }

// Sum is the hash that the entry must have.
func (e Entry) Sum() string {
	e.Hash = ""
	b, err := json.Marshal(e)
	if err != nil {
		return "" // a year above 9999: no entry that was ever sealed
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Head is the end of the chain. Whoever keeps one elsewhere can tell later whether
// anything up to it was changed, even when the whole chain was computed anew.
type Head struct {
	Seq  int64
	Hash string
}

func (h Head) String() string { return strconv.FormatInt(h.Seq, 10) + ":" + h.Hash }

// ParseHead reads what String writes.
func ParseHead(s string) (h Head, err error) {
	seq, hash, _ := bytes.Cut([]byte(s), []byte(":"))
	h.Seq, err = strconv.ParseInt(string(seq), 10, 64)
	h.Hash = string(hash)
	if raw, bad := hex.DecodeString(h.Hash); err != nil || bad != nil || h.Seq < 1 || len(raw) != sha256.Size {
		return Head{}, fmt.Errorf("%q is not a head like 42:9f86d081..., a number and 64 hexadecimal digits", s)
	}
	return h, nil
}

// decode reads an entry as it is stored. One that cannot be read has no hash, so
// that verification finds it.
func decode(d store.Document) Entry {
	var e Entry
	dec := json.NewDecoder(bytes.NewReader(d.Body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil || dec.More() {
		e = Entry{Act: Unreadable}
		e.Seq, _ = strconv.ParseInt(d.Key, 16, 64) // 0 for what is no place at all
	}
	e.Key = d.Key
	return e
}

// Unreadable is the act of an entry whose bytes are none.
const Unreadable = "unreadable"
