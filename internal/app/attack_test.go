package app

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/wire"
)

// inside adds a device and connects it.
func inside(t *testing.T, s *Server, group, device string) talk {
	t.Helper()
	a := wire.Address{Group: group, Device: device}
	_, secret, err := s.Fleet.Add(t.Context(), fleet.NewDevice{Address: a})
	if err != nil {
		t.Fatal(err)
	}
	nc, err := net.Dial("tcp", s.MQTTAddr("tcp").String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	k := talk{t, nc}
	if code := k.enter(a.String(), a.String(), secret); code != mqtt.Success {
		t.Fatal(code)
	}
	return k
}

// A password costs one bounded computation, known name or not, and only so many
// at once.
func TestF06_PasswordHashing(t *testing.T) {
	_, hash := fleet.NewSecret()
	hash = strings.Replace(hash, "$7$101$", "$7$20000$", 1) // slow enough to be told from nothing
	file := filepath.Join(t.TempDir(), "users.yaml")
	if err := os.WriteFile(file, []byte("users:\n  - name: a\n    secret: "+hash+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	u, _, err := newUsers(nil, file, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := u.inForce.Load().decoy.Rounds(); got != 20000 {
		t.Errorf("an unknown name costs %d rounds", got)
	}
	long := bytes.Repeat([]byte("x"), 65535)
	try := func(name string) error {
		_, err := u.Authenticate(t.Context(), broker.Credentials{Username: name, HasPassword: true, Password: long})
		return err
	}
	known, unknown := try("a"), try("b")
	if known == nil || unknown == nil || known.Error() != unknown.Error() {
		t.Errorf("%v, and for who is not there %v", known, unknown)
	}
	for range cap(u.hashing) {
		u.hashing <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var e *mqtt.Error
	if _, err := u.Authenticate(ctx, broker.Credentials{Username: "a", HasPassword: true}); !errors.As(err, &e) || e.Code != mqtt.ServerBusy {
		t.Errorf("with every worker at work: %v", err)
	}
}

// No label of a metric is a name that a client chose.
func TestF08_MetricsHaveNoNames(t *testing.T) {
	s := startServer(t, t.TempDir())
	defer stopServer(t, s)
	k := inside(t, s, "hostile-group", "hostile-device")
	k.say(&mqtt.Publish{Topic: []byte("hostile-topic"), QoS: 1, PacketID: 1})
	if _, body, err := k.hear(); err != nil || mqtt.ReasonCode(body[2]) != mqtt.NotAuthorized {
		t.Fatalf("% x %v", body, err)
	}
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.HTTPAddr().String()+"/metrics", nil)
	req.Header.Set("Authorization", "Bearer "+s.FirstToken())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if err != nil || !bytes.Contains(text, []byte(`wilco_broker_dropped_total{reason="denied_publish"} 1`)) || bytes.Contains(text, []byte("hostile")) {
		t.Errorf("%v\n%s", err, text)
	}
}

// What cannot be used at the start is no start: there is nothing to fall back to.
func TestH01_NothingFallsBackToOpen(t *testing.T) {
	ca, dir := testkit.NewCA(t), t.TempDir()
	cert, key := testkit.WriteCert(t, dir, ca.Sign("server", nil))
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	files := TLSFiles{Cert: cert, Key: key, ClientCA: ca.Write(dir)}
	with := func(change func(*TLSFiles)) TLSFiles { f := files; change(&f); return f }
	for name, o := range map[string]BrokerOptions{
		"nobody named":        {TCP: "127.0.0.1:0"},
		"no users file":       {TCP: "127.0.0.1:0", UsersFile: filepath.Join(dir, "none")},
		"an empty users file": {TCP: "127.0.0.1:0", UsersFile: empty},
		"a directory":         {TCP: "127.0.0.1:0", UsersFile: dir},
		"no client CA":        {TLS: "127.0.0.1:0", Anonymous: true, Files: with(func(f *TLSFiles) { f.ClientCA = filepath.Join(dir, "none") })},
		"an empty client CA":  {TLS: "127.0.0.1:0", Anonymous: true, Files: with(func(f *TLSFiles) { f.ClientCA = empty })},
		"no key":              {TLS: "127.0.0.1:0", Anonymous: true, Files: with(func(f *TLSFiles) { f.Key = "" })},
		"another's key":       {TLS: "127.0.0.1:0", Anonymous: true, Files: with(func(f *TLSFiles) { f.Key = cert })},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var out bytes.Buffer
			if err := RunBroker(ctx, o, nil, &out, quiet()); fault.CodeOf(err) != fault.Invalid || out.Len() > 0 {
				t.Errorf("%v, and it said %q", err, out.String())
			}
		})
	}
}

// What is kept on the disk is for this user only.
func TestH02_FilesArePrivate(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := startServer(t, data)
	inside(t, s, "site", "pump")
	seen := 0
	check := func() {
		t.Helper()
		if err := filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil // files come and go
			}
			if info, err := d.Info(); err == nil && info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s: %s", path, info.Mode())
			}
			seen++
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	check()
	stopServer(t, s)
	check()
	if seen < 6 {
		t.Errorf("%d files", seen)
	}
}

// A device says nothing on the topics of others, and commands nobody, itself
// included.
func TestI01_TopicsOfOthers(t *testing.T) {
	s := startServer(t, t.TempDir())
	defer stopServer(t, s)
	inside(t, s, "site", "valve")
	k := inside(t, s, "site", "pump")
	for topic, want := range map[string]mqtt.ReasonCode{
		"wilco/site/pump/ack": mqtt.Success, "wilco/site/pump/result": mqtt.Success,
		"wilco/site/pump/command": mqtt.NotAuthorized, "wilco/site/valve/command": mqtt.NotAuthorized,
		"wilco/site/valve/ack": mqtt.NotAuthorized, "wilco/site/valve/result": mqtt.NotAuthorized, "wilco/site/valve/status": mqtt.NotAuthorized,
		"wilco/site/pump/ack/": mqtt.NotAuthorized, "wilco/site/pump": mqtt.NotAuthorized, "wilco/other/pump/ack": mqtt.NotAuthorized,
	} {
		k.say(&mqtt.Publish{Topic: []byte(topic), QoS: 1, PacketID: 7, Payload: []byte("{}")})
		first, body, err := k.hear()
		got := mqtt.Success
		if len(body) > 2 {
			got = mqtt.ReasonCode(body[2])
		}
		if err != nil || first != byte(mqtt.TypePuback)<<4 || got != want {
			t.Errorf("%s: % x % x %v, want %s", topic, first, body, err, want)
		}
	}
	for _, filter := range []string{"#", "wilco/#", "wilco/site/+/command", "wilco/site/valve/command", "$share/g/wilco/site/valve/command", "$SYS/#"} {
		k.say(&mqtt.Subscribe{PacketID: 8, Subscriptions: []mqtt.Subscription{{Filter: filter}}})
		first, body, err := k.hear()
		if err != nil || first != byte(mqtt.TypeSuback)<<4 || mqtt.ReasonCode(body[len(body)-1]) != mqtt.NotAuthorized {
			t.Errorf("%s: % x % x %v", filter, first, body, err)
		}
	}
}
