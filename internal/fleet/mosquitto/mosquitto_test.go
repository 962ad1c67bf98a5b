package mosquitto_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/fleet/mosquitto"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/internal/store/sqlite"
	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/wire"
)

var profiles = []wire.Profile{wire.NewWilco("plant"), wire.Atlas()}

// member is a registered device and its secret.
type member struct {
	device store.Device
	secret string
}

func newFleet(t *testing.T) *fleet.Fleet {
	t.Helper()
	db, err := sqlite.Open(filepath.Join(t.TempDir(), "wilco.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	f := fleet.New(fleet.Options{Store: db, Profiles: profiles})
	if err := f.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return f
}

func add(t *testing.T, f *fleet.Fleet, address, profile string) member {
	t.Helper()
	a, err := wire.ParseAddress(address)
	if err != nil {
		t.Fatal(err)
	}
	d, secret, err := f.Add(t.Context(), fleet.NewDevice{Address: a, Profile: profile})
	if err != nil {
		t.Fatal(err)
	}
	return member{d, secret}
}

func write(t *testing.T, f *fleet.Fleet, o mosquitto.Options) mosquitto.Written {
	t.Helper()
	o.Profiles, o.Devices = profiles, f.All()
	w, err := mosquitto.Write(o)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func read(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("%s has mode %04o", path, info.Mode().Perm())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFiles(t *testing.T) {
	f := newFleet(t)
	add(t, f, "site/pump", "")
	add(t, f, "default/lamp", "atlas")
	add(t, f, "site/with:colon", "")
	off := add(t, f, "site/off", "")
	yes := true
	if _, err := f.Change(t.Context(), off.device.Address, fleet.DeviceChange{Disabled: &yes}); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "made")
	w := write(t, f, mosquitto.Options{Dir: dir})

	want := `# Written by wilco mosquitto config; changes are lost. Exact topics, no patterns.

user wilco-server
topic readwrite plant/+/+/command
topic write plant/+/+/state/update/accepted
topic write plant/+/+/state/update/rejected
topic write plant/+/+/state/update/delta
topic write plant/+/+/state/get/accepted
topic write plant/+/+/state/get/rejected
topic read plant/+/+/ack
topic read plant/+/+/result
topic read plant/+/+/status
topic read plant/+/+/state/update
topic read plant/+/+/state/get
topic read plant/+/+/gateway/act
topic readwrite commands/+
topic read commands/+/ack

user default/lamp
topic write commands/lamp/ack
topic read commands/lamp

user site/pump
topic write plant/site/pump/ack
topic write plant/site/pump/result
topic write plant/site/pump/status
topic write plant/site/pump/state/update
topic write plant/site/pump/state/get
topic write plant/site/pump/gateway/act
topic read plant/site/pump/command
topic read plant/site/pump/state/update/accepted
topic read plant/site/pump/state/update/rejected
topic read plant/site/pump/state/update/delta
topic read plant/site/pump/state/get/accepted
topic read plant/site/pump/state/get/rejected
`
	if got := read(t, filepath.Join(dir, "acl")); got != want {
		t.Errorf("acl:\n%s", got)
	}
	var users []string
	for line := range strings.Lines(read(t, filepath.Join(dir, "passwd"))) {
		user, hash, _ := strings.Cut(strings.TrimSpace(line), ":")
		users = append(users, user)
		if !strings.HasPrefix(hash, "$7$101$") || strings.Contains(hash, ":") {
			t.Errorf("%s: %s", user, hash)
		}
	}
	if !slices.Equal(users, []string{"wilco-server", "default/lamp", "site/pump"}) {
		t.Errorf("users %q", users)
	}
	var skipped []string
	for _, s := range w.Skipped {
		skipped = append(skipped, s.Device.String())
	}
	if !slices.Equal(skipped, []string{"site/off", "site/with:colon"}) || w.Devices != 2 {
		t.Errorf("skipped %q, %d written", skipped, w.Devices)
	}
	conf := read(t, w.Config)
	for _, line := range []string{"allow_anonymous false", "listener 1883 127.0.0.1", "max_queued_messages 0", "acl_file " + dir + "/acl"} {
		if !strings.Contains(conf, line+"\n") {
			t.Errorf("no %q in\n%s", line, conf)
		}
	}

	again := write(t, f, mosquitto.Options{Dir: dir})
	if again.ServerSecret != w.ServerSecret || strings.TrimSpace(read(t, filepath.Join(dir, "server.secret"))) != w.ServerSecret {
		t.Error("the server's secret did not stay")
	}
	if err := os.Chmod(filepath.Join(dir, "server.secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := mosquitto.Write(mosquitto.Options{Dir: dir, Profiles: profiles, Devices: f.All()}); err == nil {
		t.Error("a secret that everybody can read was used")
	}
}

func TestRefusedOptions(t *testing.T) {
	f := newFleet(t)
	ok := mosquitto.Options{Dir: t.TempDir(), Profiles: profiles, Devices: f.All()}
	for name, change := range map[string]func(*mosquitto.Options){
		"no directory":         func(o *mosquitto.Options) { o.Dir = "" },
		"no port":              func(o *mosquitto.Options) { o.Listen = "localhost" },
		"half of TLS":          func(o *mosquitto.Options) { o.CertFile = "/x" },
		"line break":           func(o *mosquitto.Options) { o.User = "root\nallow_anonymous true" },
		"server like a device": func(o *mosquitto.Options) { o.ServerUser = "site/pump" },
		"server with a colon":  func(o *mosquitto.Options) { o.ServerUser = "a:b" },
	} {
		o := ok
		change(&o)
		if _, err := mosquitto.Write(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// running is a real mosquitto with the written configuration.
type running struct {
	t    *testing.T
	port string
}

func start(t *testing.T, f *fleet.Fleet) (running, mosquitto.Written) {
	t.Helper()
	for _, tool := range []string{"mosquitto_pub", "mosquitto_sub"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(tool + " is not installed")
		}
	}
	address := testkit.FreeAddress(t)
	o := mosquitto.Options{Dir: t.TempDir(), Listen: address}
	if os.Geteuid() == 0 {
		o.User = "root" // it could not read the files of this test else
	}
	w := write(t, f, o)
	testkit.StartMosquitto(t, w.Config)
	_, port, _ := net.SplitHostPort(address)
	return running{t, port}, w
}

// login are the arguments of mosquitto_pub and _sub for a user; -V 5, because
// only there the broker says that a publication was not allowed.
func (r running) login(user, secret string) []string {
	return []string{"-V", "5", "-h", "127.0.0.1", "-p", r.port, "-u", user, "-P", secret, "-i", user}
}

// publish says whether the broker took the message.
func (r running) publish(user, secret, topic, payload string) (bool, string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "mosquitto_pub",
		append(r.login(user, secret), "-q", "1", "-t", topic, "-m", payload)...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		r.t.Fatal(err)
	}
	return err == nil && !strings.Contains(strings.ToLower(string(out)), "not authorized"), string(out)
}

// session are the arguments that keep a user's session between two connections.
func (r running) session(user, secret string) []string {
	return append(r.login(user, secret), "-q", "1", "-c", "-x", "600")
}

// subscribe makes the subscriptions of a user's session, and leaves.
func (r running) subscribe(user, secret string, filters ...string) {
	r.t.Helper()
	args := append(r.session(user, secret), "-E")
	for _, f := range filters {
		args = append(args, "-t", f)
	}
	r.run("mosquitto_sub", args...)
}

// queued comes back to a session and gives the first n messages that it holds.
func (r running) queued(user, secret, filter string, n int) []string {
	r.t.Helper()
	args := append(r.session(user, secret), "-t", filter, "-C", fmt.Sprint(n), "-F", "%t %p")
	return strings.Split(strings.TrimSpace(r.run("mosquitto_sub", args...)), "\n")
}

func (r running) run(name string, args ...string) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}

// TestRealBroker: with the written files a device can do what it may, and nothing
// else; the server hears it and reaches it.
func TestRealBroker(t *testing.T) {
	f := newFleet(t)
	pump, valve, lamp := add(t, f, "site/pump", ""), add(t, f, "site/valve", ""), add(t, f, "default/lamp", "atlas")
	r, w := start(t, f)
	pumpName := pump.device.Address.String()

	for _, c := range []struct {
		what, user, secret, topic string
		want                      bool
	}{
		{"own ack", pumpName, pump.secret, "plant/site/pump/ack", true},
		{"own result", pumpName, pump.secret, "plant/site/pump/result", true},
		{"own status", pumpName, pump.secret, "plant/site/pump/status", true},
		{"own state", pumpName, pump.secret, "plant/site/pump/state/update", true},
		{"atlas ack", "default/lamp", lamp.secret, "commands/lamp/ack", true},
		{"server's command", w.ServerUser, w.ServerSecret, "plant/site/pump/command", true},
		{"server's atlas command", w.ServerUser, w.ServerSecret, "commands/lamp", true},

		{"own command", pumpName, pump.secret, "plant/site/pump/command", false},
		{"other's ack", pumpName, pump.secret, "plant/site/valve/ack", false},
		{"other's command", pumpName, pump.secret, "plant/site/valve/command", false},
		{"case", pumpName, pump.secret, "plant/site/Pump/ack", false},
		{"trailing slash", pumpName, pump.secret, "plant/site/pump/ack/", false},
		{"empty level", pumpName, pump.secret, "plant/site//pump/ack", false},
		{"elsewhere", pumpName, pump.secret, "x", false},
		{"atlas to its command", "default/lamp", lamp.secret, "commands/lamp", false},
		{"server as device", w.ServerUser, w.ServerSecret, "plant/site/pump/ack", false},
		{"wrong secret", pumpName, valve.secret, "plant/site/pump/ack", false},
		{"nobody", "site/nobody", pump.secret, "plant/site/nobody/ack", false},
		{"wildcard name", "site/+", pump.secret, "plant/site/pump/ack", false},
	} {
		if ok, out := r.publish(c.user, c.secret, c.topic, "x"); ok != c.want {
			t.Errorf("%s: allowed %v, want %v: %s", c.what, ok, c.want, out)
		}
	}

	// Both ask for everything, and are away while it is sent. What their sessions
	// hold up to an end mark on a topic of their own is what they may have.
	r.subscribe(pumpName, pump.secret, "#", "plant/site/valve/command", "plant/site/valve/ack")
	r.subscribe(w.ServerUser, w.ServerSecret, "plant/+/+/ack", "plant/+/+/command")
	for _, m := range []struct{ user, secret, topic, payload string }{
		{"other", w.ServerSecret, "plant/site/valve/command", "for the valve"},
		{"other", w.ServerSecret, "plant/site/pump/command", "for the pump"},
		{"site/valve", valve.secret, "plant/site/valve/ack", "from the valve"},
		{"site/valve", valve.secret, "plant/site/valve/ack", "end"},
		{"other", w.ServerSecret, "plant/site/pump/command", "end"},
	} {
		args := r.login(m.user, m.secret)
		if m.user == "other" { // the server by another client id, because its own is a session
			args[slices.Index(args, "-u")+1] = w.ServerUser
		}
		r.run("mosquitto_pub", append(args, "-q", "1", "-t", m.topic, "-m", m.payload)...)
	}
	got := r.queued(pumpName, pump.secret, "plant/site/valve/ack", 2)
	if want := []string{"plant/site/pump/command for the pump", "plant/site/pump/command end"}; !slices.Equal(got, want) {
		t.Errorf("the pump received %q", got)
	}
	// The server hears commands that are not its own, as an alarm.
	got = r.queued(w.ServerUser, w.ServerSecret, "plant/+/+/command", 5)
	if want := []string{"plant/site/valve/command for the valve", "plant/site/pump/command for the pump",
		"plant/site/valve/ack from the valve", "plant/site/valve/ack end", "plant/site/pump/command end"}; !slices.Equal(got, want) {
		t.Errorf("the server received %q", got)
	}
}

// A gateway has the topics of the devices behind it, which cannot log in.
func TestGateways(t *testing.T) {
	f := newFleet(t)
	add(t, f, "site/gw", "")
	for _, name := range []string{"behind", "off"} {
		if _, _, err := f.Add(t.Context(), fleet.NewDevice{Address: wire.Address{Group: "site", Device: name}, Via: wire.Address{Group: "site", Device: "gw"}}); err != nil {
			t.Fatal(err)
		}
	}
	yes := true
	if _, err := f.Change(t.Context(), wire.Address{Group: "site", Device: "off"}, fleet.DeviceChange{Disabled: &yes}); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "made")
	w := write(t, f, mosquitto.Options{Dir: dir})
	_, acl, _ := strings.Cut(read(t, filepath.Join(dir, "acl")), "user site/gw\n")
	for _, line := range []string{"topic write plant/site/gw/status", "topic write plant/site/behind/result", "topic read plant/site/behind/command"} {
		if !strings.Contains(acl, line+"\n") {
			t.Errorf("no %q in\n%s", line, acl)
		}
	}
	if strings.Contains(acl, "site/off/") || strings.Contains(acl, "user ") || w.Devices != 1 || len(w.Skipped) != 2 {
		t.Errorf("%+v\n%s", w, acl)
	}
}
