package api

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fault"
)

const problemType = "application/problem+json"

// Problem is the answer to a request that is refused.
type Problem client.Error

// Error is for huma, which takes errors.
func (p *Problem) Error() string { return p.Detail }

// GetStatus is the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType makes the answer a problem document.
func (p *Problem) ContentType(string) string { return problemType }

// problemOf turns an error into what the client sees of it.
func problemOf(err error) *Problem {
	f := fault.From(err)
	m := f.Code.Of()
	p := newProblem(m.HTTP, f.Code)
	if m.HTTP < 400 {
		p.Status = http.StatusConflict // an outcome, not an answer; it must not look like a success
	}
	p.Field, p.Detail, p.Cure = f.Field, f.Public(), cmp.Or(f.Cure, m.Cure)
	return p
}

func newProblem(status int, code fault.Code) *Problem {
	if _, known := meanings[code]; !known {
		code = fault.Internal
	}
	m := code.Of()
	return &Problem{Type: "urn:wilco:error:" + string(code), Title: http.StatusText(status), Status: status,
		Code: string(code), Detail: m.Public, Cure: m.Cure}
}

var meanings = func() map[fault.Code]bool {
	all := map[fault.Code]bool{}
	for _, c := range fault.Codes() {
		all[c] = true
	}
	return all
}()

// refuse makes the problem of a request that is wrong in a way that HTTP has a
// status of its own for.
func refuse(status int, field, cure, format string, args ...any) *Problem {
	p := newProblem(status, codeOf(status))
	p.Field, p.Detail = field, fmt.Sprintf(format, args...)
	if cure != "" {
		p.Cure = cure
	}
	return p
}

// codeOf is the code for a status that HTTP machinery chose.
func codeOf(status int) fault.Code {
	switch status {
	case http.StatusUnauthorized:
		return fault.Unauthenticated
	case http.StatusForbidden:
		return fault.Forbidden
	case http.StatusNotFound:
		return fault.NotFound
	case http.StatusRequestTimeout:
		return fault.Timeout
	case http.StatusRequestEntityTooLarge:
		return fault.TooLarge
	case http.StatusTooManyRequests:
		return fault.TooMany
	case http.StatusServiceUnavailable:
		return fault.Unavailable
	}
	if status >= 500 {
		return fault.Internal
	}
	return fault.Invalid
}

// head sets what goes with a problem that was made of err, and takes the request's id.
func (p *Problem) head(h http.Header, err error) {
	p.RequestID = h.Get(requestIDHeader)
	switch p.Status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="wilco"`)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		after := time.Second
		var f *fault.Error
		if errors.As(err, &f) && f.After > 0 {
			after = f.After
		}
		h.Set("Retry-After", strconv.Itoa(int((after+time.Second-1)/time.Second)))
	}
}

// write sends a problem that was made of err by hand.
func (p *Problem) write(w http.ResponseWriter, err error) {
	p.head(w.Header(), err)
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // whoever asked is gone if this fails
}

// fail answers with err, and keeps it for the log.
func fail(w http.ResponseWriter, err error) {
	if rec, ok := w.(*recorder); ok {
		rec.cause = err
	}
	var p *Problem
	if !errors.As(err, &p) {
		p = problemOf(err)
	}
	p.write(w, err)
}

// huma makes its errors through these two functions, which are its only way to
// be told; they are set before any API exists and this package alone uses huma.
func init() {
	huma.ValidateStrictCasing = true
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		return fromHuma(status, msg, errs)
	}
	huma.NewErrorWithContext = func(ctx huma.Context, status int, msg string, errs ...error) huma.StatusError {
		p := fromHuma(status, msg, errs)
		_, w := humago.Unwrap(ctx)
		err := errors.Join(errs...)
		p.head(w.Header(), err)
		if rec, ok := w.(*recorder); ok && err != nil {
			rec.cause = err
		}
		return p
	}
}

// fromHuma turns what huma found, or what a handler returned, into a problem.
func fromHuma(status int, msg string, errs []error) *Problem {
	if len(errs) == 0 {
		p := newProblem(status, codeOf(status))
		if msg != "" {
			p.Detail = msg
		}
		return p
	}
	var d *huma.ErrorDetail
	if !errors.As(errs[0], &d) {
		return problemOf(errs[0])
	}
	if status == http.StatusUnprocessableEntity {
		status = http.StatusBadRequest
	}
	p := newProblem(status, codeOf(status))
	p.Field, p.Detail = fieldOf(d.Location), d.Message
	// A field that is missing is in huma's text only, and its object in the location.
	if name, ok := strings.CutPrefix(d.Message, "expected required property "); ok {
		name = strings.TrimSuffix(name, " to be present")
		p.Field, p.Detail = fieldOf(d.Location+"."+name), "missing; it is required"
	}
	if len(errs) > 1 {
		p.Detail = fmt.Sprintf("%s (and %d more mistakes)", p.Detail, len(errs)-1)
	}
	return p
}

// fieldOf is the field as the client wrote it: without the place it stood in.
func fieldOf(location string) string {
	for _, place := range []string{"body.", "query.", "path.", "header."} {
		if f, ok := strings.CutPrefix(location, place); ok {
			return f
		}
	}
	return location
}
