package hook

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/internal/store/sqlite"
	"github.com/wilco-iot/wilco/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a store with hooks over it. Failed deliveries are tried again soon.
type rig struct {
	*testing.T
	db    *sqlite.Store
	fault faulty
	r     *Runner
	send  func(context.Context, Order) error
	tries int // until a delivery is given up
}

// faulty lets a store's commits fail, before or after they have taken effect.
type faulty struct {
	*sqlite.Store
	mu     sync.Mutex
	left   int // commits until all fail; negative: none does
	after  bool
	failed chan struct{}
}

var errCrash = errors.New("crash")

func (f *faulty) Commit(ctx context.Context, b *store.Batch) (int64, error) {
	f.mu.Lock()
	dead, last := f.left == 0, f.left == 1
	if f.left > 0 {
		f.left--
	}
	after, failed := f.after, f.failed
	f.mu.Unlock()
	if dead || last && !after {
		if last {
			f.mu.Lock()
			f.left = 0
			f.mu.Unlock()
			close(failed)
		}
		return 0, errCrash
	}
	id, err := f.Store.Commit(ctx, b)
	if last {
		close(failed)
		return 0, errCrash
	}
	return id, err
}

func newRig(t *testing.T) *rig {
	t.Helper()
	db, err := sqlite.Open(filepath.Join(t.TempDir(), "w.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	g := &rig{T: t, db: db, tries: 1000}
	g.start(-1, false)
	t.Cleanup(func() {
		g.stop()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// start starts a runner whose store dies at the n-th commit.
func (g *rig) start(n int, after bool) {
	g.Helper()
	g.fault = faulty{Store: g.db, left: n, after: after, failed: make(chan struct{})}
	g.r = New(Options{Store: &g.fault, Send: func(ctx context.Context, o Order) error { return g.send(ctx, o) },
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	g.r.after = func(_, now time.Time, attempt int, _ time.Duration, _ float64) (time.Time, bool) {
		return now.Add(time.Millisecond), attempt < g.tries
	}
	if err := g.r.Start(context.Background()); err != nil {
		g.Fatal(err)
	}
}

func (g *rig) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := g.r.Stop(ctx); err != nil {
		g.Error(err)
	}
}

// add makes a hook as the service does and returns its secret.
func (g *rig) add(rule Rule) string {
	g.Helper()
	_, secret, w, err := g.r.Make(g.Context(), rule)
	if err != nil {
		g.Fatal(err)
	}
	g.commit(store.Batch{Documents: []store.DocumentWrite{w}})
	if err := g.r.Reload(g.Context()); err != nil {
		g.Fatal(err)
	}
	return secret
}

func (g *rig) commit(b store.Batch) int64 {
	g.Helper()
	last, err := g.db.Commit(context.Background(), &b)
	if err != nil {
		g.Fatal(err)
	}
	return last
}

// end puts a command that has ended, and its event, into the store.
func (g *rig) end(device, name string, s command.State, edit func(*command.Command)) command.Command {
	g.Helper()
	a := wire.Address{Group: "plant", Device: device}
	tid, err := uuid.NewV7()
	if err != nil {
		g.Fatal(err)
	}
	c, err := command.New(tid, a, name, json.RawMessage(`{"to":[1,"é"]}`), command.Defaults, "ops", nil, time.Now())
	if err != nil {
		g.Fatal(err)
	}
	c.State = s
	if edit != nil {
		edit(&c)
	}
	g.commit(store.Batch{Commands: []store.CommandWrite{{Command: c}}, Events: []store.Event{
		{Type: store.EventCommand, At: c.Created, Device: a, TID: &tid, Name: name, State: command.Created},
		{Type: store.EventCommand, At: c.Created, Device: a, TID: &tid, Name: name, From: command.Sent, State: s, Reason: command.DeviceSucceeded},
	}})
	return c
}

// receiver is a program that webhooks tell. It says no as long as down says so.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	secret string
	down   func(*client.HookMessage) bool
	got    []*client.HookMessage // what it said yes to
	bad    []error
	news   chan struct{}
}

func newReceiver(t *testing.T) *receiver {
	v := &receiver{news: make(chan struct{}, 1)}
	v.Server = httptest.NewServer(http.HandlerFunc(v.take))
	t.Cleanup(v.Close)
	return v
}

func (v *receiver) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	v.mu.Lock()
	defer v.mu.Unlock()
	m, bad := client.ParseWebhook(v.secret, r.Header, body, time.Now())
	if err != nil || bad != nil || r.Header.Get("webhook-id") != m.ID || r.Method != http.MethodPost {
		v.bad = append(v.bad, errors.Join(err, bad))
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if v.down != nil && v.down(m) {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	v.got = append(v.got, m)
	signal(v.news)
}

// await waits until enough says yes to what was received.
func (v *receiver) await(t *testing.T, enough func([]*client.HookMessage) bool) []*client.HookMessage {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		v.mu.Lock()
		got := slices.Clone(v.got)
		bad := v.bad
		v.mu.Unlock()
		if len(bad) > 0 {
			t.Fatal(bad)
		}
		if enough(got) {
			return got
		}
		select {
		case <-v.news:
		case <-deadline:
			t.Fatalf("got %d messages only", len(got))
		}
	}
}

func count(n int) func([]*client.HookMessage) bool {
	return func(got []*client.HookMessage) bool { return len(got) >= n }
}

// dead waits until n deliveries of the hook are dead.
func (g *rig) dead(hook string, n int) []Delivery {
	g.Helper()
	deadline := time.After(time.Minute)
	for {
		list, err := g.r.Dead(g.Context(), hook, 0, 0)
		if err != nil {
			g.Fatal(err)
		}
		if len(list) >= n {
			return list
		}
		select {
		case <-deadline:
			g.Fatalf("%d dead deliveries, want %d", len(list), n)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// within asks again at each signal, and now and then, until ok says yes.
func within(t *testing.T, ok func() bool, news <-chan struct{}) {
	t.Helper()
	deadline := time.After(time.Minute)
	for !ok() {
		select {
		case <-news:
		case <-time.After(time.Millisecond):
		case <-deadline:
			t.Fatal("it never was so")
		}
	}
}
