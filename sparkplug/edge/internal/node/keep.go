package node

import (
	"cmp"
	"iter"
	"slices"

	"github.com/wilco-iot/wilco/sparkplug"
)

// Record says that a sample waits, or no longer: what a file has to hold so that
// history outlives the process.
type Record struct {
	Number uint64 // rises over all streams, in the order in which samples were given
	Done   bool   // it waits no longer, and the rest is empty
	Device string
	Metric sparkplug.Metric // complete: name, datatype, value, time; not to be changed
}

// Records hands over what has changed since the last call: the samples that wait in
// a queue, and those of earlier Records that wait no longer. With flight it has those
// too that publish has taken and that are not known to be written; a connection that
// gets on has no more than a moment's worth of them. What is transient is left out.
func (c *Core) Records(flight bool) []Record {
	out := c.records
	c.records = nil
	for _, u := range c.unkept {
		if i, ok := slices.BinarySearchFunc(u.stream.queue, u.number, byNumber); ok {
			out = u.stream.queue[i].keep(u.stream, out)
		}
	}
	c.unkept = nil
	if flight {
		for _, d := range c.inFlight() {
			for i := range d.items {
				out = d.items[i].keep(d.stream, out)
			}
		}
	}
	return out
}

// Waiting is all that a file has to hold, in order, for one that is written anew.
// What Records has not handed over yet is in it.
func (c *Core) Waiting() []Record {
	c.records, c.unkept = nil, nil
	var out []Record
	collect := func(s *stream, items []item) {
		for i := range items {
			items[i].kept = false
			out = items[i].keep(s, out)
		}
	}
	collect(c.node, c.node.queue)
	for _, s := range c.order {
		collect(s, s.queue)
	}
	for _, d := range c.inFlight() {
		collect(d.stream, d.items)
	}
	slices.SortFunc(out, func(a, b Record) int { return cmp.Compare(a.Number, b.Number) })
	return out
}

// inFlight are the messages with samples that will wait again if they are not written.
func (c *Core) inFlight() iter.Seq2[int, *draft] {
	return func(yield func(int, *draft) bool) {
		for i := range c.flight {
			if d := &c.flight[i]; len(d.items) > 0 && !yield(i, d) {
				return
			}
		}
	}
}

// unkept is a sample that no file has.
type unkept struct {
	stream *stream
	number uint64
}

func byNumber(i item, number uint64) int { return cmp.Compare(i.number, number) }

// keep appends the record of i, if it needs one and none has been made.
func (i *item) keep(s *stream, out []Record) []Record {
	if i.kept || i.Transient {
		return out
	}
	i.kept = true
	return append(out, Record{Number: i.number, Device: s.device, Metric: i.Metric})
}

// done says that samples wait no longer.
func (c *Core) done(items ...item) {
	for i := range items {
		if items[i].kept {
			c.records = append(c.records, Record{Number: items[i].number, Done: true})
		}
	}
}

// Restore takes what Records has said to an earlier Core: samples that waited at its
// end, in order. They are history, behind nothing and before all that is given now.
// Those of devices wait for AddDevice. It is called once, before there is a device.
func (c *Core) Restore(list []Record) {
	for _, r := range list {
		c.samples = max(c.samples, r.Number)
		s := c.node
		if r.Device != "" {
			s = c.ghost(r.Device)
		}
		s.queue = append(s.queue, item{Metric: r.Metric, number: r.Number, past: true, kept: true})
	}
	c.waiting += len(list)
	c.adopt(c.node, c.node.queue)
	c.makeRoom()
}

// ghost is the stream of a device that is not declared yet: it is never up, and
// has nothing but its queue.
func (c *Core) ghost(device string) *stream {
	if i := slices.IndexFunc(c.order, func(s *stream) bool { return s.device == device }); i >= 0 {
		return c.order[i]
	}
	s := &stream{device: device}
	c.order = append(c.order, s)
	return s
}

// declared gives a new device what waited for it.
func (c *Core) declared(s *stream) {
	i := slices.IndexFunc(c.order, func(o *stream) bool { return o.device == s.device })
	if i < 0 {
		return
	}
	queue := c.order[i].queue
	c.order = slices.Delete(c.order, i, i+1)
	c.adopt(s, queue)
}

// adopt makes restored samples those of s. What s has no metric for any more, or one
// of another type, is dropped.
func (c *Core) adopt(s *stream, queue []item) {
	s.queue = nil
	for _, i := range queue {
		i.of, i.Historical = s.byName[string(i.Name)], true
		fits := i.of != nil && !i.of.definition()
		if fits {
			_, err := i.of.accept(&i.Metric, 0) // its time was given to it when it was taken
			fits = err == nil && c.checkTemplate(&i.Metric, s, false) == nil
		}
		if !fits {
			c.drop(i)
			continue
		}
		s.queue = append(s.queue, i)
	}
}

// drop counts a sample that waited in vain.
func (c *Core) drop(items ...item) {
	c.waiting -= len(items)
	c.stats.Dropped += uint64(len(items))
	c.done(items...)
}
