// Package interop holds tests of wilco's broker against MQTT clients of others:
// both Eclipse Paho Go clients, and the command line clients of Eclipse
// Mosquitto where they are installed. It has no code of its own.
package interop
