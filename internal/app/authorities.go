package app

import (
	"context"
	"errors"
	"strings"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/fleet/authority"
	"github.com/wilco-iot/wilco/mqtt"
)

// authority is who decides about the clients of the embedded broker.
func (s *Server) authority() broker.Authority {
	known := authority.New(s.Fleet)
	if s.opt.users == nil {
		return known
	}
	return authorities{s.Fleet, known, s.opt.users}
}

// authorities let in who the fleet knows, and the users of a file beside them. A name
// with a slash is a device's, and what the file says of it comes on top of what the
// device may anyway. Any other may be a user's of the file and a person's or token's at
// once: these are two, with passwords, sessions and rights of their own.
type authorities struct {
	fleet *fleet.Fleet
	known *authority.Authority
	users *users
}

// Authenticate implements broker.Authority. The file is asked first, and whom it does
// not let in the fleet is asked about, so that the work does not tell who is in the file.
func (a authorities) Authenticate(ctx context.Context, c broker.Credentials) (broker.Identity, error) {
	name := c.Username
	if cert := c.Certificate(); name == "" && cert != nil {
		name, _ = fleet.CertificateName(cert) // one that names nobody is refused by the fleet
	}
	if name == "" || strings.Contains(name, "/") {
		return a.widened(a.known.Authenticate(ctx, c))
	}
	if strings.Contains(c.ClientID, "/") {
		return nil, &mqtt.Error{Code: mqtt.ClientIdentifierNotValid, Text: fleet.ErrRequesterID.Error()}
	}
	i, err := a.users.Authenticate(ctx, c)
	var e *mqtt.Error
	if errors.As(err, &e) && e.Code == mqtt.BadUserNameOrPassword {
		return a.known.Authenticate(ctx, c)
	}
	return i, err
}

// Identify implements broker.Directory.
func (a authorities) Identify(name string) (broker.Identity, bool) {
	if user, ok := strings.CutSuffix(name, besideDevices); ok && !strings.Contains(user, "/") {
		return a.users.Identify(user)
	}
	i, ok := a.known.Identify(name)
	if !ok {
		return nil, false
	}
	i, _ = a.widened(i, nil)
	return i, true
}

// widened gives a device what the file has for it.
func (a authorities) widened(i broker.Identity, err error) (broker.Identity, error) {
	if d, ok := i.(*fleet.Identity); ok && err == nil {
		return widened{d, a}, nil
	}
	return i, err
}

// widened is a device that has the rights of the file beside its own, as long as it is
// registered and not disabled.
type widened struct {
	*fleet.Identity
	of authorities
}

func (w widened) MayPublish(topic string) bool {
	return w.Identity.MayPublish(topic) || w.more().mayPublish(topic)
}

func (w widened) MayReceive(topic string) bool {
	return w.Identity.MayReceive(topic) || w.more().mayReceive(topic)
}

func (w widened) MaySubscribe(filter string) bool {
	return w.Identity.MaySubscribe(filter) || w.more().maySubscribe(filter)
}

func (w widened) more() *user {
	if d, ok := w.of.fleet.Device(w.Address()); !ok || d.Disabled {
		return nil
	}
	return w.of.users.listed(w.Name())
}
