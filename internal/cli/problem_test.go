package cli

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/wilco-iot/wilco/internal/fault"
)

// TestUntrustedServers: what is wrong with the server's certificate has its own cure.
func TestUntrustedServers(t *testing.T) {
	for _, test := range []struct {
		err  error
		cure string
	}{
		{x509.UnknownAuthorityError{}, "--ca"},
		{x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"a"}}, Host: "b"}, "as its certificate does"},
		{x509.CertificateInvalidError{Reason: x509.Expired, Cert: &x509.Certificate{}}, "clock"},
		{http.ErrSchemeMismatch, "http://"},
	} {
		a := &app{server: "https://b"}
		e := a.problem(a.unreachable(&url.Error{Op: "Get", URL: "https://b", Err: &tls.CertificateVerificationError{Err: test.err}}))
		if e.Code != string(fault.Unavailable) || !strings.Contains(e.Cure, test.cure) {
			t.Errorf("%v: %+v", test.err, e)
		}
	}
}

// TestOwnFaults: what goes wrong in this process has a cure that helps here, and
// none that sends people to the log of a server.
func TestOwnFaults(t *testing.T) {
	for _, test := range []struct {
		err  error
		exit int
		cure string
	}{
		{fmt.Errorf("broker: %w", os.NewSyscallError("bind", syscall.EADDRINUSE)), 5, "choose another address"},
		{fmt.Errorf("store: %w", &os.PathError{Op: "mkdir", Path: "/x", Err: syscall.EACCES}), 3, "give the user of this process the right"},
		{fmt.Errorf("store: %w", syscall.ENOSPC), 6, "free space on this machine"},
		{fmt.Errorf("something else"), 1, ""},
	} {
		var out bytes.Buffer
		a := &app{IO: IO{Err: &out}, started: true}
		if exit := a.finish(t.Context(), test.err); exit != test.exit {
			t.Errorf("%v: exit code %d, want %d", test.err, exit, test.exit)
		}
		said, cure, _ := strings.Cut(out.String(), "cure: ")
		if !strings.HasPrefix(said, "wilco: "+test.err.Error()+"\n") || !strings.Contains(cure, test.cure) || test.cure == "" && cure != "" {
			t.Errorf("%v: %q", test.err, out.String())
		}
	}
}
