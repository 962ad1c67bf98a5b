package fleet

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// Role is what the holder of a token may do. Stored; never change.
type Role string

// The roles; each may do all that the ones before may.
const (
	Viewer   Role = "viewer"   // look
	Operator Role = "operator" // send, cancel and retry commands
	Approver Role = "approver" // agree to commands of others, or not
	Admin    Role = "admin"    // devices and tokens
)

// Roles lists the roles, the least first.
var Roles = []Role{Viewer, Operator, Approver, Admin}

// AtLeast says whether r may do all that other may. An unknown role may nothing.
func (r Role) AtLeast(other Role) bool {
	mine, theirs := slices.Index(Roles, r), slices.Index(Roles, other)
	return mine >= 0 && theirs >= 0 && mine >= theirs
}

// Principal is who holds a token.
type Principal struct {
	Name  string
	Role  Role
	Group string // the only group that it may touch; "" means all
}

// NewToken is a token to make.
type NewToken struct {
	Name  string
	Role  Role
	Group string        // "" means all
	TTL   time.Duration // 0 means for ever
}

const tokenPrefix = "wlc_" // so that scanners for leaked secrets can find them; sent: never change

// CreateToken makes a token and returns its text, which is kept nowhere. Errors:
// Invalid.
func (f *Fleet) CreateToken(ctx context.Context, n NewToken) (store.Token, string, error) {
	switch {
	case n.Name == "":
		return store.Token{}, "", fault.Field("name", "must not be empty")
	case !slices.Contains(Roles, n.Role):
		return store.Token{}, "", fault.Field("role", "%q is not one of viewer, operator, approver, admin", n.Role)
	case n.Group != "" && (wire.Address{Group: n.Group, Device: "x"}).Valid() != nil:
		return store.Token{}, "", fault.Field("group", "must be 1 to 64 of the characters A-Z a-z 0-9 . _ : -")
	case n.TTL < 0:
		return store.Token{}, "", fault.Field("ttl", "must not be negative")
	}
	id := make([]byte, 8)
	rand.Read(id)
	now := f.opt.Now().UTC().Truncate(time.Millisecond)
	t := store.Token{ID: hex.EncodeToString(id), Name: n.Name, Role: string(n.Role), Group: n.Group, Created: now}
	if n.TTL > 0 {
		t.Expires = now.Add(n.TTL)
	}
	text := tokenPrefix + t.ID + "_" + newSecret()
	t.Hash = f.mac("token", t.ID, []byte(text))

	f.changing.Lock()
	defer f.changing.Unlock()
	if err := ctx.Err(); err != nil {
		return store.Token{}, "", err
	}
	if err := f.opt.Store.PutToken(context.WithoutCancel(ctx), t); err != nil {
		return store.Token{}, "", fmt.Errorf("fleet: token: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tokens[t.ID] = t
	return t, text, nil
}

// FirstToken makes a token of the role admin for all groups when there is none
// that is in force, so that a new server can be managed and one whose admins are
// all gone again; otherwise it returns "".
func (f *Fleet) FirstToken(ctx context.Context) (string, error) {
	f.mu.RLock()
	for _, t := range f.tokens {
		if Role(t.Role) == Admin && t.Group == "" && !f.expired(&t) {
			f.mu.RUnlock()
			return "", nil
		}
	}
	f.mu.RUnlock()
	_, text, err := f.CreateToken(ctx, NewToken{Name: "first-admin", Role: Admin})
	return text, err
}

// Tokens lists all tokens, the oldest first, the expired ones included.
func (f *Fleet) Tokens(context.Context) ([]store.Token, error) {
	f.mu.RLock()
	list := make([]store.Token, 0, len(f.tokens))
	for _, t := range f.tokens {
		list = append(list, t)
	}
	f.mu.RUnlock()
	slices.SortFunc(list, func(a, b store.Token) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
	})
	return list, nil
}

// RemoveToken makes a token void at once. Errors: NotFound.
func (f *Fleet) RemoveToken(ctx context.Context, id string) error {
	f.changing.Lock()
	defer f.changing.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := f.opt.Store.RemoveToken(context.WithoutCancel(ctx), id); err != nil {
		return fmt.Errorf("fleet: token: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.tokens, id)
	return nil
}

// VerifyToken says who holds the token. It does not block. Errors:
// Unauthenticated, the same for an unknown and a wrong one; only the holder of a
// right one is told that it has expired.
func (f *Fleet) VerifyToken(_ context.Context, text string) (Principal, error) {
	rest, _ := strings.CutPrefix(text, tokenPrefix)
	id, _, _ := strings.Cut(rest, "_")
	f.mu.RLock()
	t, ok := f.tokens[id]
	f.mu.RUnlock()
	kept := noSecret
	if ok {
		kept = t.Hash
	}
	// The hash is of the whole text: prefix and form need no check of their own.
	if same := hmac.Equal(f.mac("token", id, []byte(text)), kept); !same || !ok {
		return Principal{}, fault.New(fault.Unauthenticated, "the token is not valid")
	}
	if f.expired(&t) {
		return Principal{}, fault.New(fault.Unauthenticated, "the token has expired")
	}
	return Principal{Name: t.Name, Role: Role(t.Role), Group: t.Group}, nil
}

func (f *Fleet) expired(t *store.Token) bool {
	return !t.Expires.IsZero() && !f.opt.Now().Before(t.Expires)
}
