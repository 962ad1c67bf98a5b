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
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/app"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/gateway/config"
	"github.com/wilco-iot/wilco/internal/gateway/ledger"
	"github.com/wilco-iot/wilco/internal/gateway/uplink"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/wire"
)

// Upstream is who asks for the commands that come from the server above, as the
// gateway's own server has it. Stored; never change.
const Upstream = "upstream"

const (
	forEver = (1<<32 - 1) * time.Second // the session expiry interval that never ends (MQTT 5.0, 3.1.2.11.2)
	// Of the lasting sessions at the gateway's own broker: that of what devices say, and,
	// with the filter behind it, those of what is mirrored. Stored; never change.
	localClient, mirrorClient = "wilco-gateway", "wilco-gateway/up/"
	mouthClient               = "wilco-gateway/down" // of what is mirrored down, without a session that lasts
	pause                     = time.Second          // before what has failed is tried again
	// reconnectWithin bounds the wait between two tries to reach the server above.
	reconnectWithin = 10 * time.Second
)

// Where, in the data directory, the ledger is, and what is on its way up.
const (
	LedgerDir = "ledger"
	uplinkDir = "uplink"
)

// Gateway joins a server to the one above. Make one with Start.
type Gateway struct {
	cfg     *config.Config
	server  *app.Server
	profile wire.GatewayProfile
	log     *slog.Logger
	boot    string
	ledger  *ledger.Ledger

	link *uplink.Uplink
	up   *client.Client // of the server above; what is published goes by link
	// local is the client of the session of what devices say.
	local *client.Client
	own   ownTIDs
	asked asked
	above arriving
	down  []*downLane
	mouth *client.Client // of what is mirrored down

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
	return app.ServeWith(ctx, c.Server, app.With{Limits: limits, Part: part}, version, reload, out, log)
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
		reach: make(chan bool, 1), actsWanted: make(chan chan struct{})}
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
	if err := g.newUplink(); err != nil {
		return nil, errors.Join(err, g.ledger.Close())
	}
	g.setReach(false)
	g.tellReach(false) // nothing retained is to wait from before
	g.link.Start()
	g.mouth.Start()
	for _, f := range []func(){g.runArrivals, g.runActs, g.runLedger, g.runRules, g.runDevices} {
		g.wg.Go(f)
	}
	for _, l := range g.down {
		g.wg.Go(l.run)
	}
	if s.Metrics != nil {
		s.Metrics.MustRegister(collector{g})
	}
	if err := g.link.AwaitLanes(ctx); err != nil {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), pause)
		defer cancel()
		return nil, errors.Join(err, g.Stop(stop))
	}
	return g, nil
}

// Stop takes leave of the server above, which is told that the devices cannot be
// reached any more, and ends everything. What has not gone up waits.
func (g *Gateway) Stop(ctx context.Context) error {
	g.cancel()
	err := errors.Join(g.link.Stop(ctx), g.mouth.Stop(ctx))
	g.wg.Wait()
	return errors.Join(err, g.ledger.Close())
}

// newUplink makes both ends of the link: the client of the server above, and the lanes
// of what goes up.
func (g *Gateway) newUplink() error {
	above, err := g.upstream()
	if err != nil {
		return err
	}
	q := g.cfg.Queue
	lanes := []uplink.Lane{{Client: localClient, Name: "devices", Subscriptions: g.upSubscriptions(), Skip: g.skips,
		Queue: broker.Queue{Overflow: q.Overflow, Messages: q.MaxMessages, Bytes: q.MaxBytes}}}
	for _, m := range g.cfg.Up {
		lanes = append(lanes, uplink.Lane{Client: mirrorClient + m.Filter, Name: m.Filter, Latest: m.Latest,
			Queue: broker.Queue{Overflow: m.Overflow, Messages: m.MaxMessages, Bytes: m.MaxBytes},
			// What was retained before the filter was named goes up once, with the subscription.
			Subscriptions: []mqtt.Subscription{{Filter: m.Filter, QoS: mqtt.ExactlyOnce, RetainAsPublished: true, RetainHandling: 1}}})
	}
	for _, m := range g.cfg.Down {
		g.down = append(g.down, newDownLane(g, m))
	}
	g.link, err = uplink.New(uplink.Options{Dir: filepath.Join(g.cfg.Server.Data, uplinkDir), Upstream: above,
		Dial: g.server.Broker.DialQueue, NumberAbove: g.server.Broker.NumberAbove, Lanes: lanes, Logger: g.log})
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "%v", err)
	}
	g.up, g.local = g.link.Upstream(), g.link.Local(0)
	if g.mouth, err = g.newMouth(); err != nil {
		return errors.Join(err, g.link.Stop(context.Background()))
	}
	return nil
}

// upstream says how to connect to the server above.
func (g *Gateway) upstream() (client.Options, error) {
	u := &g.cfg.Upstream
	t, err := clientTLS(u)
	if err != nil {
		return client.Options{}, err
	}
	o := client.Options{Servers: []string{u.URL}, TLS: t, ClientID: g.cfg.Name.String(), Username: g.cfg.Name.String(),
		SessionExpiry: forEver, KeepAlive: u.KeepAlive, Will: g.will, OnMessage: g.fromAbove, Logger: g.log,
		Backoff: client.Backoff{Max: reconnectWithin},
		OnUp:    func(up client.Up) { g.asked.forget(up.Refused); g.tellRefused(up.Refused); g.tellReach(true) },
		OnDown:  func(err error) { g.log.Warn("the server above is out of reach", "error", err); g.tellReach(false) }}
	if u.Secret != "" {
		o.Password = []byte(u.Secret)
	}
	held := 0 // what waits of the mirrored topics has not been acknowledged, and commands are to come all the same
	for _, m := range g.cfg.Down {
		held += m.MaxMessages
		o.Subscriptions = append(o.Subscriptions, mqtt.Subscription{Filter: m.Filter, QoS: mqtt.ExactlyOnce, NoLocal: true, RetainAsPublished: true})
	}
	o.ReceiveMaximum = uint16(min(commandWindow+held, math.MaxUint16))
	return o, nil
}

// commandWindow is how many commands of the server above may come without an answer.
const commandWindow = 1024

// tellRefused says which mirrored topics the server above does not give.
func (g *Gateway) tellRefused(list []mqtt.Subscription) {
	for _, s := range list {
		if slices.ContainsFunc(g.cfg.Down, func(m config.Mirror) bool { return m.Filter == s.Filter }) {
			g.log.Error("the server above does not give a mirrored topic; allow the gateway to subscribe to it there", "filter", s.Filter)
		}
	}
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
