package device_test

import (
	"context"
	"fmt"
	"log"
	"os/signal"
	"syscall"

	"github.com/wilco-iot/wilco/device"
	"github.com/wilco-iot/wilco/wire"
)

// A lamp with one command.
func Example() {
	d, err := device.New(device.Config{
		Address: wire.Address{Group: "north", Device: "lamp-1"},
		Servers: []string{"mqtts://mqtt.example.com"},
		Dir:     "/var/lib/lamp",
	})
	if err != nil {
		log.Fatal(err)
	}
	d.Handle("dim", func(_ context.Context, r *device.Request) (any, error) {
		var p struct{ Level int }
		if err := r.Unmarshal(&p); err != nil {
			return nil, err // refused: nothing was done
		}
		fmt.Println("level", p.Level)
		return nil, r.State(map[string]int{"level": p.Level})
	})
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := d.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
