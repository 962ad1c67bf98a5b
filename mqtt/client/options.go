package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/url"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// Options says how a Client connects and what it does. Either Servers or Dial
// is needed; everything else may be left at zero.
type Options struct {
	// Servers are URLs, tried in this order at each attempt: mqtt or tcp (port
	// 1883), mqtts, ssl or tls (8883), ws (80), wss (443). A user and password
	// in a URL go before Username and Password.
	Servers []string
	// Dial makes the connection instead, e.g. in process.
	Dial func(context.Context) (net.Conn, error)
	TLS  *tls.Config // for mqtts and wss; nil: the system's roots

	Version  mqtt.Version // default mqtt.V5
	ClientID string       // empty: the server assigns one, which is kept for reconnects
	Username string
	Password []byte

	// AuthMethod is the method of an enhanced authentication (MQTT 5), and Auth
	// begins one: at each connection, and for each Reauthenticate. Both or none.
	AuthMethod string
	Auth       func() AuthStep

	// CleanStart ends a former session at the first connection of this client.
	// With MQTT 5, later reconnects resume if SessionExpiry is not 0. With
	// MQTT 3.1.1 it is Clean Session: no connection ever resumes.
	CleanStart    bool
	SessionExpiry time.Duration // MQTT 5; 0: the session ends with the connection
	KeepAlive     time.Duration // default 30 s, negative: off; whole seconds, up to 65,535
	// ConnectTimeout bounds dialling and CONNECT, each server for itself, and
	// the renewal of subscriptions. Default 10 s.
	ConnectTimeout time.Duration

	// ReceiveMaximum is how many unacknowledged deliveries OnMessage is shown;
	// an MQTT 5 server is told, and sends no more. Default 1,024.
	ReceiveMaximum uint16
	// MaximumPacketSize is the largest packet we take, in bytes. Default 1 MiB.
	MaximumPacketSize uint32

	// MaxInflight is how many publishes with QoS 1 or 2 may wait for the
	// server's answer. The Receive Maximum that an MQTT 5 server states is kept
	// as well, and is the default. An MQTT 3.1.1 server cannot state any; the
	// default is then 20, beyond which a stock Mosquitto 2.0 stalls with QoS 2.
	MaxInflight uint16

	// MaxQueued and MaxQueuedBytes bound what Publish and PublishAsync have
	// taken and not yet told the result of. Defaults 65,536 and 64 MiB.
	MaxQueued      int
	MaxQueuedBytes int

	// Will, if set, is asked before each CONNECT; it may return nil.
	Will func() *mqtt.Will
	// OnConnect, if set, is shown each CONNECT after dialling and before it is
	// sent, and may change its Will, for which Will was asked before. Its error
	// ends the attempt like one of dialling: nothing is sent. It is called by the
	// goroutine that calls OnUp.
	OnConnect func(*mqtt.Connect) error
	// Store keeps unacknowledged publishes across processes. Nil: in memory.
	Store Store
	// OnRestored, if set, is told how the messages of a former process ended that
	// were in the Store, as the done of PublishAsync is told of the others. Expiry is what is left then.
	OnRestored func(Message, Result)
	Backoff    Backoff
	// Once makes the client end with its first connection, or when none of the
	// servers took it, which AwaitUp then tells: for those who decide themselves
	// when and where to connect again. Stop is still to be called; it waits until
	// all results are told.
	Once bool

	// Subscriptions are made at the first connection, and again before OnUp
	// whenever the server has lost the session.
	Subscriptions []mqtt.Subscription
	// ResponseTopic is where Request asks for its answers; no other client may
	// use it. Default "reply/" and the client identifier.
	ResponseTopic string

	// OnMessage is called for each message by one goroutine, in the order of
	// receipt. It may block: that holds back the server, by its window for QoS 1
	// and 2. Reading goes on, so that answers to our own publishes come in, until
	// 4,096 messages of QoS 0 or 16 MiB wait. Nil: every message is acknowledged
	// and dropped.
	OnMessage func(*Delivery)
	// OnUp is called when connected and subscribed, and OnDown when that has
	// ended, in turn, by one goroutine. They must return soon: keep-alive and
	// reconnecting wait for them.
	OnUp   func(Up)
	OnDown func(error)
	Logger *slog.Logger // nil: silent
}

// Up tells of a new connection.
type Up struct {
	SessionPresent bool
	Connack        mqtt.Connack
	// Refused holds the subscriptions that the server did not grant while they
	// were made or renewed for this connection.
	Refused []mqtt.Subscription
}

const (
	defaultKeepAlive      = 30 * time.Second
	defaultConnectTimeout = 10 * time.Second
	defaultReceiveMaximum = 1024
	defaultMaximumPacket  = 1 << 20
	defaultInflight311    = 20
	defaultInflight5      = 65535
	defaultMaxQueued      = 1 << 16
	defaultMaxQueuedBytes = 64 << 20
)

// complete returns the options with defaults in place, or what is wrong.
func (o Options) complete() (Options, error) {
	if o.Version == 0 {
		o.Version = mqtt.V5
	}
	setDefault(&o.ConnectTimeout, defaultConnectTimeout)
	setDefault(&o.ReceiveMaximum, defaultReceiveMaximum)
	setDefault(&o.MaximumPacketSize, defaultMaximumPacket)
	if o.Version == mqtt.V311 {
		setDefault(&o.MaxInflight, defaultInflight311)
	}
	setDefault(&o.MaxInflight, defaultInflight5)
	setDefault(&o.MaxQueued, defaultMaxQueued)
	setDefault(&o.MaxQueuedBytes, defaultMaxQueuedBytes)
	setDefault(&o.KeepAlive, defaultKeepAlive)
	setDefault(&o.Backoff.Min, defaultBackoffMin)
	setDefault(&o.Backoff.Max, defaultBackoffMax)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.KeepAlive = max(o.KeepAlive, 0)
	return o, o.valid()
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (o *Options) valid() error {
	switch {
	case o.Version != mqtt.V311 && o.Version != mqtt.V5:
		return fmt.Errorf("version %d is neither 3.1.1 (4) nor 5.0 (5)", o.Version)
	case (len(o.Servers) == 0) == (o.Dial == nil):
		return errors.New("exactly one of Servers and Dial is needed")
	case o.Version == mqtt.V311 && o.ClientID == "" && !o.CleanStart:
		return errors.New("MQTT 3.1.1 needs a client identifier unless CleanStart is set") // [MQTT-3.1.3-7 v3.1.1]
	case o.Version == mqtt.V311 && o.Username == "" && o.Password != nil:
		return errors.New("MQTT 3.1.1 has no password without a user name") // [MQTT-3.1.2-22 v3.1.1]
	case (o.AuthMethod == "") != (o.Auth == nil):
		return errors.New("AuthMethod and Auth go together")
	case o.Auth != nil && o.Version == mqtt.V311:
		return errors.New("MQTT 3.1.1 has no enhanced authentication")
	case o.KeepAlive > math.MaxUint16*time.Second:
		return errors.New("keep alive is above 65,535 seconds")
	case o.SessionExpiry < 0 || o.ConnectTimeout < 0 || o.MaxQueued < 0 || o.MaxQueuedBytes < 0:
		return errors.New("a duration or bound is negative")
	case o.Backoff.Min < 0 || o.Backoff.Max < o.Backoff.Min:
		return errors.New("back-off: Min must not be above Max")
	}
	for _, s := range o.Subscriptions {
		if err := mqtt.ValidFilter(s.Filter); err != nil {
			return fmt.Errorf("subscription %.200q: %w", s.Filter, err)
		}
	}
	if o.ResponseTopic != "" {
		if err := mqtt.ValidTopic(o.ResponseTopic); err != nil {
			return fmt.Errorf("response topic: %w", err)
		}
	}
	return nil
}

// server is one parsed URL.
type server struct {
	url      *url.URL
	username string
	password []byte
	hasUser  bool
	hasPass  bool
}

// name is fit for logs: it has no password.
func (s *server) name() string {
	if s.url == nil {
		return "in process"
	}
	return s.url.Redacted()
}

var defaultPorts = map[string]string{
	"mqtt": "1883", "tcp": "1883", "mqtts": "8883", "ssl": "8883", "tls": "8883", "ws": "80", "wss": "443",
}

func parseServers(urls []string) ([]server, error) {
	var servers []server
	for i, raw := range urls {
		u, err := url.Parse(raw)
		if err != nil {
			// The text of a parse error repeats the URL, and so a password.
			return nil, fmt.Errorf("server %d: not a URL", i+1)
		}
		if _, ok := defaultPorts[u.Scheme]; !ok || u.Hostname() == "" {
			return nil, fmt.Errorf("server %q: want mqtt, mqtts, ws or wss, and a host", u.Redacted())
		}
		s := server{url: u}
		if u.User != nil {
			s.username, s.hasUser = u.User.Username(), true
			if p, ok := u.User.Password(); ok {
				s.password, s.hasPass = []byte(p), true
			}
		}
		servers = append(servers, s)
	}
	return servers, nil
}
