package app

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/device"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/config"
	"github.com/wilco-iot/wilco/internal/engine"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func startServer(t *testing.T, data string) *Server {
	t.Helper()
	s := New(Options{Data: data, HTTP: "127.0.0.1:0", Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Listeners: []broker.Listener{{Name: "tcp", Network: "tcp", Address: "127.0.0.1:0"}}})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func stopServer(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func TestACommandGoesThroughTheWholeServerAndSurvivesARestart(t *testing.T) {
	data := t.TempDir()
	s := startServer(t, data)
	address := wire.Address{Group: "plant", Device: "valve-1"}
	_, secret, err := s.Fleet.Add(t.Context(), fleet.NewDevice{Address: address})
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Engine.Create(t.Context(), []engine.Request{{Device: address, Name: "open", Params: json.RawMessage(`{"to":1}`), By: "test"}})
	if err != nil || out[0].Err != nil {
		t.Fatal(err, out[0].Err)
	}
	stopServer(t, s)

	s = startServer(t, data)
	defer stopServer(t, s)
	if s.FirstToken() != "" {
		t.Error("a second first token was made")
	}
	d, err := device.New(device.Config{Address: address, Servers: []string{"mqtt://" + s.MQTTAddr("tcp").String()},
		Password: []byte(secret), Journal: &device.MemoryJournal{}})
	if err != nil {
		t.Fatal(err)
	}
	d.Handle("open", func(_ context.Context, r *device.Request) (any, error) {
		return map[string]string{"got": string(r.Params)}, nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	wait, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	c, err := s.Engine.Wait(wait, out[0].Command.TID, func(c *command.Command) bool { return c.Final() })
	if err != nil || c.State != command.Executed || !strings.Contains(string(c.Result), `"got"`) {
		t.Errorf("ended as %s %s: %v", c.State, c.Result, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestATokenFileThatIsEmptyIsFilled: so it is after a start that was killed between the
// file and the token, and when an owner who has lost all tokens has emptied it.
func TestATokenFileThatIsEmptyIsFilled(t *testing.T) {
	data := t.TempDir()
	file := filepath.Join(data, config.TokenFile)
	s := startServer(t, data)
	first := s.FirstToken()
	stopServer(t, s)
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s = startServer(t, data)
	defer stopServer(t, s)
	text, err := os.ReadFile(file)
	if err != nil || s.FirstToken() == "" || string(text) != s.FirstToken()+"\n" || s.FirstToken() == first {
		t.Errorf("the file has %q, the token is %q: %v", text, s.FirstToken(), err)
	}
	for _, token := range []string{first, s.FirstToken()} {
		if _, err := s.Fleet.VerifyToken(t.Context(), token); err != nil {
			t.Errorf("token %q: %v", token, err)
		}
	}
}

// TestPurges: the first comes soon after the start, and not only when the server has run
// for an hour.
func TestPurges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Retention: 24 * time.Hour})
		began := time.Now()
		purged := make(chan time.Duration)
		s.startPurge(func(ctx context.Context, before time.Time) {
			select {
			case purged <- before.Sub(began):
			case <-ctx.Done():
			}
		})
		for _, want := range []time.Duration{firstPurge, firstPurge + purgeEvery, firstPurge + 2*purgeEvery} {
			if got := <-purged + s.opt.Retention; got != want {
				t.Errorf("after %s, want %s", got, want)
			}
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestATokenFileIsNobodyElses: what stood at its place, and who has that open, gets
// nothing of the token.
func TestATokenFileIsNobodyElses(t *testing.T) {
	data := t.TempDir()
	file, other := filepath.Join(data, config.TokenFile), filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for what, put := range map[string]func(string, string) error{"a symbolic link": os.Symlink, "a hard link": os.Link} {
		if err := errors.Join(os.RemoveAll(file), put(other, file), put(other, file+".new")); err != nil {
			t.Fatal(err)
		}
		if err := writeToken(file, "secret"); err != nil {
			t.Fatal(what, err)
		}
		text, err := os.ReadFile(other)
		if err != nil || len(text) > 0 {
			t.Errorf("%s: the other has %q: %v", what, text, err)
		}
		if info, err := os.Lstat(file); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v %v", what, info, err)
		}
		if text, err := os.ReadFile(file); string(text) != "secret" {
			t.Errorf("%s: the file has %q: %v", what, text, err)
		}
		if all, err := filepath.Glob(file + "*"); len(all) != 1 {
			t.Errorf("%s: left over: %q %v", what, all, err)
		}
	}
}

// TestATokenFileThatIsGoneStaysGone: its owner has taken it away.
func TestATokenFileThatIsGoneStaysGone(t *testing.T) {
	data := t.TempDir()
	stopServer(t, startServer(t, data))
	file := filepath.Join(data, config.TokenFile)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	s := startServer(t, data)
	defer stopServer(t, s)
	if _, err := os.Stat(file); err == nil || s.FirstToken() != "" {
		t.Error("a token was made that nobody wanted")
	}
}

func TestTheFirstTokenOpensTheAPIAndIsPrivate(t *testing.T) {
	data := t.TempDir()
	s := startServer(t, data)
	defer stopServer(t, s)
	file := filepath.Join(data, config.TokenFile)
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info, err)
	}
	token, _ := os.ReadFile(file)
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.HTTPAddr().String()+"/v1/commands", nil)
	for _, test := range []struct {
		token string
		want  int
	}{{"", 401}, {strings.TrimSpace(string(token)), 200}} {
		if test.token != "" {
			req.Header.Set("Authorization", "Bearer "+test.token)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != test.want {
			t.Errorf("with token %q: %d, want %d", test.token, resp.StatusCode, test.want)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}
