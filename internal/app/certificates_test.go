package app

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/internal/testkit"
)

// shown is the name in the certificate that a handshake meets now.
func shown(t *testing.T, c *certificates) string {
	t.Helper()
	config, err := c.config().GetConfigForClient(nil)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(config.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf.Subject.CommonName
}

// put writes a certificate that changed at a moment of its own.
func put(t *testing.T, dir string, c tls.Certificate, at time.Time) {
	t.Helper()
	cert, key := testkit.WriteCert(t, dir, c)
	touch(t, at, cert, key)
}

func touch(t *testing.T, at time.Time, files ...string) {
	t.Helper()
	for _, f := range files {
		if err := os.Chtimes(f, at, at); err != nil {
			t.Fatal(err)
		}
	}
}

// Shows [B10f].
func TestCertificatesAreReadAnewWhenTheyChange(t *testing.T) {
	ca, dir := testkit.NewCA(t), t.TempDir()
	first, second, third := ca.Sign("first", nil), ca.Sign("second", nil), ca.Sign("third", nil)
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		put(t, dir, first, start)
		certs, w, err := newCertificates(TLSFiles{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		reload := make(chan os.Signal)
		stop := watch([]*watched{w}, reload, slog.New(slog.NewTextHandler(&out, nil)))
		pass := func() { time.Sleep(lookEvery); synctest.Wait() }

		put(t, dir, second, start.Add(time.Second))
		if got := shown(t, certs); got != "first" {
			t.Errorf("%s before anybody looked", got)
		}
		pass()
		if got := shown(t, certs); got != "second" {
			t.Errorf("%s after a change of the files", got)
		}
		// The certificate is there, its key not yet: neither is taken, and that is
		// said once.
		certOnly, _ := testkit.WriteCert(t, t.TempDir(), third)
		text, _ := os.ReadFile(certOnly)
		if err := os.WriteFile(filepath.Join(dir, "cert.pem"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		touch(t, start.Add(2*time.Second), filepath.Join(dir, "cert.pem"))
		pass()
		pass()
		if got := shown(t, certs); got != "second" {
			t.Errorf("%s after half a change", got)
		}
		put(t, dir, third, start.Add(3*time.Second))
		reload <- syscall.SIGHUP
		synctest.Wait()
		if got := shown(t, certs); got != "third" {
			t.Errorf("%s after the signal", got)
		}
		if err := os.Remove(filepath.Join(dir, "key.pem")); err != nil {
			t.Fatal(err)
		}
		pass()
		if got := shown(t, certs); got != "third" {
			t.Errorf("%s without a key", got)
		}
		stop()
		if n := strings.Count(out.String(), "level=ERROR"); n != 2 || strings.Count(out.String(), "read anew") != 2 {
			t.Errorf("%d errors:\n%s", n, out.String())
		}
	})
}

func TestClientCertificatesMustBeOfTheAuthorityInForce(t *testing.T) {
	ca, other, dir := testkit.NewCA(t), testkit.NewCA(t), t.TempDir()
	cert, key := testkit.WriteCert(t, dir, ca.Sign("server", nil))
	clientCA := ca.Write(dir)
	certs, w, err := newCertificates(TLSFiles{Cert: cert, Key: key, ClientCA: clientCA})
	if err != nil {
		t.Fatal(err)
	}
	in := func(c *tls.Certificate, cache tls.ClientSessionCache) bool {
		t.Helper()
		listener, err := tls.Listen("tcp", "127.0.0.1:0", certs.config())
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		done := make(chan error, 1)
		go func() {
			nc, err := listener.Accept()
			if err == nil {
				_, err = io.WriteString(nc, "hello")
				nc.Close()
			}
			done <- err
		}()
		config := &tls.Config{RootCAs: ca.Pool(), ClientSessionCache: cache, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if c == nil {
				return &tls.Certificate{}, nil
			}
			return c, nil
		}}
		nc, err := tls.Dial("tcp", listener.Addr().String(), config)
		if err == nil {
			_, err = io.ReadAll(nc)
			nc.Close()
		}
		<-done
		return err == nil
	}
	device, stranger := ca.Sign("device", nil), other.Sign("device", nil)
	cache := tls.NewLRUClientSessionCache(1)
	if !in(&device, cache) || in(&stranger, nil) || in(nil, nil) {
		t.Fatal("the wrong ones come in")
	}
	text, err := os.ReadFile(other.Write(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	for _, broken := range []string{"", "nothing\n"} {
		if err := os.WriteFile(clientCA, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := w.look(true); err == nil || !in(&device, nil) {
			t.Errorf("%q took the authorities away: %v", broken, err)
		}
	}
	if err := os.WriteFile(clientCA, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.look(true); err != nil {
		t.Fatal(err)
	}
	if in(&device, cache) || !in(&stranger, nil) {
		t.Error("the authority that was taken away still opens")
	}
}

// TestReloadOfTheServer goes the whole way: SIGHUP, and what a client meets then.
// Shows [B10f].
func TestReloadOfTheServer(t *testing.T) {
	ca, dir := testkit.NewCA(t), t.TempDir()
	cert, key := testkit.WriteCert(t, dir, ca.Sign("first", nil))
	c := settings(t.TempDir())
	c.MQTT.TCP, c.MQTT.TLS.Address, c.MQTT.TLS.Cert, c.MQTT.TLS.Key = "", "127.0.0.1:0", cert, key
	reload := make(chan os.Signal)
	name := func(address string) string {
		nc, err := tls.Dial("tcp", address, &tls.Config{RootCAs: ca.Pool()})
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		return nc.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := Serve(ctx, c, "test", reload, w, quiet())
		w.Close()
		done <- err
	}()
	address := listening(t, r, "tls")
	if got := name(address); got != "first" {
		t.Errorf("%s", got)
	}
	testkit.WriteCert(t, dir, ca.Sign("second", nil))
	reload <- syscall.SIGHUP
	reload <- syscall.SIGHUP // taken when the first has been dealt with
	if got := name(address); got != "second" {
		t.Errorf("%s after the signal", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
