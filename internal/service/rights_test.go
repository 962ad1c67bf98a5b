package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"iter"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/internal/audit"
	"github.com/wilco-iot/wilco/internal/catalog"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/hook"
	"github.com/wilco-iot/wilco/internal/rollout"
	rplan "github.com/wilco-iot/wilco/internal/rollout/plan"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/sparkplug/host"
	"github.com/wilco-iot/wilco/wire"
)

var update = flag.Bool("update", false, "write the golden files anew")

// uses are all use cases that ask who asks, for a device or a command of the group
// plant whose name is valve.open.
var uses = map[string]func(*Audited, context.Context, Principal) error{
	"Send": func(s *Audited, ctx context.Context, p Principal) error {
		_, err := s.Send(ctx, p, Order{Device: valve, Name: "valve.open"})
		return err
	},
	"SendBulk": func(s *Audited, ctx context.Context, p Principal) error {
		out, err := s.SendBulk(ctx, p, []Order{{Device: valve, Name: "valve.open"}})
		if err == nil {
			err = out[0].Err
		}
		return err
	},
	"Command": func(s *Audited, ctx context.Context, p Principal) error {
		_, err := s.Command(ctx, p, tid1)
		return err
	},
	"Wait": func(s *Audited, ctx context.Context, p Principal) error {
		_, err := s.Wait(ctx, p, tid1, 0, 0)
		return err
	},
	"List": func(s *Audited, ctx context.Context, p Principal) error {
		_, _, err := s.List(ctx, p, store.Query{Group: "plant"})
		return err
	},
	"Stats": func(s *Audited, ctx context.Context, p Principal) error {
		_, err := s.Stats(ctx, p, StatsQuery{Group: "plant", Since: time.Now().Add(-time.Hour)})
		return err
	},
	"Cancel": func(s *Audited, ctx context.Context, p Principal) error {
		_, err := s.Cancel(ctx, p, tid1, "")
		return err
	},
	"Retry": func(s *Audited, ctx context.Context, p Principal) error {
		_, _, err := s.Retry(ctx, p, tid1, "")
		return err
	},
	"Tail": func(s *Audited, ctx context.Context, p Principal) error {
		_, err := s.Tail(ctx, p, EventFilter{Group: "plant"}, 0)
		return err
	},
	"AddDevice": func(s *Audited, ctx context.Context, p Principal) error {
		_, _, err := s.AddDevice(ctx, p, NewDevice{Address: valve})
		return err
	},
	"Device": func(s *Audited, ctx context.Context, p Principal) error {
		_, err := s.Device(ctx, p, valve)
		return err
	},
	"Devices": func(s *Audited, ctx context.Context, p Principal) error {
		_, _, err := s.Devices(ctx, p, store.DeviceQuery{Group: "plant"})
		return err
	},
	"RotateDevice": func(s *Audited, ctx context.Context, p Principal) error {
		_, _, err := s.RotateDevice(ctx, p, valve)
		return err
	},
	"ChangeDevice": func(s *Audited, ctx context.Context, p Principal) error {
		note := "n"
		_, err := s.ChangeDevice(ctx, p, valve, DeviceChange{Note: &note})
		return err
	},
	"RemoveDevice": func(s *Audited, ctx context.Context, p Principal) error { return s.RemoveDevice(ctx, p, valve) },
	"Anomalies": func(s *Audited, ctx context.Context, p Principal) error {
		_, err := s.Anomalies(ctx, p, valve, 1)
		return err
	},
	"CreateToken": func(s *Audited, ctx context.Context, p Principal) error {
		_, _, err := s.CreateToken(ctx, p, NewToken{Name: "n", Grants: []Grant{{Role: Viewer, Groups: []string{"plant"}}}})
		return err
	},
	"Tokens": func(s *Audited, ctx context.Context, p Principal) error { _, err := s.Tokens(ctx, p); return err },
	"ApplyType": func(s *Audited, ctx context.Context, p Principal) error {
		_, _, err := s.ApplyType(ctx, p, catalog.Type{Name: "n"})
		return err
	},
	"DeprecateType": func(s *Audited, ctx context.Context, p Principal) error {
		_, err := s.DeprecateType(ctx, p, "n", "why")
		return err
	},
	"Type":        func(s *Audited, ctx context.Context, p Principal) error { _, err := s.Type(ctx, p, "n", 0); return err },
	"ListTypes":   func(s *Audited, ctx context.Context, p Principal) error { _, err := s.ListTypes(ctx, p); return err },
	"RemoveToken": func(s *Audited, ctx context.Context, p Principal) error { return s.RemoveToken(ctx, p, "id") },
	"Approve": func(s *Audited, ctx context.Context, p Principal) error {
		_, err := s.Approve(ctx, p, tid1, "digest", "")
		return err
	},
	"Deny": func(s *Audited, ctx context.Context, p Principal) error {
		_, err := s.Deny(ctx, p, tid1, "")
		return err
	},
	"BreakGlass": func(s *Audited, ctx context.Context, p Principal) error {
		_, err := s.BreakGlass(ctx, p, tid1, "why")
		return err
	},
	"PlanRollback": func(s *Audited, ctx context.Context, p Principal) error {
		_, err := s.PlanRollback(ctx, p, tid1)
		return err
	},
	"Rollback": func(s *Audited, ctx context.Context, p Principal) error {
		_, err := s.Rollback(ctx, p, tid1, RollbackOptions{})
		return err
	},
	"State": func(s *Audited, ctx context.Context, p Principal) error { _, err := s.State(ctx, p, valve); return err },
	"StateHistory": func(s *Audited, ctx context.Context, p Principal) error {
		_, err := s.StateHistory(ctx, p, valve, 0)
		return err
	},
	"SparkplugNode": func(s *Audited, ctx context.Context, p Principal) error {
		_, _, err := s.SparkplugNode(ctx, p, host.NodeID{Group: "plant", Node: "n"})
		return err
	},
	"SparkplugNodes": func(s *Audited, ctx context.Context, p Principal) error {
		_, _, err := s.SparkplugNodes(ctx, p, NodeQuery{Group: "plant"})
		return err
	},
	"SparkplugTail": func(s *Audited, ctx context.Context, p Principal) error {
		tail, err := s.SparkplugTail(ctx, p, EdgeFilter{Group: "plant", Node: "n"})
		if err == nil {
			tail.Close()
		}
		return err
	},
	"SparkplugRebirth": func(s *Audited, ctx context.Context, p Principal) error {
		return s.SparkplugRebirth(ctx, p, host.NodeID{Group: "plant", Node: "n"})
	},
	"Audit": func(s *Audited, ctx context.Context, p Principal) error {
		_, _, err := s.Audit(ctx, p, "", 0)
		return err
	},
	"Hooks": func(s *Audited, ctx context.Context, p Principal) error { _, err := s.Hooks(ctx, p); return err },
	"AddHook": func(s *Audited, ctx context.Context, p Principal) error {
		_, _, err := s.AddHook(ctx, p, hook.Rule{})
		return err
	},
	"RemoveHook": func(s *Audited, ctx context.Context, p Principal) error { return s.RemoveHook(ctx, p, "h") },
	"Deliveries": func(s *Audited, ctx context.Context, p Principal) error {
		_, err := s.Deliveries(ctx, p, "h", 0, 0)
		return err
	},
	"RotateHook": func(s *Audited, ctx context.Context, p Principal) error {
		_, err := s.RotateHook(ctx, p, "h")
		return err
	},
	"AddUser": func(s *Audited, ctx context.Context, p Principal) error {
		_, err := s.AddUser(ctx, p, NewUser{Name: "n", Grants: []Grant{{Role: Viewer, Groups: []string{"plant"}}}})
		return err
	},
	"Users":      func(s *Audited, ctx context.Context, p Principal) error { _, err := s.Users(ctx, p); return err },
	"User":       func(s *Audited, ctx context.Context, p Principal) error { _, err := s.User(ctx, p, "ann"); return err },
	"RemoveUser": func(s *Audited, ctx context.Context, p Principal) error { return s.RemoveUser(ctx, p, "ann") },
	"ChangeUser": func(s *Audited, ctx context.Context, p Principal) error {
		off := true
		_, err := s.ChangeUser(ctx, p, "ann", UserChange{Disabled: &off})
		return err
	},
	"SetPassword": func(s *Audited, ctx context.Context, p Principal) error {
		_, err := s.SetPassword(ctx, p, "ann", "password", "", "")
		return err
	},
	"Logout": func(s *Audited, ctx context.Context, p Principal) error { return s.Logout(ctx, p) },
	"PlanRollout": func(s *Audited, ctx context.Context, p Principal) error {
		_, err := s.PlanRollout(ctx, p, aRollout)
		return err
	},
	"StartRollout": func(s *Audited, ctx context.Context, p Principal) error {
		_, _, err := s.StartRollout(ctx, p, aRollout)
		return err
	},
	"Rollouts": func(s *Audited, ctx context.Context, p Principal) error { _, err := s.Rollouts(ctx, p); return err },
	"Rollout":  func(s *Audited, ctx context.Context, p Principal) error { _, err := s.Rollout(ctx, p, "r"); return err },
	"RolloutTargets": func(s *Audited, ctx context.Context, p Principal) error {
		_, err := s.RolloutTargets(ctx, p, "r", nil, 0, 0)
		return err
	},
	"AskRollout": func(s *Audited, ctx context.Context, p Principal) error {
		_, err := s.AskRollout(ctx, p, "r", rplan.Event{Kind: rplan.Pause})
		return err
	},
	"AskRollout vote": func(s *Audited, ctx context.Context, p Principal) error {
		_, err := s.AskRollout(ctx, p, "r", rplan.Event{Kind: rplan.Approve, Digest: "d"})
		return err
	},
	"RollbackRollout": func(s *Audited, ctx context.Context, p Principal) error {
		_, err := s.RollbackRollout(ctx, p, "r", "")
		return err
	},
	"Redrive": func(s *Audited, ctx context.Context, p Principal) error {
		_, _, err := s.Redrive(ctx, p, "h", 0)
		return err
	},
}

// aRollout is to the one device that there is.
var aRollout = rplan.Spec{Command: "valve.open", Targets: rplan.Targets{Devices: []string{valve.String()}}}

// finished is a roll-out, r, that was executed by all its targets.
func finished(spec rplan.Spec, targets int) rplan.Rollout {
	r := rplan.New(rplan.Rollout{ID: "r", By: "y", Spec: spec, Groups: []string{"plant"}}, targets, nil, time.Now())
	r.State, r.Next = rplan.Finished, targets
	counts := &r.Waves[0].Counts
	counts[rplan.Waiting], counts[rplan.Executed] = 0, targets
	return r
}

// rollouts has one roll-out, r, to the device of the group plant, which has ended.
func (p *parts) rollouts() *rollout.Runner {
	r := rolloutStore{has: finished(aRollout, 0)}
	return rollout.New(rollout.Options{Store: &r, Directory: &r, Presence: p.Presence})
}

type rolloutStore struct {
	rollout.Store
	has rplan.Rollout
}

func (s *rolloutStore) Documents(context.Context, store.Kind, string, string, int) ([]store.Document, error) {
	return nil, nil
}

func (s *rolloutStore) Document(_ context.Context, id store.DocumentID) (store.Document, error) {
	if id.Key != s.has.ID {
		return store.Document{}, fault.New(fault.NotFound, "no")
	}
	b, err := json.Marshal(&s.has)
	return store.Document{DocumentID: id, Version: 1, Body: b}, err
}

func (s *rolloutStore) Device(a wire.Address) (store.Device, bool) {
	return store.Device{Address: a}, a == valve
}
func (s *rolloutStore) All() iter.Seq[store.Device] {
	return slices.Values([]store.Device{{Address: valve}})
}

// grown is a store whose roll-out began with a device of plant and has taken in one
// of mill.
type grown struct{ rolloutStore }

func (s *grown) Documents(_ context.Context, kind store.Kind, prefix, after string, _ int) ([]store.Document, error) {
	if after != "" {
		return nil, nil
	}
	cell := make([]byte, 18)
	cell[0] = byte(rplan.Executed)
	var docs []store.Document
	for key, body := range map[string]string{"r/000000/devices": "plant/v\nmill/v\n", "r/000000/state": string(cell) + string(cell)} {
		if strings.HasPrefix(key, prefix) {
			docs = append(docs, store.Document{DocumentID: store.DocumentID{Kind: kind, Key: key}, Version: 1, Body: []byte(body)})
		}
	}
	slices.SortFunc(docs, func(a, b store.Document) int { return strings.Compare(a.Key, b.Key) })
	return docs, nil
}

// TestRollbackOfADynamicRollout needs the rights for all that it has come to.
func TestRollbackOfADynamicRollout(t *testing.T) {
	spec := aRollout
	spec.Dynamic = true
	s := grown{rolloutStore{has: finished(spec, 2)}}
	log, err := audit.Open(t.Context(), nothing{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := &parts{}
	a := NewAudited(New(Options{Engine: p, Store: p, Fleet: fleetOf{p: p}}), log, nil, rollout.New(rollout.Options{Store: &s, Directory: &s, Presence: p.Presence}))
	who := Principal{Name: "x", Grants: []Grant{{Role: Viewer}, {Role: Operator, Groups: []string{"plant"}}}}
	if _, err := a.RollbackRollout(t.Context(), who, "r", ""); fault.CodeOf(err) != fault.Forbidden || !strings.Contains(err.Error(), "plant only") {
		t.Errorf("%v", err)
	}
}

// TestKeysOfTheServer: who could use one would make a command in the place of one that
// a roll-out, a hook or a rule is about to make.
func TestKeysOfTheServer(t *testing.T) {
	p := &parts{command: &command.Command{TID: tid1, Device: valve, Name: "valve.open"}, known: map[wire.Address]store.Device{valve: {Address: valve}}}
	s := New(Options{Engine: p, Store: p, Fleet: fleetOf{p: p}})
	for _, key := range []string{"rollout/fw/1", "hook/siren/42", "rule/stop/0/1"} {
		o := Order{Device: valve, Name: "valve.open", Key: key}
		if err := s.checkOrder(only(Admin, ""), &o); fault.From(err).Field != "Idempotency-Key" {
			t.Errorf("%s: sent: %v", key, err)
		}
		if _, err := s.Rollback(t.Context(), only(Admin, ""), tid1, RollbackOptions{Key: key}); fault.From(err).Field != "Idempotency-Key" {
			t.Errorf("%s: taken back: %v", key, err)
		}
		if o.ours = true; s.checkOrder(only(Admin, ""), &o) != nil {
			t.Errorf("%s: the server itself may not", key)
		}
	}
}

// only has a role in a group, or, for "", in all.
func only(r Role, group string) Principal {
	g := Grant{Role: r}
	if group != "" {
		g.Groups = []string{group}
	}
	return Principal{Name: "x", Grants: []Grant{g}}
}

// TestEveryUseCaseIsInTheMatrix: what takes a Principal and is not in uses would
// have rights that nobody has looked at.
func TestEveryUseCaseIsInTheMatrix(t *testing.T) {
	all := reflect.TypeFor[*Audited]()
	for i := range all.NumMethod() {
		m := all.Method(i)
		if m.Type.NumIn() > 2 && m.Type.In(2) == reflect.TypeFor[Principal]() && uses[m.Name] == nil {
			t.Errorf("%s is not in uses", m.Name)
		}
	}
}

// nothing is a store for an audit log that nobody reads.
type nothing struct{}

func (nothing) Commit(context.Context, *store.Batch) (int64, error) { return 0, nil }
func (nothing) Documents(context.Context, store.Kind, string, string, int) ([]store.Document, error) {
	return nil, nil
}

// TestRights asks for every use case with every role, in the group that it is
// about and in others, for the command that it is about and for others, and holds
// what comes of it against a golden table. The parts panic when they are asked
// more than they know, which is what happens to those who may.
func TestRights(t *testing.T) {
	log, err := audit.Open(t.Context(), nothing{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	groups := []Grant{{}, {Groups: []string{"plant"}}, {Groups: []string{"mill", "plant"}}, {Groups: []string{"mill"}}}
	commands := []Grant{{}, {Commands: []string{"valve.*"}}, {Commands: []string{"pump.*", "valve"}}}
	var got bytes.Buffer
	got.WriteString("# + may, - forbidden, 0 there is no such thing. For the commands: all, valve.*, and others.\n")
	fmt.Fprintf(&got, "%-18s%-10s%-10s%-10s%-10s%s\n", "", "", "all", "plant", "mill,plant", " mill")
	for _, name := range slices.Sorted(maps.Keys(uses)) {
		for _, role := range append([]Role{""}, fleetRoles...) {
			fmt.Fprintf(&got, "%-18s%-10s", name, role)
			for _, g := range groups {
				for _, c := range commands {
					who := Principal{Name: "x", Grants: []Grant{{Role: role, Groups: g.Groups, Commands: c.Commands}}}
					got.WriteString(outcome(t, log, name, who))
				}
				got.WriteString("       ")
			}
			got.Truncate(len(bytes.TrimRight(got.Bytes(), " ")))
			got.WriteByte('\n')
		}
	}
	const file = "testdata/rights.golden"
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := firstDifference(got.String(), string(want)); diff != "" {
		t.Errorf("who may do what has changed; if that is meant, run the test with -update\n%s", diff)
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		switch {
		case i >= len(g) || i >= len(w):
			return fmt.Sprintf("%d lines, want %d", len(g), len(w))
		case g[i] != w[i]:
			return "got  " + g[i] + "\nwant " + w[i]
		}
	}
	return ""
}

var fleetRoles = []Role{Viewer, Operator, Approver, Admin}

func outcome(t *testing.T, log *audit.Log, name string, who Principal) string {
	c := &command.Command{TID: tid1, Device: valve, Name: "valve.open", State: command.Created, RequestedBy: "y"}
	p := &parts{command: c, known: map[wire.Address]store.Device{valve: {Address: valve}}}
	s := New(Options{Engine: p, Store: p, Fleet: fleetOf{p: p}, Sparkplug: &edges{}})
	err := func() (err error) {
		defer func() {
			if recover() != nil {
				err = errors.New("asked the parts")
			}
		}()
		return uses[name](NewAudited(s, log, nil, p.rollouts()), t.Context(), who)
	}()
	switch f := fault.From(err); {
	case fault.CodeOf(err) == fault.Forbidden:
		return "-"
	case fault.CodeOf(err) == fault.NotFound && (f.Field == "tid" || f.Field == "id" && strings.Contains(name, "Rollout") || f.Field == "name" && !strings.Contains(name, "Type")):
		return "0"
	}
	return "+"
}
