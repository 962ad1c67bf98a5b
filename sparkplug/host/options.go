package host

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/session"
)

// Role is what a host does besides listening.
type Role uint8

// The roles.
const (
	// Primary publishes STATE under its host id, and asks for rebirths. Edge
	// nodes that are configured with that id are online only while it is.
	Primary Role = iota
	// Active asks for rebirths, and no edge node depends on it.
	Active
	// Passive publishes nothing.
	Passive
)

var roleNames = [...]string{"primary", "active", "passive"}

// String returns the role in a word.
func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return "?"
}

// Server is an MQTT server to follow.
type Server struct {
	Name string // of your choice, unique; for events and logs
	// Client says how to connect: Servers or Dial, TLS, credentials, version,
	// limits. What a host needs to be otherwise is set by the host: clean
	// sessions, the Will, subscriptions, callbacks. MaximumPacketSize is 16 MiB
	// by default, because births are large.
	Client client.Options
}

// Options says what a Host does. Servers, and for a Primary HostID, are needed;
// everything else may be left at zero.
type Options struct {
	Role Role
	// HostID is the id of a Primary, unique among all hosts
	// [tck-id-operational-behavior-host-application-host-id].
	HostID  string
	Servers []Server
	// Filters are subscribed to besides the own STATE topic, with QoS 1, so that
	// an NDEATH, which is a Will of QoS 1, is not lost. Default spBv1.0/#.
	Filters []string
	// Session has the reorder timeout, and what one node may cost.
	Session session.Config

	// RebirthRate is how many rebirths a second are asked for at most, at each
	// server. Default 50.
	RebirthRate float64
	// Grace is how long after the connection to a server a node that was online
	// before is given for a birth of its own accord. Default 10 s.
	Grace time.Duration

	MaxNodes   int // default 100,000
	MaxMetrics int // declared by all births in force; default 10,000,000
	MaxHeld    int // bytes of messages that wait for others; default 256 MiB
	MaxText    int // bytes of texts and nested values that are kept; default 256 MiB
	Shards     int // goroutines; default one for each processor

	// OnEvent is told of everything. Values are borrowed until it returns. It may
	// block; see Back-pressure.
	OnEvent func(*Event)
	// OnAlarm is told of what a person should look at. It must return soon.
	OnAlarm func(Alarm)
}

// AlarmKind is what an Alarm is about; the set is closed.
type AlarmKind string

// The kinds of alarms; words for labels.
const (
	// ForeignState: somebody else publishes STATE under our host id.
	ForeignState AlarmKind = "foreign_state"
	// DuplicateNode: two edge nodes seem to have one name. It is not asked for
	// rebirths for a while.
	DuplicateNode AlarmKind = "duplicate_node"
	// RetainedMessage: a birth, death or data is retained at the server. It is
	// not taken, and should be deleted there.
	RetainedMessage AlarmKind = "retained_message"
	// TooMuch: a bound of Options was reached.
	TooMuch AlarmKind = "too_much"
	// SubscriptionRefused: the server does not let us listen.
	SubscriptionRefused AlarmKind = "subscription_refused"
)

// Alarm is something that a person should look at.
type Alarm struct {
	Kind   AlarmKind
	Server string
	Node   NodeID // zero when it is not about one
	Text   string // holds names at most
}

// NodeID names an edge node.
type NodeID struct{ Group, Node string }

// String returns group/node.
func (id NodeID) String() string { return id.Group + "/" + id.Node }

// prepare checks the options and fills in defaults.
func (o *Options) prepare() error {
	if o.Role > Passive {
		return errors.New("sparkplug host: no such role")
	}
	if o.Role == Primary {
		if err := sparkplug.ValidID(o.HostID); err != nil {
			return fmt.Errorf("sparkplug host: host id: %w", err)
		}
	}
	if len(o.Servers) == 0 {
		return errors.New("sparkplug host: no server")
	}
	names := map[string]bool{}
	for _, s := range o.Servers {
		if names[s.Name] {
			return fmt.Errorf("sparkplug host: two servers are named %q", s.Name)
		}
		names[s.Name] = true
	}
	if len(o.Filters) == 0 {
		o.Filters = []string{sparkplug.Namespace + "/#"}
	}
	if o.RebirthRate <= 0 {
		o.RebirthRate = 50
	}
	if o.Grace <= 0 {
		o.Grace = 10 * time.Second
	}
	for _, d := range []struct {
		to *int
		or int
	}{{&o.MaxNodes, 100_000}, {&o.MaxMetrics, 10_000_000}, {&o.MaxHeld, 256 << 20}, {&o.MaxText, 256 << 20}, {&o.Shards, runtime.GOMAXPROCS(0)}} {
		if *d.to <= 0 {
			*d.to = d.or
		}
	}
	if o.OnEvent == nil {
		o.OnEvent = func(*Event) {}
	}
	if o.OnAlarm == nil {
		o.OnAlarm = func(Alarm) {}
	}
	return nil
}

// subscriptions are the filters, and the own STATE topic
// [tck-id-host-topic-phid-birth-sub-required] [tck-id-payloads-state-subscribe].
func (o *Options) subscriptions() []mqtt.Subscription {
	var list []mqtt.Subscription
	for _, f := range o.Filters {
		list = append(list, mqtt.Subscription{Filter: f, QoS: 1})
	}
	if o.Role == Primary {
		list = append(list, mqtt.Subscription{Filter: sparkplug.Topic{Type: sparkplug.State, Host: o.HostID}.String(), QoS: 1})
	}
	return list
}
