package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/broker"
	pebblestore "github.com/wilco-iot/wilco/broker/store/pebble"
	"github.com/wilco-iot/wilco/internal/config"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/oidc"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/sparkplug/host"
)

// stopWithin bounds a clean stop.
const stopWithin = 15 * time.Second

// Serve runs a server as c says until ctx ends, and stops it in good order. It
// writes one line to out when requests are answered:
//
//	ready http=127.0.0.1:8080 tcp=127.0.0.1:1883
//
// (https= where the API has a certificate) and, at the first start over a data directory, one before it that says where the
// admin token is that it has made.
//
// The certificate files are read anew when they change, and when reload says so;
// it may be nil.
func Serve(ctx context.Context, c config.Config, version string, reload <-chan os.Signal, out io.Writer, log *slog.Logger) error {
	return ServeWith(ctx, c, With{}, version, reload, out, log)
}

// With is what a server may have that is not in the settings.
type With struct {
	Limits broker.Limits // of the built-in broker
	// Part joins the server: it is called when that has started, and what it returns
	// is called before it stops. Nil: there is none.
	Part func(context.Context, *Server) (stop func(context.Context) error, err error)
}

// ServeWith is Serve with more.
func ServeWith(ctx context.Context, c config.Config, w With, version string, reload <-chan os.Signal, out io.Writer, log *slog.Logger) error {
	o, files, err := options(c)
	if err != nil {
		return err
	}
	part := w.Part
	o.Version, o.Logger, o.Limits = version, log, w.Limits
	if os.Getenv("GOGC") == "" {
		// What is alive is small beside what a busy second allocates: collecting
		// a third as often saves a tenth of the CPU for some tens of MiB.
		debug.SetGCPercent(300)
	}
	s := New(o)
	if err := s.Start(ctx); err != nil {
		return err
	}
	if s.FirstToken() != "" {
		// Not the token itself: what a server writes ends in somebody's log.
		fmt.Fprintf(out, "first admin token: in %s, for this user only\n", filepath.Join(c.Data, config.TokenFile))
	}
	warnPlain(log, append(plainHTTP(s.HTTPAddr(), o), plainListeners(s.MQTTAddr, o.Listeners)...))
	defer watch(files, reload, log)()
	stopPart := func(context.Context) error { return nil }
	var died error
	if part != nil {
		if stopPart, err = part(ctx, s); err != nil {
			stopPart, died = func(context.Context) error { return nil }, err
		}
	}
	if died == nil {
		scheme := "http"
		if o.HTTPTLS != nil {
			scheme = "https"
		}
		fmt.Fprintf(out, "ready %s=%s%s\n", scheme, s.HTTPAddr(), addresses(s.MQTTAddr, o.Listeners))
		select {
		case <-ctx.Done():
		case died = <-s.Fatal():
		}
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	return errors.Join(died, stopPart(stop), s.Stop(stop))
}

// roles are the words of host.Role, in its order.
var roles = []string{host.Primary.String(), host.Active.String(), host.Passive.String()}

// options translates the settings.
func options(c config.Config) (o Options, files []*watched, err error) {
	o = Options{Data: c.Data, HTTP: c.HTTP.Address, Profile: c.Profile, Root: c.Root, Policy: c.Policy.Command(),
		KnownTypesOnly: c.Commands.UnknownTypes == "refuse", Retention: c.Retention.D(), Broker: c.Broker.URL, RequestsToken: c.Broker.RequestsToken, Durability: c.MQTT.Durability}
	if o.TrustedProxies, err = config.Prefixes(c.HTTP.TrustedProxies); err != nil {
		return o, nil, fault.Field("http.trustedProxies", "%v", err)
	}
	if role := slices.Index(roles, c.Sparkplug.Role); role >= 0 {
		o.Sparkplug = Sparkplug{On: true, Role: host.Role(role), HostID: c.Sparkplug.HostID, Filters: strings.Split(c.Sparkplug.Filters, ","),
			Reported: config.List(c.Sparkplug.Reported), Servers: config.List(c.Sparkplug.Servers)}
	}
	if c.OIDC.Issuer != "" {
		o.People = oidc.Options{Issuer: c.OIDC.Issuer, Audience: c.OIDC.Audience, NameClaim: c.OIDC.NameClaim, RolesClaim: c.OIDC.RolesClaim}
		if o.People.Rules, err = oidc.ParseRules(c.OIDC.Grants); err != nil {
			return o, nil, fault.Field("oidc.grants", "%v", err)
		}
	}
	if pem := (TLSFiles{Cert: c.HTTP.TLS.Cert, Key: c.HTTP.TLS.Key}); pem.Cert != "" {
		var w *watched
		if o.HTTPTLS, w, err = serverTLS(pem, "h2", "http/1.1"); err != nil {
			return o, nil, err
		}
		files = append(files, w)
	}
	if c.Broker.Version == "3.1.1" {
		o.BrokerVersion = mqtt.V311
	}
	if o.Shares, err = parseShares(strings.Split(c.MQTT.Shares, ","), "mqtt.shares"); err != nil {
		return o, nil, err
	}
	if o.Broker != "" {
		if _, err := url.Parse(o.Broker); err != nil {
			return o, nil, fault.Field("broker.url", "is not a URL like mqtt://user:password@host:1883")
		}
		return o, files, nil
	}
	ls, more, err := listeners(c.MQTT.TCP, c.MQTT.WS, c.MQTT.TLS.Address,
		TLSFiles{Cert: c.MQTT.TLS.Cert, Key: c.MQTT.TLS.Key, ClientCA: c.MQTT.TLS.ClientCA})
	if err == nil {
		err = setOverflow(ls, c.MQTT.Overflow, "mqtt.overflow")
	}
	if err == nil && c.MQTT.Users != "" {
		var file *watched
		o.users, file, err = newUsers(nil, c.MQTT.Users, c.MQTT.TLS.ClientCA != "", spacesOf(c.Root, o.Sparkplug.On))
		more = append(more, file)
	}
	o.Listeners = ls
	return o, append(files, more...), err
}

// listeners are those whose address is not empty, and what is to be watched for
// them.
func listeners(tcp, ws, secure string, pem TLSFiles) (ls []broker.Listener, files []*watched, err error) {
	if tcp != "" {
		ls = append(ls, broker.Listener{Name: "tcp", Network: "tcp", Address: tcp})
	}
	if ws != "" {
		ls = append(ls, broker.Listener{Name: "ws", Network: "ws", Address: ws})
	}
	if secure != "" {
		config, w, err := serverTLS(pem)
		if err != nil {
			return nil, nil, err
		}
		ls = append(ls, broker.Listener{Name: "tls", Network: "tls", Address: secure, TLS: config})
		files = append(files, w)
	}
	return ls, files, nil
}

// setOverflow gives all listeners a policy; field is what it is called where
// somebody wrote it.
func setOverflow(ls []broker.Listener, name, field string) error {
	policy, err := broker.ParseOverflow(name)
	if err != nil {
		return fault.Field(field, "%v", err)
	}
	for i := range ls {
		ls[i].Overflow = policy
	}
	return nil
}

// parseShares reads what holds for shared subscriptions: texts of broker.ShareRule, each
// for all shares or, as NAME=WORD, for those of a name. field is what they are
// called where somebody wrote them.
func parseShares(words []string, field string) (map[string]broker.ShareRule, error) {
	shares := make(map[string]broker.ShareRule)
	for _, w := range words {
		w = strings.TrimSpace(w)
		if w == "" {
			continue
		}
		i := strings.LastIndexByte(w, '=') // a name may have one
		name, word := w[:max(i, 0)], w[i+1:]
		how, err := broker.ParseShareRule(word)
		_, twice := shares[name]
		switch {
		case err != nil:
			return nil, fault.Field(field, "%v", err)
		case i == 0 || strings.ContainsAny(name, "/+#"):
			return nil, fault.Field(field, "%q cannot be the name of a share", name)
		case twice:
			return nil, fault.Field(field, "says twice what holds for %q", name)
		}
		shares[name] = how
	}
	return shares, nil
}

// BrokerOptions configure a broker that runs alone.
type BrokerOptions struct {
	TCP, WS, TLS string // addresses; "" means no such listener
	Files        TLSFiles
	Data         string            // directory of sessions, queues and retained messages; "" keeps them in memory
	Durability   string            // of Data: fsync or os; "" means fsync
	Anonymous    bool              // everybody may do everything
	Users        map[string]string // name to password; each may do everything
	UsersFile    string            // "" for none; see readUsers
	Shares       []string          // as parseShares reads them
	Overflow     string            // policy of full queues, as broker.ParseOverflow reads it
	Metrics      string            // address of /metrics and /healthz; "" means none
	Version      string            // of the program
}

// RunBroker runs a broker until ctx ends, and stops it in good order. It writes
// one line to out when it accepts connections: ready tcp=127.0.0.1:1883 ... with
// metrics=127.0.0.1:9090 at its end where those are asked for. Files are read anew
// as by Serve.
func RunBroker(ctx context.Context, o BrokerOptions, reload <-chan os.Signal, out io.Writer, log *slog.Logger) (failed error) {
	ls, files, err := listeners(o.TCP, o.WS, o.TLS, o.Files)
	switch {
	case err != nil:
		return err
	case len(ls) == 0:
		return fault.Field("tcp", "no listener: give an address with --tcp, --ws or --tls")
	case !o.Anonymous && len(o.Users) == 0 && o.UsersFile == "":
		return fault.Field("user", "nobody could connect: give --user name:password or --users file, or --anonymous to let everybody in")
	}
	authority, known := broker.AllowAnonymous(), (*users)(nil)
	if !o.Anonymous {
		var w *watched
		if known, w, err = newUsers(o.Users, o.UsersFile, o.Files.ClientCA != "", nil); err != nil {
			return err
		}
		authority, files = known, append(files, w)
	}
	shares, err := parseShares(o.Shares, "share")
	if err == nil {
		err = setOverflow(ls, o.Overflow, "overflow")
	}
	if err != nil {
		return err
	}
	if o.Data == "" {
		o.Durability = inMemory
	}
	queues, err := openQueues(o.Data, o.Durability, log)
	if err != nil {
		return err
	}
	defer func() { // after the broker has stopped
		if err := queues.Close(); !errors.Is(failed, pebblestore.ErrFailed) { // else it says so again
			failed = errors.Join(failed, err)
		}
	}()
	died := make(chan error, 1)
	b, err := broker.New(broker.Options{Listeners: ls, Authority: authority, Store: queues, Shares: shares,
		Status: status(o.Version), Logger: log, Events: storeEvents(func(err error) {
			select {
			case died <- err:
			default:
			}
		})})
	if err != nil {
		return err
	}
	metrics := ""
	if o.Metrics != "" {
		at, stop, err := export(o.Metrics, b, queues, log)
		if err != nil {
			return fault.Wrap(err, fault.Unavailable, "%v", err)
		}
		defer stop()
		metrics = " metrics=" + at.String()
	}
	if known != nil {
		known.cut = func(name string) { b.Disconnect(name, mqtt.NotAuthorized) }
	}
	if err := b.Start(); err != nil {
		return fault.Wrap(err, fault.Unavailable, "%v", err)
	}
	warnPlain(log, plainListeners(b.Addr, ls))
	defer watch(files, reload, log)()
	fmt.Fprintf(out, "ready%s%s\n", addresses(b.Addr, ls), metrics)
	select {
	case <-ctx.Done():
	case err = <-died:
		err = fault.Wrap(err, fault.Unavailable, "%v", err)
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	return errors.Join(err, b.Stop(stop))
}

// status is what the broker says of its version.
func status(version string) string { return "wilco " + version }

// addresses writes " name=address" for each listener.
func addresses[A interface{ String() string }](addr func(string) A, ls []broker.Listener) string {
	var s strings.Builder
	for _, l := range ls {
		fmt.Fprintf(&s, " %s=%s", l.Name, addr(l.Name))
	}
	return s.String()
}
