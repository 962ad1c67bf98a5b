package app

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/wilco-iot/wilco/internal/fault"
)

// TLSFiles are what a TLS listener is made of, all PEM.
type TLSFiles struct {
	Cert, Key string
	// ClientCA has the certificates of those who sign devices' certificates. With
	// it a client must show one that they have signed. "" asks clients for none.
	ClientCA string
}

// certificates is the TLS configuration that the files say. A handshake takes
// the one that is in force when it begins; connections that are there stay.
type certificates struct {
	files     TLSFiles
	protocols []string // of ALPN; nil: any
	inForce   atomic.Pointer[tls.Config]
}

func newCertificates(f TLSFiles, protocols ...string) (*certificates, *watched, error) {
	c := &certificates{files: f, protocols: protocols}
	w := &watched{what: "the certificate files", files: []string{f.Cert, f.Key}, load: c.load}
	if f.ClientCA != "" {
		w.files = append(w.files, f.ClientCA)
	}
	_, err := w.look(true)
	return c, w, err
}

func (c *certificates) load() error {
	pair, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return fmt.Errorf("certificate %q and key %q: %w", c.files.Cert, c.files.Key, err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13, NextProtos: c.protocols}
	if c.files.ClientCA != "" {
		text, err := os.ReadFile(c.files.ClientCA)
		if err == nil {
			config.ClientCAs = x509.NewCertPool()
			if !config.ClientCAs.AppendCertsFromPEM(text) {
				err = errors.New("has no certificate")
			}
		}
		if err != nil {
			return fmt.Errorf("client CA %q: %w", c.files.ClientCA, err)
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
		// A resumed session would bring its verified certificate along, past an
		// authority that is trusted no more.
		config.SessionTicketsDisabled = true
	}
	c.inForce.Store(config)
	return nil
}

// serverTLS makes a listener's configuration of the files, and what is to be watched
// for it.
func serverTLS(f TLSFiles, protocols ...string) (*tls.Config, *watched, error) {
	c, w, err := newCertificates(f, protocols...)
	if err != nil {
		return nil, nil, fault.Wrap(err, fault.Invalid, "the certificate files cannot be used: %v", err)
	}
	return c.config(), w, nil
}

// config is for a listener: it asks for what is in force at each handshake.
func (c *certificates) config() *tls.Config {
	return &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.inForce.Load(), nil }}
}
