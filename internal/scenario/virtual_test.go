package scenario

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
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
	api, mqtt := newListener(), newListener()
	server := app.New(app.Options{Data: v.data(), Logger: v.log, Listen: func() (net.Listener, error) { return api, nil },
		Listeners: []broker.Listener{{Name: "tcp", Network: "tcp", Open: func() (net.Listener, error) { return mqtt, nil }}}})
	if err := server.Start(ctx); err != nil {
		return err
	}
	v.mu.Lock() // not before: who waits for it lets no virtual time pass
	defer v.mu.Unlock()
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
