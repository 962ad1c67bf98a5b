package api

import (
	"net/http"
	"net/netip"
	"testing"
)

// TestClientOf: only what trusted proxies have written counts, and of that only the end.
func TestClientOf(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::7/128")}
	for _, c := range []struct {
		name, remote string
		forwarded    []string
		want         string
	}{
		{"nobody between", "192.0.2.1:999", nil, "192.0.2.1:999"},
		{"a client that makes it up", "192.0.2.1:999", []string{"198.51.100.1"}, "192.0.2.1:999"},
		{"a proxy", "10.0.0.1:999", []string{"198.51.100.1"}, "198.51.100.1"},
		{"a proxy at a socket of both kinds", "[::ffff:10.0.0.1]:999", []string{"198.51.100.1"}, "198.51.100.1"},
		{"a proxy of IPv6", "[2001:db8::7]:999", []string{"2001:db8:1::1"}, "2001:db8:1::1"},
		{"a client that makes it up before a proxy", "10.0.0.1:999", []string{"192.0.2.99, 10.0.0.9", "198.51.100.1"}, "198.51.100.1"},
		{"two proxies", "10.0.0.1:999", []string{"192.0.2.99, 198.51.100.1,10.0.0.2"}, "198.51.100.1"},
		{"nobody but proxies", "10.0.0.1:999", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"a proxy that says nothing", "10.0.0.1:999", nil, "10.0.0.1"},
		{"a proxy that does not know", "10.0.0.1:999", []string{"198.51.100.1, unknown"}, "10.0.0.1"},
		{"an end that is empty", "10.0.0.1:999", []string{"198.51.100.1,"}, "10.0.0.1"},
		{"with ports", "10.0.0.1:999", []string{"198.51.100.1:7, [2001:db8::7]:8"}, "198.51.100.1"},
		{"in brackets", "10.0.0.1:999", []string{"[2001:db8:1::1]"}, "2001:db8:1::1"},
		{"mapped", "10.0.0.1:999", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		{"no address at all", "@", []string{"198.51.100.1"}, "@"},
	} {
		a := &API{opt: Options{TrustedProxies: trusted}}
		r := &http.Request{RemoteAddr: c.remote, Header: http.Header{"X-Forwarded-For": c.forwarded, "Forwarded": {"for=203.0.113.5"}}}
		if got := a.clientOf(r); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		a.opt.TrustedProxies = nil
		if got := a.clientOf(r); got != c.remote {
			t.Errorf("%s, none trusted: %s", c.name, got)
		}
	}
}
