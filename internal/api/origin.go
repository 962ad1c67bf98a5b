package api

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// clientOf is the address that a request comes from. A proxy that is trusted has
// written at the end of X-Forwarded-For for whom it asks, so the first address from the
// right that is no such proxy is the client's; what stands left of it anybody may have
// written. Forwarded (RFC 7239) is not read: a proxy that writes one of the two passes
// the other one on as its client has made it up.
func (a *API) clientOf(r *http.Request) string {
	at, ok := addressIn(r.RemoteAddr)
	if !ok || !a.trusts(at) {
		return r.RemoteAddr
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		next, ok := addressIn(strings.TrimSpace(hop))
		if !ok {
			break // the proxy before does not say
		}
		if at = next; !a.trusts(at) {
			break
		}
	}
	return at.String()
}

func (a *API) trusts(at netip.Addr) bool {
	return slices.ContainsFunc(a.opt.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(at) })
}

// addressIn reads an address, with or without a port.
func addressIn(text string) (at netip.Addr, ok bool) {
	both, err := netip.ParseAddrPort(text)
	at = both.Addr()
	if err != nil {
		at, err = netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	}
	return at.Unmap().WithZone(""), err == nil
}
