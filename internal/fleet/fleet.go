// Package fleet knows the devices, the users and the tokens: who may come in, and
// what it may do then.
//
// All of them are in memory, loaded by [Fleet.Start], so that a login,
// the rights of a publication and the check of a token touch no disk. Changes go
// through the store first and become visible in memory when they are durable; a
// change that has begun is completed even when its caller stops waiting, so that
// the two cannot differ. One process owns the fleet of a store.
//
// # Devices
//
// A device logs in with user name and client id "group/device" and a secret of
// 32 random bytes that is shown once. What is kept is in secret.go. A device that
// does not exist, is disabled, or gives a wrong secret gets the same answer
// after the same work. Behind a listener that asks for certificates it shows one
// that names it, and needs a secret besides only if it has one; see certificate.go.
//
// Its rights follow from its address and the profile it speaks, by exact bytes,
// and are computed anew each time they are asked for: whoever is disabled or
// removed has none from that moment on. They are in rights.go. There are no
// patterns and no substitution.
//
// # Tokens
//
// A token of the HTTP API is wlc_<id>_<secret>; the id is public, the whole is
// shown once, and a keyed hash of it is kept. What it is good for are its grants:
// each a role (viewer < operator < approver < admin), for some groups and some
// commands. They are in grant.go.
//
// # Users
//
// A user is a person with a password and grants; a login makes a session, which is a
// token of that user, and an admin can make more. All tokens of a user have its
// grants, as they are at the moment of asking, and its name: who asks by one token
// and agrees by another is one person.
//
// All methods are safe for concurrent use once Start has returned.
package fleet

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// Store is what the fleet needs of a store.
type Store interface {
	PutDevice(ctx context.Context, d store.Device, was int64) error
	Devices(ctx context.Context, q store.DeviceQuery) (page []store.Device, next string, err error)
	AllDevices(ctx context.Context) iter.Seq2[store.Device, error]
	RemoveDevice(ctx context.Context, a wire.Address, kinds ...store.Kind) error
	Commit(ctx context.Context, b *store.Batch) (lastEvent int64, err error)
	Documents(ctx context.Context, kind store.Kind, prefix, after string, limit int) ([]store.Document, error)
	Meta(ctx context.Context, key string) ([]byte, error)
	SetMeta(ctx context.Context, key string, value, was []byte) error
}

// Options configure a Fleet. Store and Profiles are required.
type Options struct {
	Store Store
	// Profiles are the languages that devices speak; the first is that of devices
	// that name none.
	Profiles []wire.Profile
	// Root of the topics of the wilco profile; "" means wire.DefaultRoot.
	Root string
	// Sparkplug lets each device also be the edge node of its group and name.
	Sparkplug bool
	// Key is that of the keyed hashes of all secrets, 32 bytes or more. Nil: one
	// is made at the first start and kept in the store.
	Key []byte
	// OnChange is told after a device's secret was changed, or it was disabled
	// or removed: its connections must be cut, and when it is removed, what is
	// kept for it must go. So it is told of users, by their names, and of who has
	// lost a token, by the token's. It is called before the change returns, by its
	// goroutine, and must not call the fleet.
	OnChange func(identity string, removed bool)
	// OfDevices are the kinds of documents that go with a device that is removed: a name
	// is no identity, and who is added under it is another.
	OfDevices []store.Kind
	// OnPut is told after a device was added or changed. It must not block.
	OnPut func(wire.Address)
	// Now is the clock by which tokens expire. Nil: time.Now.
	Now func() time.Time
}

// Fleet is the devices, users and tokens of a server. Make one with New.
type Fleet struct {
	opt Options
	key []byte // set by Start, then constant

	changing sync.Mutex // held over a change, store included

	mu      sync.RWMutex
	devices map[wire.Address]store.Device
	behind  map[wire.Address]map[wire.Address]struct{} // by gateway
	tokens  map[string]Token
	users   map[string]User

	attempts attempts
	cost     cost          // of passwords
	hashes   chan struct{} // a place for each password that is being hashed
	waiting  chan struct{} // and for each that is to be
	opened   opened
	decoy    func() string // what the password of somebody unknown is held against
}

// New makes a fleet that knows nobody until Start.
func New(o Options) *Fleet {
	if o.Now == nil {
		o.Now = time.Now
	}
	f := &Fleet{opt: o, devices: map[wire.Address]store.Device{}, behind: map[wire.Address]map[wire.Address]struct{}{},
		tokens: map[string]Token{}, users: map[string]User{},
		cost: costOfPasswords, hashes: make(chan struct{}, maxHashes), waiting: make(chan struct{}, maxWaiting)}
	f.decoy = sync.OnceValue(func() string { return f.cost.hashPassword(newSecret()) })
	return f
}

const metaKey = "fleet.key" // stored; never change

// Start loads the devices, users and tokens. When there is no key yet it makes one.
func (f *Fleet) Start(ctx context.Context) error {
	f.changing.Lock()
	defer f.changing.Unlock()
	if len(f.opt.Profiles) == 0 {
		return errors.New("fleet: no profiles")
	}
	key, err := f.loadKey(ctx)
	if err != nil {
		return fmt.Errorf("fleet: key of the secrets: %w", err)
	}
	if len(key) < 32 {
		return fmt.Errorf("fleet: the key of the secrets has %d bytes and needs 32", len(key))
	}
	devices := map[wire.Address]store.Device{}
	for d, err := range f.opt.Store.AllDevices(ctx) {
		if err != nil {
			return fmt.Errorf("fleet: load devices: %w", err)
		}
		devices[d.Address] = d
	}
	tokens, err := f.loadTokens(ctx)
	if err != nil {
		return fmt.Errorf("fleet: load tokens: %w", err)
	}
	users, err := f.loadUsers(ctx)
	if err != nil {
		return fmt.Errorf("fleet: load users: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.key, f.devices, f.tokens, f.users = key, devices, tokens, users
	for _, d := range devices {
		f.place(d)
	}
	return nil
}

func (f *Fleet) loadKey(ctx context.Context) ([]byte, error) {
	if f.opt.Key != nil {
		return f.opt.Key, nil
	}
	key, err := f.opt.Store.Meta(ctx, metaKey)
	if err != nil || key != nil {
		return key, err
	}
	key = make([]byte, 32)
	rand.Read(key)
	return key, f.opt.Store.SetMeta(ctx, metaKey, key, nil)
}

// Device returns a registered device. It does not block. Its presence is that
// of the last Start: the engine knows the present one. The tags are shared and
// must not be changed.
func (f *Fleet) Device(a wire.Address) (store.Device, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	d, ok := f.devices[a]
	return d, ok
}

// All gives every registered device as it is when All is ranged over, in no
// order. The loop may take its time, and may change devices.
func (f *Fleet) All() iter.Seq[store.Device] {
	return func(yield func(store.Device) bool) {
		f.mu.RLock()
		list := make([]store.Device, 0, len(f.devices))
		for _, d := range f.devices {
			list = append(list, d)
		}
		f.mu.RUnlock()
		for _, d := range list {
			if !yield(d) {
				return
			}
		}
	}
}

// List selects devices, with their presence, as the store has them.
func (f *Fleet) List(ctx context.Context, q store.DeviceQuery) (page []store.Device, next string, err error) {
	return f.opt.Store.Devices(ctx, q)
}

// NewDevice is a device to register.
type NewDevice struct {
	Address wire.Address
	Profile string // "" means the server's default
	Window  int    // 0 means 1
	Tags    []string
	Note    string
	// Certificate registers it to log in with a certificate that names it; then it
	// has no secret.
	Certificate bool
	// Via is the gateway that it is behind, a registered device of its group; zero:
	// none. Then it has no secret either: the gateway logs in.
	Via wire.Address
}

// Add registers a device and returns its secret, which is kept nowhere, or "" when
// it is to have none. Errors: Exists; Invalid for an address, profile or gateway
// that cannot be.
func (f *Fleet) Add(ctx context.Context, n NewDevice) (store.Device, string, error) {
	if err := f.check(n); err != nil {
		return store.Device{}, "", err
	}
	secret, sealed := "", []byte(nil)
	switch {
	case n.Via != wire.Address{}:
	case n.Certificate:
		sealed = []byte(byCertificate)
	default:
		secret = newSecret()
		sealed = f.seal(n.Address, secret)
	}
	now := f.opt.Now().UTC().Truncate(time.Millisecond)
	d := store.Device{
		Address: n.Address, Secret: sealed, Profile: n.Profile, Window: n.Window,
		Tags: slices.Clone(n.Tags), Note: n.Note, Via: n.Via, Created: now, Rotated: now,
	}
	f.changing.Lock()
	defer f.changing.Unlock()
	if err := f.checkGateway(n); err != nil {
		return store.Device{}, "", err
	}
	d, err := f.put(ctx, d)
	if err != nil {
		return store.Device{}, "", err
	}
	return d, secret, nil
}

func (f *Fleet) check(n NewDevice) error {
	if err := n.Address.Valid(); err != nil {
		var w *wire.Error
		if errors.As(err, &w) {
			return fault.Field(w.Field, "%s", w.Text)
		}
		return fault.Wrap(err, fault.Invalid, "the address is not valid")
	}
	if n.Window < 0 {
		return fault.Field("window", "must not be negative")
	}
	p := f.profile(n.Profile)
	if p == nil {
		return fault.Field("profile", "%q is not one that this server speaks", n.Profile)
	}
	if _, _, ok := EdgeOf(n.Address); p.Name() == SparkplugProfile && !ok {
		return fault.Field("device", "must be NODE, or NODE:DEVICE for a Sparkplug device behind it")
	}
	if p.Name() == "atlas" && n.Address.Group != wire.AtlasGroup {
		return fault.Field("group", "must be %q: the topics of the atlas profile have no level for a group", wire.AtlasGroup)
	}
	return nil
}

// profile is the profile of that name, the first for "", nil when unknown.
func (f *Fleet) profile(name string) wire.Profile {
	for _, p := range f.opt.Profiles {
		if name == "" || p.Name() == name {
			return p
		}
	}
	return nil
}

// put writes a device and shows it. f.changing is held.
func (f *Fleet) put(ctx context.Context, d store.Device) (store.Device, error) {
	if err := ctx.Err(); err != nil {
		return store.Device{}, err
	}
	if err := f.opt.Store.PutDevice(context.WithoutCancel(ctx), d, d.Version); err != nil {
		return store.Device{}, fmt.Errorf("fleet: device %s: %w", d.Address, err)
	}
	d.Version++
	f.mu.Lock()
	f.devices[d.Address] = d
	f.place(d)
	f.mu.Unlock()
	if f.opt.OnPut != nil {
		f.opt.OnPut(d.Address)
	}
	return d, nil
}

// Rotate makes a new secret; the old one is void at once, and connections made
// with it are cut. A device that had none, because it logs in with a certificate,
// needs the secret besides from now on. Errors: NotFound.
func (f *Fleet) Rotate(ctx context.Context, a wire.Address) (store.Device, string, error) {
	f.changing.Lock()
	defer f.changing.Unlock()
	d, ok := f.Device(a)
	if !ok {
		return store.Device{}, "", unknown(a)
	}
	if d.Via != (wire.Address{}) {
		return store.Device{}, "", fault.New(fault.Invalid, "%s has no secret here: it logs in at its gateway, %s", a, d.Via)
	}
	secret := newSecret()
	d.Secret = f.seal(a, secret)
	d.Rotated = f.opt.Now().UTC().Truncate(time.Millisecond)
	d, err := f.put(ctx, d)
	if err != nil {
		return store.Device{}, "", err
	}
	f.tell(a, false)
	return d, secret, nil
}

// DeviceChange changes a device; nil fields stay.
type DeviceChange struct {
	Disabled *bool
	Window   *int
	Tags     *[]string
	Note     *string
}

// Change changes a device. One that is disabled has no rights from now on, and
// its connections are cut. Errors: NotFound, Invalid.
func (f *Fleet) Change(ctx context.Context, a wire.Address, c DeviceChange) (store.Device, error) {
	f.changing.Lock()
	defer f.changing.Unlock()
	d, ok := f.Device(a)
	if !ok {
		return store.Device{}, unknown(a)
	}
	if c.Window != nil {
		if *c.Window < 0 {
			return store.Device{}, fault.Field("window", "must not be negative")
		}
		d.Window = *c.Window
	}
	if c.Disabled != nil {
		d.Disabled = *c.Disabled
	}
	if c.Tags != nil {
		d.Tags = slices.Clone(*c.Tags)
	}
	if c.Note != nil {
		d.Note = *c.Note
	}
	d, err := f.put(ctx, d)
	if err != nil {
		return store.Device{}, err
	}
	if c.Disabled != nil && *c.Disabled {
		f.tell(a, false)
	}
	return d, nil
}

// Remove forgets a device with its state; its connections are cut. Its commands stay. Errors:
// NotFound; Conflict for a gateway that devices are registered behind.
func (f *Fleet) Remove(ctx context.Context, a wire.Address) error {
	f.changing.Lock()
	defer f.changing.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	d, ok := f.Device(a)
	if !ok {
		return unknown(a)
	}
	if n := len(f.Behind(a)); n > 0 {
		return fault.New(fault.Conflict, "%d devices are registered behind %s; remove them first", n, a)
	}
	if err := f.opt.Store.RemoveDevice(context.WithoutCancel(ctx), a, f.opt.OfDevices...); err != nil {
		return fmt.Errorf("fleet: device %s: %w", a, err)
	}
	f.mu.Lock()
	delete(f.devices, a)
	delete(f.behind[d.Via], a)
	f.mu.Unlock()
	f.tell(a, true)
	return nil
}

func (f *Fleet) tell(a wire.Address, removed bool) {
	if f.opt.OnChange != nil {
		f.opt.OnChange(a.String(), removed)
	}
}

func unknown(a wire.Address) error {
	return fault.New(fault.NotFound, "there is no device %s", a)
}
