// Package interop holds tests of wilco's broker against MQTT clients of others:
// both Eclipse Paho Go clients, and the command line clients of Eclipse
// Mosquitto where they are installed; and of the broker against wilco's own
// client, on every transport, while connections are cut and brokers restart. It
// has no code of its own.
package interop
