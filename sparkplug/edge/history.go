package edge

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/edge/internal/node"
)

// A history file is the magic line and then frames, one for each record:
//
//	length  uint32, little endian, of the body
//	crc     uint32, little endian, CRC-32C of the body
//	body    uvarint, the number of the sample; nothing more when it waits no longer, else
//	        uvarint, the length of the device's name, which follows; then a payload with
//	        the metric
//
// A frame that is broken ends what is read: a crash cut it short.
const (
	historyMagic = "wilco edge history 1\n" // stored; never change
	frameHeader  = 8
	// roomy is how large a file may be before what is over in it is taken away.
	roomy = 1 << 20
)

// ours is what one of our own payloads may cost.
var ours = sparkplug.Limits{Bytes: math.MaxInt, Elements: math.MaxInt, Depth: math.MaxInt}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// history keeps the samples that wait in a file. All methods are safe for concurrent
// use. A write is with the system when append returns, so it survives the process, and
// on disk after sync.
type history struct {
	path string

	mu    sync.Mutex
	f     *os.File // nil before the first write, and after one that failed
	size  int64
	live  int  // samples that wait
	total int  // frames
	dirty bool // something is not on disk yet
}

// openHistory reads what the last process has left, in order. lost is how many bytes
// at the end could not be read.
func openHistory(path string) (h *history, waiting []node.Record, lost int, err error) {
	h = &history{path: path}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil, 0, nil
	}
	if err != nil {
		return nil, nil, 0, fmt.Errorf("history: %w", err)
	}
	b, ok := bytes.CutPrefix(b, []byte(historyMagic))
	if !ok && len(b) > 0 {
		return nil, nil, 0, fmt.Errorf("history: %s is no file of an edge node's history", path)
	}
	byNumber := map[uint64]node.Record{}
	for len(b) > 0 {
		r, n := readFrame(b)
		if n == 0 {
			break
		}
		b = b[n:]
		if r.Done {
			delete(byNumber, r.Number)
		} else {
			byNumber[r.Number] = r
		}
	}
	for _, r := range byNumber {
		waiting = append(waiting, r)
	}
	slices.SortFunc(waiting, func(a, b node.Record) int { return cmp.Compare(a.Number, b.Number) })
	return h, waiting, len(b), nil
}

func appendFrame(b []byte, r *node.Record) []byte {
	start := len(b)
	b = append(b, make([]byte, frameHeader)...)
	b = binary.AppendUvarint(b, r.Number)
	if !r.Done {
		b = binary.AppendUvarint(b, uint64(len(r.Device)))
		b = append(b, r.Device...)
		b = (&sparkplug.Payload{Metrics: []sparkplug.Metric{r.Metric}}).Append(b)
	}
	body := b[start+frameHeader:]
	binary.LittleEndian.PutUint32(b[start:], uint32(len(body)))
	binary.LittleEndian.PutUint32(b[start+4:], crc32.Checksum(body, castagnoli))
	return b
}

// readFrame reads the frame that b begins with, and its length; 0 when it is none.
func readFrame(b []byte) (r node.Record, n int) {
	if len(b) < frameHeader {
		return r, 0
	}
	size := uint64(binary.LittleEndian.Uint32(b))
	if size == 0 || size > uint64(len(b)-frameHeader) {
		return r, 0
	}
	body := b[frameHeader : frameHeader+size]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
		return r, 0
	}
	n = frameHeader + len(body)
	number, used := binary.Uvarint(body)
	if used <= 0 {
		return r, 0
	}
	if r.Number, body = number, body[used:]; len(body) == 0 {
		r.Done = true
		return r, n
	}
	length, used := binary.Uvarint(body)
	if used <= 0 || length > uint64(len(body)-used) {
		return r, 0
	}
	body = body[used:]
	r.Device = string(body[:length])
	var p sparkplug.Payload
	if p.Decode(body[length:], ours) != nil || len(p.Metrics) != 1 {
		return r, 0
	}
	r.Metric = p.Metrics[0].Clone()
	return r, n
}

// append writes what has changed. all gives everything that waits, for a file that has
// to be written anew: the first one, one with much in it that is over, and one whose
// last write has failed.
func (h *history) append(list []node.Record, all func() []node.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var b []byte
	live := h.live
	for i := range list {
		b = appendFrame(b, &list[i])
		if live++; list[i].Done {
			live -= 2
		}
	}
	stale := h.size+int64(len(b)) > roomy && h.total+len(list) > 2*live
	if h.f == nil || stale {
		return h.replace(all())
	}
	if _, err := h.f.WriteAt(b, h.size); err != nil {
		h.close()
		return err
	}
	h.size += int64(len(b))
	h.live, h.total, h.dirty = live, h.total+len(list), true
	return nil
}

// rewrite writes the file anew.
func (h *history) rewrite(list []node.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.replace(list)
}

// replace writes a new file beside the old one and gives it its name. mu is held.
func (h *history) replace(list []node.Record) error {
	h.close()
	b := []byte(historyMagic)
	for i := range list {
		b = appendFrame(b, &list[i])
	}
	next := h.path + ".next"
	f, err := os.OpenFile(next, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(next, h.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(h.path))
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	h.f, h.size, h.live, h.total, h.dirty = f, int64(len(b)), len(list), len(list), false
	return nil
}

// close gives up the file: what it holds is written anew next time. mu is held.
func (h *history) close() {
	if h.f != nil {
		h.f.Close() // all that could be lost is about to be written elsewhere
		h.f = nil
	}
}

// sync returns when what was written is on disk. It does not hold up append.
func (h *history) sync() error {
	h.mu.Lock()
	f, dirty := h.f, h.dirty
	h.dirty = false
	h.mu.Unlock()
	if f == nil || !dirty {
		return nil
	}
	if err := f.Sync(); err != nil && !errors.Is(err, os.ErrClosed) { // closed: it has been written anew meanwhile
		return err
	}
	return nil
}
