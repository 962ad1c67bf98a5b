package client

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Role is what a grant lets its holder do.
type Role string

// The roles; each may do all that the ones before may.
const (
	Viewer   Role = "viewer"   // look
	Operator Role = "operator" // send, cancel and retry commands
	Approver Role = "approver" // agree to commands of others, or not
	Admin    Role = "admin"    // devices, users and tokens
)

// Grant gives a role for some groups and some commands.
type Grant struct {
	Role     Role     `json:"role" enum:"viewer,operator,approver,admin"`
	Groups   []string `json:"groups,omitempty" nullable:"false" doc:"absent: all"`
	Commands []string `json:"commands,omitempty" nullable:"false" doc:"names of commands; one that ends with * is of all that begin so; absent: all" example:"[\"valve.*\"]"`
}

// String is the grant as people write it: ROLE[@GROUP,...][/COMMAND,...].
func (g Grant) String() string {
	s := string(g.Role)
	if len(g.Groups) > 0 {
		s += "@" + strings.Join(g.Groups, ",")
	}
	if len(g.Commands) > 0 {
		s += "/" + strings.Join(g.Commands, ",")
	}
	return s
}

// NewToken makes a token. Role and Group are a short way to write one grant.
type NewToken struct {
	Name   string   `json:"name" minLength:"1" maxLength:"64" doc:"stands in timelines as who asked"`
	Role   Role     `json:"role,omitempty" enum:"viewer,operator,approver,admin" doc:"in place of grants: one of this role"`
	Group  string   `json:"group,omitempty" doc:"beside role: the only group that it is for; absent: all"`
	Grants []Grant  `json:"grants,omitempty" nullable:"false" maxItems:"32" doc:"what it may do"`
	User   string   `json:"user,omitempty" doc:"in place of role and grants: the user whose it is; it may do what the user may"`
	TTL    Duration `json:"ttl,omitempty" doc:"how long it is good for; absent: for ever" example:"720h"`
}

// APIToken lets a person or a program use the HTTP API.
type APIToken struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Kind    string    `json:"kind" enum:"token,session"`
	User    string    `json:"user,omitempty" doc:"whose it is; absent: nobody's, it stands for itself"`
	Grants  []Grant   `json:"grants" doc:"empty for a user's, which has the user's"`
	Token   string    `json:"token,omitempty" doc:"only in the answer that made it; kept nowhere"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero" doc:"absent: never"`
}

// TokenList is all tokens.
type TokenList struct {
	Items []APIToken `json:"items"`
}

// User is a person.
type User struct {
	Name            string    `json:"name"`
	Grants          []Grant   `json:"grants"`
	Disabled        bool      `json:"disabled"`
	Created         time.Time `json:"created"`
	PasswordChanged time.Time `json:"passwordChanged"`
}

// NewUser makes a user.
type NewUser struct {
	Name     string  `json:"name" minLength:"1" maxLength:"64" doc:"stands in timelines as who asked"`
	Password string  `json:"password" minLength:"8" maxLength:"1024"`
	Grants   []Grant `json:"grants" nullable:"false" minItems:"1" maxItems:"32" doc:"what the user may do"`
}

// UserChange changes a user; nil fields stay.
type UserChange struct {
	Grants   []Grant `json:"grants,omitempty" nullable:"false" maxItems:"32" doc:"in place of those the user has"`
	Disabled *bool   `json:"disabled,omitempty"`
}

// UserList is all users.
type UserList struct {
	Items []User `json:"items"`
}

// Password is another password of a user.
type Password struct {
	Password string `json:"password" minLength:"8" maxLength:"1024"`
	Old      string `json:"old,omitempty" maxLength:"1024" doc:"the present one, when it is the own password"`
}

// Login is what a session begins with.
type Login struct {
	Name     string `json:"name" maxLength:"64"`
	Password string `json:"password" maxLength:"1024"`
}

// Session is a login of a user.
type Session struct {
	ID      string    `json:"id" doc:"of the token"`
	User    string    `json:"user"`
	Token   string    `json:"token" doc:"told this once and kept nowhere"`
	Expires time.Time `json:"expires"`
}

// Login begins a session, whose Token is good until it Expires. The client goes on
// with its own token. Errors: "unauthenticated", "too_many". It is not repeated.
func (c *Client) Login(ctx context.Context, name, password string) (*Session, error) {
	out := &Session{}
	if _, err := c.do(ctx, call{method: http.MethodPost, path: "/v1/login", body: Login{name, password}, out: out, once: true}); err != nil {
		return nil, err
	}
	return out, nil
}

// Logout ends the session whose token the client has. Errors: "conflict" when it is
// no session's.
func (c *Client) Logout(ctx context.Context) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: "/v1/session", once: true})
	return err
}

// AddUser makes a user. Errors: "exists". It is not repeated.
func (c *Client) AddUser(ctx context.Context, u NewUser) (*User, error) {
	return c.user(ctx, call{method: http.MethodPost, path: "/v1/users", body: u, once: true})
}

// Users lists the users.
func (c *Client) Users(ctx context.Context) ([]User, error) {
	out := &UserList{}
	_, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/users", out: out})
	return out.Items, err
}

// User looks at one user. Errors: "not_found".
func (c *Client) User(ctx context.Context, name string) (*User, error) {
	return c.user(ctx, call{method: http.MethodGet, path: userPath(name)})
}

// ChangeUser changes what a user may do. Errors: "not_found".
func (c *Client) ChangeUser(ctx context.Context, name string, u UserChange) (*User, error) {
	return c.user(ctx, call{method: http.MethodPatch, path: userPath(name), body: u})
}

// SetPassword gives a user another password and ends the user's sessions. Errors:
// "not_found", "invalid" for a wrong old one. It is not repeated.
func (c *Client) SetPassword(ctx context.Context, name string, p Password) (*User, error) {
	return c.user(ctx, call{method: http.MethodPost, path: userPath(name) + "/password", body: p, once: true})
}

// RemoveUser removes a user, with its sessions and tokens. Errors: "not_found".
func (c *Client) RemoveUser(ctx context.Context, name string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: userPath(name), gone: true})
	return err
}

func (c *Client) user(ctx context.Context, k call) (*User, error) {
	out := &User{}
	k.out = out
	if _, err := c.do(ctx, k); err != nil {
		return nil, err
	}
	return out, nil
}

func userPath(name string) string { return "/v1/users/" + url.PathEscape(name) }

// CreateToken makes a token. The answer's Token is told this once. It is not
// repeated after a failure of the network.
func (c *Client) CreateToken(ctx context.Context, t NewToken) (*APIToken, error) {
	out := &APIToken{}
	if _, err := c.do(ctx, call{method: http.MethodPost, path: "/v1/tokens", body: t, out: out, once: true}); err != nil {
		return nil, err
	}
	return out, nil
}

// Tokens lists the tokens.
func (c *Client) Tokens(ctx context.Context) ([]APIToken, error) {
	out := &TokenList{}
	_, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/tokens", out: out})
	return out.Items, err
}

// RemoveToken makes a token void at once. Errors: "not_found".
func (c *Client) RemoveToken(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: "/v1/tokens/" + url.PathEscape(id), gone: true})
	return err
}
