package api_test

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fleet"
)

// login makes a user with a password and the grants, and a session of it.
func (w *world) login(t *testing.T, name, grants string) (session string) {
	t.Helper()
	body := fmt.Sprintf(`{"name":%q,"password":"correct horse","grants":[%s]}`, name, grants)
	read[client.User](t, w.do(t, request{method: "POST", path: "/v1/users", body: body}), 201)
	in := w.do(t, request{method: "POST", path: "/v1/login", body: fmt.Sprintf(`{"name":%q,"password":"correct horse"}`, name)})
	s := read[client.Session](t, in, 201)
	if s.User != name || !strings.HasPrefix(s.Token, "wlc_") || s.Expires.IsZero() {
		t.Errorf("%+v", s)
	}
	return s.Token
}

// TestOnePersonIsOneVote: whoever asks and agrees is known by name, whatever the
// way in. Who has asked cannot agree, and nobody agrees twice.
func TestOnePersonIsOneVote(t *testing.T) {
	w := newWorld(t, options{})
	w.online("plant/valve")
	put(t, w, "open", "name: open\napproval: {quorum: 2, expires: 1h}", 201)
	const approver = `{"role":"approver","groups":["plant"],"commands":["op*"]}`
	session := w.login(t, "ann", approver)
	token := read[client.APIToken](t, w.do(t, request{method: "POST", path: "/v1/tokens", body: `{"name":"laptop","user":"ann"}`}), 201).Token
	bo, boToo := w.login(t, "bo", approver), w.token(t, fleet.NewToken{Name: "x", User: "bo"})
	elsewhere := w.login(t, "cy", `{"role":"approver","commands":["shut"]}`)
	post := func(tid, word, token, body string) reply {
		return w.do(t, request{method: "POST", path: "/v1/commands/" + tid + "/" + word, token: token, body: body})
	}
	for _, ways := range [][2]string{{session, token}, {token, session}, {session, session}} {
		c := read[client.Command](t, w.do(t, request{method: "POST", path: "/v1/devices/plant/valve/commands", body: `{"name":"open"}`, token: ways[0]}), 202)
		yes := fmt.Sprintf(`{"digest":%q}`, c.Approval.Digest)
		refused(t, post(c.TID, "approve", ways[1], yes), 403, "forbidden", "", "has requested it")
		refused(t, post(c.TID, "approve", elsewhere, yes), 403, "forbidden", "", "other commands")
		refused(t, post(c.TID, "deny", elsewhere, `{}`), 403, "forbidden", "", "other commands")
		refused(t, post(c.TID, "break-glass", elsewhere, `{"reason":"fire"}`), 403, "forbidden", "", "other commands")
		read[client.Command](t, post(c.TID, "approve", bo, yes), 200)
		if again := post(c.TID, "approve", boToo, yes); again.status == 200 {
			if c := read[client.Command](t, again, 200); c.State != client.AwaitingApproval || len(c.Approval.Votes) != 1 {
				t.Errorf("one person agreed twice: %+v", c.Approval)
			}
		}
		if c := read[client.Command](t, w.do(t, request{path: "/v1/commands/" + c.TID}), 200); c.RequestedBy != "ann" || c.State != client.AwaitingApproval {
			t.Errorf("%s by %s", c.State, c.RequestedBy)
		}
		if c := read[client.Command](t, post(c.TID, "approve", "", yes), 200); c.State == client.AwaitingApproval {
			t.Errorf("two have agreed: %+v", c.Approval)
		}
	}
}

func TestUsers(t *testing.T) {
	w := newWorld(t, options{})
	admin := w.login(t, "ann", `{"role":"admin","groups":["plant"]}`)
	as := func(method, path, body string) reply {
		return w.do(t, request{method: method, path: path, body: body, token: admin})
	}
	// Nobody gives or takes what it has not.
	user := func(name, grants string) string {
		return fmt.Sprintf(`{"name":%q,"password":"correct horse","grants":[%s]}`, name, grants)
	}
	made := as("POST", "/v1/users", user("bo", `{"role":"operator"}`))
	bo := read[client.User](t, made, 201)
	if at := read[client.User](t, as("GET", made.header.Get("Location"), ""), 200); at.Name != "bo" {
		t.Errorf("at %q there is %+v", made.header.Get("Location"), at)
	}
	if made = as("POST", "/v1/tokens", `{"name":"x","role":"viewer"}`); as("DELETE", made.header.Get("Location"), "").status != 204 {
		t.Errorf("the token is not at %q", made.header.Get("Location"))
	}
	if len(bo.Grants) != 1 || bo.Grants[0].String() != "operator@plant" {
		t.Errorf("%v", bo.Grants)
	}
	refused(t, as("POST", "/v1/users", user("cy", `{"role":"viewer","groups":["mill"]}`)), 403, "forbidden", "", "plant")
	read[client.User](t, w.do(t, request{method: "POST", path: "/v1/users", body: user("root", `{"role":"admin"}`)}), 201)
	refused(t, as("PATCH", "/v1/users/root", `{"disabled":true}`), 404, "not_found", "name", "no such user")
	refused(t, as("DELETE", "/v1/users/root", ""), 404, "not_found", "name", "no such user")
	refused(t, as("POST", "/v1/users/root/password", `{"password":"another horse"}`), 404, "not_found", "name", "no such user")
	refused(t, as("POST", "/v1/tokens", `{"name":"x","user":"root"}`), 404, "not_found", "name", "no such user")
	refused(t, as("PATCH", "/v1/users/bo", `{"grants":[{"role":"admin","groups":["mill"]}]}`), 403, "forbidden", "", "plant")
	refused(t, as("PATCH", "/v1/users/bo", `{"grants":[]}`), 400, "invalid", "grants", "empty")
	refused(t, as("PATCH", "/v1/users/bo", `{}`), 400, "invalid", "", "nothing to change")
	if list := read[client.UserList](t, as("GET", "/v1/users", ""), 200); len(list.Items) != 2 {
		t.Errorf("sees %+v", list.Items)
	}
	// The own password needs the one before.
	refused(t, as("POST", "/v1/users/ann/password", `{"password":"another horse"}`), 400, "invalid", "old", "missing")
	refused(t, as("POST", "/v1/users/ann/password", `{"password":"another horse","old":"wrong horse"}`), 400, "invalid", "old", "is not")
	if got := as("GET", "/v1/users/ann", ""); strings.Contains(string(got.body), "argon2") {
		t.Errorf("the hash is shown: %s", got.body)
	}
	if got := as("DELETE", "/v1/session", ""); got.status != 204 {
		t.Errorf("%d %s", got.status, got.body)
	}
	refused(t, as("GET", "/v1/users", ""), 401, "unauthenticated", "", "not valid")
	refused(t, w.do(t, request{method: "DELETE", path: "/v1/session"}), 409, "conflict", "", "not a session")
	// Who fails is told the same, and then to wait.
	login := func(password string) reply {
		return w.do(t, request{method: "POST", path: "/v1/login", body: fmt.Sprintf(`{"name":"bo","password":%q}`, password), token: "-"})
	}
	for range 5 {
		got := login("wrong horse")
		refused(t, got, 401, "unauthenticated", "", "user name or password is wrong")
		if got.header.Get("WWW-Authenticate") == "" {
			t.Error("401 does not say by what to come")
		}
	}
	got := login("correct horse")
	refused(t, got, 429, "too_many", "", "try again in")
	if after, _ := strconv.Atoi(got.header.Get("Retry-After")); after < 10 || after > 30 {
		t.Errorf("try again after %d s", after)
	}
}

// TestPeopleBehindAProxy are told apart by the address that it says they have: who
// fails there slows nobody else down, and the audit log has it.
func TestPeopleBehindAProxy(t *testing.T) {
	w := newWorld(t, options{Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	w.login(t, "ann", `{"role":"viewer"}`)
	from := func(address, password string) reply {
		return w.do(t, request{method: "POST", path: "/v1/login", body: fmt.Sprintf(`{"name":"ann","password":%q}`, password),
			token: "-", header: map[string]string{"X-Forwarded-For": "192.0.2.99, " + address}})
	}
	for range 5 {
		refused(t, from("2001:db8::1", "wrong horse"), 401, "unauthenticated", "", "wrong")
	}
	refused(t, from("2001:db8::2", "correct horse"), 429, "too_many", "", "try again in") // of the same network
	read[client.Session](t, from("2001:db8:0:1::1", "correct horse"), 201)
	list := read[client.AuditPage](t, w.do(t, request{path: "/v1/audit"}), 200)
	if last := list.Items[len(list.Items)-1]; last.Act != "session.login" || last.Detail != "2001:db8:0:1::1" {
		t.Errorf("the audit log says %+v", last)
	}
}

// TestTokensOfOthers: an admin of one group learns nothing of the users that it does
// not manage, and makes no token by the name of another's.
func TestTokensOfOthers(t *testing.T) {
	w := newWorld(t, options{})
	w.login(t, "ann", `{"role":"operator","groups":["plant"]}`)
	w.token(t, fleet.NewToken{Name: "panel", Grants: []fleet.Grant{{Role: fleet.Operator, Groups: []string{"plant"}}}})
	mill := w.token(t, fleet.NewToken{Name: "miller", Grants: []fleet.Grant{{Role: fleet.Admin, Groups: []string{"mill"}}}})
	create := func(body string) reply {
		return w.do(t, request{method: "POST", path: "/v1/tokens", body: body, token: mill})
	}
	for _, user := range []string{"ann", "nobody"} {
		refused(t, create(fmt.Sprintf(`{"name":"x","user":%q}`, user)), 404, "not_found", "name", "there is no such user")
	}
	refused(t, create(`{"name":"panel","role":"operator"}`), 409, "exists", "name", "which is not yours")
	for range 2 {
		read[client.APIToken](t, create(`{"name":"saw","role":"operator"}`), 201)
	}
	list := read[client.AuditPage](t, w.do(t, request{path: "/v1/audit"}), 200)
	if last := list.Items[len(list.Items)-1]; last.Detail != "name=saw grants=operator@mill" {
		t.Errorf("the audit log says %+v", last)
	}
}
