package device

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/wire"
	"github.com/wilco-iot/wilco/wire/state"
)

// Config says who a device is, where its server is and where its journal is.
// Address, one of Servers and Dial, and one of Dir and Journal are needed.
type Config struct {
	Address wire.Address

	// Servers are URLs as in the options of package mqtt/client. Dial makes
	// the connection instead, e.g. in process.
	Servers  []string
	Dial     func(context.Context) (net.Conn, error)
	TLS      *tls.Config
	Version  mqtt.Version // default mqtt.V5
	ClientID string       // default Address.String()
	Username string       // default Address.String() when there is a password
	Password []byte

	// Profile speaks to the server; default the wilco profile below Root,
	// whose default is wire.DefaultRoot.
	Profile wire.DeviceProfile
	Root    string

	// Dir is a directory for a file journal, opened and closed by Run. Journal
	// is used instead when it is set; its owner closes it.
	Dir     string
	Journal Journal
	// Keep is how many ended commands are remembered (default 10,000), and
	// KeepFor how long (default 7 days). What the server has not taken over
	// yet is kept in any case.
	Keep    int
	KeepFor time.Duration

	// Parallel is how many handlers may run at a time. Default 1: commands are
	// executed in the order of their receipt, each after the one before it.
	Parallel int
	// Queue is how many commands may wait (default 100); more are refused as
	// busy.
	Queue int

	// Heartbeat is the interval of RUNNING for each running command (default
	// 10 s), Presence that of the status document (default 60 s).
	Heartbeat, Presence time.Duration
	// SessionExpiry is how long the server keeps the session while the device
	// is away (default 1 h). KeepAlive is MQTT's (default 30 s).
	SessionExpiry, KeepAlive time.Duration
	// StopTimeout bounds a clean stop: handlers returning, results being taken
	// over, the goodbye. Default 10 s.
	StopTimeout time.Duration

	Firmware string
	// State, if set, is asked for the device's state when a command is refused,
	// so that the server learns what it had wrong. It is called by the
	// goroutine of Run and must return soon; the answer must encode as JSON.
	State func() any
	// Reported is asked, by a device without a [Replica], whether the condition of a
	// command holds when it is to begin. It is called by the goroutine of Run and must
	// return soon; values are compared by their JSON. Without either of them the
	// server's look at the condition is the only one.
	Reported state.Reported
	// Clock tells the time for notAfter, journal and status; default time.Now.
	// A device that does not know the time returns zero: then no command is
	// too late here, and only the server's message expiry counts.
	Clock    func() time.Time
	Observer Observer
	Logger   *slog.Logger // default: silent
}

// Observer is told what a device does, for audits and simulations. All
// functions are optional, and called in turn by the goroutine of Run: they must
// return soon and not call the device.
type Observer struct {
	Received  func(wire.Command)              // a command document has come; nothing is decided yet
	Refused   func(tid string, _ wire.Reason) // the tid ended without being executed, durably
	Executing func(tid, cmd string)           // durably started; the handler is about to be called
	Executed  func(wire.Result)               // its end is durable, also when a restart was the end
	Answered  func(wire.Result)               // the server has taken over the end of this tid
}

// The defaults of Config, where they are not zero.
const (
	DefaultKeep          = 10_000
	DefaultKeepFor       = 7 * 24 * time.Hour
	DefaultParallel      = 1
	DefaultQueue         = 100
	DefaultHeartbeat     = 10 * time.Second
	DefaultPresence      = time.Minute
	DefaultSessionExpiry = time.Hour
	DefaultStopTimeout   = 10 * time.Second
)

// complete returns the configuration with defaults in place, or what is wrong.
func (c Config) complete() (Config, error) {
	if err := c.Address.Valid(); err != nil {
		return c, err
	}
	if (len(c.Servers) == 0) == (c.Dial == nil) {
		return c, errors.New("exactly one of Servers and Dial is needed")
	}
	if (c.Dir == "") == (c.Journal == nil) {
		return c, errors.New("exactly one of Dir and Journal is needed")
	}
	if c.Profile != nil && c.Root != "" {
		return c, errors.New("a Root belongs to the default profile; leave it empty with Profile")
	}
	if c.Profile == nil {
		p, err := wire.Lookup("wilco", c.Root)
		if err != nil {
			return c, err
		}
		c.Profile = p
	}
	for name, d := range map[string]time.Duration{"KeepFor": c.KeepFor, "Heartbeat": c.Heartbeat,
		"Presence": c.Presence, "SessionExpiry": c.SessionExpiry, "StopTimeout": c.StopTimeout} {
		if d < 0 {
			return c, fmt.Errorf("%s is negative", name)
		}
	}
	if c.Keep < 0 || c.Parallel < 0 || c.Queue < 0 {
		return c, errors.New("none of Keep, Parallel and Queue may be negative")
	}
	setDefault(&c.ClientID, c.Address.String())
	if c.Password != nil {
		setDefault(&c.Username, c.Address.String())
	}
	setDefault(&c.Keep, DefaultKeep)
	setDefault(&c.KeepFor, DefaultKeepFor)
	setDefault(&c.Parallel, DefaultParallel)
	setDefault(&c.Queue, DefaultQueue)
	setDefault(&c.Heartbeat, DefaultHeartbeat)
	setDefault(&c.Presence, DefaultPresence)
	setDefault(&c.SessionExpiry, DefaultSessionExpiry)
	setDefault(&c.StopTimeout, DefaultStopTimeout)
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}
