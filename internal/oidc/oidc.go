// Package oidc knows people by the tokens of an OpenID Connect issuer: JWTs that come
// as bearer tokens, are signed by a key of the issuer, and say who somebody is and in
// which roles. What a role may do here is said by rules.
//
//	token ─► issuer discovered? ─► signature, issuer, audience, time ─► name claim ─► Principal
//	            │ lazily, tried again                                └► roles claim ─► grants by rule
//
// The issuer need not be there when the server starts, nor later for keys that are
// known. A Verifier is safe for concurrent use. Verify blocks while the issuer is
// asked, which happens at the first token and, not too often, for keys that were not
// seen before.
package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/fleet"
)

// Rule gives a grant to those who have a value among their roles.
type Rule struct {
	Value string
	Grant fleet.Grant
}

// Options configure a Verifier. Issuer and Audience are required.
type Options struct {
	Issuer   string // URL, as the tokens have it
	Audience string // that tokens must be for
	// NameClaim is the claim with the name; default "sub". RolesClaim is that with the
	// roles, a text or a list of texts, with dots between the names of objects within
	// objects; default "roles".
	NameClaim, RolesClaim string
	Rules                 []Rule
	Now                   func() time.Time // default time.Now
}

const (
	askWithin  = 10 * time.Second // a call of the issuer
	retryAfter = 5 * time.Second  // a discovery that failed
	maxName    = 128              // bytes
)

// Verifier verifies tokens. Make one with New.
type Verifier struct {
	opt    Options
	client *http.Client
	keys   *keyAsker

	mu       sync.Mutex
	verifier *oidc.IDTokenVerifier // nil until the issuer was discovered
	failed   error
	again    time.Time // when discovery may be tried again
}

// New makes a verifier. It asks the issuer for nothing yet.
func New(o Options) *Verifier {
	if o.NameClaim == "" {
		o.NameClaim = "sub"
	}
	if o.RolesClaim == "" {
		o.RolesClaim = "roles"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	v := &Verifier{opt: o, client: &http.Client{Timeout: askWithin}}
	v.keys = &keyAsker{now: func() time.Time { return v.opt.Now() }}
	return v
}

// ParseRules reads rules as they stand in the settings: VALUE=GRANT with spaces
// between them, a grant as fleet.ParseGrant has it.
func ParseRules(text string) ([]Rule, error) {
	var rules []Rule
	for _, word := range strings.Fields(text) {
		value, grant, ok := strings.Cut(word, "=")
		if !ok || value == "" {
			return nil, fmt.Errorf("%q is not VALUE=GRANT, as in operators=operator@plant/valve.*", word)
		}
		g, err := fleet.ParseGrant(grant)
		if err != nil {
			return nil, err
		}
		rules = append(rules, Rule{value, g})
	}
	return rules, nil
}

// Verify says who holds a token. Errors: Unauthenticated, with what is wrong with it;
// Unavailable while the issuer cannot be asked.
func (v *Verifier) Verify(ctx context.Context, token string) (fleet.Principal, error) {
	by, err := v.discovered()
	if err != nil {
		return fleet.Principal{}, fault.Wrap(err, fault.Unavailable, "the issuer of the token cannot be reached; try again later")
	}
	id, err := by.Verify(ctx, token)
	var expired *oidc.TokenExpiredError
	switch {
	case errors.As(err, &expired):
		return fleet.Principal{}, fault.New(fault.Unauthenticated, "the token has expired; get another one from its issuer")
	case err != nil && strings.Contains(err.Error(), errAskedTooOften.Error()): // its text is all that go-oidc passes on
		return fleet.Principal{}, fault.Wrap(err, fault.Unavailable, "the issuer was asked for its keys too often; try again later")
	case err != nil:
		return fleet.Principal{}, fault.Wrap(err, fault.Unauthenticated, "the token is not one of the issuer %s for the audience %s, or its signature is wrong",
			v.opt.Issuer, v.opt.Audience)
	}
	var claims map[string]any
	if err := id.Claims(&claims); err != nil {
		return fleet.Principal{}, fault.Wrap(err, fault.Unauthenticated, "the token's claims cannot be read")
	}
	name, _ := at(claims, v.opt.NameClaim).(string)
	if !validName(name) {
		return fleet.Principal{}, fault.New(fault.Unauthenticated, "the token's claim %s is not a name of 1 to %d printable characters", v.opt.NameClaim, maxName)
	}
	return fleet.Principal{Name: name, Grants: v.grants(at(claims, v.opt.RolesClaim)), Until: id.Expiry}, nil
}

// discovered gives what verifies, after asking the issuer for its keys' place if
// that is not known.
func (v *Verifier) discovered() (*oidc.IDTokenVerifier, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.verifier != nil {
		return v.verifier, nil
	}
	if now := v.opt.Now(); now.Before(v.again) {
		return nil, v.failed
	}
	// Not the caller's context: others wait for this too.
	p, err := oidc.NewProvider(oidc.ClientContext(context.Background(), v.client), v.opt.Issuer)
	if err != nil {
		v.failed, v.again = err, v.opt.Now().Add(retryAfter)
		return nil, err
	}
	keys := oidc.ClientContext(context.Background(), &http.Client{Timeout: askWithin, Transport: v.keys})
	v.verifier = p.VerifierContext(keys, &oidc.Config{ClientID: v.opt.Audience, Now: v.opt.Now})
	return v.verifier, nil
}

// at is the claim at a path of names with dots between them; a name that has dots
// itself goes first.
func at(claims map[string]any, path string) any {
	if v, ok := claims[path]; ok {
		return v
	}
	name, rest, deeper := strings.Cut(path, ".")
	if within, ok := claims[name].(map[string]any); ok && deeper {
		return at(within, rest)
	}
	return nil
}

// grants are those of all rules that fit the roles.
func (v *Verifier) grants(roles any) (grants []fleet.Grant) {
	has := map[string]bool{}
	switch roles := roles.(type) {
	case string:
		has[roles] = true
	case []any:
		for _, r := range roles {
			if text, ok := r.(string); ok {
				has[text] = true
			}
		}
	}
	for _, rule := range v.opt.Rules {
		if has[rule.Value] {
			grants = append(grants, rule.Grant)
		}
	}
	return grants
}

func validName(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != "" && len(s) <= maxName
}
