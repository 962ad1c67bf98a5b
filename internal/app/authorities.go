package app

import (
	"context"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/fleet/authority"
	"github.com/wilco-iot/wilco/wire"
)

// authority is who decides about the clients of the embedded broker.
func (s *Server) authority() broker.Authority {
	devices := authority.New(s.Fleet)
	if s.opt.users == nil {
		return devices
	}
	return authorities{s, devices, s.opt.users}
}

// authorities let devices in, and users of a file beside them. The name of a
// registered device is that device's, whatever the file says.
type authorities struct {
	server  *Server
	devices *authority.Authority
	users   *users
}

// Authenticate implements broker.Authority.
func (a authorities) Authenticate(ctx context.Context, c broker.Credentials) (broker.Identity, error) {
	name := c.Username
	if name == "" {
		name = c.ClientID // as a device with a certificate may say it
	}
	if address, err := wire.ParseAddress(name); err == nil {
		if _, ok := a.server.Fleet.Device(address); ok {
			return a.devices.Authenticate(ctx, c)
		}
	}
	return a.users.Authenticate(ctx, c)
}

// Identify implements broker.Directory.
func (a authorities) Identify(name string) (broker.Identity, bool) {
	if i, ok := a.devices.Identify(name); ok {
		return i, true
	}
	if address, err := wire.ParseAddress(name); err == nil {
		if _, ok := a.server.Fleet.Device(address); ok {
			return nil, false // one that is disabled
		}
	}
	return a.users.Identify(name)
}
