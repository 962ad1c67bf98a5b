package node

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/wilco-iot/wilco/sparkplug"
)

// stream is the edge node, or a device behind it.
type stream struct {
	device  string // empty: the edge node
	metrics []*metric
	byName  map[string]*metric
	byAlias map[uint64]*metric
	queue   []item // samples in the order in which they were given

	up    bool // it is there, so it is to be born
	born  bool // its birth is out
	dying bool // a DDEATH is due
	unfit bool // its birth is too large for the server
	gone  bool // removed
	turn  bool // in Core.turns
}

// item is a sample that waits.
type item struct {
	sparkplug.Metric
	of     *metric
	number uint64
	past   bool // a birth has said a newer value
	kept   bool // Records has handed it over
}

func (c *Core) stream(device string, metrics []Metric) (*stream, error) {
	s := &stream{device: device, byName: map[string]*metric{}, byAlias: map[uint64]*metric{}}
	before := c.alias
	// Definitions first, so that instances find them wherever they are declared.
	for _, definitions := range []bool{true, false} {
		for i := range metrics {
			if t := metrics[i].Template; definitions != (t != nil && t.Definition) {
				continue
			}
			x, err := c.declare(&metrics[i], s)
			if err != nil {
				c.alias = before
				return nil, err
			}
			s.metrics = append(s.metrics, x)
			s.byName[string(x.Name)] = x
			if x.HasAlias {
				s.byAlias[x.Alias] = x
			}
		}
	}
	return s, nil
}

func (s *stream) unbear() { s.born, s.dying, s.unfit = false, false, false }

// AddDevice declares a device; up says that it is there, so that its birth goes
// out now or with the next block. The errors are ErrDuplicate and those about
// names, datatypes and values that cannot be in a DBIRTH.
//
// [tck-id-topic-structure-namespace-unique-device-id]
func (c *Core) AddDevice(device string, metrics []Metric, up bool) error {
	t := sparkplug.Topic{Type: sparkplug.DBirth, Group: c.cfg.Group, Node: c.cfg.Node, Device: device}
	if err := t.Check(); err != nil {
		return err
	}
	if c.devices[device] != nil {
		return fmt.Errorf("device %q: %w", device, ErrDuplicate)
	}
	s, err := c.stream(device, metrics)
	if err != nil {
		return fmt.Errorf("device %q: %w", device, err)
	}
	s.up = up
	c.declared(s)
	c.devices[device] = s
	c.order = append(c.order, s)
	c.wake(s)
	return nil
}

// RemoveDevice forgets a device: its DDEATH goes out, what waits of it does not.
func (c *Core) RemoveDevice(device string) error {
	s := c.devices[device]
	if s == nil {
		return fmt.Errorf("device %q: %w", device, ErrUnknownDevice)
	}
	c.down(s)
	s.gone = true
	c.drop(s.queue...)
	s.queue = nil
	for i := range c.flight {
		if d := &c.flight[i]; d.stream == s {
			c.done(d.items...) // they will not wait again
			d.items = nil
		}
	}
	delete(c.devices, device)
	c.order = slices.DeleteFunc(c.order, func(o *stream) bool { return o == s })
	return nil
}

// SetDevice says that a device is there, or has been lost. What waits of a lost
// device is history when it comes back.
//
// [tck-id-operational-behavior-device-ddeath]
func (c *Core) SetDevice(device string, up bool) error {
	s := c.devices[device]
	switch {
	case s == nil:
		return fmt.Errorf("device %q: %w", device, ErrUnknownDevice)
	case up == s.up:
	case up:
		s.up = true
		c.wake(s)
	default:
		c.down(s)
	}
	return nil
}

func (c *Core) down(s *stream) {
	s.up = false
	if s.born {
		s.dying = true
		c.wake(s)
	}
}

// wake gives a stream a turn.
func (c *Core) wake(s *stream) {
	if !s.turn {
		s.turn = true
		c.turns = append(c.turns, s)
	}
}

// Update takes samples of a device, or of the edge node when device is empty,
// each by its Name. All of them are taken, or none. What says nothing new is
// left out [tck-id-principles-rbe-recommended]; a Historical sample is for the
// record and leaves the present value alone. Without a value a sample is null,
// without a time it is of now, without properties it has those of the
// declaration; of a template it may have a part, and the rest stays as it is. The errors are ErrUnknownDevice, ErrUnknownMetric, ErrDeviceDown
// and those of values that do not fit.
func (c *Core) Update(device string, samples []sparkplug.Metric, now time.Time) error {
	return c.update(device, samples, now, false)
}

// Wrote is Update for what came out of a Write. With Config.Echo a value is
// told although it is the one that was there: that confirms the command.
func (c *Core) Wrote(device string, m sparkplug.Metric, now time.Time) error {
	return c.update(device, []sparkplug.Metric{m}, now, c.cfg.Echo)
}

func (c *Core) update(device string, samples []sparkplug.Metric, now time.Time, always bool) error {
	s := c.find(device)
	switch {
	case s == nil:
		return fmt.Errorf("device %q: %w", device, ErrUnknownDevice)
	case !s.up:
		return fmt.Errorf("device %q: %w", device, ErrDeviceDown)
	}
	list := make([]item, len(samples))
	for i := range samples {
		x := s.byName[string(samples[i].Name)]
		if x == nil {
			return fmt.Errorf("metric %q: %w", samples[i].Name, ErrUnknownMetric)
		}
		if x.definition() {
			return fmt.Errorf("metric %q: %w", samples[i].Name, ErrReadOnly)
		}
		list[i] = item{Metric: samples[i].Clone(), of: x}
		m := list[i].Metric
		if _, err := x.accept(&m, millis(now)); err != nil {
			return fmt.Errorf("metric %q: %w", samples[i].Name, err)
		}
		if err := c.checkTemplate(&m, s, !m.Historical); err != nil {
			return fmt.Errorf("metric %q: %w", samples[i].Name, err)
		}
	}
	for i := range list {
		c.enqueue(s, &list[i], now, always)
	}
	c.makeRoom()
	c.wake(s)
	return nil
}

// enqueue takes one sample that fits.
//
// [tck-id-operational-behavior-data-publish-nbirth-change]
// [tck-id-operational-behavior-data-publish-dbirth-change]
func (c *Core) enqueue(s *stream, i *item, now time.Time, always bool) {
	changed, _ := i.of.accept(&i.Metric, millis(now))
	if !changed && !always && !i.Historical {
		c.stats.Suppressed++
		return
	}
	c.samples++
	i.number = c.samples
	if !i.Historical {
		i.of.Metric, i.of.sample = i.Metric, i.number
	}
	s.queue = append(s.queue, *i)
	c.waiting++
	c.unkept = append(c.unkept, unkept{s, i.number})
}

// makeRoom drops the oldest samples, whosever they are, until the bound is kept.
// It is slow for many devices, but only where something is lost.
func (c *Core) makeRoom() {
	for c.waiting > max(c.cfg.History, 1) {
		var oldest *stream
		for i := -1; i < len(c.order); i++ {
			s := c.node
			if i >= 0 {
				s = c.order[i]
			}
			if len(s.queue) > 0 && (oldest == nil || s.queue[0].number < oldest.queue[0].number) {
				oldest = s
			}
		}
		c.drop(oldest.queue[0])
		oldest.queue = oldest.queue[1:]
	}
}

// find is the stream of a device, or of the node for an empty name.
func (c *Core) find(device string) *stream {
	if device == "" {
		return c.node
	}
	return c.devices[device]
}

// settle makes history of what waits of a stream whose birth goes out: the
// birth says the present values. What is transient is not for the record, and
// what the birth says itself is not told twice: it is returned.
func (c *Core) settle(s *stream) (told []item) {
	c.waiting -= len(s.queue)
	rest := s.queue[:0:0]
	for _, i := range s.queue {
		switch {
		case i.Transient:
			c.done(i)
		case i.number == i.of.sample:
			told = append(told, i)
		default:
			i.past = true
			rest = append(rest, i)
		}
	}
	s.queue = rest
	c.waiting += len(rest)
	return told
}

// restore takes back the samples that were sent and are not known to be written,
// each to its place in the queue.
func (c *Core) restore() {
	for _, d := range c.flight {
		if len(d.items) == 0 {
			continue
		}
		d.stream.queue = append(d.stream.queue, d.items...)
		c.waiting += len(d.items)
		for _, i := range d.items {
			if !i.kept {
				c.unkept = append(c.unkept, unkept{d.stream, i.number})
			}
		}
	}
	c.flight = nil
	for _, s := range append([]*stream{c.node}, c.order...) {
		slices.SortFunc(s.queue, func(a, b item) int { return cmp.Compare(a.number, b.number) })
	}
}
