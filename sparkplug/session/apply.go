package session

import "github.com/wilco-iot/wilco/sparkplug"

// beBorn begins a session, or begins it anew. Any sequence number will do, and
// the next message has the one after it
// [tck-id-payloads-sequence-num-incrementing].
func (n *Node) beBorn(in *input, out *Actions) {
	n.epoch++
	was := n.state
	n.state, n.wanted, n.unsure = Online, false, false
	n.bdSeq, n.hasBdSeq = in.bdSeq, in.has
	n.born, n.bornSum, n.bornSize = in.header, sum(in.Payload), len(in.Payload)
	n.expect, n.newest = sparkplug.NextSeq(uint8(in.header.Seq)), in.header.Timestamp
	n.pastTo, n.leftOut = in.now.Add(n.cfg.reorderTimeout()), [4]uint64{}
	n.own, n.devices, n.defined = nil, nil, 0
	n.adopt(was)

	if !in.header.HasSeq {
		out.add(in.event(Malformed, NoSequence)) // [tck-id-payloads-nbirth-seq]
	}
	if !in.has {
		out.add(in.event(Malformed, NoBdSeq)) // [tck-id-topics-nbirth-bdseq-included]
	}
	n.own = n.declare(in, out, NodeBirth)
	n.defined = n.own.cost
	if n.defined > n.cfg.definitions() {
		n.refuse(in, out)
		return
	}
	n.drain(out)
}

// declare reads the metrics of a birth, and tells of it.
func (n *Node) declare(in *input, out *Actions, k Kind) *Unit {
	p := &in.slot.payload
	complain := func(i int, r Reason, err error) { in.complain(i, r, err, out) }
	u := newUnit(in.Device, p, complain)
	if in.Device != "" && len(u.templates) > 0 {
		complain(-1, DefinitionInDevice, nil) // [tck-id-payloads-template-definition-nbirth-only]
	}
	if in.Device != "" && n.own != nil && sharesAlias(u, n.own) {
		complain(-1, SharedAlias, nil) // [tck-id-payloads-alias-uniqueness]
	}
	from := len(out.values)
	place := 0
	for i := range p.Metrics {
		raw := &p.Metrics[i]
		// The metrics of u are those of p in order, less some.
		if place == len(u.Metrics) || raw.Name == nil || string(raw.Name) != u.Metrics[place].Name {
			continue
		}
		m := &u.Metrics[place]
		place++
		if r, err := n.fits(raw, m, u, true); r != NoReason {
			complain(i, r, err)
			if err != nil {
				continue
			}
		}
		out.values = append(out.values, Value{m, raw})
	}
	e := in.event(k, NoReason)
	e.Unit, e.Values = u, out.values[from:len(out.values):len(out.values)]
	out.add(e)
	return u
}

// complain tells of a metric. The first few of a message do: a message can have
// a hundred thousand.
func (in *input) complain(i int, r Reason, err error, out *Actions) {
	if in.complaints++; in.complaints > maxComplaints {
		return
	}
	e := in.event(Malformed, r)
	e.Metric, e.Err = i, err
	out.add(e)
}

const maxComplaints = 16

func sharesAlias(u, other *Unit) bool {
	for i := range u.Metrics {
		if m := &u.Metrics[i]; m.HasAlias && other.alias(m.Alias) != 0 {
			return true
		}
	}
	return false
}

// fits tells whether a value is one of its metric. A reason without an error is
// something to complain of that does not make it useless.
func (n *Node) fits(raw *sparkplug.Metric, m *Metric, u *Unit, whole bool) (Reason, error) {
	if err := raw.Check(m.Datatype); err != nil {
		return BadValue, err
	}
	t := raw.Template
	if t == nil || t.Definition || raw.Null {
		return NoReason, nil
	}
	def := u.templates[string(t.Ref)]
	if def == nil && n.own != nil {
		def = n.own.templates[string(t.Ref)] // [tck-id-payloads-template-definition-nbirth]
	}
	if def == nil {
		return UnknownTemplate, nil // [tck-id-payloads-template-ref-instance]
	}
	if err := t.CheckInstance(def, whole); err != nil {
		return BadValue, err
	}
	return NoReason, nil
}

// die makes the node offline. An NDEATH has no number and waits for nothing
// [tck-id-payloads-ndeath-seq]: what is held will never be complete.
//
// [tck-id-operational-behavior-edge-node-termination-host-action-ndeath-node-offline]
// [tck-id-operational-behavior-edge-node-termination-host-action-ndeath-devices-offline]
func (n *Node) die(in *input, out *Actions) {
	n.forget()
	if n.state == Unknown || n.unsure {
		n.bdSeq, n.hasBdSeq = in.bdSeq, in.has
	}
	n.state, n.wanted, n.unsure, n.diedAt = Offline, false, false, in.now
	n.own, n.devices, n.defined = nil, nil, 0
	out.add(in.event(NodeDeath, NoReason))
}

// apply takes the message whose turn it is.
func (n *Node) apply(in *input, out *Actions) {
	n.expect, n.repeats = sparkplug.NextSeq(n.expect), 0
	if in.header.HasTimestamp {
		n.newest = max(n.newest, in.header.Timestamp)
	}
	if in.slot == nil {
		if n.decode(in, out); in.err != nil {
			in.reason = Unreadable
			n.giveUp(in, out)
			return
		}
	}
	switch in.Type {
	case sparkplug.NData:
		n.data(n.own, in, out)
	case sparkplug.DData:
		if u := n.devices[in.Device]; u != nil {
			n.data(u, in, out)
			return
		}
		in.reason = BeforeDeviceBirth
		n.want(in, out)
	case sparkplug.DBirth:
		n.deviceBirth(in, out)
	case sparkplug.DDeath:
		n.deviceDeath(in, out)
	}
}

func (n *Node) deviceBirth(in *input, out *Actions) {
	u := n.declare(in, out, DeviceBirth)
	if n.devices == nil {
		n.devices = map[string]*Unit{}
	}
	if old := n.devices[in.Device]; old != nil {
		n.defined -= old.cost
	}
	n.devices[in.Device] = u
	n.defined += u.cost
	if n.defined > n.cfg.definitions() {
		n.refuse(in, out)
	}
}

// refuse gives up a node that declares too much to be kept.
func (n *Node) refuse(in *input, out *Actions) {
	n.own, n.devices, n.defined = nil, nil, 0
	in.reason = TooMuchDefined
	n.giveUp(in, out)
}

// deviceDeath makes a device offline
// [tck-id-operational-behavior-edge-node-termination-host-action-ddeath-devices-offline].
func (n *Node) deviceDeath(in *input, out *Actions) {
	u := n.devices[in.Device]
	if u == nil {
		out.add(in.event(Ignored, NotBorn))
		return
	}
	delete(n.devices, in.Device)
	n.defined -= u.cost
	out.add(in.event(DeviceDeath, NoReason))
}

// data gives the values of a message the names of their births. A metric that
// cannot be told costs the others nothing; one rebirth is asked for all.
func (n *Node) data(u *Unit, in *input, out *Actions) {
	p := &in.slot.payload
	from, unknown := len(out.values), NoReason
	for i := range p.Metrics {
		raw := &p.Metrics[i]
		m, r := u.resolve(raw)
		var err error
		if r == NoReason {
			r, err = n.fits(raw, m, u, false)
		}
		if r != NoReason {
			in.complain(i, r, err, out)
			if r == UnknownAlias || r == UnknownMetric || r == UnknownTemplate {
				unknown = r
			}
			if m == nil || err != nil {
				continue
			}
		}
		out.values = append(out.values, Value{m, raw})
	}
	e := in.event(Data, NoReason)
	e.Unit, e.Values = u, out.values[from:len(out.values):len(out.values)]
	out.add(e)
	if unknown != NoReason {
		in.reason = unknown
		n.want(in, out)
	}
}
