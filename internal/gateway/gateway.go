package gateway

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/app"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/gateway/config"
	"github.com/wilco-iot/wilco/internal/gateway/ledger"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/wire"
)

// Upstream is who asks for the commands that come from the server above, as the
// gateway's own server has it. Stored; never change.
const Upstream = "upstream"

const (
	forEver     = (1<<32 - 1) * time.Second // the session expiry interval that never ends (MQTT 5.0, 3.1.2.11.2)
	localClient = "wilco-gateway"           // of the lasting session at the gateway's own broker; stored, never change
	upWindow    = 512                       // messages on their way up that the server above has not acknowledged
	pause       = time.Second               // before what has failed is tried again
	// reconnectWithin bounds the wait between two tries to reach the server above.
	reconnectWithin = 10 * time.Second
)

// LedgerDir is where, in the data directory, the ledger is.
const LedgerDir = "ledger"

// Gateway joins a server to the one above. Make one with Start.
type Gateway struct {
	cfg     *config.Config
	server  *app.Server
	profile wire.GatewayProfile
	log     *slog.Logger
	boot    string
	ledger  *ledger.Ledger

	up *client.Client
	// local is the client of the lasting session, nil before the first.
	local atomic.Pointer[client.Client]
	// joined is closed when the lasting session has its subscriptions: from then on
	// nothing that the gateway's own broker acknowledges is missed.
	joined chan struct{}
	own    ownTIDs
	asked  asked
	// dropped counts what the server above will never take.
	dropped atomic.Int64
	above   arriving

	reach chan bool // the server above has come into reach, or has gone; one slot, the last word
	// actsWanted takes what is to be closed when all acts up to now are told above.
	actsWanted chan chan struct{}
	inReach    atomic.Bool
	current    atomic.Bool // what is retained may go up
	outage     outage

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// Run runs a gateway as c says until ctx ends; see app.Serve for the rest.
func Run(ctx context.Context, c *config.Config, version string, reload <-chan os.Signal, out io.Writer, log *slog.Logger) error {
	limits := broker.Limits{QueueMessages: c.Queue.MaxMessages, QueueBytes: c.Queue.MaxBytes}
	part := func(ctx context.Context, s *app.Server) (func(context.Context) error, error) {
		g, err := Start(ctx, c, s, log)
		if err != nil {
			return nil, err
		}
		return g.Stop, nil
	}
	return app.ServeWith(ctx, c.Server, app.With{Limits: limits, UsersFile: c.Users, Part: part}, version, reload, out, log)
}

// Start joins a started server to the one above, in the background: that need not
// be in reach. It reads the whole ledger first, and returns when all that the
// gateway's own broker acknowledges from now on is kept for the server above.
func Start(ctx context.Context, c *config.Config, s *app.Server, log *slog.Logger) (*Gateway, error) {
	profile, err := wire.Lookup("wilco", c.Server.Root)
	if err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	boot := make([]byte, 8)
	rand.Read(boot)
	g := &Gateway{cfg: c, server: s, profile: profile.(wire.GatewayProfile), log: log, boot: hex.EncodeToString(boot),
		joined: make(chan struct{}), reach: make(chan bool, 1), actsWanted: make(chan chan struct{})}
	g.ctx, g.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := g.outage.load(ctx, s.Store); err != nil {
		return nil, err
	}
	var damage []ledger.Damage
	if g.ledger, damage, err = ledger.Open(filepath.Join(c.Server.Data, LedgerDir), c.Ledger.MaxBytes); err != nil {
		return nil, err
	}
	for _, d := range damage {
		log.Error("the ledger of former states is damaged; what is there cannot be trusted", "place", d.String())
	}
	if g.up, err = g.newUpstream(); err != nil {
		return nil, errors.Join(err, g.ledger.Close())
	}
	g.setReach(false)
	g.tellReach(false) // nothing retained is to wait from before
	g.up.Start()
	for _, f := range []func(){g.runUp, g.runArrivals, g.runActs, g.runLedger, g.runRules, g.runDevices} {
		g.wg.Go(f)
	}
	select {
	case <-g.joined:
		return g, nil
	case <-ctx.Done():
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), pause)
		defer cancel()
		return nil, errors.Join(ctx.Err(), g.Stop(stop))
	}
}

// Stop takes leave of the server above, which is told that the devices cannot be
// reached any more, and ends everything. What has not gone up waits.
func (g *Gateway) Stop(ctx context.Context) error {
	g.cancel()
	err := g.up.StopWithWill(ctx)
	g.wg.Wait()
	return errors.Join(err, g.ledger.Close())
}

// newUpstream makes the client of the server above.
func (g *Gateway) newUpstream() (*client.Client, error) {
	u := &g.cfg.Upstream
	t, err := clientTLS(u)
	if err != nil {
		return nil, err
	}
	o := client.Options{Servers: []string{u.URL}, TLS: t, ClientID: g.cfg.Name.String(), Username: g.cfg.Name.String(),
		SessionExpiry: forEver, KeepAlive: u.KeepAlive, Will: g.will, OnMessage: g.fromAbove, Logger: g.log,
		Backoff: client.Backoff{Max: reconnectWithin}, MaxQueued: 4 * upWindow, MaxQueuedBytes: 256 << 20,
		OnUp:   func(up client.Up) { g.asked.forget(up.Refused); g.tellReach(true) },
		OnDown: func(err error) { g.log.Warn("the server above is out of reach", "error", err); g.tellReach(false) }}
	if u.Secret != "" {
		o.Password = []byte(u.Secret)
	}
	for _, f := range g.cfg.Down {
		o.Subscriptions = append(o.Subscriptions, mqtt.Subscription{Filter: f, QoS: mqtt.ExactlyOnce, NoLocal: true, RetainAsPublished: true})
	}
	c, err := client.New(o)
	if err != nil {
		return nil, fault.Field("upstream", "%v", err)
	}
	return c, nil
}

// tellReach leaves the last word for runArrivals.
func (g *Gateway) tellReach(up bool) {
	g.inReach.Store(up)
	for {
		select {
		case g.reach <- up:
			return
		default:
		}
		select {
		case <-g.reach:
		default:
		}
	}
}

// clientTLS is how the server above is believed, and believes us.
func clientTLS(u *config.Upstream) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS13}
	if u.CA != "" {
		pem, err := os.ReadFile(u.CA)
		if err != nil {
			return nil, fault.Field("upstream.ca", "%v", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fault.Field("upstream.ca", "%s holds no certificate", u.CA)
		}
	}
	if u.Cert != "" {
		pair, err := tls.LoadX509KeyPair(u.Cert, u.Key)
		if err != nil {
			return nil, fault.Field("upstream.cert", "%v", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}
