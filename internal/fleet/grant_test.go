package fleet

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
)

func TestRoles(t *testing.T) {
	for i, a := range Roles {
		for j, b := range Roles {
			if a.AtLeast(b) != (i >= j) {
				t.Errorf("%s at least %s: %v", a, b, a.AtLeast(b))
			}
		}
	}
	if Role("").AtLeast("") || Admin.AtLeast("root") || Role("root").AtLeast(Viewer) {
		t.Error("an unknown role counts")
	}
}

func TestMay(t *testing.T) {
	p := Principal{Grants: []Grant{
		{Role: Operator, Groups: []string{"plant"}, Commands: []string{"valve.*", "reset"}},
		{Role: Admin, Groups: []string{"mill"}},
		{Role: Viewer},
	}}
	for _, c := range []struct {
		role           Role
		group, command string
		want           bool
	}{
		{Operator, "plant", "valve.open", true},
		{Viewer, "plant", "pump.start", true},
		{Operator, "plant", "valve.", true},
		{Operator, "plant", "valve", false},
		{Operator, "plant", "reset", true},
		{Operator, "plant", "resets", false},
		{Operator, "plant", "pump.start", false},
		{Operator, "plant", "", true},
		{Operator, "plant", "*", false},
		{Operator, "plant", "valve.x*", true},
		{Approver, "plant", "valve.open", false},
		{Approver, "mill", "pump.start", true},
		{Admin, "mill", "*", true},
		{Operator, "Plant", "valve.open", false},
		{Operator, "plan", "valve.open", false},
		{Viewer, "other", "x", true},
		{Viewer, "", "", true},
		{Operator, "", "", false},
		{Admin, "", "*", false},
		{"", "plant", "", false},
		{"root", "plant", "", false},
	} {
		if got := p.May(c.role, c.group, c.command); got != c.want {
			t.Errorf("may %s %q %q: %v", c.role, c.group, c.command, got)
		}
	}
	if g, all := p.Groups(Operator); all || !slices.Equal(g, []string{"mill", "plant"}) {
		t.Error(g, all)
	}
	if g, all := p.Groups(Viewer); !all || g != nil {
		t.Error(g, all)
	}
	if p.Role() != Admin || (Principal{}).Role() != "" || (Principal{}).MaySome("") {
		t.Error("the highest role")
	}
}

// TestNobodyGivesMoreThanItHas: whoever covers a grant may itself, as an admin, all
// that the grant's holder may.
func TestNobodyGivesMoreThanItHas(t *testing.T) {
	grant := rapid.Custom(func(t *rapid.T) Grant {
		some := func(of ...string) []string { return rapid.SliceOfN(rapid.SampledFrom(of), 0, 2).Draw(t, "some") }
		return Grant{Role: rapid.SampledFrom(Roles).Draw(t, "role"), Groups: some("a", "b"),
			Commands: some("*", "v.*", "v.o*", "v.open", "v.shut", "w")}
	})
	seen := 0
	rapid.Check(t, func(t *rapid.T) {
		giver := Principal{Grants: rapid.SliceOfN(grant, 0, 3).Draw(t, "giver")}
		given := Principal{Grants: rapid.SliceOfN(grant, 1, 2).Draw(t, "given")}
		if !giver.Covers(given.Grants) {
			return
		}
		seen++
		for _, role := range Roles {
			for _, group := range []string{"", "a", "b", "c"} {
				for _, command := range []string{"", "*", "v.open", "v.oval", "v.shut", "v.x", "w", "ww", "z"} {
					if given.May(role, group, command) && !giver.May(Admin, group, command) {
						t.Fatalf("%s gave %s, who may %s %q %q", Text(giver.Grants), Text(given.Grants), role, group, command)
					}
				}
			}
		}
	})
	if seen == 0 {
		t.Error("nobody gave anything")
	}
}

func TestGrantsAreChecked(t *testing.T) {
	for text, c := range map[string]struct {
		g     []Grant
		field string
	}{
		"none":      {nil, "grants"},
		"many":      {make([]Grant, MaxGrants+1), "grants"},
		"no role":   {[]Grant{{}}, "role"},
		"group":     {[]Grant{{Role: Viewer, Groups: []string{""}}}, "group"},
		"groups":    {[]Grant{{Role: Viewer, Groups: make([]string, maxGroups+1)}}, "group"},
		"command":   {[]Grant{{Role: Viewer, Commands: []string{"a**"}}}, "command"},
		"empty":     {[]Grant{{Role: Viewer, Commands: []string{""}}}, "command"},
		"commands":  {[]Grant{{Role: Viewer, Commands: make([]string, maxPatterns+1)}}, "command"},
		"long":      {[]Grant{{Role: Viewer, Groups: []string{strings.Repeat("g", 65)}}}, "group"},
		"good":      {[]Grant{{Role: Viewer, Groups: []string{"g"}, Commands: []string{"*", "a", "a.*"}}}, ""},
		"good, all": {Everywhere(Admin), ""},
	} {
		err := Check(c.g)
		if (err == nil) != (c.field == "") || err != nil && fault.From(err).Field != c.field {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestGrantText(t *testing.T) {
	g := []Grant{{Role: Viewer}, {Role: Operator, Groups: []string{"a", "b"}, Commands: []string{"v.*"}}, {Role: Admin, Commands: []string{"x"}}}
	if got := Text(g); got != "viewer operator@a,b/v.* admin/x" {
		t.Error(got)
	}
}

// TestOldTokensKeepWorking: a token as the store has made it of a row of its former
// table.
func TestOldTokensKeepWorking(t *testing.T) {
	r := newRig(t)
	text := "wlc_bb_secret"
	hash := base64.StdEncoding.EncodeToString(r.mac("token", "bb", []byte(text)))
	w := store.DocumentWrite{DocumentID: store.DocumentID{Kind: kindToken, Key: "bb"},
		Body: []byte(`{"id":"bb","hash":"` + hash + `","name":"one","grants":[{"role":"operator","groups":["site"]}],"created":"2023-11-14T22:13:20Z"}`)}
	if _, err := r.db.Commit(t.Context(), &store.Batch{Documents: []store.DocumentWrite{w}}); err != nil {
		t.Fatal(err)
	}
	r.restart()
	if p, err := r.VerifyToken(t.Context(), text); err != nil || Text(p.Grants) != "operator@site" || p.Name != "one" {
		t.Errorf("%+v %v", p, err)
	}
	if err := r.RemoveToken(t.Context(), "bb"); err != nil {
		t.Error(err)
	}
	r.restart()
	if _, err := r.VerifyToken(t.Context(), text); fault.CodeOf(err) != fault.Unauthenticated {
		t.Errorf("a removed token came back: %v", err)
	}
}
