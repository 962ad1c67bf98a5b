package api_test

import (
	"fmt"
	"testing"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fleet"
)

func TestApproval(t *testing.T) {
	w := newWorld(t, options{})
	w.online("plant/valve")
	put(t, w, "open", "name: open\napproval: {quorum: 2, expires: 1h}", 201)
	operator := w.token(t, fleet.NewToken{Name: "ops", Grants: fleet.Everywhere(fleet.Operator)})
	ann := w.token(t, fleet.NewToken{Name: "ann", Grants: fleet.Everywhere(fleet.Approver)})
	bo := w.token(t, fleet.NewToken{Name: "bo", Grants: []fleet.Grant{{Role: fleet.Approver, Groups: []string{"plant"}}}})
	stranger := w.token(t, fleet.NewToken{Name: "cy", Grants: []fleet.Grant{{Role: fleet.Approver, Groups: []string{"mill"}}}})
	ask := func(token string) client.Command {
		t.Helper()
		return read[client.Command](t, w.do(t, request{method: "POST", path: "/v1/devices/plant/valve/commands", body: `{"name":"open"}`, token: token}), 202)
	}
	post := func(c *client.Command, word, token, body string) reply {
		t.Helper()
		return w.do(t, request{method: "POST", path: "/v1/commands/" + c.TID + "/" + word, token: token, body: body})
	}
	seen := func(c *client.Command) string { return fmt.Sprintf(`{"digest":%q,"reason":"fine"}`, c.Approval.Digest) }

	c := ask(ann)
	if c.State != client.AwaitingApproval || c.Approval == nil || c.Approval.Quorum != 2 || c.Approval.Expires.IsZero() || c.Approval.Digest == "" {
		t.Fatalf("%+v", c)
	}
	for _, x := range []struct {
		name, word, token, body string
		status                  int
	}{
		{"an operator", "approve", operator, seen(&c), 403},
		{"who has requested it", "approve", ann, seen(&c), 403},
		{"an approver of another group", "approve", stranger, seen(&c), 404},
		{"no digest", "approve", bo, `{"digest":""}`, 400},
		{"of other content", "approve", bo, `{"digest":"beef"}`, 409},
		{"an operator denies", "deny", operator, `{}`, 403},
		{"an operator in an emergency", "break-glass", operator, `{"reason":"fire"}`, 403},
		{"an emergency without a reason", "break-glass", bo, `{"reason":""}`, 400},
	} {
		if got := post(&c, x.word, x.token, x.body); got.status != x.status && (x.status != 400 || got.status != 422) {
			t.Errorf("%s: %d %s", x.name, got.status, got.body)
		}
	}
	half := read[client.Command](t, post(&c, "approve", bo, seen(&c)), 200)
	if half.State != client.AwaitingApproval || len(half.Approval.Votes) != 1 || half.Approval.Votes[0].By != "bo" || half.Approval.Votes[0].Reason != "fine" {
		t.Errorf("%+v", half.Approval)
	}
	whole := read[client.Command](t, post(&c, "approve", "", seen(&c)), 200) // the admin
	if whole.State == client.AwaitingApproval || len(whole.Approval.Votes) != 2 {
		t.Errorf("%s %+v", whole.State, whole.Approval)
	}
	post(&c, "deny", bo, `{}`)
	if again := post(&c, "approve", bo, seen(&c)); again.status != 409 {
		t.Errorf("what is not held: %d %s", again.status, again.body)
	}

	c = ask(operator)
	if no := read[client.Command](t, post(&c, "deny", bo, `{"reason":"not today"}`), 200); no.State != client.Denied || no.Detail != "not today" {
		t.Errorf("%s %q", no.State, no.Detail)
	}
	c = ask(bo)
	if out := read[client.Command](t, post(&c, "break-glass", bo, `{"reason":"fire"}`), 200); out.State == client.AwaitingApproval || out.Reason == "" {
		t.Errorf("%s %s", out.State, out.Reason)
	}
	line := read[client.Timeline](t, w.do(t, request{path: "/v1/commands/" + c.TID + "/timeline"}), 200)
	found := false
	for _, e := range line.Entries {
		found = found || e.Reason == "break_glass" && e.By == "bo" && e.Detail == "fire"
	}
	if !found {
		t.Errorf("the emergency is not on record: %+v", line.Entries)
	}
}
