// Package client speaks the HTTP API of a wilco server.
//
// A [Client] sends commands to devices and tells what became of them:
//
//	c, err := client.New("http://127.0.0.1:8080", client.Token("wlc_..."))
//	cmd, err := c.Send(ctx, "plant-1/pump-3", client.Order{Name: "valve.open"})
//	cmd, err = c.Await(ctx, cmd.TID)
//
// # Delivery
//
// Every order carries an idempotency key: the caller's, or one that the client
// makes. When the network fails while an order is sent, the client asks again
// with the same key, so that one call makes at most one command. Requests that
// only read are tried again too. What the server itself answers is final, but
// for 429 and 503, which say that a later attempt may succeed.
//
// # Errors
//
// What the server refuses comes back as an [*Error] with the code, the field
// and the cure that the server named. What never reached the server, or came
// back damaged, is any other error.
//
// # Concurrency
//
// A Client is safe for concurrent use, holds no goroutine of its own and needs
// no closing. All methods block until their answer is there or their context
// ends. The documents of this package are plain values; raw JSON in them is
// owned by the caller.
package client
