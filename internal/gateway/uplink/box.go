package uplink

import (
	"sync"

	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/mqtt/client/filestore"
)

// box is the outbox: the client.Store of the client of the server above. It keeps the
// messages of lanes, from before they leave their sessions until the server above has
// them. What belongs to no lane is not kept: whoever publishes that says it anew.
//
// A message that was refused stays in the file, as one that was never sent, until done
// has decided what becomes of it.
type box struct {
	*filestore.Store

	mu      sync.Mutex
	adding  bool   // what is added is kept
	source  string // of that; "": none, it was here before
	number  uint64
	kept    map[uint64]bool // by seq, whether PUBREC has come
	order   []uint64        // of kept, those whose result was not told yet
	changed chan struct{}   // closed by stir; nil: nobody waits
}

func newBox(s *filestore.Store) *box { return &box{Store: s, kept: map[uint64]bool{}} }

// keep has what is added up to the call of the function it returns kept, as that
// message of a lane.
func (b *box) keep(source string, number uint64) (end func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.adding, b.source, b.number = true, source, number
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.adding = false
	}
}

// full says whether no more messages of lanes should be added.
func (b *box) full() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.kept) >= Window
}

// room is closed when a message has left the outbox or the client of the server above,
// or that server has come into reach.
func (b *box) room() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	return b.changed
}

// stir closes the channel of room.
func (b *box) stir() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}

// first takes the oldest whose result was not told, which is the one that is told now.
func (b *box) first() (seq uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	seq, b.order = b.order[0], b.order[1:]
	return seq
}

// forget takes a message out for good. An error of the file is the next caller's.
func (b *box) forget(seq uint64) {
	_ = b.Store.Remove(seq) // it may be gone already
	b.mu.Lock()
	delete(b.kept, seq)
	b.mu.Unlock()
	b.stir()
}

// Load implements client.Store.
func (b *box) Load() ([]client.Record, error) {
	list, err := b.Store.Load()
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range list {
		b.kept[list[i].Seq] = list[i].Released
		b.order = append(b.order, list[i].Seq)
	}
	return list, err
}

// Add implements client.Store.
func (b *box) Add(r client.Record) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.adding {
		return nil
	}
	err := error(nil)
	if b.source == "" {
		err = b.Store.Add(r)
	} else {
		err = b.Store.AddFrom(r, b.source, b.number)
	}
	if err == nil {
		b.kept[r.Seq] = false
		b.order = append(b.order, r.Seq)
	}
	return err
}

// Mark implements client.Store.
func (b *box) Mark(seq uint64, id uint16, released bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.kept[seq]; !ok {
		return nil
	}
	b.kept[seq] = released
	return b.Store.Mark(seq, id, released)
}

// Remove implements client.Store. Without PUBREC nothing says that the server above has
// the message, so its end is for done to judge; but its packet identifier is free.
func (b *box) Remove(seq uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch released, ok := b.kept[seq]; {
	case !ok:
		return nil
	case released:
		return b.Store.Remove(seq)
	}
	return b.Store.Mark(seq, 0, false)
}
