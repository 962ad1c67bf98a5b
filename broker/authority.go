package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
)

// Credentials is what a client showed of itself before it is let in.
type Credentials struct {
	ClientID    string // as sent; empty when the server is to choose one
	Username    string
	HasPassword bool
	Password    []byte               // borrowed: valid during Authenticate only
	Remote      net.Addr             // the peer
	TLS         *tls.ConnectionState // nil without TLS
	Listener    string               // name of the listener it came through
}

// Authority decides who may connect. It is asked before any session is read or
// wiped, and from many goroutines at once.
type Authority interface {
	// Authenticate names the client, or refuses it: an error that is a
	// *mqtt.Error gives the CONNACK reason code, any other becomes 0x87. ctx
	// ends with the connect timeout. It may block.
	Authenticate(ctx context.Context, c Credentials) (Identity, error)
}

// Identity is one authenticated party and its rights. The rights are asked
// anew each time, so that a change takes effect at once, also for what is
// already queued. The methods are called while locks of the broker are held:
// they must be quick, must not call the broker, and must be safe for
// concurrent use.
type Identity interface {
	// Name is stable and unique; sessions belong to it.
	Name() string
	MayPublish(topic string) bool
	// MaySubscribe is asked with a filter without its $share prefix.
	MaySubscribe(filter string) bool
	MayReceive(topic string) bool
}

// Tenanted is what an Identity may implement besides. Names of shared
// subscriptions ($share/name/filter) are apart for each tenant, so nobody takes
// messages from the share of another tenant by using its name. Those without
// the method are one tenant, named "".
type Tenanted interface {
	// Tenant is asked when the client connects, and must not change while it
	// is connected.
	Tenant() string
}

// tenantOf is the tenant of id, which may be nil.
func tenantOf(id Identity) string {
	if t, ok := id.(Tenanted); ok {
		return t.Tenant()
	}
	return ""
}

// Certificate is the client's certificate when the TLS configuration of the
// listener has verified it, or nil. An Authority that names the client by it
// must not believe ClientID and Username beyond it.
func (c *Credentials) Certificate() *x509.Certificate {
	if c.TLS == nil || len(c.TLS.VerifiedChains) == 0 {
		return nil
	}
	return c.TLS.VerifiedChains[0][0]
}

// Directory is what an Authority may implement besides: it finds an identity
// by name, so that a will which outlived a restart of the broker can be checked
// again. Without it such a will is refused when it is due, and counted. With it
// a retained message is shown to new subscribers only while the one who
// published it may still do so; and shares are in their tenants after a restart
// before their clients are back.
type Directory interface {
	Identify(name string) (Identity, bool)
}

// identify finds an identity by name, or nil.
func (b *Broker) identify(name string) Identity {
	if name == system.Name() {
		return system
	}
	if d, ok := b.options.Authority.(Directory); ok {
		if id, ok := d.Identify(name); ok {
			return id
		}
	}
	return nil
}

// AllowAnonymous returns the authority of a broker without access control: all
// clients are one identity, named "anonymous", which may do everything that is
// not internal to the broker.
func AllowAnonymous() Authority { return anonymous{} }

type anonymous struct{}

func (anonymous) Authenticate(context.Context, Credentials) (Identity, error) {
	return unrestricted("anonymous"), nil
}

func (anonymous) Identify(name string) (Identity, bool) {
	return unrestricted(name), name == "anonymous"
}

// unrestricted is an identity that may do everything; its value is its name.
type unrestricted string

func (u unrestricted) Name() string           { return string(u) }
func (unrestricted) MayPublish(string) bool   { return true }
func (unrestricted) MaySubscribe(string) bool { return true }
func (unrestricted) MayReceive(string) bool   { return true }

// system is the identity of in-process connections made by Dial.
const system = unrestricted("$system")
