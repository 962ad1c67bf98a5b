// Package device is for programs on devices: it takes commands from a wilco
// server over MQTT, runs handlers for them, and answers.
//
//	d, err := device.New(device.Config{Address: address, Servers: servers, Dir: "/var/lib/valve"})
//	d.Handle("set", func(ctx context.Context, r *device.Request) (any, error) { ... })
//	err = d.Run(ctx)
//
// # What is promised
//
// A command is written into a [Journal] before anything is done about it:
//
//	arrives -> journal "received" -> PUBACK, ack RECEIVED
//	        -> journal "started"  -> handler runs, RUNNING at intervals
//	        -> journal "ended"    -> result -> PUBACK of the server -> journal "handed"
//
// Therefore, whatever is lost, repeated, late or replayed on the way, and
// whenever the device loses power:
//
//   - a transaction id (tid) is executed at most once; a repetition is answered
//     with the stored result, also after a restart;
//   - a command that was received and not started is started after the restart;
//     one that was running ends as FAILURE "interrupted", unless its handler is
//     [Resumable];
//   - a result stays in the journal until the server has taken it over;
//   - what is stale (seq, epoch), past its notAfter, retained, unknown or
//     malformed is refused with a reason, and never executed.
//
// The promise reaches as far as the journal remembers: Config.Keep results for
// Config.KeepFor. After that, a copy of an old command is still refused, because
// the highest (epoch, seq) is kept for ever.
//
// When the journal cannot be written, the device stops: Run returns the error,
// and nothing was done that is not written down.
//
// # State
//
// A [Replica] reports how the device is, and hears how it should be. The server sends
// a command only when its condition holds of what was reported; because that may have
// changed on the way, a device with a Replica or [Config.Reported] asks again before
// it begins, and refuses as "precondition_unmet" what does not hold, or what it cannot
// tell. A device with neither has nothing to ask: for it the server's answer stands.
//
// # Shape
//
// Package internal/ledger decides, without any I/O; one goroutine per [Device.Run]
// owns the ledger, the journal and the answers. It collects what has arrived,
// makes the records durable with one write and one fsync, and only then acts.
// Each handler runs in a goroutine of its own; by default one at a time, in the
// order of receipt.
package device
