package device

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/wire"
)

func TestConfig(t *testing.T) {
	good := Config{Address: wire.Address{Group: "g", Device: "d"}, Servers: []string{"mqtt://localhost"}, Dir: "x", Password: []byte("p")}
	c, err := good.complete()
	if err != nil {
		t.Fatal(err)
	}
	if c.ClientID != "g/d" || c.Username != "g/d" || c.Profile.Name() != "wilco" || c.Parallel != 1 || c.Heartbeat != DefaultHeartbeat || c.Clock == nil || c.Logger == nil {
		t.Errorf("defaults %+v", c)
	}
	for name, tt := range map[string]struct {
		change func(*Config)
		word   string
	}{
		"no address":     {func(c *Config) { c.Address.Device = "" }, "device"},
		"no server":      {func(c *Config) { c.Servers = nil }, "Servers"},
		"two servers":    {func(c *Config) { c.Dial = func(context.Context) (net.Conn, error) { return nil, nil } }, "Dial"},
		"no journal":     {func(c *Config) { c.Dir = "" }, "Journal"},
		"two journals":   {func(c *Config) { c.Journal = new(MemoryJournal) }, "Journal"},
		"two profiles":   {func(c *Config) { c.Profile, c.Root = wire.Atlas(), "r" }, "Root"},
		"bad root":       {func(c *Config) { c.Root = "#" }, "root"},
		"heartbeat":      {func(c *Config) { c.Heartbeat = -time.Second }, "Heartbeat"},
		"negative queue": {func(c *Config) { c.Queue = -1 }, "Queue"},
	} {
		c := good
		tt.change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), tt.word) {
			t.Errorf("%s: %v, want it to say %s", name, err, tt.word)
		}
	}
}

func TestHandlePanics(t *testing.T) {
	d, err := New(Config{Address: wire.Address{Group: "g", Device: "d"}, Servers: []string{"mqtt://localhost"}, Dir: "x"})
	if err != nil {
		t.Fatal(err)
	}
	h := func(context.Context, *Request) (any, error) { return nil, nil }
	d.Handle("a", h)
	for name, register := range map[string]func(){
		"twice":      func() { d.Handle("a", h) },
		"no name":    func() { d.Handle("", h) },
		"no handler": func() { d.Handle("b", nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			register()
		}()
	}
}
