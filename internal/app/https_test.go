package app

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/config"
	"github.com/wilco-iot/wilco/internal/testkit"
)

// overTLS runs a server whose API has the certificate in dir, until the test ends.
func overTLS(t *testing.T, dir string, reload <-chan os.Signal) (address, token string) {
	t.Helper()
	c := settings(t.TempDir())
	c.HTTP.TLS.Cert, c.HTTP.TLS.Key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	c.Broker.URL = "mqtt://127.0.0.1:1" // the files are watched without a broker of its own too
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := Serve(ctx, c, "test", reload, w, quiet())
		w.Close()
		done <- err
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	address = listening(t, r, "https")
	b, err := os.ReadFile(filepath.Join(c.Data, config.TokenFile))
	if err != nil {
		t.Fatal(err)
	}
	return address, strings.TrimSpace(string(b))
}

func TestTheAPIOverTLS(t *testing.T) {
	ca, dir := testkit.NewCA(t), t.TempDir()
	testkit.WriteCert(t, dir, ca.Sign("first", nil))
	reload := make(chan os.Signal)
	address, token := overTLS(t, dir, reload)
	shows := func(config *tls.Config) (string, error) {
		config.RootCAs = ca.Pool()
		nc, err := tls.Dial("tcp", address, config)
		if err != nil {
			return "", err
		}
		defer nc.Close()
		return nc.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
	}
	if got, err := shows(&tls.Config{}); got != "first" {
		t.Errorf("shows %q, %v", got, err)
	}
	if _, err := shows(&tls.Config{MaxVersion: tls.VersionTLS12}); err == nil {
		t.Error("TLS 1.2 comes in")
	}
	testkit.WriteCert(t, dir, ca.Sign("second", nil))
	reload <- syscall.SIGHUP
	reload <- syscall.SIGHUP // taken when the first has been dealt with
	if got, err := shows(&tls.Config{}); got != "second" {
		t.Errorf("after the signal: %q, %v", got, err)
	}

	plain, err := client.New("http://"+address, client.Token(token))
	if err != nil {
		t.Fatal(err)
	}
	var refused *client.Error
	if _, err := plain.Devices(t.Context(), client.DeviceOptions{}); !errors.As(err, &refused) || !strings.Contains(refused.Cure, "https") {
		t.Errorf("plain HTTP: %v", err)
	}
	stranger, err := client.New("https://"+address, client.Token(token), client.TLS(&tls.Config{RootCAs: testkit.NewCA(t).Pool()}))
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range stranger.Events(t.Context(), client.EventOptions{}) {
		if err == nil {
			t.Error("a certificate of another authority is believed")
		}
	}
}

// TestEventsOverHTTP2: what happens is told when it happens, on a connection that
// carries requests at the same time.
func TestEventsOverHTTP2(t *testing.T) {
	ca, dir := testkit.NewCA(t), t.TempDir()
	testkit.WriteCert(t, dir, ca.Sign("server", nil))
	address, token := overTLS(t, dir, nil)
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}, ForceAttemptHTTP2: true}}
	defer web.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := web.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK || res.ProtoMajor != 2 {
		t.Fatalf("%s over %s", res.Status, res.Proto)
	}
	c, err := client.New("https://"+address, client.Token(token), client.HTTP(web))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.AddDevice(ctx, client.NewDevice{Device: "plant/valve"}); err != nil {
		t.Fatal(err)
	}
	made, err := c.Send(ctx, "plant/valve", client.Order{Name: "move"})
	if err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "data:") && strings.Contains(lines.Text(), made.TID) {
			return
		}
	}
	t.Error("the stream ended without the event")
}

func TestWhoIsWarnedOfPlainText(t *testing.T) {
	at := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 1883} }
	addresses := map[string]net.Addr{"tcp": at("0.0.0.0"), "ws": at("::1"), "tls": at("10.0.0.7"), "away": at("10.0.0.7")}
	list := plainListeners(func(name string) net.Addr { return addresses[name] },
		[]broker.Listener{{Name: "tcp"}, {Name: "ws"}, {Name: "tls", TLS: &tls.Config{}}, {Name: "away"}})
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	warnPlain(log, list)
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `listeners="tcp=0.0.0.0:1883,away=10.0.0.7:1883"`) {
		t.Errorf("%s", got)
	}
	out.Reset()
	warnPlain(log, nil)
	if out.Len() != 0 {
		t.Errorf("nothing is reached, and it says %s", out.String())
	}
}

func TestAPlainAPIIsForThisMachineOrBehindAProxy(t *testing.T) {
	all, own := &net.TCPAddr{IP: net.IPv6zero, Port: 80}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80}
	if got := plainHTTP(all, Options{}); len(got) != 1 || got[0] != "http=[::]:80" {
		t.Errorf("open to all: %q", got)
	}
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}
	for _, got := range [][]string{plainHTTP(own, Options{}), plainHTTP(all, Options{HTTPTLS: &tls.Config{}}), plainHTTP(all, Options{TrustedProxies: proxies})} {
		if got != nil {
			t.Errorf("%q", got)
		}
	}
}
