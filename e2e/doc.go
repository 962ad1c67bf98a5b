// Package e2e tests the built program as its users meet it: wilco is compiled
// once, started as a process of its own, and driven over its command line, its
// HTTP API and MQTT. Nothing of the server runs in the test's process.
//
// The scripts are text archives. Those of testdata/messaging run against the
// built-in broker and against Mosquitto, with MQTT 5 and with MQTT 3.1.1; those
// of testdata/local have nothing to do with the broker and run once. What the
// words of a script mean is said at each word's function; see words in
// script_test.go.
//
// Tests written in Go kill the server, take its broker away, lock its database
// and fill its disk, all under load, and then compare what the server says of
// every command with what the devices themselves wrote down.
//
// Nothing sleeps to wait for something: what is awaited is asked for until it is
// there or its time is over. Ports that must outlive a process are taken from
// below the range that the system hands out by itself.
package e2e
