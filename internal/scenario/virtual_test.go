package scenario

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/app"
	"github.com/wilco-iot/wilco/internal/config"
	"github.com/wilco-iot/wilco/mqtt/pipe"
)

// virtual is a whole server in virtual time: its API and its broker listen in
// memory, and its store is on the disk, whose time does not count.
type virtual struct {
	t    *testing.T
	root string // of its data directories
	log  *slog.Logger

	mu        sync.Mutex
	runs      int
	server    *app.Server
	api, mqtt *listener
}

// inVirtualTime runs s in a bubble, and says how long that was for the server and
// how long for us.
func inVirtualTime(t *testing.T, s *Scenario, seed uint64) (r *Report) {
	t.Helper()
	root := tempDir(t)
	level := slog.LevelError
	if testing.Verbose() && os.Getenv("WILCO_SIM_LOG") != "" {
		level = slog.LevelDebug
	}
	synctest.Test(t, func(t *testing.T) {
		v := &virtual{t: t, root: root, log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: level}))}
		if err := v.start(t.Context()); err != nil {
			t.Fatal(err)
		}
		token, err := os.ReadFile(filepath.Join(v.data(), config.TokenFile))
		if err != nil {
			t.Fatal(err)
		}
		web := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return v.dial(ctx, true) }}
		api, err := client.New("http://server", client.HTTP(&http.Client{Transport: web}), client.Token(strings.TrimSpace(string(token))))
		if err != nil {
			t.Fatal(err)
		}
		r, err = Run(t.Context(), s, World{API: api, Restart: v.restart,
			Broker: func(ctx context.Context) (net.Conn, error) { return v.dial(ctx, false) }}, Options{Seed: seed, Logger: v.log})
		web.CloseIdleConnections()
		v.stop()
		if err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	})
	return r
}

// tempDir is in memory where the system has such a place: what a disk's fsync
// takes is no virtual time, and most of the real.
func tempDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "wilco-scenario-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (v *virtual) data() string { return filepath.Join(v.root, fmt.Sprint(v.runs)) }

func (v *virtual) start(ctx context.Context) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	api, mqtt := newListener(), newListener()
	server := app.New(app.Options{Data: v.data(), Logger: v.log, Listen: func() (net.Listener, error) { return api, nil },
		Listeners: []broker.Listener{{Name: "tcp", Network: "tcp", Open: func() (net.Listener, error) { return mqtt, nil }}}})
	if err := server.Start(ctx); err != nil {
		return err
	}
	v.server, v.api, v.mqtt = server, api, mqtt
	return nil
}

func (v *virtual) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	if v.server == nil {
		return // it did not come up again
	}
	if err := v.server.Stop(ctx); err != nil {
		v.t.Error(err)
	}
}

// restart stops the server and starts another. A kill is a moment at which
// nothing moves: what is on the disk then is all that the next one finds, and
// nobody hears of what this one still does.
func (v *virtual) restart(ctx context.Context, kill bool, down time.Duration) error {
	v.mu.Lock()
	old, api, mqtt, data := v.server, v.api, v.mqtt, v.data()
	v.server = nil
	v.mu.Unlock()
	if kill {
		synctest.Wait()
		v.mu.Lock()
		v.runs++
		err := copyData(v.data(), data)
		v.mu.Unlock()
		if err != nil {
			return err
		}
		api.cut()
		mqtt.cut()
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	if err := old.Stop(stop); err != nil && !kill {
		return err
	}
	if err := pause(ctx, down); err != nil {
		return err
	}
	return v.start(ctx)
}

// copyData is what a kill leaves: the files, for nobody else to read.
func copyData(to, from string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if e.IsDir() {
			return os.Mkdir(target, 0o700)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, b, 0o600)
	})
}

var errDown = errors.New("the server is down")

func (v *virtual) dial(ctx context.Context, api bool) (net.Conn, error) {
	v.mu.Lock()
	l := v.mqtt
	if api {
		l = v.api
	}
	if v.server == nil {
		l = nil
	}
	v.mu.Unlock()
	if l == nil {
		return nil, errDown
	}
	return l.dial(ctx)
}

// listener is one in memory.
type listener struct {
	accepted chan net.Conn
	done     chan struct{}
	once     sync.Once

	mu    sync.Mutex
	conns []net.Conn // the far ends
}

func newListener() *listener {
	return &listener{accepted: make(chan net.Conn), done: make(chan struct{})}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *listener) Addr() net.Addr { return &net.TCPAddr{} }

func (l *listener) dial(ctx context.Context) (net.Conn, error) {
	near, far := pipe.Pipe()
	select {
	case l.accepted <- far:
	case <-l.done:
		return nil, errDown
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, near)
	return near, nil
}

// cut breaks every connection, from the client's side.
func (l *listener) cut() {
	l.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.Close()
	}
}

func parse(t *testing.T, text string) *Scenario {
	t.Helper()
	s, err := Parse("scenario.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOneInVirtualTime(t *testing.T) {
	s := parse(t, `
name: first
seed: 1
duration: 60s
devices:
  - {group: field, count: 20, work: 50ms..2s, fail: 0.05, reject: 0.02, neverAnswer: 0.01, reboots: {every: 20s, midCommand: 0.1, off: 1s..5s}, clock: {offset: 2s, drift: 0.001}}
network:
  down: {lose: 0.05, delay: 20ms..200ms, duplicate: 0.1, reorder: 0.05}
  up: {lose: 0.05, delay: 20ms..200ms, duplicate: 0.1, reorder: 0.05}
  cut: 0.01
load:
  - {names: [set, move], rate: 5, cancel: 0.05, params: {to: $random}}
server: {restarts: [20s], kills: [40s], down: 1s}
`)
	seeds := 1
	if n, err := strconv.Atoi(os.Getenv("WILCO_SIM_SEEDS")); err == nil {
		seeds = n
	}
	for seed := uint64(1); seed <= uint64(seeds); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			began := time.Now()
			r := inVirtualTime(t, s, seed)
			if r == nil {
				return
			}
			t.Logf("%s for us, digest %s", time.Since(began), r.Digest)
			if !r.Good() {
				r.Print(t.Output())
				t.Fail()
			}
		})
	}
}
