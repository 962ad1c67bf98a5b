package gateway

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/internal/app"
	"github.com/wilco-iot/wilco/internal/gateway/config"
)

// A gateway that says it is ready has its subscriptions: what a device says in the next
// moment is acknowledged to it, and is not sent again.
func TestReadyIsJoined(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "gateway.yaml")
	text := "name: s/gw\nupstream: {url: mqtt://127.0.0.1:1, secret: x}\ndata: " + dir + "\nhttp: {address: 127.0.0.1:0}\nmirror: {up: [a/#, b/#]}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	s := app.New(app.Options{Data: dir, HTTP: c.Server.HTTP.Address, Logger: log})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop := func(f func(context.Context) error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := f(ctx); err != nil {
			t.Error(err)
		}
	}
	defer stop(s.Stop)
	g, err := Start(t.Context(), c, s, log)
	if err != nil {
		t.Fatal(err)
	}
	defer stop(g.Stop)
	now, cancel := context.WithCancel(t.Context())
	cancel()
	if g.link.AwaitLanes(now) != nil {
		t.Error("its own broker acknowledges what it does not hear of")
	}
}
