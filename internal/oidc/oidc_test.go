package oidc

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/fleet"
)

// issuer is a small OpenID Connect issuer, with one key at a time.
type issuer struct {
	*httptest.Server
	t    *testing.T
	kid  string
	key  *rsa.PrivateKey
	down bool
	asks int // for keys
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{t: t}
	i.rotate("k1")
	i.Server = httptest.NewServer(i)
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) rotate(kid string) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		i.t.Fatal(err)
	}
	i.kid, i.key = kid, key
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b64 := base64.RawURLEncoding
	switch {
	case i.down:
		w.WriteHeader(http.StatusServiceUnavailable)
	case r.URL.Path == "/.well-known/openid-configuration":
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys", "id_token_signing_alg_values_supported": []string{"RS256"},
			"authorization_endpoint": i.URL + "/auth", "token_endpoint": i.URL + "/token"})
	case r.URL.Path == "/keys":
		i.asks++
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{map[string]string{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": i.kid,
			"n": b64.EncodeToString(i.key.N.Bytes()), "e": b64.EncodeToString(big.NewInt(int64(i.key.E)).Bytes())}}})
	default:
		http.NotFound(w, r)
	}
}

func (i *issuer) token(alg string, claims map[string]any) string {
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			i.t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	text := part(map[string]string{"alg": alg, "kid": i.kid, "typ": "JWT"}) + "." + part(claims)
	if alg == "none" {
		return text + "."
	}
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, sum[:])
	if err != nil {
		i.t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func (i *issuer) claims(edit map[string]any) map[string]any {
	c := map[string]any{"iss": i.URL, "aud": "wilco", "sub": "42", "email": "ann@example.com", "exp": time.Now().Add(time.Hour).Unix(),
		"realm": map[string]any{"roles": []any{"operators", "other"}}}
	maps.Copy(c, edit)
	return c
}

func (i *issuer) verifier(t *testing.T) *Verifier {
	rules, err := ParseRules("operators=operator@plant/valve.* admins=admin other=viewer")
	if err != nil {
		t.Fatal(err)
	}
	return New(Options{Issuer: i.URL, Audience: "wilco", NameClaim: "email", RolesClaim: "realm.roles", Rules: rules})
}

func TestVerify(t *testing.T) {
	i := newIssuer(t)
	v := i.verifier(t)
	p, err := v.Verify(t.Context(), i.token("RS256", i.claims(nil)))
	if err != nil || p.Name != "ann@example.com" || fleet.Text(p.Grants) != "operator@plant/valve.* viewer" {
		t.Errorf("%+v %v", p, err)
	}
	if p, err = v.Verify(t.Context(), i.token("RS256", i.claims(map[string]any{"realm": map[string]any{"roles": "admins"}}))); err != nil || fleet.Text(p.Grants) != "admin" {
		t.Errorf("%+v %v", p, err)
	}
	if p, err = v.Verify(t.Context(), i.token("RS256", i.claims(map[string]any{"realm": nil}))); err != nil || p.MaySome(fleet.Viewer) {
		t.Errorf("%+v %v", p, err)
	}
	if p, err = v.Verify(t.Context(), i.token("RS256", i.claims(map[string]any{"aud": []string{"x", "wilco"}}))); err != nil || p.Name != "ann@example.com" {
		t.Errorf("%+v %v", p, err)
	}
	other := newIssuer(t)
	good := i.token("RS256", i.claims(nil))
	for name, c := range map[string]struct{ token, says string }{
		"expired":           {i.token("RS256", i.claims(map[string]any{"exp": time.Now().Add(-time.Hour).Unix()})), "expired"},
		"not yet":           {i.token("RS256", i.claims(map[string]any{"nbf": time.Now().Add(time.Hour).Unix()})), "signature"},
		"other audiences":   {i.token("RS256", i.claims(map[string]any{"aud": []string{"x", "wilcox"}})), "audience"},
		"another audience":  {i.token("RS256", i.claims(map[string]any{"aud": "x"})), "audience"},
		"another issuer":    {i.token("RS256", i.claims(map[string]any{"iss": other.URL})), "issuer"},
		"another's key":     {other.token("RS256", i.claims(nil)), "signature"},
		"no signature":      {i.token("none", i.claims(nil)), "signature"},
		"another algorithm": {i.token("HS256", i.claims(nil)), "signature"},
		"cut":               {good[:len(good)-8], "signature"},
		"no name":           {i.token("RS256", i.claims(map[string]any{"email": ""})), "email"},
		"strange name":      {i.token("RS256", i.claims(map[string]any{"email": "a\nb"})), "email"},
		"no text":           {i.token("RS256", i.claims(map[string]any{"email": 7})), "email"},
		"nonsense":          {"a.b.c", "signature"},
	} {
		p, err := v.Verify(t.Context(), c.token)
		if fault.CodeOf(err) != fault.Unauthenticated || !strings.Contains(fault.From(err).Public(), c.says) || p.Name != "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKeysRotate: a key that is new is asked for, and the one before is void then.
func TestKeysRotate(t *testing.T) {
	i := newIssuer(t)
	v := i.verifier(t)
	old := i.token("RS256", i.claims(nil))
	if _, err := v.Verify(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	i.rotate("k2")
	if _, err := v.Verify(t.Context(), i.token("RS256", i.claims(nil))); err != nil {
		t.Error(err)
	}
	// go-oidc keeps the new keys a moment after it has used them.
	_, err := v.Verify(t.Context(), old)
	for end := time.Now().Add(time.Minute); err == nil && time.Now().Before(end); {
		_, err = v.Verify(t.Context(), old)
	}
	if fault.CodeOf(err) != fault.Unauthenticated {
		t.Error(err)
	}
}

// TestUnknownKeysAreAskedForSeldom: tokens of keys that nobody has are no way to have
// the issuer flooded, nor to keep those out whose key is known.
func TestUnknownKeysAreAskedForSeldom(t *testing.T) {
	i := newIssuer(t)
	now := time.Now()
	v := i.verifier(t)
	v.opt.Now = func() time.Time { return now }
	good := i.token("RS256", i.claims(nil))
	if _, err := v.Verify(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	other := newIssuer(t)
	other.kid = "nobody's"
	forged := other.token("RS256", i.claims(nil))
	for range 100 {
		if _, err := v.Verify(t.Context(), forged); err == nil {
			t.Fatal("verified")
		}
	}
	if i.asks != keysBurst {
		t.Errorf("asked %d times", i.asks)
	}
	if _, err := v.Verify(t.Context(), good); err != nil {
		t.Error(err)
	}
	i.rotate("k2")
	late := i.token("RS256", i.claims(nil))
	if _, err := v.Verify(t.Context(), late); fault.CodeOf(err) != fault.Unavailable {
		t.Error(err)
	}
	now = now.Add(keysEvery)
	// The first may still be told what the call before came to.
	_, err := v.Verify(t.Context(), late)
	for end := time.Now().Add(time.Minute); fault.CodeOf(err) == fault.Unavailable && time.Now().Before(end); {
		_, err = v.Verify(t.Context(), late)
	}
	if err != nil {
		t.Error(err)
	}
}

// TestAnIssuerThatIsDown: it is asked again after a while, and not for each token.
func TestAnIssuerThatIsDown(t *testing.T) {
	i := newIssuer(t)
	now := time.Now()
	v := i.verifier(t)
	v.opt.Now = func() time.Time { return now }
	token := i.token("RS256", i.claims(nil))
	i.down = true
	if _, err := v.Verify(t.Context(), token); fault.CodeOf(err) != fault.Unavailable {
		t.Error(err)
	}
	i.down = false
	if _, err := v.Verify(t.Context(), token); fault.CodeOf(err) != fault.Unavailable {
		t.Error("asked at once", err)
	}
	now = now.Add(retryAfter)
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Error(err)
	}
}

func TestParseRules(t *testing.T) {
	for _, bad := range []string{"x", "=admin", "x=", "x=root", "x=operator@a/b c"} {
		if r, err := ParseRules(bad); err == nil {
			t.Errorf("%q: %v", bad, r)
		}
	}
	if r, err := ParseRules(""); err != nil || r != nil {
		t.Error(r, err)
	}
}
