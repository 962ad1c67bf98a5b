package cli

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/config"
	"github.com/wilco-iot/wilco/internal/fault"
)

const defaultServer = "http://127.0.0.1:8080"

// url is the server that the flags and variables name.
func (a *app) url() string { return first(a.server, a.env("WILCO_SERVER"), defaultServer) }

// connect makes a client of the server, with the token of the flags and variables,
// of the session that was begun there, or of the server on this machine.
func (a *app) connect() (*client.Client, error) {
	token := first(a.token, a.env("WILCO_TOKEN"))
	if token == "" {
		s, err := a.session()
		switch {
		case err != nil:
			return nil, err
		case s != nil && !time.Now().Before(s.Expires):
			// Not the machine's token instead: that would be somebody else.
			return nil, fault.New(fault.Unauthenticated, "the session of %s is over", s.User)
		case s != nil:
			token = s.Token
		}
	}
	if token == "" && local(a.url()) {
		var err error
		if token, err = a.localToken(); err != nil {
			return nil, err
		}
	}
	return a.connectAs(token)
}

func (a *app) connectAs(token string) (*client.Client, error) {
	server := a.url()
	options := []client.Option{client.Token(token), client.UserAgent("wilco/" + Version()), client.Retries(2)}
	if file := first(a.ca, a.env("WILCO_CA")); file != "" {
		roots, err := authorities(file)
		if err != nil {
			return nil, err
		}
		options = append(options, client.TLS(&tls.Config{RootCAs: roots}))
	}
	c, err := client.New(server, options...)
	if err != nil {
		return nil, fault.Field("server", "%q is not a URL like %s", server, defaultServer)
	}
	return c, nil
}

// authorities reads the certificates that the server's is to be signed by.
func authorities(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fault.Field("ca", "cannot be read: %v", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fault.Field("ca", "%s has no certificate; it must be a PEM file", file)
	}
	return pool, nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// local says whether the server is on this machine. The admin token that lies
// on it is sent nowhere else.
func local(server string) bool {
	u, err := url.Parse(server)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// localToken reads the token that wilco serve has left in its data directory;
// "" when there is none.
func (a *app) localToken() (string, error) {
	data := first(a.env("WILCO_DATA"), config.DataDir())
	b, err := os.ReadFile(filepath.Join(data, config.TokenFile))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return "", nil
	}
	if err != nil {
		return "", fault.New(fault.Invalid, "the token of the server on this machine cannot be read: %v", err)
	}
	return strings.TrimSpace(string(b)), nil
}
