// Package edge is a Sparkplug B edge node: it brings a node and the devices
// behind it onto an MQTT server, and keeps the rules of Sparkplug 3.0.0 for them.
//
//	n, err := edge.New(edge.Config{
//		Group: "plant", Node: "line-1", Servers: []string{"mqtt://broker"}, File: "/var/lib/line-1/bdseq",
//		Metrics: []edge.Metric{edge.Readable("temperature", 21.5), edge.Writable("setpoint", 20.0, heat)},
//	})
//	go n.Update("", edge.Sample("temperature", 21.7))
//	err = n.Run(ctx)
//
// # What is kept
//
//   - bdSeq is on disk before the CONNECT that uses it, and 0 only when there is
//     no file. Each CONNECT has a Will of its own.
//   - NBIRTH and the DBIRTHs of all devices that are there go out as one block,
//     when the primary host is online, if one is configured.
//   - A sequence number is taken together with the publish. What cannot be sent
//     (no connection, a full queue, too large for the server) uses none.
//   - A sample that cannot be sent now waits, up to Config.History of them, and
//     goes out as history after the next births. What the connection took and
//     did not write before it ended waits again. What it wrote and the server did
//     not get is lost: Sparkplug sends DATA at QoS 0.
//   - What waits is in Config.HistoryFile: when Update returns, if it could not be
//     sent; a second later, if the connection has it and does not get on. So it
//     outlives the process, kill -9 included, and goes out in order after the births
//     of the next one. The power takes the last second. Transient samples are not
//     kept, and while nothing waits nothing is written.
//   - A value that has not changed is not told. A deadband is the caller's
//     business, and is applied before Update.
//   - A request for births stops DATA at once and is always answered; several
//     within a second are answered together.
//   - A clean end publishes NDEATH, and on MQTT 5 also has the server publish
//     the Will, as Sparkplug asks: hosts see the same NDEATH twice.
//
// # Commands
//
// A metric made with Writable has a handler. Handlers are called one after the
// other, in the order of the commands, and what a handler returns is the value of
// the metric from then on, and is told as DATA. Commands for other metrics, of
// other types, for devices that are not there, and retained ones are refused and
// logged. Sparkplug has no answer to a command but that DATA.
//
// # Concurrency
//
// All methods of a Node are safe for concurrent use and do not block on the
// network. The decisions are in internal/node, without clock or network.
package edge
