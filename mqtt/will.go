package mqtt

// Will is the message the server publishes when its client is gone. It obeys
// the rules of a PUBLISH; a will delay of 0 means the same as its absence.
type Will struct {
	Topic           string
	Payload         []byte
	QoS             QoS
	Retain          bool
	DelaySeconds    uint32
	PayloadUTF8     bool // Payload Format Indicator 1
	HasExpiry       bool
	ExpirySeconds   uint32
	ContentType     string
	ResponseTopic   string
	CorrelationData []byte // nil: absent
	User            []UserProperty
}

// decode reads the will's properties, topic and payload.
func (w *Will) decode(c *cursor, v Version) {
	if v == V5 {
		w.decodeProperties(c)
	}
	topic := c.bytes("will topic")
	if c.err == nil {
		if err := checkTopic(topic); err != nil { // [MQTT-3.1.3-11] [MQTT-3.1.3-10 v3.1.1]
			c.fail(&Error{err.Code, "will " + err.Text})
		}
	}
	w.Topic = string(topic)
	w.Payload = c.bytes("will payload")
}

func (w *Will) decodeProperties(c *cursor) {
	list := c.properties(inWill)
	for id, ok := list.next(); ok; id, ok = list.next() {
		switch id {
		case propWillDelay:
			w.DelaySeconds = list.u32("will delay interval")
		case propPayloadFormat:
			w.PayloadUTF8 = list.flag("payload format indicator")
		case propMessageExpiry:
			w.HasExpiry = true
			w.ExpirySeconds = list.u32("message expiry interval")
		case propContentType:
			w.ContentType = list.string("content type")
		case propResponseTopic:
			w.ResponseTopic = string(list.responseTopic())
		case propCorrelationData:
			w.CorrelationData = list.bytes("correlation data")
		case propUser: // in the order of the wire [MQTT-3.1.3-10]
			w.User = list.user(w.User)
		}
	}
	c.finish(&list)
}

func (w *Will) body(e *encoder) {
	if !e.writing {
		w.check(e)
	}
	e.openProperties()
	if w.DelaySeconds != 0 {
		e.property32(propWillDelay, w.DelaySeconds)
	}
	if w.PayloadUTF8 {
		e.property8(propPayloadFormat, 1)
	}
	if w.HasExpiry {
		e.property32(propMessageExpiry, w.ExpirySeconds)
	}
	e.propertyString(propContentType, "content type", w.ContentType)
	e.propertyString(propResponseTopic, "response topic", w.ResponseTopic)
	e.propertyBytes(propCorrelationData, "correlation data", w.CorrelationData)
	e.user(w.User)
	e.closeProperties()
	e.string("will topic", w.Topic)
	e.bytes("will payload", w.Payload)
}

func (w *Will) check(e *encoder) {
	if w.QoS > 2 { // [MQTT-3.1.2-12]
		e.fail(malformed("will QoS above 2"))
	}
	if err := checkTopic([]byte(w.Topic)); err != nil {
		e.fail(&Error{err.Code, "will " + err.Text})
	}
	if w.ResponseTopic != "" {
		if err := checkResponseTopic([]byte(w.ResponseTopic)); err != nil {
			e.fail(err)
		}
	}
}
