package filestore

import (
	"encoding/binary"
	"hash/crc32"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
)

// open leaves room for the prefix of an entry whose body is appended next.
func open(b []byte) []byte { return append(b, make([]byte, prefix)...) }

// seal fills in the prefix at the given place, now that the body is complete.
func seal(b []byte, at int) []byte {
	body := b[at+prefix:]
	binary.LittleEndian.PutUint32(b[at:], uint32(len(body)))
	binary.LittleEndian.PutUint32(b[at+4:], crc32.Checksum(b[at:at+4], castagnoli))
	binary.LittleEndian.PutUint32(b[at+8:], crc32.Checksum(body, castagnoli))
	return b
}

func flag(on bool) uint64 {
	if on {
		return 1
	}
	return 0
}

func appendString[T string | []byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendRecord appends the body of an Add entry.
func appendRecord(b []byte, r *client.Record) []byte {
	m := &r.Message
	b = binary.AppendUvarint(append(b, kindAdd), r.Seq)
	b = append(b, byte(m.QoS), byte(flag(m.Retain)), byte(flag(m.CorrelationData != nil)))
	expires := int64(0)
	if !r.Expires.IsZero() {
		expires = r.Expires.UnixNano()
	}
	b = binary.AppendVarint(b, expires)
	b = appendString(b, m.Topic)
	b = appendString(b, m.Payload)
	b = appendString(b, m.ContentType)
	b = appendString(b, m.ResponseTopic)
	b = appendString(b, m.CorrelationData)
	b = binary.AppendUvarint(b, uint64(len(m.User)))
	for _, u := range m.User {
		b = appendString(appendString(b, u.Key), u.Value)
	}
	return b
}

// appendPlace appends where a record has come from, behind the kind.
func appendPlace(b []byte, source string, place uint64) []byte {
	return binary.AppendUvarint(appendString(b, source), place)
}

// readPlace reads what appendPlace has written, and gives what is behind it: nothing,
// or the body of an Add.
func readPlace(body []byte) (source string, place uint64, rest []byte, err error) {
	d := decoder{b: body[1:]}
	source, place = string(d.bytes()), d.uvarint()
	if d.err == nil && (body[0] == kindFrom) != (len(d.b) > 0 && d.b[0] == kindAdd) {
		d.err = errBody
	}
	return source, place, d.b, d.err
}

// readRecord reads the record of an Add, or of an AddFrom.
func readRecord(body []byte) (client.Record, error) {
	if body[0] == kindFrom {
		var err error
		if _, _, body, err = readPlace(body); err != nil {
			return client.Record{}, err
		}
	}
	return decodeRecord(body)
}

func decodeRecord(body []byte) (client.Record, error) {
	d := decoder{b: body[1:]}
	r := client.Record{Seq: d.uvarint()}
	m := &r.Message
	m.QoS = mqtt.QoS(d.byte())
	m.Retain = d.byte() == 1
	correlated := d.byte() == 1
	if n := d.varint(); n != 0 {
		r.Expires = time.Unix(0, n)
	}
	m.Topic = string(d.bytes())
	m.Payload = d.bytes()
	m.ContentType = string(d.bytes())
	m.ResponseTopic = string(d.bytes())
	if c := d.bytes(); correlated {
		m.CorrelationData = c
	}
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		m.User = append(m.User, mqtt.UserProperty{Key: string(d.bytes()), Value: string(d.bytes())})
	}
	if d.err == nil && len(d.b) > 0 {
		d.err = errBody
	}
	return r, d.err
}

// decoder takes values from the front of b; its first error stays.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) take(n int) []byte {
	if d.err != nil || n < 0 || n > len(d.b) {
		d.err = errBody
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		n = -1
	}
	d.take(n)
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		n = -1
	}
	d.take(n)
	return v
}

func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.err = errBody
		return nil
	}
	return d.take(int(n))
}
