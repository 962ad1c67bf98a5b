package mqtt

import "strings"

// Subscription is one filter of a SUBSCRIBE with its options. MQTT 3.1.1 has
// QoS only.
type Subscription struct {
	Filter            string
	QoS               QoS
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte // 0 send, 1 send if new, 2 do not send
}

// Subscribe asks for messages. A packet with one bad filter is refused whole,
// with TopicFilterInvalid.
type Subscribe struct {
	PacketID       uint16
	SubscriptionID uint32 // 0: absent
	Subscriptions  []Subscription
	User           []UserProperty
}

// Type returns TypeSubscribe.
func (p *Subscribe) Type() Type { return TypeSubscribe }

// The bits of the subscription options (3.8.3.1).
const (
	optionNoLocal           = 0x04
	optionRetainAsPublished = 0x08
	optionReserved          = 0xC0
	optionReserved311       = 0xFC
)

// Decode reads a SUBSCRIBE body; see Packet. Nothing in p borrows body.
func (p *Subscribe) Decode(h Header, body []byte, v Version) error {
	*p = Subscribe{}
	c := start(h, body, TypeSubscribe, v)
	p.PacketID = c.packetID()
	if v == V5 {
		p.decodeProperties(&c)
	}
	if c.err == nil && len(c.b) == 0 { // [MQTT-3.8.3-2] [MQTT-3.8.3-3 v3.1.1]
		c.fail(protocolError("SUBSCRIBE without a filter"))
	}
	for c.err == nil && len(c.b) != 0 {
		if len(p.Subscriptions) == MaxFilters {
			c.fail(&Error{QuotaExceeded, "too many filters"})
			break
		}
		s := Subscription{Filter: c.filter()}
		s.decodeOptions(&c, v)
		p.Subscriptions = append(p.Subscriptions, s)
	}
	return c.end()
}

func (p *Subscribe) decodeProperties(c *cursor) {
	list := c.properties(inSub)
	for id, ok := list.next(); ok; id, ok = list.next() {
		switch id {
		case propSubscriptionID:
			p.SubscriptionID = list.subscriptionID()
		case propUser:
			p.User = list.user(p.User)
		}
	}
	c.finish(&list)
}

// filter reads a topic filter and holds it to 4.7.
func (c *cursor) filter() string {
	s := string(c.bytes("filter"))
	if c.err == nil {
		if err := checkFilter(s); err != nil {
			c.fail(err)
		}
	}
	return s
}

func (s *Subscription) decodeOptions(c *cursor, v Version) {
	options := c.u8("subscription options")
	if c.err != nil {
		return
	}
	if v != V5 {
		if options&optionReserved311 != 0 || options&3 == 3 { // [MQTT-3.8.3-4 v3.1.1]
			c.fail(malformed("reserved subscription option"))
		}
		s.QoS = QoS(options & 3)
		return
	}
	s.QoS = QoS(options & 3)
	s.NoLocal = options&optionNoLocal != 0
	s.RetainAsPublished = options&optionRetainAsPublished != 0
	s.RetainHandling = options >> 4 & 3
	if options&optionReserved != 0 { // [MQTT-3.8.3-5]
		c.fail(malformed("reserved subscription option"))
	} else if err := s.check(); err != nil {
		c.fail(err)
	}
}

// check finds the combinations that 3.8.3.1 calls protocol errors.
func (s *Subscription) check() *Error {
	switch {
	case s.QoS > 2:
		return protocolError("QoS above 2")
	case s.RetainHandling > 2:
		return protocolError("retain handling above 2")
	case s.NoLocal && strings.HasPrefix(s.Filter, sharePrefix): // [MQTT-3.8.3-4]
		return protocolError("no local on a shared subscription")
	}
	return nil
}

func (s *Subscription) options() byte {
	options := byte(s.QoS) | s.RetainHandling<<4
	if s.NoLocal {
		options |= optionNoLocal
	}
	if s.RetainAsPublished {
		options |= optionRetainAsPublished
	}
	return options
}

// Append encodes p; see Packet.
func (p *Subscribe) Append(dst []byte, v Version) ([]byte, error) {
	e := encoder{v: v}
	p.body(&e)
	if e.begin(dst, TypeSubscribe, flagsOf(TypeSubscribe)) {
		p.body(&e)
	}
	return e.result()
}

func (p *Subscribe) body(e *encoder) {
	e.packetID(p.PacketID)
	e.openProperties()
	if p.SubscriptionID > maxRemaining {
		e.fail(protocolError("subscription identifier: too large"))
	}
	if p.SubscriptionID != 0 {
		e.u8(byte(propSubscriptionID))
		e.varint(int(p.SubscriptionID))
	}
	e.user(p.User)
	e.closeProperties()
	e.countFilters(len(p.Subscriptions))
	for i := range p.Subscriptions {
		s := &p.Subscriptions[i]
		e.filter(s.Filter)
		if !e.writing {
			if err := s.check(); err != nil {
				e.fail(err)
			} else if e.v != V5 && s.options() > 2 {
				e.fail(protocolError("MQTT 3.1.1 has no subscription options but QoS"))
			}
		}
		e.u8(s.options())
	}
}

func (e *encoder) countFilters(n int) {
	switch {
	case n == 0: // [MQTT-3.8.3-2] [MQTT-3.10.3-2]
		e.fail(protocolError("no filter"))
	case n > MaxFilters:
		e.fail(&Error{QuotaExceeded, "too many filters"})
	}
}

func (e *encoder) filter(s string) {
	if !e.writing {
		e.n += 2 + len(s)
		if err := checkFilter(s); err != nil {
			e.fail(err)
		}
		return
	}
	e.string("filter", s)
}

// Unsubscribe ends subscriptions. As for Subscribe, one bad filter is enough
// to refuse it.
type Unsubscribe struct {
	PacketID uint16
	Filters  []string
	User     []UserProperty
}

// Type returns TypeUnsubscribe.
func (p *Unsubscribe) Type() Type { return TypeUnsubscribe }

// Decode reads an UNSUBSCRIBE body; see Packet. Nothing in p borrows body.
func (p *Unsubscribe) Decode(h Header, body []byte, v Version) error {
	*p = Unsubscribe{}
	c := start(h, body, TypeUnsubscribe, v)
	p.PacketID = c.packetID()
	if v == V5 {
		list := c.properties(inUnsubRq)
		for _, ok := list.next(); ok; _, ok = list.next() {
			p.User = list.user(p.User)
		}
		c.finish(&list)
	}
	if c.err == nil && len(c.b) == 0 { // [MQTT-3.10.3-2]
		c.fail(protocolError("UNSUBSCRIBE without a filter"))
	}
	for c.err == nil && len(c.b) != 0 {
		if len(p.Filters) == MaxFilters {
			c.fail(&Error{QuotaExceeded, "too many filters"})
			break
		}
		p.Filters = append(p.Filters, c.filter())
	}
	return c.end()
}

// Append encodes p; see Packet.
func (p *Unsubscribe) Append(dst []byte, v Version) ([]byte, error) {
	e := encoder{v: v}
	p.body(&e)
	if e.begin(dst, TypeUnsubscribe, flagsOf(TypeUnsubscribe)) {
		p.body(&e)
	}
	return e.result()
}

func (p *Unsubscribe) body(e *encoder) {
	e.packetID(p.PacketID)
	e.openProperties()
	e.user(p.User)
	e.closeProperties()
	e.countFilters(len(p.Filters))
	for _, filter := range p.Filters {
		e.filter(filter)
	}
}
