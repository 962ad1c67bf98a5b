package service

import (
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/fleet"
)

// Principal is who asks. Its name stands in timelines.
type Principal = fleet.Principal

// Role is what a principal may do.
type Role = fleet.Role

// The roles; each may do all that the ones before may.
const (
	Viewer   = fleet.Viewer   // look
	Operator = fleet.Operator // send, cancel and retry commands
	Approver = fleet.Approver // agree to commands of others, or not
	Admin    = fleet.Admin    // devices and tokens
)

// must says Forbidden when p's role is less than r.
func must(p Principal, r Role) error {
	if !p.Role.AtLeast(r) {
		return fault.New(fault.Forbidden, "this needs the role %s; the token %q has %s", r, p.Name, p.Role)
	}
	return nil
}

// inside says Forbidden when p may not touch the group.
func inside(p Principal, group string) error {
	if !sees(p, group) {
		return fault.New(fault.Forbidden, "the token %q is for the group %s only", p.Name, p.Group)
	}
	return nil
}

func sees(p Principal, group string) bool { return p.Group == "" || p.Group == group }

// narrow makes a filter by group one that p may use.
func narrow(p Principal, group string) (string, error) {
	if group == "" {
		return p.Group, nil
	}
	return group, inside(p, group)
}
