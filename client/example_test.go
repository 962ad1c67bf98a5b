package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"

	"github.com/wilco-iot/wilco/client"
)

// Send a command and wait for what becomes of it.
func Example() {
	ctx := context.Background()
	c, err := client.New("http://127.0.0.1:8080", client.Token("wlc_..."))
	if err != nil {
		log.Fatal(err)
	}
	cmd, err := c.Send(ctx, "plant-1/pump-3", client.Order{
		Name:   "valve.open",
		Params: json.RawMessage(`{"percent": 40}`),
		Key:    "order-4711", // the same order, however often it is sent
	})
	if errors.Is(err, &client.Error{Code: "not_found"}) {
		log.Fatal("register the device first")
	}
	if err != nil {
		log.Fatal(err)
	}
	if cmd, err = c.Await(ctx, cmd.TID); err != nil {
		log.Fatal(err)
	}
	switch cmd.State {
	case client.Executed:
		fmt.Println("done:", string(cmd.Result))
	case client.TimedOut:
		fmt.Println("nobody knows yet whether it was done")
	default:
		fmt.Println("not done:", cmd.State, cmd.Detail)
	}
}

// Follow everything that happens in a group.
func ExampleClient_Events() {
	c, err := client.New("http://127.0.0.1:8080", client.Token("wlc_..."))
	if err != nil {
		log.Fatal(err)
	}
	for item, err := range c.Events(context.Background(), client.EventOptions{Group: "plant-1", After: -1}) {
		if err != nil {
			log.Fatal(err)
		}
		if item.Gap != nil {
			fmt.Println("missed the events before", item.Gap.First)
			continue
		}
		fmt.Println(item.Event.Device, item.Event.State)
	}
}
