package app

import (
	"log/slog"
	"net"
	"strings"

	"github.com/wilco-iot/wilco/broker"
)

// warnPlain says, once for all, which listeners without TLS others can reach: what
// comes in there brings tokens and passwords along.
func warnPlain(log *slog.Logger, reached []string) {
	if len(reached) > 0 {
		log.Warn("tokens and passwords are sent in plain text to addresses that other machines can reach", "listeners", strings.Join(reached, ","),
			"cure", "give them certificates (http.tls, mqtt.tls), or listen on 127.0.0.1")
	}
}

// plainListeners are those of a broker for warnPlain, with the addresses they have.
func plainListeners(addr func(string) net.Addr, ls []broker.Listener) (list []string) {
	for _, l := range ls {
		if a := addr(l.Name); l.TLS == nil && reachable(a) {
			list = append(list, l.Name+"="+a.String())
		}
	}
	return list
}

// plainHTTP is the same for the API at a. Behind a proxy TLS is the proxy's.
func plainHTTP(a net.Addr, o Options) (list []string) {
	if o.HTTPTLS == nil && len(o.TrustedProxies) == 0 && reachable(a) {
		list = append(list, "http="+a.String())
	}
	return list
}

// reachable says whether others than this machine may reach a.
func reachable(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return ok && !t.IP.IsLoopback()
}
