package service

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/host"
	"github.com/wilco-iot/wilco/wire"
)

// Sparkplug follows edge nodes. None of its methods blocks.
type Sparkplug interface {
	// Nodes is all of them, sorted by group and node.
	Nodes() []host.Node
	Node(host.NodeID) (host.Node, []host.Device, bool)
	// Rebirth returns false when nothing may be asked for, or of an unknown node.
	Rebirth(host.NodeID) bool
	// Watch begins a stream of events with that much room.
	Watch(buffer int) *host.Watch
	// CheckCommand says what is wrong with a command for a device of the profile
	// sparkplug.
	CheckCommand(a wire.Address, name string, params json.RawMessage) error
	// CommandEffects are what such a command changes of its device's state.
	CommandEffects(name string, params json.RawMessage) []command.PathEffect
}

// fits says what is wrong with an order for a Sparkplug device, and gives the terms
// that it has there: its params say what it changes, where its type does not. Nothing
// is wrong with an order for others, whose terms stay as they are.
func (s *Service) fits(o *Order, d *store.Device, by *command.Terms) (*command.Terms, error) {
	switch {
	case d.Profile != fleet.SparkplugProfile:
		return by, nil
	case s.opt.Sparkplug == nil:
		return by, &fault.Error{Code: fault.Conflict, Message: o.Device.String() + " is a Sparkplug device, and this server is no Sparkplug host",
			Cure: "set sparkplug.role of the server"}
	}
	if err := s.opt.Sparkplug.CheckCommand(o.Device, o.Name, o.Params); err != nil {
		return by, err
	}
	own := command.Terms{}
	if by != nil {
		own = *by
	}
	if len(own.Effects) == 0 {
		if own.Effects = s.opt.Sparkplug.CommandEffects(o.Name, o.Params); own.Effects != nil {
			return &own, nil
		}
	}
	return by, nil
}

// NodeQuery selects edge nodes.
type NodeQuery struct {
	Group  string
	Status string // a word of host.Status; "" for all
	Cursor string // next of the last page
	Limit  int    // 1 to MaxPage; 0 means 100
}

// SparkplugNodes selects edge nodes, sorted by group and node. next is "" on the
// last page.
func (s *Service) SparkplugNodes(_ context.Context, p Principal, q NodeQuery) (page []host.Node, next string, err error) {
	if err := s.mustSparkplug(p, Viewer); err != nil {
		return nil, "", err
	}
	var groups []string
	if q.Group, groups, err = narrowAny(p, q.Group); err != nil {
		return nil, "", err
	}
	if q.Limit < 0 || q.Limit > MaxPage {
		return nil, "", fault.Field("limit", "%d is not between 1 and %d", q.Limit, MaxPage)
	}
	if q.Limit == 0 {
		q.Limit = 100
	}
	group, node, found := strings.Cut(q.Cursor, "/")
	if q.Cursor != "" && !found {
		return nil, "", fault.Field("cursor", "is not one that was given")
	}
	after := host.NodeID{Group: group, Node: node}
	for _, n := range s.opt.Sparkplug.Nodes() {
		if q.Group != "" && n.ID.Group != q.Group || groups != nil && !slices.Contains(groups, n.ID.Group) || q.Status != "" && n.Status.String() != q.Status || !behind(after, n.ID) {
			continue
		}
		if len(page) == q.Limit {
			return page, page[len(page)-1].ID.String(), nil
		}
		page = append(page, n)
	}
	return page, "", nil
}

func behind(after, id host.NodeID) bool {
	return id.Group > after.Group || id.Group == after.Group && id.Node > after.Node
}

// SparkplugNode looks at an edge node: its own metrics first, then its devices'.
func (s *Service) SparkplugNode(_ context.Context, p Principal, id host.NodeID) (host.Node, []host.Device, error) {
	if err := s.knownNode(p, Viewer, id); err != nil {
		return host.Node{}, nil, err
	}
	n, devices, ok := s.opt.Sparkplug.Node(id)
	if !ok {
		return host.Node{}, nil, unknownNode(id)
	}
	return n, devices, nil
}

// SparkplugRebirth asks an edge node for its births, and does not wait for them.
func (s *Service) SparkplugRebirth(ctx context.Context, p Principal, id host.NodeID) error {
	if err := s.knownNode(p, Operator, id); err != nil {
		return err
	}
	if _, _, err := s.SparkplugNode(ctx, p, id); err != nil {
		return err
	}
	if !s.opt.Sparkplug.Rebirth(id) {
		return &fault.Error{Code: fault.Conflict, Message: "this server is a passive Sparkplug host and asks for nothing",
			Cure: "set sparkplug.role of the server to active or primary"}
	}
	return nil
}

// SparkplugRebirth asks an edge node for its births.
func (a *Audited) SparkplugRebirth(ctx context.Context, p Principal, id host.NodeID) error {
	return a.record(ctx, entryOf(p, actRebirth, id.String(), ""), a.Service.SparkplugRebirth(ctx, p, id))
}

func (s *Service) mustSparkplug(p Principal, r Role) error {
	if err := must(p, r); err != nil {
		return err
	}
	if s.opt.Sparkplug == nil {
		return &fault.Error{Code: fault.Conflict, Message: "this server is no Sparkplug host", Cure: "set sparkplug.role of the server"}
	}
	return nil
}

func (s *Service) knownNode(p Principal, r Role, id host.NodeID) error {
	if err := s.mustSparkplug(p, r); err != nil {
		return err
	}
	if sparkplug.ValidID(id.Group) != nil || sparkplug.ValidID(id.Node) != nil {
		return fault.Field("node", "must be group/node, without + and #")
	}
	return may(p, r, id.Group, "")
}

func unknownNode(id host.NodeID) error {
	return &fault.Error{Code: fault.NotFound, Field: "node", Message: "nothing is known of an edge node " + id.String() + "; list them with wilco sparkplug nodes"}
}
