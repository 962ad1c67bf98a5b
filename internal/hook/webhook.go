package hook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Bounds of one call of a receiver.
const (
	callWithin   = 15 * time.Second // all of it
	dialWithin   = 5 * time.Second
	maxAnswer    = 4 << 10 // bytes that are read of an answer; the rest is cut off
	maxHeader    = 16 << 10
	maxTold      = 200 // bytes of an answer that are kept
	keptIdle     = 90 * time.Second
	keptPerHost  = perHook
	agent        = "wilco"
	headerID     = "webhook-id" // of the Standard Webhooks specification, as the next two
	headerTime   = "webhook-timestamp"
	headerSigned = "webhook-signature"
)

// newHTTP makes a client that calls receivers. It follows no redirect, uses no
// proxy (which would resolve names in our place), and connects to public addresses
// only, unless it is for hooks that allow others. Connections are shared only among
// hooks that allow the same.
func newHTTP(private bool) *http.Client {
	dialer := &net.Dialer{Timeout: dialWithin}
	if !private {
		dialer.Control = guard
	}
	return &http.Client{
		Transport: &http.Transport{DialContext: dialer.DialContext, TLSHandshakeTimeout: dialWithin, ResponseHeaderTimeout: callWithin,
			MaxResponseHeaderBytes: maxHeader, MaxIdleConnsPerHost: keptPerHost, IdleConnTimeout: keptIdle, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// failure is a try that did not succeed.
type failure struct {
	what  string        // for people
	after time.Duration // the receiver wants to be left alone so long; 0: it did not say
	final bool          // trying again is of no use
}

// call tells the receiver once; nil: it has said yes.
func (r *Runner) call(ctx context.Context, w *Webhook, d *Delivery) *failure {
	ctx, cancel := context.WithTimeout(ctx, r.within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(d.Body))
	if err != nil {
		return &failure{what: err.Error(), final: true}
	}
	now := r.now()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", agent)
	req.Header.Set(headerID, d.ID)
	req.Header.Set(headerTime, strconv.FormatInt(now.Unix(), 10))
	signed := sign(w.Secret, d.ID, now, d.Body)
	if now.Before(w.FormerUntil) {
		signed += " " + sign(w.Former, d.ID, now, d.Body)
	}
	req.Header.Set(headerSigned, signed)
	client := r.public
	if w.AllowPrivate {
		client = r.private
	}
	res, err := client.Do(req)
	if err != nil {
		return &failure{what: reason(err)}
	}
	defer res.Body.Close()
	// The status says it all. A little is read so that the connection can be used
	// again; a receiver that goes on talking is cut off.
	told, _ := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	switch {
	case res.StatusCode/100 == 2:
		return nil
	case res.StatusCode/100 == 3:
		return &failure{what: res.Status + ": redirects are not followed; give the hook the right URL"}
	case res.StatusCode == http.StatusGone:
		return &failure{what: res.Status, final: true}
	}
	f := &failure{what: strings.TrimSpace(res.Status + ": " + clip(told))}
	if s, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && s > 0 {
		f.after = time.Duration(min(s, 86400)) * time.Second
	}
	return f
}

// sign is the signature header: HMAC-SHA-256 over id, timestamp and body with dots
// between.
func sign(secret []byte, id string, at time.Time, body []byte) string {
	h := hmac.New(sha256.New, secret)
	fmt.Fprintf(h, "%s.%d.", id, at.Unix())
	h.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// reason is an error of the network without the URL, which the reader knows.
func reason(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	if errors.Is(err, errAddress) {
		return errAddress.Error()
	}
	var u interface{ Unwrap() error }
	if errors.As(err, &u) && u.Unwrap() != nil {
		err = u.Unwrap()
	}
	return clip([]byte(err.Error()))
}

// clip makes what a receiver said harmless to keep and to print.
func clip(b []byte) string {
	b = b[:min(len(b), maxTold)]
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(string(b), "?"))
}
