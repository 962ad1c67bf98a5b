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
	Grants  []Grant   `json:"grants,omitempty"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"` // zero: never
}

// NewToken is a token to make.
type NewToken struct {
	Name   string
	Grants []Grant
	TTL    time.Duration // 0 means for ever
}

const tokenPrefix = "wlc_" // so that scanners for leaked secrets can find them; sent: never change

// CreateToken makes a token and returns its text, which is kept nowhere. Errors:
// Invalid.
func (f *Fleet) CreateToken(ctx context.Context, n NewToken) (Token, string, error) {
	switch err := Check(n.Grants); {
	case !validName(n.Name):
		return Token{}, "", fault.Field("name", "must be 1 to 64 of the characters A-Z a-z 0-9 . _ : -")
	case err != nil:
		return Token{}, "", err
	case n.TTL < 0:
		return Token{}, "", fault.Field("ttl", "%s is negative", n.TTL)
	}
	t, text := f.newToken(n)
	f.changing.Lock()
	defer f.changing.Unlock()
	if err := ctx.Err(); err != nil {
		return Token{}, "", err
	}
	if err := f.commit(ctx, tokenWrite(&t)); err != nil {
		return Token{}, "", fmt.Errorf("fleet: token: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tokens[t.ID] = t
	return t, text, nil
}

func (f *Fleet) newToken(n NewToken) (t Token, text string) {
	id := make([]byte, 8)
	rand.Read(id)
	now := f.opt.Now().UTC().Truncate(time.Millisecond)
	t = Token{ID: hex.EncodeToString(id), Name: n.Name, Grants: n.Grants, Created: now}
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

// loadTokens reads all tokens. Those that an older version has kept in a table of
// their own become documents first.
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
	if err != nil {
		return nil, err
	}
	old, err := f.opt.Store.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	for i := range old {
		if err := f.moveToken(ctx, tokens, &old[i]); err != nil {
			return nil, err
		}
	}
	return tokens, nil
}

// moveToken makes a document of a row, and then removes the row. A kill in between
// leaves both, and then only the row is to be removed.
func (f *Fleet) moveToken(ctx context.Context, tokens map[string]Token, row *store.Token) error {
	if _, moved := tokens[row.ID]; !moved {
		g := Grant{Role: Role(row.Role)}
		if row.Group != "" {
			g.Groups = []string{row.Group}
		}
		t := Token{ID: row.ID, Hash: row.Hash, Name: row.Name, Grants: []Grant{g}, Created: row.Created, Expires: row.Expires}
		if err := f.commit(ctx, tokenWrite(&t)); err != nil {
			return err
		}
		tokens[t.ID] = t
	}
	return f.opt.Store.RemoveToken(ctx, row.ID)
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

// FirstToken makes a token of the role admin for everything when there is none
// that is in force, so that a new server can be managed and one whose admins are
// all gone again; otherwise it returns "".
func (f *Fleet) FirstToken(ctx context.Context) (string, error) {
	f.mu.RLock()
	for _, t := range f.tokens {
		if (Principal{Grants: t.Grants}).Covers(Everywhere(Admin)) && !f.expired(&t) {
			f.mu.RUnlock()
			return "", nil
		}
	}
	f.mu.RUnlock()
	_, text, err := f.CreateToken(ctx, NewToken{Name: "first-admin", Grants: Everywhere(Admin)})
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

// RemoveToken makes a token void at once. Errors: NotFound.
func (f *Fleet) RemoveToken(ctx context.Context, id string) error {
	f.changing.Lock()
	defer f.changing.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	f.mu.RLock()
	_, ok := f.tokens[id]
	f.mu.RUnlock()
	if !ok {
		return fault.New(fault.NotFound, "there is no such token")
	}
	if err := f.commit(ctx, tokenRemoval(id)); err != nil {
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
	return Principal{Name: t.Name, Grants: t.Grants}, nil
}

func (f *Fleet) expired(t *Token) bool {
	return !t.Expires.IsZero() && !f.opt.Now().Before(t.Expires)
}
