package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/wire"
)

// Check says what is wrong with the settings: nil, or an *Error.
func (c *Config) Check() error {
	if faults := check(c); len(faults) > 0 {
		return &Error{faults}
	}
	return nil
}

func check(c *Config) (faults []*fault.Error) {
	wrong := func(path, format string, args ...any) { faults = append(faults, fault.Field(path, format, args...)) }
	if c.Data == "" {
		wrong("data", "must name a directory")
	}
	for _, a := range []struct{ path, value string }{{"http.address", c.HTTP.Address}, {"mqtt.tcp", c.MQTT.TCP},
		{"mqtt.ws", c.MQTT.WS}, {"mqtt.tls.address", c.MQTT.TLS.Address}} {
		if a.value == "" && a.path != "http.address" {
			continue
		}
		if text := badAddress(a.value); text != "" {
			wrong(a.path, "%q %s; write host:port, for example 127.0.0.1:1883 or :1883", a.value, text)
		}
	}
	if _, err := Prefixes(c.HTTP.TrustedProxies); err != nil {
		wrong("http.trustedProxies", "%v", err)
	}
	if tls := c.HTTP.TLS; tls.Cert != "" || tls.Key != "" {
		checkFile(wrong, "http.tls.cert", tls.Cert, "http.tls.key")
		checkFile(wrong, "http.tls.key", tls.Key, "http.tls.cert")
	}
	checkBroker(c, wrong)
	checkSparkplug(c, wrong)
	checkOIDC(c, wrong)
	root := c.Root
	if c.Profile == "atlas" {
		root = "" // its topics are fixed; the root is for other devices
	}
	if _, err := wire.Lookup(c.Profile, root); err != nil {
		var we *wire.Error
		errors.As(err, &we)
		wrong(we.Field, "%s", we.Text)
	}
	if c.Retention.D() < time.Hour {
		wrong("retention", "%s is less than an hour", c.Retention)
	}
	var pe *command.PolicyError
	if err := c.Policy.Command().Check(); errors.As(err, &pe) {
		wrong("policy."+pe.Field, "%s", pe.Text)
	}
	return faults
}

// checkFile looks for the PEM file that the setting at path must name because that at
// because is given.
func checkFile(wrong func(path, format string, args ...any), path, file, because string) {
	if file == "" {
		wrong(path, "must name a PEM file, because %s is set", because)
	} else if _, err := os.Stat(file); err != nil {
		wrong(path, "cannot be read: %v", err)
	}
}

func checkBroker(c *Config, wrong func(path, format string, args ...any)) {
	tls := c.MQTT.TLS
	if tls.Address != "" {
		checkFile(wrong, "mqtt.tls.cert", tls.Cert, "mqtt.tls.address")
		checkFile(wrong, "mqtt.tls.key", tls.Key, "mqtt.tls.address")
		if tls.ClientCA != "" {
			checkFile(wrong, "mqtt.tls.clientCA", tls.ClientCA, "")
		}
	}
	if tls.Address == "" && tls.ClientCA != "" {
		wrong("mqtt.tls.address", "is missing beside mqtt.tls.clientCA, which would ask nobody for a certificate")
	}
	if c.Broker.RequestsToken != "" && c.Broker.URL == "" {
		wrong("broker.requestsToken", "is for the broker of broker.url; the built-in one knows who asks")
	}
	if c.MQTT.Users != "" && c.Broker.URL != "" {
		wrong("mqtt.users", "is for the built-in broker; that of broker.url has its own list of users")
	}
	if c.Broker.URL == "" {
		if c.MQTT.TCP == "" && c.MQTT.WS == "" && tls.Address == "" {
			wrong("mqtt.tcp", "no listener at all: set one of mqtt.tcp, mqtt.ws, mqtt.tls.address, or broker.url")
		}
		return
	}
	if badURL(c.Broker.URL) {
		// Not the value: there may be a password in it.
		wrong("broker.url", "is not a URL like mqtt://user:password@host:1883")
	}
}

// badURL tells whether text is no URL of a broker.
func badURL(text string) bool {
	u, err := url.Parse(text)
	schemes := []string{"mqtt", "mqtts", "ws", "wss", "tcp", "ssl", "tls"}
	return err != nil || !slices.Contains(schemes, u.Scheme) || u.Hostname() == ""
}

// OwnBroker is the server's own broker among those that a Sparkplug host follows.
const OwnBroker = "broker"

// List is the parts of a setting that takes several with commas between; none for "".
func List(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// Prefixes reads addresses and networks, with commas between. The error says which is
// none.
func Prefixes(text string) ([]netip.Prefix, error) {
	var list []netip.Prefix
	for _, word := range List(text) {
		word = strings.TrimSpace(word)
		p, err := netip.ParsePrefix(word)
		if a, failed := netip.ParseAddr(word); failed == nil && a.Zone() == "" {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		switch {
		case err != nil || p.Addr().Is4In6():
			return nil, fmt.Errorf("%q is neither an address like 10.0.0.7 nor a network like 10.0.0.0/8", word)
		case p.Bits() == 0:
			return nil, fmt.Errorf("%q is everybody, whose word would be taken for any address", word)
		}
		list = append(list, p.Masked())
	}
	return list, nil
}

func checkOIDC(c *Config, wrong func(path, format string, args ...any)) {
	if c.OIDC.Issuer == "" {
		return
	}
	// A token that anybody on the way could replace says nothing, but on this machine.
	if u, err := url.Parse(c.OIDC.Issuer); err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !net.ParseIP(u.Hostname()).IsLoopback()) {
		wrong("oidc.issuer", "is not a URL like https://login.example.com/realm")
	}
	if c.OIDC.Audience == "" {
		wrong("oidc.audience", "must be given beside oidc.issuer: a token for another service would be good for this one")
	}
}

func checkSparkplug(c *Config, wrong func(path, format string, args ...any)) {
	switch s := c.Sparkplug; {
	case s.Role == "off":
		return
	case s.Role == "primary" && sparkplug.ValidID(s.HostID) != nil:
		wrong("sparkplug.hostID", "must be an id without / + #, because sparkplug.role is primary")
	}
	for f := range strings.SplitSeq(c.Sparkplug.Filters, ",") {
		if _, below, _ := strings.Cut(f, "/"); below == "" || !strings.HasPrefix(f, sparkplug.Namespace+"/") || mqtt.ValidFilter(f) != nil {
			wrong("sparkplug.filters", "%q is not a topic filter below %s/", f, sparkplug.Namespace)
		}
	}
	for _, f := range List(c.Sparkplug.Reported) {
		if mqtt.ValidFilter(f) != nil {
			wrong("sparkplug.reported", "%q is not a filter over names of metrics, like # or Process/#", f)
		}
	}
	seen := map[string]bool{OwnBroker: true}
	for _, s := range List(c.Sparkplug.Servers) {
		name, text, _ := strings.Cut(s, "=")
		if name == "" || seen[name] || badURL(text) {
			// Not the value: there may be a password in it.
			wrong("sparkplug.servers", "each must be NAME=URL, as other=mqtt://user:password@host:1883, each NAME once and none %q", OwnBroker)
			break
		}
		seen[name] = true
	}
}

// badAddress says what is wrong with a host:port.
func badAddress(a string) string {
	host, port, err := net.SplitHostPort(a)
	if err != nil {
		return "is not host:port"
	}
	if strings.ContainsAny(host, " /") {
		return "has a host that cannot be"
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return "has a port that is not a number from 0 to 65535"
	}
	return ""
}
