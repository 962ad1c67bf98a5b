package broker

import (
	"errors"
	"fmt"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/mqtt"
)

// preAuthPacket is the largest packet accepted of a peer that has not been
// authenticated, in bytes.
const preAuthPacket = 64 << 10

// Limits bounds what clients may cost. A zero field means its default; but for
// PublishRate there is no way to say "unlimited", only large numbers.
type Limits struct {
	// MaxPacketSize is the largest packet accepted, in bytes, announced to
	// MQTT 5 clients. Default 1 MiB. Before authentication it is 64 KiB.
	MaxPacketSize int
	// ConnectTimeout is the time from accept to the end of authentication.
	// Default 10 s.
	ConnectTimeout time.Duration
	// ReceiveMaximum is how many QoS 1 and 2 messages of one client may await
	// our acknowledgement. Default 1024. A client that exceeds it is
	// disconnected with 0x93.
	ReceiveMaximum uint16
	// Inflight caps how many QoS 1 and 2 messages may await a client's
	// acknowledgement, below what the client allows. Default 1024.
	Inflight int
	// InflightBytes caps the same in bytes; one message always goes out.
	// Default 16 MiB.
	InflightBytes int
	// TopicAliasMaximum is how many aliases a client may set, and how many we
	// set towards it. Default 16.
	TopicAliasMaximum uint16
	// SessionExpiry caps the session expiry interval, and is that of MQTT
	// 3.1.1 sessions without clean session. Default 7 days.
	SessionExpiry time.Duration
	// KeepAlive caps the keep alive of MQTT 5 clients, which are told by
	// Server Keep Alive; a 3.1.1 client cannot be told and keeps its own.
	// Default 30 min.
	KeepAlive time.Duration
	// QueueMessages and QueueBytes bound the QoS 1 and 2 messages waiting for
	// one session, connected or not. What happens beyond them is its Overflow
	// policy. By default a message that one of its subscribers has no room for
	// is refused to all: MQTT 5 publishers get 0x97, the connection of a 3.1.1
	// publisher is closed without acknowledgement, so that it sends again.
	// Defaults 100,000 and 64 MiB.
	QueueMessages int
	QueueBytes    int
	// QoS0Messages and QoS0Bytes bound the QoS 0 messages waiting for one
	// connection; what does not fit is dropped and counted. Their bytes count
	// against QueueBytes as well, but never stand in the way of the others: when
	// a QoS 1 or 2 message needs the room, QoS 0 is dropped for it. Defaults
	// 100,000 and 16 MiB.
	QoS0Messages int
	QoS0Bytes    int
	// Window is how many waiting messages of a stored queue are kept in
	// memory; the others are read from the store when their turn comes.
	// Default 1024.
	Window int
	// Subscriptions bounds the subscriptions of one session. Default 1000.
	Subscriptions int
	// Connections bounds all connections of the listeners. Default 100,000.
	Connections int
	// HalfOpen bounds the connections of one address that have not finished
	// CONNECT. Default 1024.
	HalfOpen int
	// Sessions bounds the sessions known, connected or not. Default 1,000,000.
	Sessions int
	// IdentitySessions bounds the sessions of one identity. Without access
	// control all clients are one. Default: as Sessions.
	IdentitySessions int
	// RetainedMessages and RetainedBytes bound the retained messages; beyond
	// them a new one is refused with 0x97. Defaults 1,000,000 and 256 MiB.
	RetainedMessages int
	RetainedBytes    int
	// IdentityRetained and IdentityRetainedBytes bound those of one identity, so
	// that none fills what all share. Defaults a tenth of the above, and all of it
	// without access control, where all clients are one identity.
	IdentityRetained      int
	IdentityRetainedBytes int
	// ConnectRate is how many connections one address may open in a second, and
	// how many CONNECTs of one identity are accepted in a second, the in-process
	// ones apart. Twice as many may come at once. What is above it is closed
	// unread, or refused with 0x9F. Default 10,000.
	ConnectRate int
	// PublishRate is how many messages all connections of one identity, and all
	// of one address, may publish in a second, the in-process ones apart. Twice
	// as many may come at once. Who is faster is read from more slowly, so
	// nothing is lost. Default 0, which is no limit.
	PublishRate int
	// Takeovers is how often in quick succession a connection may take over the
	// session of another that is still there; one more is allowed each second.
	// Beyond that the newcomer is refused with 0x9F, and the one that is there
	// stays, so that two clients with one identifier cannot keep the broker busy.
	// Default 100.
	Takeovers int
	// WriteStall is how long one write to a client may make no end before its
	// connection is given up. Default 1 min.
	WriteStall time.Duration
}

func (l Limits) withDefaults() Limits {
	def(&l.MaxPacketSize, 1<<20)
	def(&l.ConnectTimeout, 10*time.Second)
	def(&l.ReceiveMaximum, 1024)
	def(&l.Inflight, 1024)
	def(&l.InflightBytes, 16<<20)
	def(&l.TopicAliasMaximum, 16)
	def(&l.SessionExpiry, 7*24*time.Hour)
	def(&l.KeepAlive, 30*time.Minute)
	def(&l.QueueMessages, 100_000)
	def(&l.QueueBytes, 64<<20)
	def(&l.QoS0Messages, 100_000)
	def(&l.QoS0Bytes, 16<<20)
	def(&l.Window, 1024)
	def(&l.Subscriptions, 1000)
	def(&l.Connections, 100_000)
	def(&l.HalfOpen, 1024)
	def(&l.Sessions, 1_000_000)
	def(&l.IdentitySessions, l.Sessions)
	def(&l.RetainedMessages, 1_000_000)
	def(&l.RetainedBytes, 256<<20)
	def(&l.IdentityRetained, max(1, l.RetainedMessages/10))
	def(&l.IdentityRetainedBytes, max(1, l.RetainedBytes/10))
	def(&l.ConnectRate, 10_000)
	def(&l.Takeovers, 100)
	def(&l.WriteStall, time.Minute)
	return l
}

// check refuses what cannot work.
func (l Limits) check() error {
	for _, f := range []struct {
		name  string
		value int
	}{
		{"MaxPacketSize", l.MaxPacketSize}, {"ConnectTimeout", int(l.ConnectTimeout)}, {"Inflight", l.Inflight},
		{"InflightBytes", l.InflightBytes}, {"SessionExpiry", int(l.SessionExpiry)}, {"KeepAlive", int(l.KeepAlive)},
		{"QueueMessages", l.QueueMessages}, {"QueueBytes", l.QueueBytes}, {"QoS0Messages", l.QoS0Messages},
		{"QoS0Bytes", l.QoS0Bytes}, {"Window", l.Window}, {"Subscriptions", l.Subscriptions},
		{"Connections", l.Connections}, {"HalfOpen", l.HalfOpen}, {"Sessions", l.Sessions},
		{"RetainedMessages", l.RetainedMessages}, {"RetainedBytes", l.RetainedBytes}, {"WriteStall", int(l.WriteStall)},
		{"IdentityRetained", l.IdentityRetained}, {"IdentityRetainedBytes", l.IdentityRetainedBytes},
		{"IdentitySessions", l.IdentitySessions}, {"ConnectRate", l.ConnectRate}, {"PublishRate", l.PublishRate}, {"Takeovers", l.Takeovers},
	} {
		if f.value < 0 {
			return fmt.Errorf("broker: limit %s is negative", f.name)
		}
	}
	if l.MaxPacketSize > mqtt.MaxPacket {
		return fmt.Errorf("broker: limit MaxPacketSize is above %d, the most that MQTT can carry", mqtt.MaxPacket)
	}
	if l.KeepAlive > 65535*time.Second {
		return errors.New("broker: limit KeepAlive is above 65,535 s, the most that MQTT can say")
	}
	return nil
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// session is the part of the limits that a session's state machine keeps.
func (l Limits) session() session.Limits {
	return session.Limits{
		ReceiveMaximum: int(l.ReceiveMaximum),
		Inflight:       l.Inflight,
		InflightBytes:  l.InflightBytes,
		TopicAliases:   l.TopicAliasMaximum,
		QueueMessages:  l.QueueMessages,
		QueueBytes:     l.QueueBytes,
		QoS0Messages:   l.QoS0Messages,
		QoS0Bytes:      l.QoS0Bytes,
		Window:         l.Window,
	}
}
