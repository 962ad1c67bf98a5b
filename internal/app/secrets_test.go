package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/mqtt"
	mqttclient "github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/sparkplug/host"
)

// secrets are texts that nobody may be shown, by what they are.
type secrets struct {
	t     *testing.T
	known map[string]string

	mu  sync.Mutex
	log bytes.Buffer
}

// Write takes what is logged.
func (s *secrets) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(b)
}

// keep notes a secret, in all forms in which it could be written.
func (s *secrets) keep(what, secret string) {
	s.t.Helper()
	if len(secret) < 8 {
		s.t.Fatalf("%s is %q", what, secret)
	}
	s.known[what] = secret
	if rest, ok := strings.CutPrefix(secret, "wlc_"); ok { // behind the id, which is public
		_, s.known[what], _ = strings.Cut(rest, "_")
	}
}

// in looks for secrets in what somebody is shown.
func (s *secrets) in(where, text string) {
	s.t.Helper()
	for what, secret := range s.known {
		if strings.Contains(text, secret) {
			s.t.Errorf("%s shows %s", where, what)
		}
	}
}

func (s *secrets) logged() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log.Len() == 0 {
		s.t.Error("nothing was logged")
	}
	s.in("the log", s.log.String())
}

// TestSecretsAreNeverShown: a server in which all kinds of secrets were made, used,
// mistyped and changed writes none of them into its log at its most talkative, its
// metrics, its audit log, its health, or any answer but the one that tells it once.
func TestSecretsAreNeverShown(t *testing.T) {
	hidden := &secrets{t: t, known: map[string]string{}}
	s := New(Options{Data: t.TempDir(), HTTP: "127.0.0.1:0", Logger: slog.New(slog.NewJSONHandler(hidden, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Listeners: []broker.Listener{{Name: "tcp", Network: "tcp", Address: "127.0.0.1:0"}}})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	base := "http://" + s.HTTPAddr().String()
	makeSecrets(t, hidden, base, s.FirstToken())
	useSecrets(t, hidden, base, s.MQTTAddr("tcp").String())
	for _, path := range readable(t, base) {
		hidden.in(path, fmt.Sprint(get(t, base+path, s.FirstToken())))
	}
	stopServer(t, s)
	hidden.logged()
}

// makeSecrets makes one of each kind.
func makeSecrets(t *testing.T, hidden *secrets, base, admin string) {
	hidden.keep("the first token", admin)
	c, err := client.New(base, client.Token(admin))
	no := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	no(err)
	ctx := t.Context()
	d, err := c.AddDevice(ctx, client.NewDevice{Device: "plant/valve"})
	no(err)
	hidden.keep("a device's former secret", d.Secret)
	d, err = c.RotateDevice(ctx, "plant/valve")
	no(err)
	hidden.keep("a device's secret", d.Secret)
	hidden.keep("a former password", "correct horse")
	_, err = c.AddUser(ctx, client.NewUser{Name: "ann", Password: "correct horse", Grants: []client.Grant{{Role: client.Operator}}})
	no(err)
	hidden.keep("a password", "battery staple")
	_, err = c.SetPassword(ctx, "ann", client.Password{Password: "battery staple"})
	no(err)
	token, err := c.CreateToken(ctx, client.NewToken{Name: "panel", Role: client.Operator})
	no(err)
	hidden.keep("a token", token.Token)
	session, err := c.Login(ctx, "ann", "battery staple")
	no(err)
	hidden.keep("a session", session.Token)
	h, err := c.AddHook(ctx, client.NewHook{Name: "books", Webhook: &client.HookReceiver{URL: "http://127.0.0.1:9/", AllowPrivate: true}})
	no(err)
	hidden.keep("a hook's former secret", h.Secret)
	secret, err := c.RotateHook(ctx, "books")
	no(err)
	hidden.keep("a hook's secret", secret)
	_, err = c.AddHook(ctx, client.NewHook{Name: "refused", Webhook: &client.HookReceiver{URL: "http://ops:hidden-in-a-url@127.0.0.1:9/"}})
	if !isCode(err, fault.Invalid) {
		t.Error(err)
	}
	hidden.keep("a password in the URL of a hook", "hidden-in-a-url")
}

func isCode(err error, code fault.Code) bool {
	e, ok := err.(*client.Error)
	return ok && e.Code == string(code)
}

// useSecrets comes in by right and by wrong ones, over HTTP and MQTT.
func useSecrets(t *testing.T, hidden *secrets, base, address string) {
	hidden.keep("a mistyped password", "mistyped-password")
	hidden.keep("a password in place of a name", "password-as-name")
	hidden.keep("a token that is none", "wlc_0123456789abcdef_mistyped-token")
	nobody, err1 := client.New(base)
	wrong, err2 := client.New(base, client.Token("wlc_0123456789abcdef_mistyped-token"))
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	for name, password := range map[string]string{"ann": "mistyped-password", "password-as-name": "mistyped-password"} {
		_, err := nobody.Login(t.Context(), name, password)
		if !isCode(err, fault.Unauthenticated) {
			t.Error(err)
		}
		hidden.in("the answer to a login", fmt.Sprint(err))
		connect(t, address, name, password, "c") // a client identifier is logged: it is no place for passwords
	}
	_, err := wrong.Users(t.Context())
	hidden.in("the answer to a wrong token", fmt.Sprint(err))
	connect(t, address, "panel", "wlc_0123456789abcdef_mistyped-token", "a")
	connect(t, address, "plant/valve", "mistyped-password", "plant/valve")
	connect(t, address, "plant/valve", hidden.known["a device's secret"], "plant/valve")
	connect(t, address, "ann", "battery staple", "b")
}

// connect tries to, once.
func connect(t *testing.T, address, name, password, id string) {
	c, err := mqttclient.New(mqttclient.Options{Servers: []string{"mqtt://" + address}, ClientID: id, Username: name, Password: []byte(password), Version: mqtt.V5,
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c.Start()
	_ = c.AwaitUp(ctx) // refused, or not
	_ = c.Stop(ctx)
}

// readable are the paths that can be looked at, with what there is in place of names.
func readable(t *testing.T, base string) (paths []string) {
	var doc struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	_, text := get(t, base+"/openapi.json", "")
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	for path, methods := range doc.Paths {
		if methods["get"] == nil || strings.HasSuffix(path, "/events") {
			continue
		}
		name := "ann"
		if strings.Contains(path, "/hooks/") {
			name = "books"
		}
		paths = append(paths, strings.NewReplacer("{group}", "plant", "{device}", "valve", "{node}", "valve", "{name}", name, "{id}", "x",
			"{tid}", "01890a5d-ac96-774b-bcce-b302099a8057").Replace(path))
	}
	if len(paths) < 15 {
		t.Errorf("only %d paths", len(paths))
	}
	return paths
}

func get(t *testing.T, url, token string) (http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 500 {
		t.Errorf("%s: %s %v", url, res.Status, err)
	}
	return res.Header, string(b)
}

// TestPasswordsOfOtherBrokersAreNeverShown: of those that cannot be reached.
func TestPasswordsOfOtherBrokersAreNeverShown(t *testing.T) {
	hidden := &secrets{t: t, known: map[string]string{}}
	hidden.keep("the broker's password", "hidden-of-broker")
	hidden.keep("another broker's password", "hidden-of-other")
	hidden.keep("the token of requests", "wlc_0123456789abcdef_hidden-of-requests")
	s := New(Options{Data: t.TempDir(), HTTP: "127.0.0.1:0", Logger: slog.New(slog.NewJSONHandler(hidden, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Broker: "mqtt://ops:hidden-of-broker@127.0.0.1:9", RequestsToken: "wlc_0123456789abcdef_hidden-of-requests",
		Sparkplug: Sparkplug{On: true, Role: host.Passive, Filters: []string{"spBv1.0/#"}, Servers: []string{"other=ws://ops:hidden-of-other@127.0.0.1:9/mqtt"}}})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	base := "http://" + s.HTTPAddr().String()
	for _, path := range []string{"/metrics", "/v1/sparkplug/nodes"} {
		hidden.in(path, fmt.Sprint(get(t, base+path, s.FirstToken())))
	}
	c, err := client.New(base, client.Token(s.FirstToken()))
	if err != nil {
		t.Fatal(err)
	}
	h, err := c.Health(t.Context())
	if h == nil || h.Ready {
		t.Errorf("health %+v %v", h, err)
	}
	hidden.in("the health", fmt.Sprintf("%+v", h))
	http.DefaultClient.CloseIdleConnections()
	stopServer(t, s)
	hidden.logged()
}
