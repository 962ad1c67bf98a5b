package cli

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/config"
	"github.com/wilco-iot/wilco/internal/fault"
)

// finish prints an error and chooses the exit code.
func (a *app) finish(ctx context.Context, err error) int {
	if err == nil {
		return 0
	}
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, ctx.Err())) {
		return exitInterrupted
	}
	e := a.problem(err)
	if e.Code == string(fault.Unauthenticated) {
		e.Cure = "log in with wilco login NAME, or give a token with --token or WILCO_TOKEN; on the server's machine WILCO_DATA, naming its data directory, is enough"
	}
	if !a.started {
		e.Cure = "see " + first(a.command, "wilco") + " --help"
	}
	if a.json {
		_ = json.NewEncoder(a.Err).Encode(e) // nowhere else to say it
		return fault.Code(e.Code).Of().Exit
	}
	detail := e.Detail
	if e.Field != "" && !strings.HasPrefix(detail, e.Field+": ") {
		detail = e.Field + ": " + detail
	}
	for line := range strings.Lines(detail) {
		fmt.Fprintf(a.Err, "wilco: %s\n", clean(strings.TrimSuffix(line, "\n")))
	}
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(a.Err, "  %s: %s\n", name, clean(value))
		}
	}
	line("cure", e.Cure)
	if e.Status >= 500 {
		line("request", e.RequestID)
	}
	return fault.Code(e.Code).Of().Exit
}

// problem turns any error into a problem document.
func (a *app) problem(err error) *client.Error {
	var e *client.Error
	if errors.As(err, &e) {
		return e
	}
	var several *config.Error
	if errors.As(err, &several) {
		m := fault.Invalid.Of()
		return &client.Error{Status: m.HTTP, Code: string(fault.Invalid), Field: several.Faults[0].Field, Detail: several.Error(), Cure: m.Cure}
	}
	var f *fault.Error
	if errors.As(err, &f) {
		m := f.Code.Of()
		return &client.Error{Status: m.HTTP, Code: string(f.Code), Field: f.Field, Detail: f.Public(), Cure: first(f.Cure, m.Cure)}
	}
	code, cure := ownFault(err)
	if !a.started {
		code = fault.Invalid
	}
	return &client.Error{Status: code.Of().HTTP, Code: string(code), Detail: err.Error(), Cure: cure}
}

// ownFault is what an error of this process is, and what to do about it: the cures
// of the table are for those who have asked a server.
func ownFault(err error) (fault.Code, string) {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fault.Conflict, "stop the program that listens there, or choose another address"
	case errors.Is(err, syscall.ENOSPC):
		return fault.StorageFull, "free space on this machine's disk"
	case errors.Is(err, fs.ErrPermission):
		return fault.Forbidden, "give the user of this process the right, or choose another place"
	}
	return fault.Internal, ""
}

// unreachable gives a failure to get an answer of the server its code and its cure.
func (a *app) unreachable(err error) error {
	var e *client.Error
	var u *url.Error
	if err == nil || errors.As(err, &e) || !errors.As(err, &u) || errors.Is(err, context.Canceled) {
		return err
	}
	m := fault.Unavailable.Of()
	out := &client.Error{Status: m.HTTP, Code: string(fault.Unavailable),
		Detail: fmt.Sprintf("the server %s gives no answer: %v", a.url(), u.Err),
		Cure:   "name the server's URL with --server or WILCO_SERVER"}
	var op *net.OpError
	if errors.As(err, &op) {
		out.Detail = "the server " + a.url() + " cannot be reached: " + op.Err.Error()
		out.Cure = "start it with wilco serve, or name another one with --server or WILCO_SERVER"
	}
	if cure := untrusted(err); cure != "" {
		out.Detail = fmt.Sprintf("the server %s is not trusted: %v", a.url(), u.Err)
		out.Cure = cure
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		out.Detail = "the server " + a.url() + " speaks plain HTTP"
		out.Cure = "write http:// in --server or WILCO_SERVER"
	}
	return out
}

// untrusted is the cure when the server's certificate is not good, "" when it is.
func untrusted(err error) string {
	var name x509.HostnameError
	var authority x509.UnknownAuthorityError
	var other x509.CertificateInvalidError
	switch {
	case errors.As(err, &authority):
		return "name the PEM file of the authority that has signed its certificate with --ca or WILCO_CA"
	case errors.As(err, &name):
		return "name the server in --server or WILCO_SERVER as its certificate does"
	case errors.As(err, &other):
		return "give the server a certificate that is in force, and look at this machine's clock"
	}
	return ""
}
