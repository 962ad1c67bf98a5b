package wire_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/wilco-iot/wilco/wire"
)

// A server writes a command and reads what the device answers.
func Example() {
	profile := wire.NewWilco("")
	address, err := wire.ParseAddress("north/pump-7")
	if err != nil {
		fmt.Println(err)
		return
	}
	document, err := profile.AppendCommand(nil, wire.Command{
		TID: "0198c2f0-1111-7aaa-8bbb-0123456789ab", Cmd: "start", Status: wire.Request,
		Seq: 1, Epoch: 7, Attempt: 1,
		NotAfter: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(profile.Topic(address))
	fmt.Println(string(document))

	up, err := profile.ParseUp("wilco/north/pump-7/result",
		[]byte(`{"tid":"0198c2f0-1111-7aaa-8bbb-0123456789ab","status":"done","result":{"rpm":900}}`))
	fmt.Println(up.Address, up.Kind, up.Result.Status, string(up.Result.Result), err)
	// Output:
	// wilco/north/pump-7/command
	// {"tid":"0198c2f0-1111-7aaa-8bbb-0123456789ab","cmd":"start","status":"REQUEST","params":{},"seq":1,"epoch":7,"attempt":1,"notAfter":"2026-03-04T05:06:07.000Z"}
	// north/pump-7 result SUCCESS {"rpm":900} <nil>
}

// A document that is not right says which field, and what would be right.
func ExampleError() {
	_, err := wire.NewWilco("").ParseUp("wilco/north/pump-7/ack", []byte(`{"status":"RECEIVED"}`))
	fmt.Println(err)
	var e *wire.Error
	fmt.Println(errors.As(err, &e), e.Field)
	// Output:
	// wire: tid: is missing; repeat the tid of the command
	// true tid
}
