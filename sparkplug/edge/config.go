package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// Config says what a node is and where it connects. Group, Node, File, and
// either Servers or Dial are needed; everything else may be left at zero.
type Config struct {
	// Group and Node name the node, and no other node in the system may have the
	// same two. Names, also those of devices and metrics, should not differ in
	// letter case alone.
	//
	// [tck-id-intro-edge-node-id-uniqueness] [tck-id-payloads-nbirth-edge-node-descriptor]
	// [tck-id-topic-structure-namespace-unique-edge-node-descriptor]
	// [tck-id-case-sensitivity-sparkplug-ids] [tck-id-case-sensitivity-metric-names]
	Group, Node string

	// Servers are URLs as in package mqtt/client. The node is connected to one of
	// them at a time, and goes to the next when one does not take it, when the
	// primary host is not online there, or when a command says so.
	Servers []string
	// Dial makes the connection instead, e.g. in process.
	Dial func(context.Context) (net.Conn, error)
	TLS  *tls.Config

	Version   mqtt.Version // default mqtt.V5
	ClientID  string       // default group/node
	Username  string
	Password  []byte
	KeepAlive time.Duration // default 30 s

	// File keeps bdSeq across restarts; it is made when it is not there. No other
	// node may use it. Its directory must exist.
	File string

	// PrimaryHost is the host application without which nothing is sent; samples
	// then wait. Empty: none.
	PrimaryHost string
	// LegacyState also takes the STATE of a host of Sparkplug 2.2, in words.
	LegacyState bool
	// Aliases gives each metric a number, by which it goes after its birth.
	Aliases bool
	// EchoWrites tells what a handler returns also when the metric had that value
	// already, which confirms the command to a host.
	EchoWrites bool
	// History is how many samples wait when they cannot be sent; the oldest are
	// dropped first. Default 10,000.
	History int
	// HistoryFile keeps them when the process ends, however it does; it is made when
	// the first one waits. No other node may use it. Default: File with .history
	// behind it.
	HistoryFile string

	Metrics []Metric // of the edge node
	Devices []Device // those that are known now; AddDevice adds more

	Logger *slog.Logger // nil: silent
}

const (
	defaultHistory = 10_000
	retryMin       = 250 * time.Millisecond
	retryMax       = 30 * time.Second
	// stable is how long a connection must have stood to count as a success.
	stable = 5 * time.Second
	// farewell bounds how long a clean end may take.
	farewell = 5 * time.Second
	// maxQueued is how many messages the MQTT client holds. More would only move
	// samples to where they are no longer counted.
	maxQueued = 256
	// lag is how long a sample may be with the connection, unwritten, before it is in
	// the history file too, and how much of the file the power may take.
	lag = time.Second
	// maxWrites is how many writes wait for their handlers.
	maxWrites = 256
)

func (c Config) complete() (Config, error) {
	switch {
	case c.File == "":
		return c, errors.New("a File is needed: bdSeq must outlive the process")
	case (len(c.Servers) == 0) == (c.Dial == nil):
		return c, errors.New("exactly one of Servers and Dial is needed")
	case c.History < 0:
		return c, errors.New("a negative History")
	}
	if c.History == 0 {
		c.History = defaultHistory
	}
	if c.HistoryFile == "" {
		c.HistoryFile = c.File + ".history"
	}
	if filepath.Clean(c.HistoryFile) == filepath.Clean(c.File) {
		return c, errors.New("one file for bdSeq and for history")
	}
	if c.Version == 0 {
		c.Version = mqtt.V5
	}
	if c.ClientID == "" {
		c.ClientID = c.Group + "/" + c.Node
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// places are the servers to go to; with Dial there is one without a name.
func (c *Config) places() []string {
	if c.Dial != nil {
		return []string{""}
	}
	return c.Servers
}
