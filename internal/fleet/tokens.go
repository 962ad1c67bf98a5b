package fleet

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
)

// kindToken is the kind of document that tokens are, by id. Stored; never change.
const kindToken store.Kind = "token"

// Token lets a person or a program use the server.
//
// The JSON form is the stored one; never change the names.
type Token struct {
	ID      string    `json:"id"`   // public, part of the token
	Hash    []byte    `json:"hash"` // keyed hash of the whole token
	Name    string    `json:"name"`
	Kind    string    `json:"kind,omitempty"`   // KindSession, or ""
	User    string    `json:"user,omitempty"`   // whose it is; "": nobody's, it stands for itself
	Grants  []Grant   `json:"grants,omitempty"` // none when it is a user's: it has that one's
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"` // zero: never
}

// KindSession is the kind of the tokens that logins make. Stored; never change.
const KindSession = "session"

// NewToken is a token to make: of a user, or with grants of its own.
type NewToken struct {
	Name   string
	User   string // "" means nobody
	Grants []Grant
	TTL    time.Duration // 0 means for ever
}

const tokenPrefix = "wlc_" // so that scanners for leaked secrets can find them; sent: never change

// CreateToken makes a token and returns its text, which is kept nowhere. Errors:
// Invalid; NotFound when there is no such user; Exists for a token that is nobody's
// and has the name of a user.
func (f *Fleet) CreateToken(ctx context.Context, n NewToken) (Token, string, error) {
	if err := n.check(); err != nil {
		return Token{}, "", err
	}
	t, text := f.newToken(n)
	f.changing.Lock()
	defer f.changing.Unlock()
	if _, known := f.User(n.User); n.User != "" && !known {
		return Token{}, "", unknownUser(n.User)
	}
	if _, taken := f.User(n.Name); n.User == "" && taken {
		return Token{}, "", fault.New(fault.Exists, "there is a user %s; make the token for that user, or take another name", n.Name)
	}
	if err := f.putToken(ctx, t, nil); err != nil {
		return Token{}, "", err
	}
	return t, text, nil
}

func (n *NewToken) check() error {
	switch {
	case !validName(n.Name):
		return fault.Field("name", "must be 1 to 64 of the characters A-Z a-z 0-9 . _ : -")
	case n.TTL < 0:
		return fault.Field("ttl", "%s is negative", n.TTL)
	case n.User == "":
		return Check(n.Grants)
	case len(n.Grants) > 0:
		return fault.Field("grants", "a user's token may do what the user may; give no grants")
	}
	return nil
}

// putToken writes a token, takes others away with it, and shows both. f.changing is
// held.
func (f *Fleet) putToken(ctx context.Context, t Token, void []string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := f.commit(ctx, append(removals(void), tokenWrite(&t))...); err != nil {
		return fmt.Errorf("fleet: token: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tokens[t.ID] = t
	for _, id := range void {
		delete(f.tokens, id)
	}
	return nil
}

func (f *Fleet) newToken(n NewToken) (t Token, text string) {
	id := make([]byte, 8)
	rand.Read(id)
	now := f.opt.Now().UTC().Truncate(time.Millisecond)
	t = Token{ID: hex.EncodeToString(id), Name: n.Name, User: n.User, Grants: n.Grants, Created: now}
	if n.TTL > 0 {
		t.Expires = now.Add(n.TTL)
	}
	text = tokenPrefix + t.ID + "_" + newSecret()
	t.Hash = f.mac("token", t.ID, []byte(text))
	return t, text
}

// tokenWrite puts a new token. Tokens never change, so that each is at version 1.
func tokenWrite(t *Token) store.DocumentWrite {
	body, err := json.Marshal(t)
	if err != nil {
		panic(err) // of strings, bytes and times only
	}
	return store.DocumentWrite{DocumentID: store.DocumentID{Kind: kindToken, Key: t.ID}, Body: body}
}

// tokenRemoval takes a token away.
func tokenRemoval(id string) store.DocumentWrite {
	return store.DocumentWrite{DocumentID: store.DocumentID{Kind: kindToken, Key: id}, Was: 1}
}

// commit writes documents, also when the caller stops waiting: memory follows.
func (f *Fleet) commit(ctx context.Context, docs ...store.DocumentWrite) error {
	_, err := f.opt.Store.Commit(context.WithoutCancel(ctx), &store.Batch{Documents: docs})
	return err
}

// loadTokens reads all tokens.
func (f *Fleet) loadTokens(ctx context.Context) (map[string]Token, error) {
	tokens := map[string]Token{}
	err := f.eachDocument(ctx, kindToken, func(d *store.Document) error {
		var t Token
		if err := json.Unmarshal(d.Body, &t); err != nil {
			return err
		}
		tokens[t.ID] = t
		return nil
	})
	return tokens, err
}

// eachDocument gives all documents of a kind.
func (f *Fleet) eachDocument(ctx context.Context, kind store.Kind, do func(*store.Document) error) error {
	const page = 1000
	for after := ""; ; {
		list, err := f.opt.Store.Documents(ctx, kind, "", after, page)
		if err != nil {
			return err
		}
		for i := range list {
			if err := do(&list[i]); err != nil {
				return fmt.Errorf("%s: %w", list[i].DocumentID, err)
			}
		}
		if len(list) < page {
			return nil
		}
		after = list[page-1].Key
	}
}

// Managed says whether there is a token or a user of the role admin for everything that
// is in force. Without one nobody can manage the server, be it new or be its admins all gone.
func (f *Fleet) Managed() bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	managed := false
	for _, t := range f.tokens {
		managed = managed || (Principal{Grants: t.Grants}).Covers(Everywhere(Admin)) && !f.expired(&t)
	}
	for _, u := range f.users {
		managed = managed || (Principal{Grants: u.Grants}).Covers(Everywhere(Admin)) && !u.Disabled
	}
	return managed
}

// AdminToken makes a token of the role admin for everything and returns its text.
func (f *Fleet) AdminToken(ctx context.Context) (string, error) {
	name := "first-admin"
	for i := 2; ; i++ { // whoever has made a user of that name must not keep the server from starting
		if _, taken := f.User(name); !taken {
			break
		}
		name = fmt.Sprintf("first-admin-%d", i)
	}
	_, text, err := f.CreateToken(ctx, NewToken{Name: name, Grants: Everywhere(Admin)})
	return text, err
}

// Tokens lists all tokens, the oldest first, the expired ones included.
func (f *Fleet) Tokens(context.Context) ([]Token, error) {
	f.mu.RLock()
	list := make([]Token, 0, len(f.tokens))
	for _, t := range f.tokens {
		list = append(list, t)
	}
	f.mu.RUnlock()
	slices.SortFunc(list, func(a, b Token) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
	})
	return list, nil
}

// RemoveToken makes a token void at once. With the last token of a name goes what is
// kept for the name: whoever has it next is another. Errors: NotFound.
func (f *Fleet) RemoveToken(ctx context.Context, id string) error {
	f.changing.Lock()
	defer f.changing.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	f.mu.RLock()
	t, ok := f.tokens[id]
	f.mu.RUnlock()
	if !ok {
		return fault.New(fault.NotFound, "there is no such token")
	}
	if err := f.commit(ctx, tokenRemoval(id)); err != nil {
		return fmt.Errorf("fleet: token: %w", err)
	}
	f.mu.Lock()
	delete(f.tokens, id)
	f.mu.Unlock()
	f.tellUser(t.holder(), t.User == "" && !f.tokenNamed(t.Name))
	return nil
}

// holder is the name of whom it stands for.
func (t *Token) holder() string { return cmp.Or(t.User, t.Name) }

// IsToken says whether the text has the form of a token of a fleet.
func IsToken(text string) bool { return strings.HasPrefix(text, tokenPrefix) }

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
	return f.principal(&t)
}

// principal is who holds a token that is in force.
func (f *Fleet) principal(t *Token) (Principal, error) {
	p := Principal{Name: t.Name, Grants: t.Grants, Token: t.ID}
	if t.User != "" {
		u, ok := f.User(t.User)
		if !ok || u.Disabled {
			return Principal{}, fault.New(fault.Unauthenticated, "the user %s is disabled", t.User)
		}
		p.Name, p.Grants = u.Name, u.Grants
	}
	return p, nil
}

func (f *Fleet) expired(t *Token) bool {
	return !t.Expires.IsZero() && !f.opt.Now().Before(t.Expires)
}
