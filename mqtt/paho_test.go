package mqtt

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"

	v5 "github.com/eclipse/paho.golang/packets"
	v3 "github.com/eclipse/paho.mqtt.golang/packets"
	"pgregory.net/rapid"
)

// The Paho codecs are second opinions: what both accept must mean the same,
// and what we encode they must read the same. They check little, so that they
// refuse something proves nothing.

// readPaho decodes wire with the codec for v and translates the packet.
func readPaho(wire []byte, v Version) (p Packet, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("paho panics: %v", r)
		}
	}()
	if v == V311 {
		packet, err := v3.ReadPacket(bytes.NewReader(wire))
		if err != nil {
			return nil, err
		}
		return fromPaho3(packet), nil
	}
	packet, err := v5.ReadPacket(bytes.NewReader(wire))
	if err != nil {
		return nil, err
	}
	return fromPaho5(packet.Content), nil
}

func fromPaho3(packet v3.ControlPacket) Packet {
	switch q := packet.(type) {
	case *v3.ConnectPacket:
		p := &Connect{Version: Version(q.ProtocolVersion), ClientID: q.ClientIdentifier, CleanStart: q.CleanSession,
			KeepAlive: q.Keepalive, HasUsername: q.UsernameFlag, Username: q.Username, HasPassword: q.PasswordFlag, Password: q.Password}
		if q.WillFlag {
			p.Will = &Will{Topic: q.WillTopic, Payload: q.WillMessage, QoS: QoS(q.WillQos), Retain: q.WillRetain}
		}
		return p
	case *v3.ConnackPacket:
		code, _ := reasonOf311(q.ReturnCode)
		return &Connack{SessionPresent: q.SessionPresent, Reason: code}
	case *v3.PublishPacket:
		return &Publish{Topic: []byte(q.TopicName), Payload: q.Payload, PacketID: q.MessageID, QoS: QoS(q.Qos), Dup: q.Dup, Retain: q.Retain}
	case *v3.PubackPacket:
		return &Ack{Kind: TypePuback, PacketID: q.MessageID}
	case *v3.PubrecPacket:
		return &Ack{Kind: TypePubrec, PacketID: q.MessageID}
	case *v3.PubrelPacket:
		return &Ack{Kind: TypePubrel, PacketID: q.MessageID}
	case *v3.PubcompPacket:
		return &Ack{Kind: TypePubcomp, PacketID: q.MessageID}
	case *v3.SubscribePacket:
		p := &Subscribe{PacketID: q.MessageID}
		for i, filter := range q.Topics {
			p.Subscriptions = append(p.Subscriptions, Subscription{Filter: filter, QoS: QoS(q.Qoss[i])})
		}
		return p
	case *v3.SubackPacket:
		return &Suback{PacketID: q.MessageID, Reasons: fromPahoCodes(q.ReturnCodes)}
	case *v3.UnsubscribePacket:
		return &Unsubscribe{PacketID: q.MessageID, Filters: q.Topics}
	case *v3.UnsubackPacket:
		return &Unsuback{PacketID: q.MessageID}
	case *v3.PingreqPacket:
		return &Pingreq{}
	case *v3.PingrespPacket:
		return &Pingresp{}
	case *v3.DisconnectPacket:
		return &Disconnect{}
	}
	return nil
}

func fromPahoCodes(codes []byte) (out []ReasonCode) {
	for _, c := range codes {
		out = append(out, ReasonCode(c))
	}
	return out
}

func fromPahoUser(users []v5.User) (out []UserProperty) {
	for _, u := range users {
		out = append(out, UserProperty{u.Key, u.Value})
	}
	return out
}

// value is what a pointer points to, and whether it does.
func value[T any](p *T) (has bool, v T) {
	if p == nil {
		return false, v
	}
	return true, *p
}

func number[T any](p *T) T {
	_, v := value(p)
	return v
}

// is tells whether a byte is there and has the value.
func is(p *byte, v byte) bool { return p != nil && *p == v }

func fromPaho5(packet v5.Packet) Packet {
	ack := func(kind Type, id uint16, code byte, p *v5.Properties) Packet {
		return &Ack{Kind: kind, PacketID: id, Reason: ReasonCode(code), ReasonString: p.ReasonString, User: fromPahoUser(p.User)}
	}
	switch q := packet.(type) {
	case *v5.Connect:
		return fromPahoConnect(q)
	case *v5.Connack:
		return fromPahoConnack(q)
	case *v5.Publish:
		return fromPahoPublish(q)
	case *v5.Puback:
		return ack(TypePuback, q.PacketID, q.ReasonCode, q.Properties)
	case *v5.Pubrec:
		return ack(TypePubrec, q.PacketID, q.ReasonCode, q.Properties)
	case *v5.Pubrel:
		return ack(TypePubrel, q.PacketID, q.ReasonCode, q.Properties)
	case *v5.Pubcomp:
		return ack(TypePubcomp, q.PacketID, q.ReasonCode, q.Properties)
	case *v5.Subscribe:
		p := &Subscribe{PacketID: q.PacketID, SubscriptionID: uint32(number(q.Properties.SubscriptionIdentifier)), User: fromPahoUser(q.Properties.User)}
		for _, s := range q.Subscriptions {
			p.Subscriptions = append(p.Subscriptions, Subscription{s.Topic, QoS(s.QoS), s.NoLocal, s.RetainAsPublished, s.RetainHandling})
		}
		return p
	case *v5.Suback:
		return &Suback{q.PacketID, fromPahoCodes(q.Reasons), q.Properties.ReasonString, fromPahoUser(q.Properties.User)}
	case *v5.Unsubscribe:
		return &Unsubscribe{q.PacketID, q.Topics, fromPahoUser(q.Properties.User)}
	case *v5.Unsuback:
		return &Unsuback{q.PacketID, fromPahoCodes(q.Reasons), q.Properties.ReasonString, fromPahoUser(q.Properties.User)}
	case *v5.Pingreq:
		return &Pingreq{}
	case *v5.Pingresp:
		return &Pingresp{}
	case *v5.Disconnect:
		p := &Disconnect{Reason: ReasonCode(q.ReasonCode), ServerReference: q.Properties.ServerReference,
			ReasonString: q.Properties.ReasonString, User: fromPahoUser(q.Properties.User)}
		p.HasSessionExpiry, p.SessionExpirySeconds = value(q.Properties.SessionExpiryInterval)
		return p
	case *v5.Auth:
		return &Auth{ReasonCode(q.ReasonCode), q.Properties.AuthMethod, q.Properties.AuthData, q.Properties.ReasonString, fromPahoUser(q.Properties.User)}
	}
	return nil
}

func fromPahoConnect(q *v5.Connect) Packet {
	r := q.Properties
	p := &Connect{Version: Version(q.ProtocolVersion), ClientID: q.ClientID, CleanStart: q.CleanStart, KeepAlive: q.KeepAlive,
		HasUsername: q.UsernameFlag, Username: q.Username, HasPassword: q.PasswordFlag, Password: q.Password,
		SessionExpirySeconds: number(r.SessionExpiryInterval), ReceiveMaximum: number(r.ReceiveMaximum),
		MaximumPacketSize: number(r.MaximumPacketSize), TopicAliasMaximum: number(r.TopicAliasMaximum),
		RequestResponseInfo: is(r.RequestResponseInfo, 1), NoProblemInfo: is(r.RequestProblemInfo, 0),
		AuthMethod: r.AuthMethod, AuthData: r.AuthData, User: fromPahoUser(r.User)}
	if q.WillFlag {
		w := q.WillProperties
		p.Will = &Will{Topic: q.WillTopic, Payload: q.WillMessage, QoS: QoS(q.WillQOS), Retain: q.WillRetain,
			DelaySeconds: number(w.WillDelayInterval), PayloadUTF8: is(w.PayloadFormat, 1), ContentType: w.ContentType,
			ResponseTopic: w.ResponseTopic, CorrelationData: w.CorrelationData, User: fromPahoUser(w.User)}
		p.Will.HasExpiry, p.Will.ExpirySeconds = value(w.MessageExpiry)
	}
	return p
}

func fromPahoConnack(q *v5.Connack) Packet {
	r := q.Properties
	p := &Connack{SessionPresent: q.SessionPresent, Reason: ReasonCode(q.ReasonCode), ReceiveMaximum: number(r.ReceiveMaximum),
		NoRetain: is(r.RetainAvailable, 0), MaximumPacketSize: number(r.MaximumPacketSize), AssignedClientID: r.AssignedClientID,
		TopicAliasMaximum: number(r.TopicAliasMaximum), NoWildcards: is(r.WildcardSubAvailable, 0),
		NoSubscriptionIDs: is(r.SubIDAvailable, 0), NoSharedSubscriptions: is(r.SharedSubAvailable, 0),
		ResponseInfo: r.ResponseInfo, ServerReference: r.ServerReference, AuthMethod: r.AuthMethod, AuthData: r.AuthData,
		ReasonString: r.ReasonString, User: fromPahoUser(r.User)}
	p.HasSessionExpiry, p.SessionExpirySeconds = value(r.SessionExpiryInterval)
	p.HasServerKeepAlive, p.ServerKeepAlive = value(r.ServerKeepAlive)
	has, qos := value(r.MaximumQOS)
	p.HasMaximumQoS, p.MaximumQoS = has, QoS(qos)
	return p
}

func fromPahoPublish(q *v5.Publish) Packet {
	r := q.Properties
	p := &Publish{Topic: []byte(q.Topic), Payload: q.Payload, PacketID: q.PacketID, QoS: QoS(q.QoS), Dup: q.Duplicate, Retain: q.Retain,
		PayloadUTF8: is(r.PayloadFormat, 1), TopicAlias: number(r.TopicAlias), ResponseTopic: []byte(r.ResponseTopic),
		CorrelationData: r.CorrelationData, ContentType: []byte(r.ContentType)}
	p.HasExpiry, p.ExpirySeconds = value(r.MessageExpiry)
	if has, id := value(r.SubscriptionIdentifier); has {
		p.SubscriptionIDs = []uint32{uint32(id)}
	}
	for _, u := range r.User {
		p.User = append(p.User, BorrowedProperty{[]byte(u.Key), []byte(u.Value)})
	}
	return p
}

// blur takes away what Paho's structs cannot say: whether bytes are absent or
// empty, and more than the last subscription identifier.
func blur(p Packet) Packet {
	if pub, ok := p.(*Publish); ok {
		q := *pub
		q.HasCorrelation = false
		if n := len(q.SubscriptionIDs); n > 0 {
			q.SubscriptionIDs = q.SubscriptionIDs[n-1:]
		}
		p = &q
	}
	var empty func(v reflect.Value)
	empty = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() {
				empty(v.Elem())
			}
		case reflect.Struct:
			for i := range v.NumField() {
				empty(v.Field(i))
			}
		case reflect.Slice:
			if v.Len() == 0 {
				v.SetZero()
			}
			for i := range v.Len() {
				empty(v.Index(i))
			}
		}
	}
	empty(reflect.ValueOf(p))
	return p
}

func agree(a, b Packet) bool { return reflect.DeepEqual(blur(a), blur(b)) }

// unreadable is what Paho cannot read although the standard has it.
func unreadable(p Packet, v Version) bool {
	d, ok := p.(*Disconnect)
	return ok && v == V5 && reflect.DeepEqual(*d, Disconnect{}) // DISCONNECT without a body
}

// withoutUnwritten takes away what Paho reads and does not write again: all
// properties of a will but its delay and its user properties.
func withoutUnwritten(p Packet) Packet {
	if c, ok := p.(*Connect); ok && c.Will != nil {
		w := *c.Will
		w.PayloadUTF8, w.HasExpiry, w.ExpirySeconds = false, false, 0
		w.ContentType, w.ResponseTopic, w.CorrelationData = "", "", nil
		c.Will = &w
	}
	return p
}

func TestPahoReadsWhatWeEncode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := genVersion(t)
		p := genPacket(t, v)
		wire, err := p.Append(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := readPaho(wire, v)
		if unreadable(p, v) {
			return
		}
		if err != nil {
			t.Fatalf("version %d: % x of %+v: %v", v, wire, p, err)
		}
		if !agree(theirs, p) {
			t.Fatalf("version %d: % x\n they read %+v\n we wrote %+v", v, wire, theirs, p)
		}
	})
}

func TestWeReadWhatPahoEncodes(t *testing.T) {
	for _, v := range []Version{V311, V5} {
		for i := range goldens {
			g := &goldens[i]
			if g.v != v || unreadable(g.packet, v) {
				continue
			}
			wire := unwire(t, g.wire)
			var out bytes.Buffer
			if v == V311 {
				q, err := v3.ReadPacket(bytes.NewReader(wire))
				if err != nil {
					t.Errorf("%s: %v", g.name, err)
					continue
				}
				err = q.Write(&out)
				if err != nil {
					t.Error(err)
				}
			} else {
				q, err := v5.ReadPacket(bytes.NewReader(wire))
				if err != nil {
					t.Errorf("%s: %v", g.name, err)
					continue
				}
				if _, err := q.WriteTo(&out); err != nil {
					t.Error(err)
				}
			}
			p, err := decodeFrame(out.Bytes(), v)
			if err != nil {
				t.Errorf("%s: they write % x: %v", g.name, out.Bytes(), err)
			} else if !agree(p, withoutUnwritten(accepts(t, v, wire))) {
				t.Errorf("%s: they write % x, which we read as %+v", g.name, out.Bytes(), p)
			}
		}
	}
}
