package fleet

import (
	"errors"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/wire"
)

// ErrClientID refuses a client id that is not the user name. It is said before
// anything is looked up, and so tells nothing about who exists.
var ErrClientID = errors.New("the client id must be the same as the user name: group/device")

// ErrCertificate refuses a user name that is not the name in the certificate. It
// too is said before anything is looked up.
var ErrCertificate = errors.New("the certificate is another's")

// Login lets a device in by its user name "group/device", a client id that is the
// same, and its secret. Errors: ErrClientID; Unauthenticated, the same for a
// device that does not exist, is disabled, or gave a wrong secret. It does not
// block.
func (f *Fleet) Login(username string, password []byte, clientID string) (*Identity, error) {
	if clientID != username {
		return nil, ErrClientID
	}
	a, err := wire.ParseAddress(username)
	known := err == nil
	d, ok := f.Device(a) // a is zero when it could not be read, and nobody has that
	if !f.opens(a, &d, known && ok && !d.Disabled, password) {
		return nil, fault.New(fault.Unauthenticated, "user name or password is wrong")
	}
	return f.identity(a)
}

// LoginCertificate lets in a device whose certificate, which the caller has
// verified, names it certified. The user name may be left out; if there is one, it
// and the client id must be that name. A device that was registered for a
// certificate must not give a password; one that has a secret must give that
// besides. A nil password is none. Errors: as Login, and ErrCertificate.
func (f *Fleet) LoginCertificate(certified, username string, password []byte, clientID string) (*Identity, error) {
	switch {
	case username != "" && username != certified:
		return nil, ErrCertificate
	case clientID != certified:
		return nil, ErrClientID
	}
	a, err := wire.ParseAddress(certified)
	if err == nil && password == nil {
		if d, ok := f.Device(a); ok && ByCertificate(&d) {
			return f.identity(a)
		}
	}
	return f.Login(certified, password, clientID)
}

// Identify gives the identity of a device by its name, without a login: for what
// a broker does on behalf of a device that is not connected.
func (f *Fleet) Identify(name string) (*Identity, bool) {
	a, err := wire.ParseAddress(name)
	if err != nil {
		return nil, false
	}
	i, err := f.identity(a)
	return i, err == nil
}

func (f *Fleet) identity(a wire.Address) (*Identity, error) {
	d, ok := f.Device(a)
	p := f.profile(d.Profile)
	if !ok || d.Disabled || p == nil {
		return nil, fault.New(fault.Unauthenticated, "user name or password is wrong")
	}
	i := &Identity{fleet: f, address: a, profile: p, rights: RightsOf(p, a)}
	if f.opt.Sparkplug {
		i.edge = edgeOf(p.Name(), a)
	}
	return i, nil
}
