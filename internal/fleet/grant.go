package fleet

import (
	"slices"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/wire"
)

// Role is what a grant lets its holder do. Stored; never change.
type Role string

// The roles; each may do all that the ones before may.
const (
	Viewer   Role = "viewer"   // look
	Operator Role = "operator" // send, cancel and retry commands
	Approver Role = "approver" // agree to commands of others, or not
	Admin    Role = "admin"    // devices, users and tokens
)

// Roles lists the roles, the least first.
var Roles = []Role{Viewer, Operator, Approver, Admin}

// AtLeast says whether r may do all that other may. An unknown role may nothing.
func (r Role) AtLeast(other Role) bool {
	mine, theirs := slices.Index(Roles, r), slices.Index(Roles, other)
	return mine >= 0 && theirs >= 0 && mine >= theirs
}

// Grant gives a role for some groups, or all, and for some commands, or all. The
// commands bind what is done with commands, not who may look at them.
//
// The JSON form is the stored one; never change the names.
type Grant struct {
	Role     Role     `json:"role"`
	Groups   []string `json:"groups,omitempty"`   // none: all
	Commands []string `json:"commands,omitempty"` // names; one that ends with * is of all that begin so; none: all
}

// Bounds of grants.
const (
	MaxGrants   = 32
	maxGroups   = 256
	maxPatterns = 64
)

// Everywhere is one grant of a role for all groups and commands.
func Everywhere(r Role) []Grant { return []Grant{{Role: r}} }

// Check says what is wrong with grants. Errors: Invalid.
func Check(grants []Grant) error {
	if len(grants) == 0 || len(grants) > MaxGrants {
		return fault.Field("grants", "%d grants; give 1 to %d", len(grants), MaxGrants)
	}
	for i := range grants {
		if err := grants[i].check(); err != nil {
			return err
		}
	}
	return nil
}

func (g *Grant) check() error {
	switch {
	case !slices.Contains(Roles, g.Role):
		return fault.Field("role", "%q is not one of viewer, operator, approver, admin", g.Role)
	case len(g.Groups) > maxGroups:
		return fault.Field("group", "%d groups in one grant; at most %d", len(g.Groups), maxGroups)
	case len(g.Commands) > maxPatterns:
		return fault.Field("command", "%d patterns in one grant; at most %d", len(g.Commands), maxPatterns)
	}
	for _, group := range g.Groups {
		if !validName(group) {
			return fault.Field("group", "each must be 1 to 64 of the characters A-Z a-z 0-9 . _ : -")
		}
	}
	for _, pattern := range g.Commands {
		if name := strings.TrimSuffix(pattern, "*"); pattern != "*" && !validName(name) {
			return fault.Field("command", "each must be the name of a command, or the beginning of names and a * as in valve.*")
		}
	}
	return nil
}

// validName says whether s could be one level of a device's address: the names of
// groups, commands, tokens and users are written alike.
func validName(s string) bool { return (wire.Address{Group: s, Device: "x"}).Valid() == nil }

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

// Text is grants as people write them, with a space between.
func Text(grants []Grant) string {
	words := make([]string, len(grants))
	for i := range grants {
		words[i] = grants[i].String()
	}
	return strings.Join(words, " ")
}

// in says whether the grant is for the group; "" asks for all groups.
func (g *Grant) in(group string) bool {
	return len(g.Groups) == 0 || group != "" && slices.Contains(g.Groups, group)
}

// of says whether the grant is for the commands that the pattern stands for: a
// name stands for itself, "*" for all.
func (g *Grant) of(pattern string) bool {
	return len(g.Commands) == 0 || slices.ContainsFunc(g.Commands, func(mine string) bool {
		begin, open := strings.CutSuffix(mine, "*")
		return mine == pattern || open && strings.HasPrefix(pattern, begin)
	})
}

// Principal is who asks. Its name is the person's or the program's: who comes by
// two tokens of one name, or by a session and a token of one user, is one.
type Principal struct {
	Name   string
	Grants []Grant // shared; not to be changed
	Token  string  // id of the token that it came by; "": by none of the fleet's
	// Until is when the token of another issuer that it came by expires; zero: it came
	// by none.
	Until time.Time
}

// May says whether p has the role for the command in the group, by one grant. An
// empty group asks for all groups; an empty command is for what is not about
// commands.
func (p Principal) May(r Role, group, command string) bool {
	for i := range p.Grants {
		if g := &p.Grants[i]; g.Role.AtLeast(r) && g.in(group) && (command == "" || g.of(command)) {
			return true
		}
	}
	return false
}

// MaySome says whether p has the role anywhere.
func (p Principal) MaySome(r Role) bool { return p.Role().AtLeast(r) }

// Role is the highest that p has anywhere, "" for none.
func (p Principal) Role() (highest Role) {
	for i := range p.Grants {
		if r := p.Grants[i].Role; highest == "" || r.AtLeast(highest) {
			highest = r
		}
	}
	return highest
}

// Groups are those in which p has the role, sorted, or all.
func (p Principal) Groups(r Role) (groups []string, all bool) {
	for i := range p.Grants {
		g := &p.Grants[i]
		switch {
		case !g.Role.AtLeast(r):
		case len(g.Groups) == 0:
			return nil, true
		default:
			groups = append(groups, g.Groups...)
		}
	}
	slices.Sort(groups)
	return slices.Compact(groups), false
}

// Covers says whether p, as an admin, has all that grants give: nobody hands out
// more than it has.
func (p Principal) Covers(grants []Grant) bool {
	for i := range grants {
		for _, group := range orAny(grants[i].Groups, "") {
			for _, pattern := range orAny(grants[i].Commands, "*") {
				if !p.May(Admin, group, pattern) {
					return false
				}
			}
		}
	}
	return true
}

func orAny(list []string, all string) []string {
	if len(list) == 0 {
		return []string{all}
	}
	return list
}

// ParseGrant reads a grant as String writes it. Errors: Invalid.
func ParseGrant(text string) (g Grant, err error) {
	rest, commands, some := strings.Cut(text, "/")
	if some {
		g.Commands = strings.Split(commands, ",")
	}
	role, groups, some := strings.Cut(rest, "@")
	if some {
		g.Groups = strings.Split(groups, ",")
	}
	g.Role = Role(role)
	return g, g.check()
}
