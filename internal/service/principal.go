package service

import (
	"cmp"
	"time"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/wire"
)

// Principal is who asks, and Grant what it may do. The name stands in timelines.
type (
	Principal = fleet.Principal
	Grant     = fleet.Grant
)

// Role is what a grant is of.
type Role = fleet.Role

// The roles; each may do all that the ones before may.
const (
	Viewer   = fleet.Viewer   // look
	Operator = fleet.Operator // send, cancel and retry commands
	Approver = fleet.Approver // agree to commands of others, or not
	Admin    = fleet.Admin    // devices, users and tokens
)

// now is p with the rights of this moment, for what goes on for long after p was let
// in. Errors: Unauthenticated when its token is not in force any more.
func (s *Service) now(p Principal) (Principal, error) {
	ok := p.Until.IsZero() || time.Now().Before(p.Until)
	if p.Token != "" {
		p, ok = s.opt.Fleet.Holder(p.Token)
	}
	if !ok {
		return Principal{}, fault.New(fault.Unauthenticated, "the token is not in force any more")
	}
	return p, nil
}

// must says Forbidden when p has the role r nowhere. It stands before what is
// asked of the parts; whether p has the role in the very place is a matter of
// [may].
func must(p Principal, r Role) error {
	if !p.MaySome(r) {
		return fault.New(fault.Forbidden, "this needs the role %s; %q has %q", r, p.Name, p.Role())
	}
	return nil
}

// may says Forbidden when p has not the role r for the command in the group. The
// command is "" where it is not about one.
func may(p Principal, r Role, group, command string) error {
	if err := must(p, r); err != nil || p.May(r, group, command) {
		return err
	}
	switch groups, all := p.Groups(r); {
	case all || p.May(r, group, ""):
		return fault.New(fault.Forbidden, "this needs the role %s for the command %s in the group %s; %q has it for other commands", r, command, group, p.Name)
	default:
		return fault.New(fault.Forbidden, "%q has the role %s for %s only", p.Name, r, groupNames(groups))
	}
}

// mayAll says Forbidden to all but those who have the role for all groups and all
// commands: what they ask for is not of one of them.
func mayAll(p Principal, r Role) error {
	if err := must(p, r); err != nil || p.May(r, "", "*") {
		return err
	}
	return fault.New(fault.Forbidden, "this needs the role %s for all groups and all commands; %q has it for some", r, p.Name)
}

func groupNames(groups []string) string {
	const shown = 5
	if len(groups) == 1 {
		return "the group " + groups[0]
	}
	text := "the groups "
	for i, g := range groups {
		switch {
		case i == shown:
			return text + " and others"
		case i > 0:
			text += ", "
		}
		text += g
	}
	return text
}

// mayDevice says Invalid for an address that cannot be, and Forbidden to who has
// not the role r in its group.
func mayDevice(p Principal, r Role, a wire.Address) error {
	if err := must(p, r); err != nil {
		return err
	}
	if err := address(a); err != nil {
		return err
	}
	return may(p, r, a.Group, "")
}

// narrow makes a filter by a group of devices, and in it by a device, one that p may
// look at: one group, or one of several, or, when both are empty, all. What cannot be
// is Invalid: an empty answer would look like a group without devices.
func narrow(p Principal, group, device string) (one string, several []string, err error) {
	if device != "" && group == "" {
		return "", nil, fault.Field("device", "needs group beside it: a device's name is unique within its group only")
	}
	if group != "" {
		if err := address(wire.Address{Group: group, Device: cmp.Or(device, "any")}); err != nil {
			return "", nil, err
		}
	}
	return narrowAny(p, group)
}

// narrowAny is narrow for groups of which some are of no devices of ours, such as those
// of Sparkplug.
func narrowAny(p Principal, group string) (one string, several []string, err error) {
	if group != "" {
		return group, nil, may(p, Viewer, group, "")
	}
	switch groups, all := p.Groups(Viewer); {
	case all:
		return "", nil, nil
	case len(groups) == 1:
		return groups[0], nil, nil
	case len(groups) == 0:
		return "", nil, must(p, Viewer)
	default:
		return "", groups, nil
	}
}
