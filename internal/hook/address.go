package hook

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
)

// special are networks beside those that netip knows that are not of the public
// internet, or that lead into it by a detour which hides the real address.
var special = func() (list []netip.Prefix) {
	for _, s := range []string{
		"0.0.0.0/8",       // "this" network (RFC 791)
		"100.64.0.0/10",   // carrier-grade NAT (RFC 6598)
		"192.0.0.0/24",    // protocol assignments (RFC 6890)
		"192.0.2.0/24",    // documentation (RFC 5737)
		"192.88.99.0/24",  // 6to4 relays (RFC 7526)
		"198.18.0.0/15",   // benchmarks (RFC 2544)
		"198.51.100.0/24", // documentation
		"203.0.113.0/24",  // documentation
		"240.0.0.0/4",     // reserved, broadcast
		"::/96",           // IPv4-compatible (RFC 4291)
		"64:ff9b::/96",    // NAT64 (RFC 6052): any IPv4 address behind it
		"64:ff9b:1::/48",  // NAT64 (RFC 8215)
		"100::/64",        // discard (RFC 6666)
		"2001::/23",       // Teredo and other assignments (RFC 2928)
		"2001:db8::/32",   // documentation
		"2002::/16",       // 6to4 (RFC 3056): any IPv4 address behind it
		"3fff::/20",       // documentation (RFC 9637)
		"fec0::/10",       // site-local (RFC 3879)
	} {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}()

// errAddress is what a receiver at an address that is not public is refused with.
var errAddress = errors.New("the address is not of the public internet, and the hook does not allow others")

// public says whether the address is of the public internet.
func public(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() {
		return false
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// guard is the Control function of a dialer. It is called with the address that
// the connection is about to be made to: a name that resolves to something else
// the second time gains nothing.
func guard(_, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %q: %w", address, err)
	}
	if !public(a.Addr()) {
		return fmt.Errorf("%s: %w", a.Addr(), errAddress)
	}
	return nil
}
