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
	TTL    Duration `json:"ttl,omitempty" doc:"how long it is good for; absent: for ever" example:"720h"`
}

// APIToken lets a person or a program use the HTTP API.
type APIToken struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Grants  []Grant   `json:"grants"`
	Token   string    `json:"token,omitempty" doc:"only in the answer that made it; kept nowhere"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero" doc:"absent: never"`
}

// TokenList is all tokens.
type TokenList struct {
	Items []APIToken `json:"items"`
}

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
