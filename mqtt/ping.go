package mqtt

// Pingreq asks for a sign of life.
type Pingreq struct{}

// Type returns TypePingreq.
func (p *Pingreq) Type() Type { return TypePingreq }

// Append encodes p; see Packet.
func (p *Pingreq) Append(dst []byte, v Version) ([]byte, error) {
	return appendEmpty(dst, TypePingreq, v)
}

// Decode checks that there is no body; see Packet.
func (p *Pingreq) Decode(h Header, body []byte, v Version) error {
	c := start(h, body, TypePingreq, v)
	return c.end()
}

// Pingresp gives it.
type Pingresp struct{}

// Type returns TypePingresp.
func (p *Pingresp) Type() Type { return TypePingresp }

// Append encodes p; see Packet.
func (p *Pingresp) Append(dst []byte, v Version) ([]byte, error) {
	return appendEmpty(dst, TypePingresp, v)
}

// Decode checks that there is no body; see Packet.
func (p *Pingresp) Decode(h Header, body []byte, v Version) error {
	c := start(h, body, TypePingresp, v)
	return c.end()
}

func appendEmpty(dst []byte, t Type, v Version) ([]byte, error) {
	e := encoder{v: v}
	e.begin(dst, t, 0)
	return e.result()
}
