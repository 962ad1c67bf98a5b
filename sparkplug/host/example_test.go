package host_test

import (
	"context"
	"fmt"
	"log"

	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/sparkplug/host"
	"github.com/wilco-iot/wilco/sparkplug/session"
)

// A primary host that prints what changes.
func Example() {
	h, err := host.New(host.Options{
		HostID:  "scada",
		Servers: []host.Server{{Name: "plant", Client: client.Options{Servers: []string{"mqtts://mqtt.example.com"}}}},
		OnEvent: func(e *host.Event) {
			for _, v := range e.Values {
				fmt.Println(e.Node, e.Device, v.Metric.Name, v.Metric.Datatype, v.Raw.Value.Raw())
			}
			if e.Kind == session.Stale || e.Kind == session.NodeDeath {
				fmt.Println(e.Node, "cannot be trusted:", e.Reason)
			}
		},
		OnAlarm: func(a host.Alarm) { log.Println(a.Kind, a.Server, a.Node, a.Text) },
	})
	if err != nil {
		log.Fatal(err)
	}
	h.Start()
	for _, n := range h.Nodes() {
		fmt.Println(n.ID, n.Status, n.Skew())
	}
	if err := h.Stop(context.Background()); err != nil {
		log.Fatal(err)
	}
}
