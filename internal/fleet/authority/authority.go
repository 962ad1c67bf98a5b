// Package authority lets the devices and the requesters of a fleet into a broker.
package authority

import (
	"context"
	"errors"
	"fmt"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/mqtt"
)

// Authority is a broker.Authority, and its Directory, over a fleet. It is safe for
// concurrent use. It blocks for who comes by a user's password, and for nobody else.
type Authority struct{ fleet *fleet.Fleet }

// New makes the authority of a fleet.
func New(f *fleet.Fleet) *Authority { return &Authority{f} }

var (
	_ broker.Authority = (*Authority)(nil)
	_ broker.Directory = (*Authority)(nil)
	_ broker.Signer    = (*fleet.Requester)(nil)
	_ broker.Tenanted  = (*fleet.Requester)(nil)
)

// Authenticate names the device, or refuses it with 0x85 when its client id is not
// its user name, with 0x87 when its certificate does not name it, else with 0x86,
// whatever is wrong. Where the listener has verified a certificate, nobody comes
// in by a name that is not in it.
func (a *Authority) Authenticate(ctx context.Context, c broker.Credentials) (broker.Identity, error) {
	if fleet.IsRequester(c.Username) {
		return a.requester(ctx, &c)
	}
	i, err := a.login(&c)
	switch {
	case errors.Is(err, fleet.ErrCertificate):
		return nil, &mqtt.Error{Code: mqtt.NotAuthorized, Text: err.Error()}
	case errors.Is(err, fleet.ErrClientID):
		return nil, &mqtt.Error{Code: mqtt.ClientIdentifierNotValid, Text: err.Error()}
	case err != nil:
		return nil, &mqtt.Error{Code: mqtt.BadUserNameOrPassword, Text: "user name or password is wrong"}
	}
	return i, nil
}

// requester lets in a user or a token, by the same codes; too many failures are 0x9F.
func (a *Authority) requester(ctx context.Context, c *broker.Credentials) (broker.Identity, error) {
	if cert := c.Certificate(); cert != nil {
		if name, err := fleet.CertificateName(cert); err != nil || name != c.Username {
			return nil, &mqtt.Error{Code: mqtt.NotAuthorized, Text: fleet.ErrCertificate.Error()}
		}
	}
	remote := ""
	if c.Remote != nil {
		remote = c.Remote.String()
	}
	r, err := a.fleet.LoginRequester(ctx, c.Username, string(c.Password), c.ClientID, remote)
	switch {
	case errors.Is(err, fleet.ErrRequesterID):
		return nil, &mqtt.Error{Code: mqtt.ClientIdentifierNotValid, Text: err.Error()}
	case fault.CodeOf(err) == fault.TooMany:
		return nil, &mqtt.Error{Code: mqtt.ConnectionRateExceeded, Text: "too many failed logins; try again later"}
	case err != nil:
		return nil, &mqtt.Error{Code: mqtt.BadUserNameOrPassword, Text: "user name or password is wrong"}
	}
	return r, nil
}

func (a *Authority) login(c *broker.Credentials) (*fleet.Identity, error) {
	cert := c.Certificate()
	if cert == nil {
		return a.fleet.Login(c.Username, c.Password, c.ClientID)
	}
	name, err := fleet.CertificateName(cert)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", fleet.ErrCertificate, err)
	}
	password := c.Password
	if c.HasPassword && password == nil {
		password = []byte{}
	}
	return a.fleet.LoginCertificate(name, c.Username, password, c.ClientID)
}

// Identify finds a device by its name "group/device", or a requester by its own.
func (a *Authority) Identify(name string) (broker.Identity, bool) {
	if fleet.IsRequester(name) {
		r, ok := a.fleet.IdentifyRequester(name)
		if !ok {
			return nil, false
		}
		return r, true
	}
	i, ok := a.fleet.Identify(name)
	if !ok {
		return nil, false // not i: a nil *Identity in the interface would not be nil
	}
	return i, true
}
