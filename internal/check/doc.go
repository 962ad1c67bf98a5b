// Package check proves or refutes, by observation alone, that an MQTT broker
// keeps messages in order and delivers them: any broker, by its URL.
//
// How it works. A [Run] goes through the cases of cases.csv. Each case makes
// clients that say exactly what they are told, holds back or reverses
// acknowledgements, cuts connections, comes back, and stamps every message with
// publisher, number and checksum. What was sent and what was received is then
// given to the pure [Judge], which knows nothing of networks:
//
//	case ──▶ clients ──▶ broker ──▶ clients ──▶ []Receipt ─┐
//	  └───────────────────────────────▶ []Sent ────────────┴──▶ Judge ──▶ verdicts
//
// Only what the standard demands is a violation. Better behaviour is reported
// as a strength, and behaviour that the standard leaves open as a verdict
// without a violation; with Options.Strict the promises of wilco's own broker
// are demanded too.
//
// [Judge] leaves order, repetition and loss to order.Judge, and knows what a
// case allows. What lies on the broker's disk is seen only with a broker that
// Run starts itself (Options.Start) and whose directory it may damage
// (Options.Data); the directory is put back as it was after the case.
//
// The unit that MQTT keeps in order is the messages of one publisher on one
// topic at one quality of service (4.6); it is called a stream here.
//
// A run is seeded: the same seed makes the same choices. What the broker and
// the network do in between is not under its control. Topics and client
// identifiers have a prefix that is new in each run, and every session and
// retained message made is removed at the end, if the broker still answers.
//
// Concurrency: Run may be called more than once at the same time. It owns every
// goroutine and process that it starts, and waits for them before it returns.
package check
