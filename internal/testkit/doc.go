// Package testkit is what the tests of several packages need and would repeat:
// certificates, connections in memory, and a Mosquitto to talk to. It imports
// nothing of ours but package mqtt and its pipe, so nearly every test may use it,
// and nothing but a test may.
//
// What is asked for is there when a function returns, and gone at the end of the
// test. When it cannot be had, the test fails; when a program is not installed,
// it is skipped. The functions are called by the test's own goroutine.
package testkit
