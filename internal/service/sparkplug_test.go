package service

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/sparkplug/host"
	"github.com/wilco-iot/wilco/wire"
)

// edges is a host that knows some nodes, and may be asked for rebirths or not.
type edges struct {
	nodes   []host.Node
	passive bool
	asked   []host.NodeID
	host    *host.Host // never started; for Watch
}

func (e *edges) Nodes() []host.Node { return e.nodes }

func (e *edges) Node(id host.NodeID) (host.Node, []host.Device, bool) {
	for _, n := range e.nodes {
		if n.ID == id {
			return n, nil, true
		}
	}
	return host.Node{}, nil, false
}

func (e *edges) Rebirth(id host.NodeID) bool {
	if !e.passive {
		e.asked = append(e.asked, id)
	}
	return !e.passive
}

func TestEdgeNodesByGroupAndRole(t *testing.T) {
	known := host.NodeID{Group: "a", Node: "n"}
	e := &edges{nodes: []host.Node{{ID: known, Status: host.Online}, {ID: host.NodeID{Group: "a", Node: "o"}}, {ID: host.NodeID{Group: "b", Node: "a"}}}}
	s := New(Options{Sparkplug: e})
	for _, c := range []struct {
		role  Role
		group string
		id    host.NodeID
		look  fault.Code
		act   fault.Code
	}{
		{Viewer, "", known, "", fault.Forbidden},
		{Operator, "", known, "", ""},
		{Operator, "b", known, fault.Forbidden, fault.Forbidden},
		{Operator, "a", known, "", ""},
		{Operator, "", host.NodeID{Group: "a", Node: "x"}, fault.NotFound, fault.NotFound},
		{Operator, "", host.NodeID{Group: "a", Node: "+"}, fault.Invalid, fault.Invalid},
	} {
		p := only(c.role, c.group)
		if _, _, err := s.SparkplugNode(t.Context(), p, c.id); fault.CodeOf(err) != c.look {
			t.Errorf("%+v: look: %v", c, err)
		}
		before := len(e.asked)
		err := s.SparkplugRebirth(t.Context(), p, c.id)
		if fault.CodeOf(err) != c.act || (len(e.asked) > before) != (c.act == "") {
			t.Errorf("%+v: rebirth: %v, %d asked", c, err, len(e.asked)-before)
		}
	}
	e.passive = true
	if err := s.SparkplugRebirth(t.Context(), Principal{Grants: fleet.Everywhere(Operator)}, known); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("a passive host: %v", err)
	}
	if _, _, err := New(Options{}).SparkplugNodes(t.Context(), Principal{Grants: fleet.Everywhere(Admin)}, NodeQuery{}); fault.CodeOf(err) != fault.Conflict || !strings.Contains(fault.From(err).Cure, "sparkplug.role") {
		t.Errorf("no host: %v", err)
	}
}

func TestPagesOfEdgeNodes(t *testing.T) {
	e := &edges{nodes: []host.Node{{ID: host.NodeID{Group: "a", Node: "n"}, Status: host.Online}, {ID: host.NodeID{Group: "a", Node: "o"}}, {ID: host.NodeID{Group: "b", Node: "a"}}}}
	s := New(Options{Sparkplug: e})
	for _, c := range []struct {
		group string // of the token
		q     NodeQuery
		want  string
		next  string
	}{
		{"", NodeQuery{}, "a/n a/o b/a ", ""},
		{"", NodeQuery{Limit: 3}, "a/n a/o b/a ", ""},
		{"", NodeQuery{Limit: 2}, "a/n a/o ", "a/o"},
		{"", NodeQuery{Limit: 2, Cursor: "a/o"}, "b/a ", ""},
		{"", NodeQuery{Status: "online"}, "a/n ", ""},
		{"b", NodeQuery{}, "b/a ", ""},
	} {
		page, next, err := s.SparkplugNodes(t.Context(), only(Viewer, c.group), c.q)
		got := ""
		for _, n := range page {
			got += n.ID.String() + " "
		}
		if err != nil || got != c.want || next != c.next {
			t.Errorf("%+v: %q %q %v", c, got, next, err)
		}
	}
	for _, q := range []NodeQuery{{Limit: MaxPage + 1}, {Limit: -1}, {Cursor: "x"}} {
		if _, _, err := s.SparkplugNodes(t.Context(), Principal{Grants: fleet.Everywhere(Viewer)}, q); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

func (e *edges) Watch(buffer int) *host.Watch {
	if e.host == nil {
		e.host, _ = host.New(host.Options{Role: host.Passive, Servers: []host.Server{{Client: client.Options{Servers: []string{"mqtt://x"}}}}})
	}
	return e.host.Watch(buffer)
}

func (e *edges) CommandEffects(string, json.RawMessage) []command.PathEffect { return nil }

func (e *edges) CheckCommand(_ wire.Address, name string, _ json.RawMessage) error {
	if name != "sparkplug.write" {
		return fault.Field("name", "is none of theirs")
	}
	return nil
}

// TestCommandsOfSparkplugDevicesAreChecked: at their creation, and those of nobody else.
func TestCommandsOfSparkplugDevicesAreChecked(t *testing.T) {
	node := wire.Address{Group: "plant", Device: "node"}
	p := &parts{known: map[wire.Address]store.Device{valve: {}, node: {Profile: fleet.SparkplugProfile}}}
	send := func(s *Service, a wire.Address, name string) error {
		_, err := s.Send(t.Context(), Principal{Grants: fleet.Everywhere(Operator)}, Order{Device: a, Name: name})
		return err
	}
	if err := send(newService(p), node, "sparkplug.write"); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("without a host: %v", err)
	}
	s := New(Options{Engine: p, Store: p, Fleet: fleetOf{p: p}, Sparkplug: &edges{}})
	if err := send(s, node, "valve.open"); fault.From(err).Field != "name" || len(p.asked) > 0 {
		t.Errorf("a command that is none of theirs: %v", err)
	}
	if err := send(s, node, "sparkplug.write"); err != nil {
		t.Error(err)
	}
	if err := send(s, valve, "valve.open"); err != nil {
		t.Errorf("a device of another profile: %v", err)
	}
}
