package fleet

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/internal/store/sqlite"
	"github.com/wilco-iot/wilco/wire"
)

var (
	pump  = wire.Address{Group: "site", Device: "pump"}
	valve = wire.Address{Group: "site", Device: "valve"}
	lamp  = wire.Address{Group: wire.AtlasGroup, Device: "lamp"}
)

// rig is a fleet over a real store, with a clock in the hands of the test.
type rig struct {
	*Fleet
	t       *testing.T
	db      *sqlite.Store
	now     time.Time
	changes []string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	db, err := sqlite.Open(filepath.Join(t.TempDir(), "wilco.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	r := &rig{t: t, db: db, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	r.restart()
	return r
}

// restart is what a new process sees.
func (r *rig) restart() {
	r.t.Helper()
	r.Fleet = New(Options{
		Store: r.db, Profiles: []wire.Profile{wire.NewWilco("plant"), wire.Atlas()}, Now: func() time.Time { return r.now },
		OnChange: func(identity string, removed bool) {
			if removed {
				identity += " removed"
			}
			r.changes = append(r.changes, identity)
		},
	})
	r.cost = quick
	if err := r.Start(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) add(a wire.Address, profile string) (secret string) {
	r.t.Helper()
	_, secret, err := r.Add(r.t.Context(), NewDevice{Address: a, Profile: profile})
	if err != nil {
		r.t.Fatal(err)
	}
	return secret
}

func (r *rig) login(a wire.Address, secret string) *Identity {
	r.t.Helper()
	i, err := r.Login(a.String(), []byte(secret), a.String())
	if err != nil {
		r.t.Fatal(err)
	}
	return i
}

func (r *rig) disable(a wire.Address, off bool) {
	r.t.Helper()
	if _, err := r.Change(r.t.Context(), a, DeviceChange{Disabled: &off}); err != nil {
		r.t.Fatal(err)
	}
}

func wantCode(t *testing.T, err error, want fault.Code) {
	t.Helper()
	if fault.CodeOf(err) != want {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestLogin(t *testing.T) {
	r := newRig(t)
	secret, other := r.add(pump, ""), r.add(valve, "")
	if len(secret) != 43 || secret == other {
		t.Fatalf("secrets %q %q", secret, other)
	}
	if i := r.login(pump, secret); i.Name() != "site/pump" || i.Address() != pump {
		t.Errorf("identity %q", i.Name())
	}
	r.disable(valve, true)
	var first error
	for name, c := range map[string][2]string{
		"wrong secret":      {"site/pump", other},
		"part of it":        {"site/pump", secret[:42]},
		"empty":             {"site/pump", ""},
		"no such device":    {"site/none", secret},
		"disabled":          {"site/valve", other},
		"not an address":    {"pump", secret},
		"wildcard":          {"site/+", secret},
		"other case":        {"Site/pump", secret},
		"NUL":               {"site/pump\x00", secret},
		"64 KiB":            {strings.Repeat("x", 65535), secret},
		"nothing":           {"", ""},
		"parent directory":  {"../pump", secret},
		"line break":        {"site/pump\n", secret},
		"more than two":     {"site/pump/x", secret},
		"$ at the front":    {"$site/pump", secret},
		"the kept hash":     {"site/pump", string(r.devices[pump].Secret)},
		"mosquitto's  hash": {"site/pump", string(r.devices[pump].Secret[1+macSize:])},
	} {
		_, err := r.Login(c[0], []byte(c[1]), c[0])
		if fault.CodeOf(err) != fault.Unauthenticated {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if first == nil {
			first = err
		}
		if err.Error() != first.Error() {
			t.Errorf("%s: %q tells more than %q", name, err, first)
		}
	}
	for _, id := range []string{"", "pump", "site/valve", "site/Pump"} {
		if _, err := r.Login("site/pump", []byte(secret), id); !errors.Is(err, ErrClientID) {
			t.Errorf("client id %q: %v", id, err)
		}
	}
}

// TestSecretsAreNotKept: neither what is stored nor what is listed has them.
func TestSecretsAreNotKept(t *testing.T) {
	r := newRig(t)
	secret := r.add(pump, "")
	_, token, err := r.CreateToken(t.Context(), NewToken{Name: "ops", Grants: Everywhere(Admin)})
	if err != nil {
		t.Fatal(err)
	}
	d, err := r.db.Device(t.Context(), pump)
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := r.db.Documents(t.Context(), kindToken, "", "", 0)
	if err != nil || len(tokens) != 1 {
		t.Fatal(tokens, err)
	}
	_, text, _ := strings.Cut(strings.TrimPrefix(token, tokenPrefix), "_")
	if bytes.Contains(d.Secret, []byte(secret)) || bytes.Contains(tokens[0].Body, []byte(text)) {
		t.Error("a secret is kept as it is")
	}
	// One device's row in the place of another's opens nothing.
	d.Address = valve
	if err := r.db.PutDevice(t.Context(), d, 0); err != nil {
		t.Fatal(err)
	}
	r.restart()
	r.login(pump, secret)
	if _, err := r.Login("site/valve", []byte(secret), "site/valve"); err == nil {
		t.Error("a copied row lets the secret of another device in")
	}
}

func TestChangesLastAndCutConnections(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	old := r.add(pump, "")
	i := r.login(pump, old)
	d, secret, err := r.Rotate(ctx, pump)
	if err != nil || d.Version != 2 {
		t.Fatal(d, err)
	}
	if _, err := r.Login("site/pump", []byte(old), "site/pump"); err == nil {
		t.Error("the old secret is not void")
	}
	r.login(pump, secret)

	const topic = "plant/site/pump/ack"
	if !i.MayPublish(topic) {
		t.Error("no rights after a rotation")
	}
	r.disable(pump, true)
	if i.MayPublish(topic) || i.MayReceive("plant/site/pump/command") || i.MaySubscribe("plant/site/pump/command") {
		t.Error("a disabled device has rights")
	}
	if _, ok := r.Identify("site/pump"); ok {
		t.Error("a disabled device is identified")
	}
	r.disable(pump, false)
	if !i.MayPublish(topic) {
		t.Error("an enabled device has no rights")
	}
	window, tags, note := 3, []string{"a", "b"}, "by the door"
	if _, err := r.Change(ctx, pump, DeviceChange{Window: &window, Tags: &tags, Note: &note}); err != nil {
		t.Fatal(err)
	}
	r.restart()
	d, ok := r.Device(pump)
	if !ok || d.Window != 3 || !slices.Equal(d.Tags, tags) || d.Note != note || d.Disabled || d.Version != 5 {
		t.Errorf("after a restart: %+v", d)
	}
	r.login(pump, secret)
	i = r.login(pump, secret)
	if err := r.Remove(ctx, pump); err != nil {
		t.Fatal(err)
	}
	if i.MayPublish(topic) {
		t.Error("a removed device has rights")
	}
	if want := []string{"site/pump", "site/pump", "site/pump removed"}; !slices.Equal(r.changes, want) {
		t.Errorf("connections cut: %q", r.changes)
	}
	_, _, err = r.Rotate(ctx, pump)
	wantCode(t, err, fault.NotFound)
	wantCode(t, r.Remove(ctx, pump), fault.NotFound)
	_, err = r.Change(ctx, pump, DeviceChange{})
	wantCode(t, err, fault.NotFound)
}

// TestAnotherProfile: what has logged in as one kind of device is not another.
func TestAnotherProfile(t *testing.T) {
	r := newRig(t)
	i := r.login(lamp, r.add(lamp, "atlas"))
	if !i.MayPublish("commands/lamp/ack") || i.MayPublish("plant/default/lamp/ack") {
		t.Error("rights of the atlas profile")
	}
	if err := r.Remove(t.Context(), lamp); err != nil {
		t.Fatal(err)
	}
	r.add(lamp, "wilco")
	if i.MayPublish("commands/lamp/ack") || i.MayPublish("plant/default/lamp/ack") {
		t.Error("an identity outlived its registration")
	}
}

func TestAddRefuses(t *testing.T) {
	r := newRig(t)
	r.add(pump, "")
	for _, c := range []struct {
		n     NewDevice
		code  fault.Code
		field string
	}{
		{NewDevice{Address: pump}, fault.Exists, ""},
		{NewDevice{Address: wire.Address{Group: "a b", Device: "c"}}, fault.Invalid, "group"},
		{NewDevice{Address: wire.Address{Group: "a", Device: "+"}}, fault.Invalid, "device"},
		{NewDevice{Address: valve, Profile: "sparkplug"}, fault.Invalid, "profile"},
		{NewDevice{Address: valve, Profile: "atlas"}, fault.Invalid, "group"},
		{NewDevice{Address: valve, Window: -1}, fault.Invalid, "window"},
	} {
		_, _, err := r.Add(t.Context(), c.n)
		if e := fault.From(err); e == nil || e.Code != c.code || e.Field != c.field {
			t.Errorf("%+v: %v", c.n, err)
		}
	}
	if _, ok := r.Device(valve); ok {
		t.Error("a refused device is there")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := r.Add(ended, NewDevice{Address: valve}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// failing is a store whose writes fail.
type failing struct{ Store }

func (failing) PutDevice(context.Context, store.Device, int64) error {
	return fault.New(fault.StorageFull, "")
}
func (failing) RemoveDevice(context.Context, wire.Address, ...store.Kind) error {
	return fault.New(fault.StorageFull, "")
}
func (failing) Commit(context.Context, *store.Batch) (int64, error) {
	return 0, fault.New(fault.StorageFull, "")
}

// TestWhatIsNotDurableIsNotSeen: when the store cannot write, nothing changes.
func TestWhatIsNotDurableIsNotSeen(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	secret := r.add(pump, "")
	x, token, err := r.CreateToken(ctx, NewToken{Name: "a", Grants: Everywhere(Viewer)})
	if err != nil {
		t.Fatal(err)
	}
	r.opt.Store = failing{r.db}
	_, _, err = r.Add(ctx, NewDevice{Address: valve})
	wantCode(t, err, fault.StorageFull)
	_, _, err = r.Rotate(ctx, pump)
	wantCode(t, err, fault.StorageFull)
	off := true
	_, err = r.Change(ctx, pump, DeviceChange{Disabled: &off})
	wantCode(t, err, fault.StorageFull)
	wantCode(t, r.Remove(ctx, pump), fault.StorageFull)
	wantCode(t, r.RemoveToken(ctx, x.ID), fault.StorageFull)
	_, _, err = r.CreateToken(ctx, NewToken{Name: "b", Grants: Everywhere(Viewer)})
	wantCode(t, err, fault.StorageFull)

	r.login(pump, secret)
	if _, err := r.VerifyToken(ctx, token); err != nil {
		t.Error(err)
	}
	if _, ok := r.Device(valve); ok || len(r.changes) != 0 || len(r.tokens) != 1 {
		t.Error("something changed in memory only")
	}
}

// TestRightsAgreeWithWire: the topics are those that the profiles speak.
func TestRightsAgreeWithWire(t *testing.T) {
	for _, a := range []wire.Address{pump, lamp} {
		for _, p := range []wire.DeviceProfile{wire.NewWilco("a/b"), wire.Atlas()} {
			rights := RightsOf(p, a)
			if p.Name() == "atlas" && a.Group != wire.AtlasGroup {
				if rights.Publish() != nil || rights.Receive() != nil {
					t.Errorf("%s may use topics of %s", a, p.Name())
				}
				continue
			}
			up := []string{p.AckTopic(a), p.ResultTopic(a)}
			if p.StatusTopic(a) != "" {
				up = append(up, p.StatusTopic(a))
			}
			for _, topic := range up {
				if !slices.Contains(rights.Publish(), topic) || slices.Contains(rights.Receive(), topic) {
					t.Errorf("%s: %s is not for publishing alone", p.Name(), topic)
				}
			}
			if topic := p.Topic(a); !slices.Contains(rights.Receive(), topic) || slices.Contains(rights.Publish(), topic) {
				t.Errorf("%s: %s is not for receiving alone", p.Name(), topic)
			}
		}
	}
}

// TestOnlyExactTopics: a topic is allowed when it is in the list, byte by byte,
// and a filter as well; whatever else is asked for is refused.
func TestOnlyExactTopics(t *testing.T) {
	r := newRig(t)
	i := r.login(pump, r.add(pump, ""))
	r.add(valve, "")
	publish := []string{"plant/site/pump/ack", "plant/site/pump/result", "plant/site/pump/status",
		"plant/site/pump/state/update", "plant/site/pump/state/get", "plant/site/pump/gateway/act"}
	receive := []string{"plant/site/pump/command", "plant/site/pump/state/update/accepted", "plant/site/pump/state/update/rejected",
		"plant/site/pump/state/update/delta", "plant/site/pump/state/get/accepted", "plant/site/pump/state/get/rejected"}
	if !slices.Equal(i.rights.Publish(), publish) || !slices.Equal(i.rights.Receive(), receive) {
		t.Errorf("rights: %q %q", i.rights.Publish(), i.rights.Receive())
	}
	ask := func(t interface{ Errorf(string, ...any) }, topic string) {
		if i.MayPublish(topic) != slices.Contains(publish, topic) {
			t.Errorf("publish to %q: %v", topic, i.MayPublish(topic))
		}
		may := slices.Contains(receive, topic)
		if i.MayReceive(topic) != may || i.MaySubscribe(topic) != may {
			t.Errorf("receive from %q: %v %v", topic, i.MayReceive(topic), i.MaySubscribe(topic))
		}
	}
	for _, topic := range append(append([]string{"", "#", "+", "/", "plant/#", "plant/site/pump/#", "plant/site/pump/+", "plant/+/+/command",
		"plant/site/+/command", "plant/site/pump/state/#", "plant/site/valve/command", "plant/site/valve/ack", "plant/site/pump", "plant/site/pump/",
		"plant/site/pump/command/", "plant/site//pump/command", "/plant/site/pump/command", "Plant/site/pump/command", "plant/site/pump/Command",
		"plant/site/pump/command\x00", "plant/site/pump/\u0441ommand", "$share/g/plant/site/pump/command", "$SYS/broker", "wilco/site/pump/ack",
		"plant/site/pump2/ack", "plant/site/pumpack", "commands/pump", "commands/pump/ack"}, publish...), receive...) {
		ask(t, topic)
	}
	level := rapid.SampledFrom([]string{"plant", "site", "pump", "valve", "ack", "command", "state", "update", "get", "accepted", "delta", "+", "#", "", "Ack"})
	rapid.Check(t, func(t *rapid.T) {
		ask(t, strings.Join(rapid.SliceOfN(level, 1, 7).Draw(t, "levels"), "/"))
	})
}

func TestTokens(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	if r.Managed() {
		t.Error("somebody manages what nobody may")
	}
	text, err := r.AdminToken(ctx)
	if err != nil || !strings.HasPrefix(text, "wlc_") {
		t.Fatal(text, err)
	}
	if !r.Managed() {
		t.Error("there is a token, and nobody manages")
	}
	p, err := r.VerifyToken(ctx, text)
	if err != nil || p.Name != "first-admin" || !reflect.DeepEqual(p.Grants, Everywhere(Admin)) {
		t.Errorf("%+v %v", p, err)
	}
	atSite := []Grant{{Role: Viewer, Groups: []string{"site"}, Commands: []string{"valve.*"}}}
	x, short, err := r.CreateToken(ctx, NewToken{Name: "dash", Grants: atSite, TTL: time.Hour})
	if err != nil || !x.Expires.Equal(r.now.Add(time.Hour)) {
		t.Fatal(x, err)
	}
	r.restart()
	if p, err = r.VerifyToken(ctx, short); err != nil || !reflect.DeepEqual(p, Principal{Name: "dash", Grants: atSite, Token: x.ID}) {
		t.Errorf("%+v %v", p, err)
	}
	r.now = r.now.Add(time.Hour)
	_, err = r.VerifyToken(ctx, short)
	if wantCode(t, err, fault.Unauthenticated); !strings.Contains(err.Error(), "expired") {
		t.Error(err)
	}
	_, id, _ := strings.Cut(text, "_")
	id, _, _ = strings.Cut(id, "_")
	for _, bad := range []string{"", "wlc_", "wlc__", "wlc_" + id, "wlc_" + id + "_", text[:len(text)-1], text + "x", strings.ToUpper(text),
		strings.TrimPrefix(text, "wlc_"), "wlc_" + x.ID + text[len("wlc_")+len(id):], short[:len(short)-1]} {
		_, err := r.VerifyToken(ctx, bad)
		if wantCode(t, err, fault.Unauthenticated); err == nil || strings.Contains(err.Error(), "expired") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	list, err := r.Tokens(ctx)
	if err != nil || len(list) != 2 || list[0].Name != "first-admin" && list[1].Name != "first-admin" {
		t.Error(list, err)
	}
	if err := r.RemoveToken(ctx, id); err != nil {
		t.Fatal(err)
	}
	_, err = r.VerifyToken(ctx, text)
	wantCode(t, err, fault.Unauthenticated)
	wantCode(t, r.RemoveToken(ctx, id), fault.NotFound)
	if r.Managed() {
		t.Error("no way back in when the last admin is gone")
	}
	for field, n := range map[string]NewToken{
		"name": {Grants: Everywhere(Admin)}, "role": {Name: "x", Grants: Everywhere("root")}, "grants": {Name: "x"},
		"group":   {Name: "x", Grants: []Grant{{Role: Viewer, Groups: []string{"a/b"}}}},
		"command": {Name: "x", Grants: []Grant{{Role: Viewer, Commands: []string{"*.open"}}}},
		"ttl":     {Name: "x", Grants: Everywhere(Viewer), TTL: -1},
	} {
		_, _, err := r.CreateToken(ctx, n)
		if e := fault.From(err); e == nil || e.Code != fault.Invalid || e.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestKey(t *testing.T) {
	r := newRig(t)
	if len(r.key) != 32 {
		t.Fatalf("%d bytes", len(r.key))
	}
	first := r.key
	r.restart()
	if !bytes.Equal(r.key, first) {
		t.Error("the key did not last")
	}
	f := New(Options{Store: r.db, Key: []byte("short"), Profiles: []wire.Profile{wire.NewWilco("")}})
	if f.Start(t.Context()) == nil {
		t.Error("a short key was taken")
	}
	if New(Options{Store: r.db}).Start(t.Context()) == nil {
		t.Error("no profiles were taken")
	}
}

// TestConcurrent is for the race detector.
func TestConcurrent(t *testing.T) {
	r := newRig(t)
	secret := r.add(pump, "")
	i := r.login(pump, secret)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				i.MayPublish("plant/site/pump/ack")
				r.Login("site/pump", []byte(secret), "site/pump")
				for range r.All() {
				}
			}
		})
	}
	wg.Go(func() {
		for n := range 20 {
			note := strings.Repeat("x", n)
			if _, err := r.Change(t.Context(), pump, DeviceChange{Note: &note}); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	if d, _ := r.Device(pump); d.Version != 21 {
		t.Errorf("version %d", d.Version)
	}
}

func TestMosquittoForm(t *testing.T) {
	r := newRig(t)
	secret := r.add(pump, "")
	d, _ := r.Device(pump)
	hash, ok := MosquittoSecret(&d)
	if parts := strings.Split(hash, "$"); !ok || len(parts) != 5 || parts[1] != "7" || parts[2] != "101" || strings.Contains(hash, secret) {
		t.Errorf("%q", hash)
	}
	if _, ok := MosquittoSecret(&store.Device{}); ok {
		t.Error("a device without a secret has a hash")
	}
}

func BenchmarkLogin(b *testing.B) {
	f := New(Options{Profiles: []wire.Profile{wire.NewWilco("")}})
	f.key = make([]byte, 32)
	f.devices[pump] = store.Device{Address: pump, Secret: f.seal(pump, "secret")}
	for b.Loop() {
		if _, err := f.Login("site/pump", []byte("secret"), "site/pump"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMayPublish(b *testing.B) {
	f := New(Options{Profiles: []wire.Profile{wire.NewWilco("")}})
	f.key = make([]byte, 32)
	f.devices[pump] = store.Device{Address: pump, Secret: f.seal(pump, "secret")}
	i, err := f.Login("site/pump", []byte("secret"), "site/pump")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !i.MayPublish("wilco/site/pump/state/update") {
			b.Fatal("denied")
		}
	}
}
