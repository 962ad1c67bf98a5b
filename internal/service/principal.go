package service

import (
	"github.com/wilco-iot/wilco/internal/fault"
)

// Role is what a principal may do. Stored; never change.
type Role string

// The roles; each may do all that the ones before may.
const (
	Viewer   Role = "viewer"   // look
	Operator Role = "operator" // send, cancel and retry commands
	Admin    Role = "admin"    // devices and tokens
)

// Roles lists the roles, the least first.
var Roles = []Role{Viewer, Operator, Admin}

// rank orders the roles; an unknown one may do nothing.
func (r Role) rank() int {
	for i, known := range Roles {
		if r == known {
			return i + 1
		}
	}
	return 0
}

// Principal is who asks.
type Principal struct {
	Name  string // stands in timelines
	Role  Role
	Group string // the only group that it may touch; "" means all
}

// must says Forbidden when the principal's role is less than r.
func (p Principal) must(r Role) error {
	if p.Role.rank() < r.rank() {
		return fault.New(fault.Forbidden, "this needs the role %s; the token %q has %s", r, p.Name, p.Role)
	}
	return nil
}

// in says Forbidden when the principal may not touch the group.
func (p Principal) in(group string) error {
	if !p.sees(group) {
		return fault.New(fault.Forbidden, "the token %q is for the group %s only", p.Name, p.Group)
	}
	return nil
}

func (p Principal) sees(group string) bool { return p.Group == "" || p.Group == group }

// narrow makes a filter by group one that the principal may use.
func (p Principal) narrow(group string) (string, error) {
	if group == "" {
		return p.Group, nil
	}
	return group, p.in(group)
}
