package client

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// WebhookAge is how far from now the time of a webhook may be: an older one is a
// copy that somebody has kept, or one of the clocks is wrong.
const WebhookAge = 5 * time.Minute

// ErrWebhook is matched by the errors of ParseWebhook: answer 401.
var ErrWebhook = errors.New("client: not a webhook of this secret")

// ParseWebhook checks that a webhook was signed with the secret of its hook, at a
// time near now, and reads it. Header and body are those of the request; give it
// the body's bytes as they came. It is of the Standard Webhooks specification:
//
//	webhook-id:        the same at every try of a delivery
//	webhook-timestamp: seconds since 1970, of this try
//	webhook-signature: v1,BASE64 of HMAC-SHA-256 over "id.timestamp.body"; may be several, with spaces between
//
// The key is what follows whsec_ in the secret, as base64. A delivery may come
// again with the same id; whoever must not do a thing twice keeps the ids.
func ParseWebhook(secret string, header http.Header, body []byte, now time.Time) (*HookMessage, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil || len(key) == 0 {
		return nil, fmt.Errorf("%w: the secret is not whsec_ and base64", ErrWebhook)
	}
	id, stamp := header.Get("webhook-id"), header.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%w: no webhook-timestamp", ErrWebhook)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + stamp + "."))
	mac.Write(body)
	want, signed := mac.Sum(nil), false
	for s := range strings.FieldsSeq(header.Get("webhook-signature")) {
		text, ok := strings.CutPrefix(s, "v1,")
		got, err := base64.StdEncoding.DecodeString(text)
		signed = signed || ok && err == nil && hmac.Equal(got, want)
	}
	if !signed {
		return nil, fmt.Errorf("%w: the signature is wrong", ErrWebhook)
	}
	if age := now.Sub(time.Unix(seconds, 0)); age > WebhookAge || age < -WebhookAge {
		return nil, fmt.Errorf("%w: it is %s old", ErrWebhook, age)
	}
	m := &HookMessage{}
	if err := json.Unmarshal(body, m); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrWebhook, err)
	}
	return m, nil
}
