package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Client talks to one server. Make it with New.
type Client struct {
	base    string
	token   string
	http    *http.Client
	agent   string
	retries int
	pause   time.Duration
}

// Option configures a Client.
type Option func(*Client)

// Token authenticates with a token of wilco token create. Default: none, which
// is good for Health only.
func Token(text string) Option { return func(c *Client) { c.token = text } }

// HTTP uses h in place of http.DefaultClient. Its Timeout should be zero: the
// context of each call bounds it, and waits and event streams last.
func HTTP(h *http.Client) Option { return func(c *Client) { c.http = h } }

// TLS uses connections of its own, whose https is as a copy of config says: RootCAs
// that the system does not have, above all. Of TLS and HTTP the last one given counts.
// Default: the system's roots.
func TLS(config *tls.Config) Option {
	t := &http.Transport{TLSClientConfig: config.Clone(), Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: 90 * time.Second}
	return HTTP(&http.Client{Transport: t})
}

// Retries says how often a request that may safely be repeated is tried again
// after a failure of the network, a 429 or a 503. Default 3; 0: never.
func Retries(n int) Option { return func(c *Client) { c.retries = n } }

// UserAgent names the program in the server's sight. Default "wilco-go".
func UserAgent(s string) Option { return func(c *Client) { c.agent = s } }

// New makes a client of the server at the given URL, http or https. It does not
// connect. The error is that of a URL that is none.
func New(server string, options ...Option) (*Client, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("client: %q is not a URL like http://127.0.0.1:8080", server)
	}
	c := &Client{base: strings.TrimSuffix(u.String(), "/"), http: http.DefaultClient, agent: "wilco-go", retries: 3, pause: 100 * time.Millisecond}
	for _, o := range options {
		o(c)
	}
	return c, nil
}

// call is one request and what its answer is read into.
type call struct {
	method, path string
	query        url.Values
	header       http.Header
	body         any    // to be JSON; nil: none
	raw          []byte // in place of body
	out          any    // nil: the answer's body is of no interest
	accept       []int  // statuses that are no error beside 2xx
	once         bool   // must not be repeated
	gone         bool   // a repetition that finds nothing means that the first one did it
}

// do makes the call, and again where that is safe and may help.
func (c *Client) do(ctx context.Context, k call) (*http.Response, error) {
	if k.path == "" {
		return nil, &Error{Status: http.StatusBadRequest, Code: "invalid", Field: "device", Detail: "is not group/device",
			Cure: "write the group, a slash, and the device's name in it"}
	}
	if k.body != nil {
		b, err := json.Marshal(k.body)
		if err != nil {
			return nil, fmt.Errorf("client: request: %w", err)
		}
		k.raw = b
	}
	pause := c.pause
	for left := c.retries; ; left-- {
		res, err := c.once(ctx, k)
		if k.gone && left < c.retries && errors.Is(err, &Error{Code: "not_found"}) {
			return res, nil
		}
		if err == nil || left <= 0 || k.once || ctx.Err() != nil || !worthwhile(err) {
			return res, err
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, err // says more than that the time is over
		}
		pause = min(2*pause, 5*time.Second)
	}
}

// worthwhile says whether asking again may help.
func worthwhile(err error) bool {
	var e *Error
	if errors.As(err, &e) {
		return e.Status == http.StatusTooManyRequests || e.Status == http.StatusServiceUnavailable
	}
	var bad *documentError
	return !errors.As(err, &bad) && !distrusted(err)
}

// distrusted says whether the server's certificate was not good.
func distrusted(err error) bool {
	var e *tls.CertificateVerificationError
	return errors.As(err, &e)
}

// documentError is an answer that is not what it should be.
type documentError struct{ err error }

func (e *documentError) Error() string { return "client: the answer is damaged: " + e.err.Error() }
func (e *documentError) Unwrap() error { return e.err }

func (c *Client) once(ctx context.Context, k call) (*http.Response, error) {
	res, err := c.send(ctx, k)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	ok := res.StatusCode/100 == 2
	for _, s := range k.accept {
		ok = ok || s == res.StatusCode
	}
	if !ok {
		return nil, problem(res)
	}
	if k.out == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)) // so that the connection can be used again
		return res, nil
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("client: the answer broke off: %w", err)
	}
	if err := json.Unmarshal(b, k.out); err != nil {
		return nil, &documentError{err}
	}
	return res, nil
}

// send makes the request; the caller closes the body.
func (c *Client) send(ctx context.Context, k call) (*http.Response, error) {
	target := c.base + k.path
	if len(k.query) > 0 {
		target += "?" + k.query.Encode()
	}
	var body io.Reader
	if k.raw != nil {
		body = bytes.NewReader(k.raw)
	}
	req, err := http.NewRequestWithContext(ctx, k.method, target, body)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	for name, values := range k.header {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", c.agent)
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if k.raw != nil && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return res, nil
}

// problem reads what the server says that is wrong.
func problem(res *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	e := &Error{}
	if err != nil || json.Unmarshal(b, e) != nil || e.Code == "" {
		// A proxy, or no wilco at all.
		return &Error{Status: res.StatusCode, Code: statusCode(res.StatusCode), Title: res.Status,
			Detail: "the server answered " + res.Status + " without a problem document", Cure: "check that the URL is that of a wilco server, with https where it has TLS"}
	}
	e.Status = res.StatusCode
	return e
}

// statusCode is the code that fits best when the answer names none.
func statusCode(status int) string {
	switch {
	case status == http.StatusUnauthorized:
		return "unauthenticated"
	case status == http.StatusForbidden:
		return "forbidden"
	case status == http.StatusNotFound:
		return "not_found"
	case status == http.StatusPreconditionFailed:
		return "changed"
	case status == http.StatusTooManyRequests:
		return "too_many"
	case status == http.StatusGatewayTimeout:
		return "timeout"
	case status >= 500:
		return "unavailable"
	}
	return "invalid"
}

// newKey makes an idempotency key. It rises with time, which a server's index
// likes, and is random behind the first 6 bytes.
func newKey() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(time.Now().UnixMilli())<<16)
	_, _ = rand.Read(b[6:]) // never fails
	return "go-" + hex.EncodeToString(b[:])
}

// devicePath is the path of a device's resource, "" for what is no group/device:
// it would be the path of something else.
func devicePath(device, rest string) string {
	group, name, _ := strings.Cut(device, "/")
	if group == "" || name == "" {
		return ""
	}
	return "/v1/devices/" + url.PathEscape(group) + "/" + url.PathEscape(name) + rest
}
