package testkit

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

func TestCertificatesAreOfTheirAuthority(t *testing.T) {
	ca, other := NewCA(t), NewCA(t)
	cert := ca.Sign("plant/valve", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(time.Minute) })
	usage := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: ca.Pool(), KeyUsages: usage}); err != nil {
		t.Error(err)
	}
	if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: other.Pool(), KeyUsages: usage}); err == nil {
		t.Error("verified by another authority")
	}
	certFile, keyFile := WriteCert(t, t.TempDir(), cert)
	read, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil || read.Leaf.Subject.CommonName != "plant/valve" {
		t.Errorf("%v %v", read.Leaf, err)
	}
	pem, err := os.ReadFile(ca.Write(t.TempDir()))
	if pool := x509.NewCertPool(); err != nil || !pool.AppendCertsFromPEM(pem) || !pool.Equal(ca.Pool()) {
		t.Error("ca.pem is not the authority", err)
	}
}

func TestMosquittoAcceptsWhenItIsSaidTo(t *testing.T) {
	address := FreeAddress(t)
	if pid := StartMosquitto(t, MosquittoConfig(t, MosquittoListener(address))); pid == 0 {
		t.Error("no process")
	}
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
}

func TestListener(t *testing.T) {
	l := NewListener()
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		c.Write([]byte("x"))
		c.Close()
	}()
	c, err := l.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); string(b) != "x" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	over, end := context.WithCancel(t.Context())
	end()
	if _, err := l.Dial(over); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody accepts: %v", err)
	}
	l.Close()
	if _, err := l.Dial(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Dial: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v", err)
	}
}
