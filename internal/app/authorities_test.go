package app

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/wire"
)

// TestUsersFileOfAServer: the file of a server gives nobody the right to publish where
// the server and its devices do, and to read there only by name.
func TestUsersFileOfAServer(t *testing.T) {
	_, hash := fleet.NewSecret()
	user := func(rights string) string {
		return "users:\n  - name: a\n    secret: " + hash + "\n    " + rights + "\n"
	}
	device := func(rights string) string { return "users:\n  - name: g/d\n    " + rights + "\n" }
	own := spacesOf("plant/w", true)
	for name, c := range map[string]struct{ text, says string }{
		"topics beside the server's":   {user("publish: [t/#, plant/x, plant/+, wilco/#, +]\n    subscribe: [t/#, plant/x/+, plant/+, +]"), ""},
		"wildcards for the root":       {user("publish: [+/w/x]"), "below plant/w/"},
		"a command":                    {user("publish: [plant/w/g/d/command]"), "below plant/w/"},
		"a result":                     {device("publish: [plant/w/g/+/result]"), "below plant/w/"},
		"all":                          {user("publish: ['#']"), "below plant/w/"},
		"all by levels":                {device("publish: [+/+/+/+/command]"), "below plant/w/"},
		"answers":                      {user("publish: [plant/w-replies/ann/x]"), "below plant/w-replies/"},
		"commands of atlas":            {user("publish: [commands/valve]"), "below commands/"},
		"an edge node":                 {user("publish: [spBv1.0/#]"), "below spBv1.0/"},
		"reading in passing":           {user("subscribe: ['#']"), `"plant/w/#"`},
		"reading one space too few":    {user("subscribe: ['#', plant/w/#, plant/w-replies/#, commands/#]"), `"spBv1.0/#"`},
		"reading all":                  {user("subscribe: ['#', plant/w/#, plant/w-replies/#, commands/#, spBv1.0/#]"), ""},
		"reading some":                 {user("subscribe: [plant/w/+/+/status, commands/+]"), ""},
		"a device":                     {device("publish: [t/#]\n    subscribe: [t/#]"), ""},
		"a device with a secret":       {device("secret: " + hash), "wilco device add"},
		"a device with overflow":       {device("overflow: oldest"), "overflow"},
		"what cannot be a device":      {strings.Replace(device("publish: [t]"), "g/d", "g/d/e", 1), "GROUP/NAME"},
		"a filter that is none":        {device("publish: ['t#']"), "t#"},
		"a user without a secret":      {"users:\n  - name: a\n", "no secret"},
		"a device that is there twice": {device("publish: [t]") + "  - name: g/d\n", "twice"},
	} {
		_, err := parseUsers([]byte(c.text), false, own)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v does not say %q", name, err, c.says)
		}
	}
	if _, err := parseUsers([]byte(user("publish: [spBv1.0/#]")), false, spacesOf("", false)); err != nil {
		t.Errorf("without a Sparkplug host: %v", err)
	}
	c := settings(t.TempDir())
	c.MQTT.Users = filepath.Join(t.TempDir(), "none")
	err := Serve(t.Context(), c, "test", nil, io.Discard, quiet())
	var f *fault.Error
	if !errors.As(err, &f) || f.Field != "mqtt.users" {
		t.Errorf("a server without its file: %v", err)
	}
}

// writeUsers writes a users file.
func writeUsers(t *testing.T, file string, entries ...string) {
	t.Helper()
	if err := os.WriteFile(file, []byte("users:\n  - "+strings.Join(entries, "\n  - ")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// withUsers is the authority of a server's broker with a users file, over a fleet that
// has a device g/d, another g/e, and a person ann.
func withUsers(t *testing.T, file string, certs bool) (authorities, map[string]string) {
	t.Helper()
	s := startServer(t, t.TempDir())
	t.Cleanup(func() { stopServer(t, s) })
	secrets := map[string]string{"ann": "the password of ann"}
	for _, name := range []string{"d", "e"} {
		a := wire.Address{Group: "g", Device: name}
		_, secret, err := s.Fleet.Add(t.Context(), fleet.NewDevice{Address: a})
		if err != nil {
			t.Fatal(err)
		}
		secrets[a.String()] = secret
	}
	if _, err := s.Fleet.AddUser(t.Context(), fleet.NewUser{Name: "ann", Password: secrets["ann"], Grants: fleet.Everywhere(fleet.Operator)}); err != nil {
		t.Fatal(err)
	}
	u, _, err := newUsers(nil, file, certs, spacesOf("", false))
	if err != nil {
		t.Fatal(err)
	}
	s.opt.users = u
	return s.authority().(authorities), secrets
}

// TestUsersBesideDevices: users of the file, devices and people of one name each are
// parties of their own. Shows [B10b].
func TestUsersBesideDevices(t *testing.T) {
	secret, hash := fleet.NewSecret()
	file := filepath.Join(t.TempDir(), "users.yaml")
	writeUsers(t, file, "{name: ann, secret: "+hash+", publish: [up/#], subscribe: [down/#, wilco/g/+/status]}",
		"{name: g/d, publish: [telemetry/g/#], subscribe: [recipes/#]}", "{name: g/none, publish: [t]}")
	a, secrets := withUsers(t, file, false)
	enter := func(id, name, password string) (broker.Identity, error) {
		return a.Authenticate(t.Context(), broker.Credentials{ClientID: id, Username: name, HasPassword: password != "", Password: []byte(password)})
	}
	for _, c := range []struct {
		id, name, password, is string
		code                   mqtt.ReasonCode
	}{
		{"x", "ann", secret, "ann@mqtt.users", 0},
		{"x", "ann", secrets["ann"], "ann", 0},
		{"g/d", "g/d", secrets["g/d"], "g/d", 0},
		{"x", "ann", "wrong", "", mqtt.BadUserNameOrPassword},
		{"x", "ann", "", "", mqtt.BadUserNameOrPassword},
		{"x", "bob", secret, "", mqtt.BadUserNameOrPassword},
		{"x", "ann@mqtt.users", secret, "", mqtt.BadUserNameOrPassword},
		{"", "", "", "", mqtt.BadUserNameOrPassword},
		{"g/d", "ann", secret, "", mqtt.ClientIdentifierNotValid}, // a device's
		{"x", "g/d", secrets["g/d"], "", mqtt.ClientIdentifierNotValid},
		{"g/d", "g/d", "", "", mqtt.BadUserNameOrPassword},
		{"g/d", "g/d", secret, "", mqtt.BadUserNameOrPassword},
		{"g/none", "g/none", "", "", mqtt.BadUserNameOrPassword},
	} {
		i, err := enter(c.id, c.name, c.password)
		var e *mqtt.Error
		switch {
		case c.is != "":
			if err != nil || i.Name() != c.is {
				t.Errorf("%+v: %v %v", c, i, err)
				continue
			}
			if again, ok := a.Identify(c.is); !ok || again.Name() != c.is {
				t.Errorf("%s was not found again: %v", c.is, again)
			}
		case !errors.As(err, &e) || e.Code != c.code || i != nil:
			t.Errorf("%+v: %v %v", c, i, err)
		}
	}
	for _, name := range []string{"bob@mqtt.users", "g/d@mqtt.users", "g/none", "bob", ""} {
		if i, ok := a.Identify(name); ok || i != nil {
			t.Errorf("found %q, who is not there", name)
		}
	}
}

// TestRightsBesideDevices: what the file has for a device comes on top of its own rights,
// for that device alone, and as long as it may anything. Shows [B10c].
func TestRightsBesideDevices(t *testing.T) {
	_, hash := fleet.NewSecret()
	file := filepath.Join(t.TempDir(), "users.yaml")
	writeUsers(t, file, "{name: panel, secret: "+hash+", publish: [up/#], subscribe: [down/#, wilco/g/+/status]}",
		"{name: g/d, publish: [telemetry/g/#], subscribe: [recipes/#]}")
	a, _ := withUsers(t, file, false)
	who := func(name string) broker.Identity {
		t.Helper()
		i, ok := a.Identify(name)
		if !ok {
			t.Fatal(name)
		}
		return i
	}
	panel, d, e := who("panel@mqtt.users"), who("g/d"), who("g/e")
	may := func(when string, i broker.Identity, publish, subscribe, receive string) {
		t.Helper()
		topics := []string{"wilco/g/d/ack", "wilco/g/d/command", "wilco/g/e/ack", "wilco/g/e/status", "wilco/g/d/request", "wilco-replies/panel/x",
			"up/x", "down/x", "telemetry/g/x", "telemetry/h/x", "recipes/x", "$SYS/x"}
		check := func(what, want string, list []string, ask func(string) bool) {
			t.Helper()
			var got []string
			for _, topic := range list {
				if ask(topic) {
					got = append(got, topic)
				}
			}
			if g := strings.Join(got, " "); g != want {
				t.Errorf("%s %s may %s %q, want %q", when, i.Name(), what, g, want)
			}
		}
		check("publish", publish, topics, i.MayPublish)
		check("subscribe", subscribe, slices.Concat(topics, []string{"down/#", "recipes/+/x", "#", "$SYS/#"}), i.MaySubscribe)
		check("receive", receive, topics, i.MayReceive)
	}
	may("first", panel, "up/x", "wilco/g/e/status down/x down/#", "wilco/g/e/status down/x")
	may("first", d, "wilco/g/d/ack telemetry/g/x", "wilco/g/d/command recipes/x recipes/+/x", "wilco/g/d/command recipes/x")
	may("first", e, "wilco/g/e/ack wilco/g/e/status", "", "")
	if _, ok := d.(broker.InOrder); !ok {
		t.Error("the order of a gateway is not kept")
	}

	on, off := true, false
	g := wire.Address{Group: "g", Device: "d"}
	for _, disabled := range []*bool{&on, &off} {
		if _, err := a.fleet.Change(t.Context(), g, fleet.DeviceChange{Disabled: disabled}); err != nil {
			t.Fatal(err)
		}
		if *disabled {
			may("disabled", d, "", "", "")
		}
	}
	may("back", d, "wilco/g/d/ack telemetry/g/x", "wilco/g/d/command recipes/x recipes/+/x", "wilco/g/d/command recipes/x")
	writeUsers(t, file, "{name: panel, secret: "+hash+"}")
	if err := a.users.load(); err != nil {
		t.Fatal(err)
	}
	may("reloaded", panel, "", "", "")
	may("reloaded", d, "wilco/g/d/ack", "wilco/g/d/command", "wilco/g/d/command")
	if err := a.fleet.Remove(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	may("removed", d, "", "", "")
}

// shows is a handshake with a certificate that names somebody, and was verified.
func shows(t *testing.T, ca *testkit.CA, name string) *tls.ConnectionState {
	t.Helper()
	pair := ca.Sign("client", func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: fleet.CertificateScheme, Opaque: name}} })
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf}}}
}

// TestCertificatesBesideDevices: a certificate lets in the one that it names, a device or a
// user without a secret, and nobody by another name. Shows [B10e].
func TestCertificatesBesideDevices(t *testing.T) {
	secret, hash := fleet.NewSecret()
	file := filepath.Join(t.TempDir(), "users.yaml")
	writeUsers(t, file, "{name: panel}", "{name: desk, secret: "+hash+"}", "{name: g/d, publish: [t]}", "{name: g/c}")
	a, secrets := withUsers(t, file, true)
	if _, _, err := a.fleet.Add(t.Context(), fleet.NewDevice{Address: wire.Address{Group: "g", Device: "c"}, Certificate: true}); err != nil {
		t.Fatal(err)
	}
	ca := testkit.NewCA(t)
	for _, c := range []struct{ cert, id, name, password, is string }{
		{"panel", "x", "", "", "panel@mqtt.users"},
		{"panel", "x", "panel", "", "panel@mqtt.users"},
		{"g/c", "g/c", "", "", "g/c"},
		{"g/d", "g/d", "", secrets["g/d"], "g/d"},
		{"g/d", "g/d", "", "", ""}, // it has a secret
		{"desk", "x", "", "", ""},
		{"desk", "x", "desk", secret, "desk@mqtt.users"},
		{"panel", "x", "desk", secret, ""},
		{"panel", "g/c", "", "", ""},
		{"panel", "g/c", "g/c", "", ""},
		{"g/c", "x", "panel", "", ""},
		{"g/none", "g/none", "", "", ""},
		{"ann", "x", "ann", secrets["ann"], "ann"},
		{"panel", "x", "ann", secrets["ann"], ""},
	} {
		shown := broker.Credentials{ClientID: c.id, Username: c.name, TLS: shows(t, ca, c.cert)}
		if c.password != "" {
			shown.HasPassword, shown.Password = true, []byte(c.password)
		}
		i, err := a.Authenticate(t.Context(), shown)
		if c.is == "" && (err == nil || i != nil) || c.is != "" && (err != nil || i.Name() != c.is) {
			t.Errorf("%+v: %v %v", c, i, err)
		}
	}
}

// TestUsersOfAServerAreReadAnew: who is taken out of the file loses the connection, and a
// device that is keeps its own; a file that would give away a topic of the server changes
// nothing. Shows [B10f].
func TestUsersOfAServerAreReadAnew(t *testing.T) {
	secret, hash := fleet.NewSecret()
	c := settings(t.TempDir())
	c.MQTT.Users = filepath.Join(t.TempDir(), "users.yaml")
	panel := fmt.Sprintf("{name: panel, secret: %s, publish: [t]}", hash)
	writeUsers(t, c.MQTT.Users, panel, "{name: g/d, publish: [t]}")
	reload := make(chan os.Signal)
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error, 1)
	var device string
	go func() {
		err := ServeWith(ctx, c, With{Part: func(ctx context.Context, s *Server) (func(context.Context) error, error) {
			var err error
			_, device, err = s.Fleet.Add(ctx, fleet.NewDevice{Address: wire.Address{Group: "g", Device: "d"}})
			return func(context.Context) error { return nil }, err
		}}, "test", reload, w, quiet())
		w.Close()
		done <- err
	}()
	address := listening(t, r, "tcp")
	again := func() { reload <- syscall.SIGHUP; reload <- syscall.SIGHUP } // the second is taken when the first is done with
	enter := func(name, password string) talk {
		nc, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		k := talk{t, nc}
		if code := k.enter(name, name, password); code != mqtt.Success {
			t.Fatal(name, code)
		}
		return k
	}
	may := func(k talk, topic string, want mqtt.ReasonCode) {
		t.Helper()
		k.say(&mqtt.Publish{Topic: []byte(topic), QoS: 1, PacketID: 1})
		first, body, err := k.hear()
		got := mqtt.Success
		if len(body) > 2 {
			got = mqtt.ReasonCode(body[2])
		}
		if err != nil || first != byte(mqtt.TypePuback)<<4 || got != want {
			t.Errorf("%s: % x % x %v, want %s", topic, first, body, err, want)
		}
	}
	p, d := enter("panel", secret), enter("g/d", device)
	may(p, "t", mqtt.NoMatchingSubscribers)
	may(p, "wilco/g/d/command", mqtt.NotAuthorized)
	may(d, "t", mqtt.NoMatchingSubscribers)

	writeUsers(t, c.MQTT.Users, strings.Replace(panel, "[t]", "['#']", 1))
	again()
	may(p, "t", mqtt.NoMatchingSubscribers)
	may(p, "wilco/g/d/command", mqtt.NotAuthorized)
	may(d, "t", mqtt.NoMatchingSubscribers)

	writeUsers(t, c.MQTT.Users, "{name: other, secret: "+hash+"}")
	again()
	if first, body, err := p.hear(); err != nil || !bytes.Equal([]byte{first, body[0]}, []byte{byte(mqtt.TypeDisconnect) << 4, byte(mqtt.NotAuthorized)}) {
		t.Errorf("% x % x %v", first, body, err)
	}
	may(d, "t", mqtt.NotAuthorized)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
