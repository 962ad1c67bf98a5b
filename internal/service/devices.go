package service

import (
	"context"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// Fleet keeps devices, users and tokens.
type Fleet interface {
	// Device returns a registered device. It does not block.
	Device(wire.Address) (store.Device, bool)
	List(context.Context, store.DeviceQuery) ([]store.Device, string, error)
	Add(context.Context, NewDevice) (d store.Device, secret string, err error)
	// Rotate makes a new secret; the old one is void at once.
	Rotate(context.Context, wire.Address) (d store.Device, secret string, err error)
	Change(context.Context, wire.Address, DeviceChange) (store.Device, error)
	// Remove forgets the device, its session and its place in the broker.
	Remove(context.Context, wire.Address) error

	CreateToken(context.Context, NewToken) (t Token, secret string, err error)
	Tokens(context.Context) ([]Token, error)
	RemoveToken(ctx context.Context, id string) error
	User(name string) (User, bool)
	Users() []User
	AddUser(context.Context, NewUser) (User, error)
	ChangeUser(ctx context.Context, name string, c UserChange) (User, error)
	// SetPassword ends the user's sessions.
	SetPassword(ctx context.Context, name, password string) (User, error)
	RemoveUser(ctx context.Context, name string) error
	CheckPassword(ctx context.Context, name, password, remote string) (User, error)
	LoginUser(ctx context.Context, name, password, remote string) (t Token, secret string, err error)
	// VerifyToken says who holds the token; Unauthenticated when nobody does.
	VerifyToken(ctx context.Context, token string) (Principal, error)
	// Holder is who holds the token with the id now; ok is false when nobody does.
	Holder(id string) (p Principal, ok bool)
}

// What the fleet keeps, and what it is asked to make and to change.
type (
	NewDevice    = fleet.NewDevice
	DeviceChange = fleet.DeviceChange
	NewToken     = fleet.NewToken
	Token        = fleet.Token
	User         = fleet.User
	NewUser      = fleet.NewUser
	UserChange   = fleet.UserChange
)

// Bounds of what is said of a device.
const (
	MaxWindow = 1000
	MaxTags   = 32
	MaxNote   = 1024
)

// Authenticate says who holds the token.
func (s *Service) Authenticate(ctx context.Context, token string) (Principal, error) {
	if s.opt.People != nil && !fleet.IsToken(token) {
		p, err := s.opt.People.Verify(ctx, token)
		return p, done(err)
	}
	p, err := s.opt.Fleet.VerifyToken(ctx, token)
	return p, done(err)
}

// AddDevice registers a device and returns its secret, which is kept nowhere.
func (s *Service) AddDevice(ctx context.Context, p Principal, n NewDevice) (store.Device, string, error) {
	if err := mayDevice(p, Admin, n.Address); err != nil {
		return store.Device{}, "", err
	}
	if err := attributes(DeviceChange{Tags: &n.Tags, Note: &n.Note}); err != nil {
		return store.Device{}, "", err
	}
	if n.Window != 0 {
		if err := attributes(DeviceChange{Window: &n.Window}); err != nil {
			return store.Device{}, "", err
		}
	}
	d, secret, err := s.opt.Fleet.Add(ctx, n)
	return d, secret, done(err)
}

// Device looks at one device.
func (s *Service) Device(_ context.Context, p Principal, a wire.Address) (store.Device, error) {
	if err := mayDevice(p, Viewer, a); err != nil {
		return store.Device{}, err
	}
	d, ok := s.opt.Fleet.Device(a)
	if !ok {
		return store.Device{}, unknownDevice(a)
	}
	d.Presence = s.opt.Engine.Presence(a)
	return d, nil
}

// Devices selects devices, in the order of their addresses.
func (s *Service) Devices(ctx context.Context, p Principal, q store.DeviceQuery) ([]store.Device, string, error) {
	if err := must(p, Viewer); err != nil {
		return nil, "", err
	}
	var err error
	if q.Group, q.Groups, err = narrow(p, q.Group, ""); err != nil {
		return nil, "", err
	}
	if q.Limit < 0 || q.Limit > MaxPage {
		return nil, "", fault.Field("limit", "%d is not between 1 and %d", q.Limit, MaxPage)
	}
	page, next, err := s.opt.Fleet.List(ctx, q)
	return page, next, done(err)
}

// RotateDevice gives a device a new secret; the old one is void at once.
func (s *Service) RotateDevice(ctx context.Context, p Principal, a wire.Address) (store.Device, string, error) {
	if err := mayDevice(p, Admin, a); err != nil {
		return store.Device{}, "", err
	}
	d, secret, err := s.opt.Fleet.Rotate(ctx, a)
	d.Presence = s.opt.Engine.Presence(a)
	return d, secret, named(a, err)
}

// ChangeDevice changes what is said of a device.
func (s *Service) ChangeDevice(ctx context.Context, p Principal, a wire.Address, c DeviceChange) (store.Device, error) {
	if err := mayDevice(p, Admin, a); err != nil {
		return store.Device{}, err
	}
	if c == (DeviceChange{}) {
		return store.Device{}, fault.New(fault.Invalid, "nothing to change; give at least one of disabled, window, tags, note")
	}
	if err := attributes(c); err != nil {
		return store.Device{}, err
	}
	d, err := s.opt.Fleet.Change(ctx, a, c)
	d.Presence = s.opt.Engine.Presence(a)
	return d, named(a, err)
}

// RemoveDevice forgets a device. Its commands stay in the store.
func (s *Service) RemoveDevice(ctx context.Context, p Principal, a wire.Address) error {
	if err := mayDevice(p, Admin, a); err != nil {
		return err
	}
	return named(a, s.opt.Fleet.Remove(ctx, a))
}

// Anomalies lists what a device said and was not obeyed, newest first.
func (s *Service) Anomalies(ctx context.Context, p Principal, a wire.Address, limit int) ([]store.Anomaly, error) {
	if _, err := s.Device(ctx, p, a); err != nil {
		return nil, err
	}
	if limit < 0 || limit > store.AnomaliesKept {
		return nil, fault.Field("limit", "%d is not between 1 and %d", limit, store.AnomaliesKept)
	}
	if limit == 0 {
		limit = store.AnomaliesKept
	}
	list, err := s.opt.Store.Anomalies(ctx, a, limit)
	return list, done(err)
}

func named(a wire.Address, err error) error {
	if fault.CodeOf(err) == fault.NotFound {
		return unknownDevice(a)
	}
	return done(err)
}

func attributes(c DeviceChange) error {
	if w := c.Window; w != nil && (*w < 1 || *w > MaxWindow) {
		return fault.Field("window", "%d is not between 1 and %d", *w, MaxWindow)
	}
	if c.Note != nil && len(*c.Note) > MaxNote {
		return fault.Field("note", "is longer than %d bytes", MaxNote)
	}
	if c.Tags == nil {
		return nil
	}
	if len(*c.Tags) > MaxTags {
		return fault.Field("tags", "%d tags; at most %d", len(*c.Tags), MaxTags)
	}
	for _, t := range *c.Tags {
		if err := (wire.Address{Group: t, Device: t}).Valid(); err != nil {
			return fault.Field("tags", "each must be 1 to 64 of the characters A-Z a-z 0-9 . _ : -")
		}
	}
	return nil
}
