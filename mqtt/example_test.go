package mqtt_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/wilco-iot/wilco/mqtt"
)

func ExamplePublish_Append() {
	p := mqtt.Publish{
		Topic:    []byte("wilco/plant/press/result"),
		Payload:  []byte(`{"tid":"1","status":"SUCCESS"}`),
		QoS:      mqtt.AtLeastOnce,
		PacketID: 7,
	}
	buf, err := p.Append(make([]byte, 0, 128), mqtt.V5)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%d bytes, beginning % x\n", len(buf), buf[:4])
	// Output: 61 bytes, beginning 32 3b 00 18
}

func ExamplePublish_Decode() {
	wire := []byte("\x30\x0b\x00\x05a/b/c\x00yes")
	h, n, err := mqtt.ParseHeader(wire, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	var p mqtt.Publish // may be reused for the next packet
	if err := p.Decode(h, wire[n:n+h.Length], mqtt.V5); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s: %s\n", p.Topic, p.Payload)
	// Output: a/b/c: yes
}

func ExampleReader() {
	stream := bytes.NewReader([]byte("\xc0\x00" + "\x40\x02\x00\x07" + "\x40\x02\x00\x00"))
	r := mqtt.NewReader(stream, 64<<10)
	for {
		h, body, err := r.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		_, err = mqtt.DecodePacket(h, body, mqtt.V5)
		var refused *mqtt.Error
		if errors.As(err, &refused) {
			fmt.Printf("%v refused: DISCONNECT 0x%02X, %v\n", h.Type, byte(refused.Code), refused)
			return
		}
		fmt.Println(h.Type)
	}
	// Output:
	// PINGREQ
	// PUBACK
	// PUBACK refused: DISCONNECT 0x82, protocol error: packet identifier 0
}

func ExampleTemplate() {
	p := mqtt.Publish{Topic: []byte("a/b"), Payload: []byte("hello"), HasExpiry: true, ExpirySeconds: 60}
	t, err := mqtt.NewTemplate(&p, mqtt.V5)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range []mqtt.Copy{
		{},
		{QoS: 1, PacketID: 12, HasExpiry: true, ExpirySeconds: 55, SubscriptionIDs: []uint32{3}},
	} {
		wire, err := t.Append(nil, c)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("% x\n", wire[:len(wire)-len(p.Payload)])
	}
	// Output:
	// 30 0b 00 03 61 2f 62 00
	// 32 14 00 03 61 2f 62 00 0c 07 02 00 00 00 37 0b 03
}

func ExampleMatch() {
	group, filter, shared := mqtt.ParseShare("$share/workers/plant/+/result")
	fmt.Println(group, filter, shared)
	fmt.Println(mqtt.Match(filter, "plant/press/result"), mqtt.Match("#", "$SYS/uptime"))
	// Output:
	// workers plant/+/result true
	// true false
}
