package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
)

// kindUser is the kind of document that users are, by name. Stored; never change.
const kindUser store.Kind = "user"

// User is a person.
//
// The JSON form is the stored one; never change the names.
type User struct {
	Name     string    `json:"name"`
	Password string    `json:"password"` // hash, see password.go
	Grants   []Grant   `json:"grants"`
	Disabled bool      `json:"disabled,omitempty"`
	Created  time.Time `json:"created"`
	Changed  time.Time `json:"changed"` // of the password
	version  int64
}

// NewUser is a user to make.
type NewUser struct {
	Name     string
	Password string
	Grants   []Grant
}

// UserChange changes a user; nil fields stay.
type UserChange struct {
	Grants   []Grant
	Disabled *bool
}

// SessionTTL is how long a login is good for.
const SessionTTL = 12 * time.Hour

// maxSessions of one user; the oldest make room.
const maxSessions = 64

// AddUser makes a user. Errors: Exists, also when a token has the name: one name
// is one party, in timelines and where two must agree; Invalid. It computes for a
// tenth of a second.
func (f *Fleet) AddUser(ctx context.Context, n NewUser) (User, error) {
	if !validName(n.Name) {
		return User{}, fault.Field("name", "must be 1 to 64 of the characters A-Z a-z 0-9 . _ : -")
	}
	if err := Check(n.Grants); err != nil {
		return User{}, err
	}
	hash, err := f.newPassword(ctx, n.Password)
	if err != nil {
		return User{}, err
	}
	now := f.opt.Now().UTC().Truncate(time.Millisecond)
	u := User{Name: n.Name, Password: hash, Grants: n.Grants, Created: now, Changed: now}
	f.changing.Lock()
	defer f.changing.Unlock()
	if _, taken := f.User(n.Name); taken {
		return User{}, fault.New(fault.Exists, "there is a user %s already", n.Name)
	}
	if f.tokenNamed(n.Name) {
		return User{}, fault.New(fault.Exists, "there is a token named %s; remove it first, or take another name", n.Name)
	}
	return f.putUser(ctx, u, nil)
}

func (f *Fleet) newPassword(ctx context.Context, text string) (string, error) {
	if err := checkPassword(text); err != nil {
		return "", err
	}
	done, err := f.hashing(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	return f.cost.hashPassword(text), nil
}

// tokenNamed says whether a token that is nobody's has the name. One that has expired
// keeps it until it is forgotten: what the broker keeps for the name is its own.
func (f *Fleet) tokenNamed(name string) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for _, t := range f.tokens {
		if t.User == "" && t.Name == name {
			return true
		}
	}
	return false
}

// putUser writes a user, takes tokens away with it, and shows both. f.changing is
// held.
func (f *Fleet) putUser(ctx context.Context, u User, void []string) (User, error) {
	if err := ctx.Err(); err != nil {
		return User{}, err
	}
	body, err := json.Marshal(u)
	if err != nil {
		return User{}, err
	}
	w := store.DocumentWrite{DocumentID: store.DocumentID{Kind: kindUser, Key: u.Name}, Was: u.version, Body: body}
	if err := f.commit(ctx, append(removals(void), w)...); err != nil {
		return User{}, fmt.Errorf("fleet: user %s: %w", u.Name, err)
	}
	u.version++
	f.mu.Lock()
	defer f.mu.Unlock()
	f.users[u.Name] = u
	for _, id := range void {
		delete(f.tokens, id)
	}
	return u, nil
}

func removals(ids []string) []store.DocumentWrite {
	docs := make([]store.DocumentWrite, 0, len(ids)+1)
	for _, id := range ids {
		docs = append(docs, tokenRemoval(id))
	}
	return docs
}

// tokensOf are the ids of a user's tokens: the sessions, or all.
func (f *Fleet) tokensOf(name string, all bool) (ids []string) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for id, t := range f.tokens {
		if t.User == name && (all || t.Kind == KindSession) {
			ids = append(ids, id)
		}
	}
	return ids
}

// User gives a user by name. It does not block. The grants are shared.
func (f *Fleet) User(name string) (User, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	u, ok := f.users[name]
	return u, ok
}

// Users lists all users, by name.
func (f *Fleet) Users() []User {
	f.mu.RLock()
	list := make([]User, 0, len(f.users))
	for _, u := range f.users {
		list = append(list, u)
	}
	f.mu.RUnlock()
	slices.SortFunc(list, func(a, b User) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// ChangeUser changes what a user may do, at once also for its sessions and tokens.
// One that is disabled loses its sessions, and its tokens are void until it is
// enabled. Errors: NotFound, Invalid.
func (f *Fleet) ChangeUser(ctx context.Context, name string, c UserChange) (User, error) {
	if c.Grants != nil {
		if err := Check(c.Grants); err != nil {
			return User{}, err
		}
	}
	f.changing.Lock()
	defer f.changing.Unlock()
	u, ok := f.User(name)
	if !ok {
		return User{}, unknownUser(name)
	}
	if c.Grants != nil {
		u.Grants = c.Grants
	}
	var void []string
	if c.Disabled != nil {
		if u.Disabled = *c.Disabled; u.Disabled {
			void = f.tokensOf(name, false)
		}
	}
	u, err := f.putUser(ctx, u, void)
	if err == nil {
		f.tellUser(name, false)
	}
	return u, err
}

// SetPassword gives a user another password; its sessions end. Errors: NotFound,
// Invalid; Conflict when the user was changed while the password was hashed: whoever
// might give the password of the one before might not of one that has more.
func (f *Fleet) SetPassword(ctx context.Context, name, password string) (User, error) {
	was, _ := f.User(name)
	hash, err := f.newPassword(ctx, password)
	if err != nil {
		return User{}, err
	}
	f.changing.Lock()
	defer f.changing.Unlock()
	u, ok := f.User(name)
	if !ok {
		return User{}, unknownUser(name)
	}
	if u.version != was.version || !u.Created.Equal(was.Created) {
		return User{}, fault.New(fault.Conflict, "the user %s was changed at this moment; look, and try again", name)
	}
	u.Password, u.Changed = hash, f.opt.Now().UTC().Truncate(time.Millisecond)
	if u, err = f.putUser(ctx, u, f.tokensOf(name, false)); err == nil {
		f.tellUser(name, false)
	}
	return u, err
}

// RemoveUser forgets a user, with all its sessions and tokens. Errors: NotFound.
func (f *Fleet) RemoveUser(ctx context.Context, name string) error {
	f.changing.Lock()
	defer f.changing.Unlock()
	u, ok := f.User(name)
	if !ok {
		return unknownUser(name)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	void := f.tokensOf(name, true)
	gone := store.DocumentWrite{DocumentID: store.DocumentID{Kind: kindUser, Key: name}, Was: u.version}
	if err := f.commit(ctx, append(removals(void), gone)...); err != nil {
		return fmt.Errorf("fleet: user %s: %w", name, err)
	}
	f.mu.Lock()
	delete(f.users, name)
	for _, id := range void {
		delete(f.tokens, id)
	}
	f.mu.Unlock()
	f.opened.forget(name)
	f.attempts.forget(name)
	f.tellUser(name, true)
	return nil
}

// CheckPassword says who a user is by the password. Remote is the address that it
// comes from; too many failures for a user, from an address, or both together are
// TooMany, whatever the password, and so are too many logins at once. Otherwise
// Unauthenticated, the same after the same work for an unknown user, a disabled one and
// a wrong password. It computes for a tenth of a second, and waits for its turn when
// others are doing so, unless the same password was right before. It waits besides for
// those who came before as the same user from the same address.
func (f *Fleet) CheckPassword(ctx context.Context, name, password, remote string) (User, error) {
	wrong := fault.New(fault.Unauthenticated, "user name or password is wrong")
	if !validName(name) {
		return User{}, wrong // that it cannot be a name is no secret
	}
	from := origin(remote)
	leave, err := f.attempts.enter(ctx, name, from)
	if err != nil {
		return User{}, err
	}
	defer leave()
	if wait := f.attempts.begin(f.opt.Now(), name, from); wait > 0 {
		wait = (wait + time.Second - 1).Truncate(time.Second)
		return User{}, &fault.Error{Code: fault.TooMany, Message: "too many failed logins; try again in " + wait.String(), After: wait}
	}
	u, ok := f.User(name)
	if !ok || u.Disabled || !f.opened.before(&u, password) {
		done, err := f.hashing(ctx)
		if err != nil {
			if ctx.Err() == nil {
				f.attempts.unmade(name, from) // nobody has looked at it
			}
			return User{}, err
		}
		defer done()
		kept := u.Password
		if !ok {
			kept = f.decoy()
		}
		if same := len(password) <= maxPassword && passwordOpens(kept, password); !same || !ok || u.Disabled {
			return User{}, wrong
		}
		if now, ok := f.User(name); !ok || now.Disabled || now.Password != kept {
			return User{}, wrong // it was right when the wait began
		}
		f.opened.note(&u, password)
	}
	f.attempts.succeeded(name, from)
	return u, nil
}

// LoginUser makes a session of a user: a token that is good for SessionTTL, and has
// the user's grants. Errors: those of CheckPassword.
func (f *Fleet) LoginUser(ctx context.Context, name, password, remote string) (Token, string, error) {
	checked, err := f.CheckPassword(ctx, name, password, remote)
	if err != nil {
		return Token{}, "", err
	}
	t, text := f.newToken(NewToken{Name: name, User: name, TTL: SessionTTL})
	t.Kind = KindSession
	f.changing.Lock()
	defer f.changing.Unlock()
	if now, ok := f.User(name); !ok || now.Disabled || now.Password != checked.Password {
		return Token{}, "", fault.New(fault.Unauthenticated, "user name or password is wrong")
	}
	if err := f.putToken(ctx, t, f.spent(name)); err != nil {
		return Token{}, "", err
	}
	return t, text, nil
}

// spent are the sessions of a user that have expired, and those for which there is
// no room beside one more.
func (f *Fleet) spent(name string) (ids []string) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	var live []Token
	for id, t := range f.tokens {
		switch {
		case t.User != name || t.Kind != KindSession:
		case f.expired(&t):
			ids = append(ids, id)
		default:
			live = append(live, t)
		}
	}
	slices.SortFunc(live, func(a, b Token) int { return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID)) })
	for len(live) >= maxSessions {
		ids, live = append(ids, live[0].ID), live[1:]
	}
	return ids
}

// loadUsers reads all users.
func (f *Fleet) loadUsers(ctx context.Context) (map[string]User, error) {
	users := map[string]User{}
	err := f.eachDocument(ctx, kindUser, func(d *store.Document) error {
		var u User
		if err := json.Unmarshal(d.Body, &u); err != nil {
			return err
		}
		u.version = d.Version
		users[u.Name] = u
		return nil
	})
	return users, err
}

// tellUser says that the connections of a user must be cut.
func (f *Fleet) tellUser(name string, removed bool) {
	if f.opt.OnChange != nil {
		f.opt.OnChange(name, removed)
	}
}

func unknownUser(name string) error {
	return &fault.Error{Code: fault.NotFound, Field: "name", Message: "there is no user " + name + "; list them with wilco user list"}
}
