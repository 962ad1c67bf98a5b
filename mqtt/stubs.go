package mqtt

import "io"

func ParseHeader(b []byte, max int) (h Header, n int, err error)                    { return }
func NewPacket(t Type) Packet                                                       { return nil }
func DecodePacket(h Header, body []byte, v Version) (Packet, error)                 { return nil, nil }
func AppendAck(dst []byte, v Version, kind Type, id uint16, code ReasonCode) []byte { return dst }

type Reader struct{}

func NewReader(r io.Reader, max int) *Reader                         { return &Reader{} }
func (r *Reader) Next() (Header, []byte, error)                      { return Header{}, nil, io.EOF }
func (r *Reader) SetMax(max int)                                     {}
func (r *Reader) Buffered() int                                      { return 0 }
func ValidTopic(s string) error                                      { return nil }
func ValidFilter(s string) error                                     { return nil }
func Match(filter, topic string) bool                                { return false }
func ParseShare(filter string) (group, inner string, shared bool)    { return }
func (p *Publish) Clone() *Publish                                   { return nil }
func (p *Connect) Type() Type                                        { return TypeConnect }
func (p *Connect) Append(dst []byte, v Version) ([]byte, error)      { return dst, nil }
func (p *Connect) Decode(h Header, body []byte, v Version) error     { return nil }
func (p *Connack) Type() Type                                        { return TypeConnack }
func (p *Connack) Append(dst []byte, v Version) ([]byte, error)      { return dst, nil }
func (p *Connack) Decode(h Header, body []byte, v Version) error     { return nil }
func (p *Publish) Type() Type                                        { return TypePublish }
func (p *Publish) Append(dst []byte, v Version) ([]byte, error)      { return dst, nil }
func (p *Publish) Decode(h Header, body []byte, v Version) error     { return nil }
func (p *Ack) Type() Type                                            { return p.Kind }
func (p *Ack) Append(dst []byte, v Version) ([]byte, error)          { return dst, nil }
func (p *Ack) Decode(h Header, body []byte, v Version) error         { return nil }
func (p *Subscribe) Type() Type                                      { return TypeSubscribe }
func (p *Subscribe) Append(dst []byte, v Version) ([]byte, error)    { return dst, nil }
func (p *Subscribe) Decode(h Header, body []byte, v Version) error   { return nil }
func (p *Suback) Type() Type                                         { return TypeSuback }
func (p *Suback) Append(dst []byte, v Version) ([]byte, error)       { return dst, nil }
func (p *Suback) Decode(h Header, body []byte, v Version) error      { return nil }
func (p *Unsubscribe) Type() Type                                    { return TypeUnsubscribe }
func (p *Unsubscribe) Append(dst []byte, v Version) ([]byte, error)  { return dst, nil }
func (p *Unsubscribe) Decode(h Header, body []byte, v Version) error { return nil }
func (p *Unsuback) Type() Type                                       { return TypeUnsuback }
func (p *Unsuback) Append(dst []byte, v Version) ([]byte, error)     { return dst, nil }
func (p *Unsuback) Decode(h Header, body []byte, v Version) error    { return nil }
func (p *Pingreq) Type() Type                                        { return TypePingreq }
func (p *Pingreq) Append(dst []byte, v Version) ([]byte, error)      { return dst, nil }
func (p *Pingreq) Decode(h Header, body []byte, v Version) error     { return nil }
func (p *Pingresp) Type() Type                                       { return TypePingresp }
func (p *Pingresp) Append(dst []byte, v Version) ([]byte, error)     { return dst, nil }
func (p *Pingresp) Decode(h Header, body []byte, v Version) error    { return nil }
func (p *Disconnect) Type() Type                                     { return TypeDisconnect }
func (p *Disconnect) Append(dst []byte, v Version) ([]byte, error)   { return dst, nil }
func (p *Disconnect) Decode(h Header, body []byte, v Version) error  { return nil }
func (p *Auth) Type() Type                                           { return TypeAuth }
func (p *Auth) Append(dst []byte, v Version) ([]byte, error)         { return dst, nil }
func (p *Auth) Decode(h Header, body []byte, v Version) error        { return nil }
