// Package client is an MQTT 3.1.1 and 5.0 client that keeps order.
//
// It connects by TCP, TLS, WebSocket or in process, stays connected, and
// resumes its session.
package client
