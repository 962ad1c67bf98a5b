package sparkplug

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
)

// CompressedUUID is the UUID of a payload whose Body is a compressed payload.
const CompressedUUID = "SPBV1.0_COMPRESSED"

// The metric that names the algorithm, and the algorithms. Deflate is the
// zlib format (RFC 1950), and what is meant when there is no such metric.
const (
	AlgorithmMetric  = "algorithm"
	AlgorithmDeflate = "DEFLATE"
	AlgorithmGzip    = "GZIP"
)

// Compressed tells whether p has its metrics in Body.
func (p *Payload) Compressed() bool { return string(p.UUID) == CompressedUUID }

// Inflater decodes payloads that may be compressed. It keeps what it needs to
// do so for the next one. The zero value is ready. One goroutine at a time.
type Inflater struct {
	zlib   io.ReadCloser
	gzip   gzip.Reader
	body   bytes.Reader
	buffer bytes.Buffer
}

// Decode is Payload.Decode, and opens the payload when it is compressed. p
// then holds what was inside, and borrows the memory of z: it holds until the
// next call. Timestamp and sequence number are those outside when the inner
// payload has none, because there are writers of either kind. Beside the
// errors of Payload.Decode there is BadCompression; TooLarge counts inside too.
func (z *Inflater) Decode(b []byte, p *Payload, limits Limits) error {
	if err := p.Decode(b, limits); err != nil || !p.Compressed() {
		return err
	}
	limits = limits.withDefaults()
	outer := Header{Timestamp: p.Timestamp, Seq: p.Seq, HasTimestamp: p.HasTimestamp, HasSeq: p.HasSeq}
	inside, err := z.inflate(p, limits)
	if err != nil {
		return err
	}
	if err := p.Decode(inside, limits); err != nil {
		return err
	}
	if p.Compressed() {
		return &Error{BadCompression, "compressed more than once"}
	}
	if !p.HasTimestamp {
		p.Timestamp, p.HasTimestamp = outer.Timestamp, outer.HasTimestamp
	}
	if !p.HasSeq {
		p.Seq, p.HasSeq = outer.Seq, outer.HasSeq
	}
	return nil
}

func (z *Inflater) inflate(p *Payload, limits Limits) ([]byte, error) {
	z.body.Reset(p.Body)
	// Nothing of p is kept beyond the call.
	defer z.body.Reset(nil)
	from, err := z.reader(p)
	if err != nil {
		return nil, badBody(err)
	}
	if from == nil {
		return nil, &Error{BadCompression, "unknown algorithm"}
	}
	limit := int64(limits.Bytes)
	if allowed := int64(len(p.Body)) * int64(limits.Ratio); allowed < limit {
		limit = min(limit, max(allowed, freeBytes))
	}
	z.buffer.Reset()
	n, err := z.buffer.ReadFrom(io.LimitReader(from, limit+1))
	switch {
	case n > limit:
		return nil, &Error{TooLarge, "compressed payload: above the limit of bytes or ratio"}
	case err != nil:
		return nil, badBody(err)
	}
	return z.buffer.Bytes(), nil
}

// badBody says in our words what the decompressor says.
func badBody(err error) *Error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return &Error{Truncated, "compressed body ends early"}
	}
	return &Error{BadCompression, "the body is not what the algorithm makes"}
}

// reader opens the body of p; nil without an error for an unknown algorithm.
func (z *Inflater) reader(p *Payload) (io.Reader, error) {
	algorithm := AlgorithmDeflate
	if m := p.Find(AlgorithmMetric); m != nil {
		algorithm = string(m.Value.data)
	}
	switch algorithm {
	case AlgorithmGzip:
		return &z.gzip, z.gzip.Reset(&z.body)
	case AlgorithmDeflate:
		if z.zlib == nil {
			r, err := zlib.NewReader(&z.body)
			if err == nil {
				z.zlib = r
			}
			return r, err
		}
		return z.zlib, z.zlib.(zlib.Resetter).Reset(&z.body, nil)
	}
	return nil, nil
}

// AppendCompressed appends p to dst with its metrics compressed by algorithm,
// AlgorithmDeflate or AlgorithmGzip; BadCompression for another. Timestamp and
// sequence number are written inside and outside, so that every reader finds
// them. It allocates what compress/flate needs.
func (p *Payload) AppendCompressed(dst []byte, algorithm string) ([]byte, error) {
	var body bytes.Buffer
	var w io.WriteCloser
	switch algorithm {
	case AlgorithmDeflate:
		w = zlib.NewWriter(&body)
	case AlgorithmGzip:
		w = gzip.NewWriter(&body)
	default:
		return dst, &Error{BadCompression, "unknown algorithm"}
	}
	// Writing to a bytes.Buffer does not fail.
	_, _ = w.Write(p.Append(nil))
	_ = w.Close()
	outer := Payload{
		Timestamp: p.Timestamp, HasTimestamp: p.HasTimestamp, Seq: p.Seq, HasSeq: p.HasSeq,
		UUID: []byte(CompressedUUID), Body: body.Bytes(),
		Metrics: []Metric{{Name: []byte(AlgorithmMetric), Datatype: TypeString, Value: NewText([]byte(algorithm))}},
	}
	return outer.Append(dst), nil
}
