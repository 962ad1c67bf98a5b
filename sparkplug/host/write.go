package host

import (
	"errors"
	"fmt"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/session"
)

// The reasons why a Write is certainly not on its way. Compare them with errors.Is.
var (
	ErrPassive = errors.New("the host is passive and writes nothing")
	// ErrNotOnline: the node, or the device, is not there, or is not trusted now.
	ErrNotOnline     = errors.New("not online")
	ErrUnknownMetric = errors.New("no such metric in its birth")
)

// Unit is what the last birth declared of an edge node itself, where device is
// empty, or of a device behind it; nil when there is none. online tells whether
// that birth is in force: its values are good, and may be written.
func (h *Host) Unit(id NodeID, device string) (u *session.Unit, online bool) {
	s := h.shard(id.Group, id.Node)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if x := s.unit(id, device); x != nil {
		return x.def, s.writable(id, x)
	}
	return nil, false
}

// Value is a metric and its last live value, as Node has it. ok is false when its
// birth does not declare it.
func (h *Host) Value(id NodeID, device, metric string) (m Metric, ok bool) {
	s := h.shard(id.Group, id.Node)
	s.mu.RLock()
	defer s.mu.RUnlock()
	u := s.unit(id, device)
	if u == nil || u.def == nil {
		return Metric{}, false
	}
	if d := u.def.Find(metric); d != nil {
		return u.metric(d.Index), true
	}
	return Metric{}, false
}

// unit is of an edge node or a device; nil when nothing is known of it. The
// caller has the lock.
func (s *shard) unit(id NodeID, device string) *unit {
	e := s.nodes[id]
	switch {
	case e == nil:
		return nil
	case device == "":
		return e.own
	}
	return e.devices[device]
}

func (s *shard) writable(id NodeID, u *unit) bool {
	return s.nodes[id].info.Status == Online && u.online && !u.stale
}

// Write sends one command to an edge node, NCMD, or to a device behind it, DCMD,
// by the server that counts for the node. Each metric has a name that the birth
// declares, and a value of its datatype, or Null. It goes by alias where the
// birth gave one, in the field where the birth wrote the value, and with the
// datatype, which some edge nodes need.
//
// Write does not block. done is called once, from another goroutine, with nil
// when the command was written to the server: Sparkplug has no other word for it,
// and only DATA can confirm it. An error of Write means that nothing was sent, and
// that done will not be called: ErrPassive, ErrNotOnline, ErrUnknownMetric, a
// *sparkplug.Error for a value that does not fit, client.ErrDown.
//
// [tck-id-topics-ncmd-topic] [tck-id-topics-dcmd-topic] [tck-id-payloads-ncmd-timestamp]
// [tck-id-payloads-dcmd-timestamp] [tck-id-payloads-ncmd-seq] [tck-id-payloads-dcmd-seq]
// [tck-id-topics-ncmd-payload] [tck-id-topics-dcmd-payload]
// [tck-id-operational-behavior-data-commands-ncmd-verb]
// [tck-id-operational-behavior-data-commands-dcmd-verb]
func (h *Host) Write(id NodeID, device string, list []sparkplug.Metric, done func(error)) error {
	if h.opts.Role == Passive {
		return ErrPassive
	}
	topic := sparkplug.Topic{Type: sparkplug.NCmd, Group: id.Group, Node: id.Node, Device: device}
	if device != "" {
		topic.Type = sparkplug.DCmd
	}
	name, err := topic.Append(nil)
	if err != nil {
		return err
	}
	s := h.shard(id.Group, id.Node)
	// Published under the lock: no birth that is taken meanwhile gives an alias
	// another meaning.
	s.mu.RLock()
	defer s.mu.RUnlock()
	u := s.unit(id, device)
	if u == nil || !s.writable(id, u) {
		return fmt.Errorf("%s: %w", topic, ErrNotOnline)
	}
	ms := millis(time.Now())
	p := sparkplug.Payload{Timestamp: ms, HasTimestamp: true, Metrics: make([]sparkplug.Metric, len(list))}
	for i := range list {
		if p.Metrics[i], err = command(u.def, &list[i], ms); err != nil {
			return fmt.Errorf("metric %q: %w", list[i].Name, err)
		}
	}
	c := s.nodes[id].current.link.client.Load()
	if c == nil {
		return client.ErrDown
	}
	return c.PublishAsync(client.Message{
		Topic: string(name), Payload: p.Append(nil), QoS: mqtt.QoS(topic.Type.QoS()), Retain: topic.Type.Retain(),
	}, func(r client.Result) { done(r.Err) })
}

// command is a metric as it goes into a command.
func command(u *session.Unit, want *sparkplug.Metric, ms uint64) (sparkplug.Metric, error) {
	d := u.Find(string(want.Name))
	if d == nil {
		return sparkplug.Metric{}, ErrUnknownMetric
	}
	m := *want
	if err := m.Check(d.Datatype); err != nil {
		return sparkplug.Metric{}, err
	}
	if d.Datatype != 0 {
		m.Datatype = d.Datatype
	}
	m.Value = m.Value.In(d.Form, m.Datatype)
	m.Timestamp, m.HasTimestamp = ms, true
	// An alias that two metrics have is none [tck-id-payloads-alias-data-cmd-requirement].
	if d.HasAlias && u.FindAlias(d.Alias) == d {
		m.Name, m.Alias, m.HasAlias = nil, d.Alias, true
	}
	return m, nil
}
