package client_test

import (
	"context"
	"fmt"
	"net"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/mqtt/pipe"
)

// echo is a server in process that grants one subscription and sends back what
// is published.
func echo(conn net.Conn) {
	in := mqtt.NewReader(conn, 0)
	for {
		h, body, err := in.Next()
		if err != nil {
			return
		}
		p, _ := mqtt.DecodePacket(h, body, mqtt.V5)
		var answers []mqtt.Packet
		switch p := p.(type) {
		case *mqtt.Connect:
			answers = []mqtt.Packet{&mqtt.Connack{}}
		case *mqtt.Subscribe:
			answers = []mqtt.Packet{&mqtt.Suback{PacketID: p.PacketID, Reasons: []mqtt.ReasonCode{mqtt.GrantedQoS1}}}
		case *mqtt.Publish:
			answers = []mqtt.Packet{&mqtt.Ack{Kind: mqtt.TypePuback, PacketID: p.PacketID}, p}
		case *mqtt.Disconnect:
			conn.Close()
		}
		var b []byte
		for _, a := range answers {
			b, _ = a.Append(b, mqtt.V5)
		}
		conn.Write(b)
	}
}

func Example() {
	received := make(chan struct{})
	c, err := client.New(client.Options{
		// Servers: []string{"mqtts://device:secret@broker.example.org"},
		Dial: func(context.Context) (net.Conn, error) {
			near, far := pipe.Pipe()
			go echo(far)
			return near, nil
		},
		ClientID:      "thermostat",
		Subscriptions: []mqtt.Subscription{{Filter: "site/thermostat/#", QoS: mqtt.AtLeastOnce}},
		OnMessage: func(d *client.Delivery) {
			fmt.Printf("%s: %s\n", d.Topic, d.Payload)
			d.Ack() // or later, from any goroutine
			close(received)
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	c.Start()
	if err := c.AwaitUp(ctx); err != nil {
		fmt.Println(err)
		return
	}
	err = c.Publish(ctx, client.Message{Topic: "site/thermostat/command", Payload: []byte("21.5"), QoS: mqtt.AtLeastOnce})
	fmt.Println("accepted:", err == nil)
	<-received
	fmt.Println("stopped:", c.Stop(ctx) == nil)
	// Unordered output:
	// accepted: true
	// site/thermostat/command: 21.5
	// stopped: true
}
