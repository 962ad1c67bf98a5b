package node

import (
	"fmt"
	"time"

	"github.com/wilco-iot/wilco/sparkplug"
)

// Command takes an NCMD, or a DCMD when device is not empty. What it may write
// comes out as Write, in order; what it may not, all together as one Refused. A
// metric goes by its name or its alias, with or without its datatype. Before
// births are going out, or when they are no longer, a command is dropped: who
// sends it does not know this connection.
//
// Fields that mean nothing in a command, such as a sequence number, are ignored.
func (c *Core) Command(device string, p *sparkplug.Payload, now time.Time) {
	if c.state != Birthing && c.state != Online {
		c.stats.Refused += uint64(len(p.Metrics))
		return
	}
	s := c.find(device)
	refused, first := 0, error(nil)
	refuse := func(err error) {
		if refused++; first == nil {
			first = err
		}
	}
	if s == nil || !s.up {
		refused, first = len(p.Metrics), ErrUnknownDevice
		if s != nil {
			first = ErrDeviceDown
		}
		p = &sparkplug.Payload{}
	}
	for i := range p.Metrics {
		if s == c.node && c.control(&p.Metrics[i]) {
			continue
		}
		if err := c.write(s, &p.Metrics[i]); err != nil {
			refuse(err)
		}
	}
	// By name only: the metric has no alias
	// [tck-id-operational-behavior-data-commands-rebirth-name-aliases].
	if device == "" && p.AsksRebirth(0, false) {
		c.askRebirth(now)
	}
	if refused > 0 {
		c.stats.Refused += uint64(refused)
		c.act(Action{Kind: Refused, Device: device, Count: refused, Err: first})
	}
}

// control does what the metrics ask for that the node declares itself.
func (c *Core) control(m *sparkplug.Metric) bool {
	switch {
	case string(m.Name) == sparkplug.MetricRebirth, string(m.Name) == sparkplug.MetricBdSeq:
		return true
	case string(m.Name) == sparkplug.MetricNextServer && c.cfg.Servers > 1:
		if ask, err := m.Value.Bool(); err == nil && ask && !m.Null {
			c.Leave(NextServer)
		}
		return true
	}
	return false
}

// write hands out one metric of a command, or tells why not.
//
// [tck-id-operational-behavior-data-commands-ncmd-metric-name]
// [tck-id-operational-behavior-data-commands-dcmd-metric-name]
func (c *Core) write(s *stream, m *sparkplug.Metric) error {
	x := s.byAlias[m.Alias]
	switch {
	case m.Name != nil:
		if x = s.byName[string(m.Name)]; x != nil && m.HasAlias && (!x.HasAlias || x.Alias != m.Alias) {
			return fmt.Errorf("metric %.100q: has another alias than %d", m.Name, m.Alias)
		}
	case !m.HasAlias:
		x = nil
	}
	switch {
	case x == nil:
		return fmt.Errorf("metric %.100q, alias %d: %w", m.Name, m.Alias, ErrUnknownMetric)
	case !x.writable:
		return fmt.Errorf("metric %q: %w", x.Name, ErrReadOnly)
	}
	if err := m.Check(x.Datatype); err != nil {
		return fmt.Errorf("metric %q: %w", x.Name, err)
	}
	if err := c.checkTemplate(m, s, false); err != nil {
		return fmt.Errorf("metric %q: %w", x.Name, err)
	}
	w := m.Clone()
	if w.Template != nil {
		c.typed(w.Template)
	}
	w.Name, w.Datatype, w.Alias, w.HasAlias = append([]byte(nil), x.Name...), x.Datatype, 0, false
	c.stats.Writes++
	c.act(Action{Kind: Write, Device: s.device, Metric: w})
	return nil
}
