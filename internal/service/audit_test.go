package service

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/wilco-iot/wilco/internal/audit"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/hook"
	"github.com/wilco-iot/wilco/internal/rollout"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/internal/store/sqlite"
	"github.com/wilco-iot/wilco/wire"
)

// reads are the use cases that change nothing. Every other one must be recorded.
var reads = []string{"Anomalies", "Audit", "Authenticate", "Command", "Deliveries", "Device", "Devices", "Health", "Hooks", "List", "ListTypes",
	"Absent", "PlanRollback", "PlanRollout", "Policy", "Rollout", "RolloutTargets", "Rollouts", "SparkplugNode", "SparkplugNodes", "SparkplugTail", "State", "StateHistory", "Stats", "Supports", "Tail", "Type",
	"Tokens", "User", "Users", "Wait"}

// carriedOut are those by which the server does what was recorded when it was begun.
var carriedOut = []string{"CreateForRollout", "UndoForRollout"}

// A use case that is added to Service and changes something must be made anew in
// Audited, or it would pass unrecorded.
func TestEveryActIsRecorded(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	own := map[string]bool{}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv != nil {
				if of, ok := fn.Recv.List[0].Type.(*ast.StarExpr); ok && fmt.Sprint(of.X) == "Audited" {
					own[fn.Name.Name] = true
				}
			}
		}
	}
	all := reflect.TypeFor[*Audited]()
	for i := range all.NumMethod() {
		name := all.Method(i).Name
		if !own[name] && !slices.Contains(reads, name) && !slices.Contains(carriedOut, name) {
			t.Errorf("%s is in neither: make it anew in Audited, or add it to reads in this test when it changes nothing", name)
		}
	}
}

func audited(t *testing.T, p *parts) (*Audited, func() []audit.Entry) {
	t.Helper()
	db, err := sqlite.Open(filepath.Join(t.TempDir(), "w.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	log, err := audit.Open(t.Context(), db, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, read := NewAudited(newService(p), log, hook.New(hook.Options{Store: db}), rollout.New(rollout.Options{Store: db})), ""
	return a, func() []audit.Entry { // what is new
		list, _, err := a.Audit(t.Context(), Principal{Grants: fleet.Everywhere(Admin)}, read, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) > 0 {
			read = list[len(list)-1].Key
		}
		return list
	}
}

// cancels is an engine that cancels.
func (p *parts) Cancel(_ context.Context, tid command.TID, _, _ string) (command.Command, error) {
	return *p.command, p.err
}

func TestWhatIsRecorded(t *testing.T) {
	p := &parts{known: map[wire.Address]store.Device{valve: {}}, command: &command.Command{TID: tid1, Device: valve, State: command.Sent}}
	a, news := audited(t, p)
	ops := Principal{Name: "ops", Grants: []Grant{{Role: Operator, Groups: []string{"plant"}}}}
	good := Order{Device: valve, Name: "open"}
	other, bad := good, good
	other.Name = "shut"
	bad.Name = ""
	strange := good
	strange.Device.Group = "mill"
	tids := make([]byte, 0, 48)
	for i := range 3 {
		tids = append(append(tids, byte(i+1)), make([]byte, 15)...)
	}
	sum := sha256.Sum256(tids)
	for _, c := range []struct {
		name string
		do   func() error
		code fault.Code
		want string // act, target, outcome, count, detail; "" for no entry
	}{
		{"send", func() error { _, err := a.Send(t.Context(), ops, good); return err }, "", "command.create plant/valve ok 1 open"},
		{"invalid", func() error { _, err := a.Send(t.Context(), ops, bad); return err }, fault.Invalid, ""},
		{"forbidden", func() error { _, err := a.Send(t.Context(), ops, strange); return err }, fault.Forbidden, "command.create mill/valve forbidden 0 open"},
		{"bulk", func() error { _, err := a.SendBulk(t.Context(), ops, []Order{good, bad, good, good}); return err }, "", "command.create plant/valve ok 3 open and others"},
		{"bulk of nothing", func() error { _, err := a.SendBulk(t.Context(), ops, []Order{bad}); return err }, "", ""},
		{"bulk forbidden", func() error { _, err := a.SendBulk(t.Context(), ops, []Order{strange, other}[:1]); return err }, "", "command.create mill/valve forbidden 0 open"},
		{"cancel", func() error { _, err := a.Cancel(t.Context(), ops, tid1, "why"); return err }, "", "command.cancel " + tid1.String() + " ok 0 why"},
		{"cancel unknown", func() error { _, err := a.Cancel(t.Context(), ops, command.TID{}, "why"); return err }, fault.NotFound,
			"command.cancel " + command.TID{}.String() + " not_found 0 why"},
		{"device", func() error { return a.RemoveDevice(t.Context(), ops, valve) }, fault.Forbidden, "device.remove plant/valve forbidden 0 "},
		{"token", func() error {
			_, _, err := a.CreateToken(t.Context(), ops, NewToken{Name: "n", Grants: fleet.Everywhere(Admin)})
			return err
		}, fault.Forbidden, "token.create  forbidden 0 name=n grants=admin"},
	} {
		if err := c.do(); fault.CodeOf(err) != c.code {
			t.Errorf("%s: %v", c.name, err)
		}
		var got []string
		for _, e := range news() {
			if e.Who != "ops" || e.Role != "operator" || e.Group != "plant" {
				t.Errorf("%s: by %+v", c.name, e)
			}
			got = append(got, fmt.Sprintf("%s %s %s %d %s", e.Act, e.Target, e.Outcome, e.Count, e.Detail))
			if c.name == "bulk" && e.Digest != hex.EncodeToString(sum[:]) {
				t.Errorf("digest %s", e.Digest)
			}
		}
		if strings.Join(got, "; ") != c.want {
			t.Errorf("%s: recorded %q, want %q", c.name, got, c.want)
		}
	}
}

func TestLogAndHooksAreForAdminsOfAllGroups(t *testing.T) {
	a, _ := audited(t, &parts{})
	for _, p := range []Principal{
		{Grants: fleet.Everywhere(Viewer)}, {Grants: fleet.Everywhere(Operator)},
		{Grants: []Grant{{Role: Admin, Groups: []string{"plant"}}}}, {Grants: []Grant{{Role: Admin, Commands: []string{"valve.*"}}}},
	} {
		_, _, read := a.Audit(t.Context(), p, "", 0)
		_, _, add := a.AddHook(t.Context(), p, hook.Rule{Name: "h", Alarm: &hook.Alarm{}})
		_, list := a.Hooks(t.Context(), p)
		_, dead := a.Deliveries(t.Context(), p, "h", 0, 0)
		_, _, again := a.Redrive(t.Context(), p, "h", 0)
		_, rotated := a.RotateHook(t.Context(), p, "h")
		for i, err := range []error{read, add, list, dead, again, rotated, a.RemoveHook(t.Context(), p, "h")} {
			if fault.CodeOf(err) != fault.Forbidden {
				t.Errorf("%+v: %d: %v", p, i, err)
			}
		}
	}
}

// A hook and its entry are in one commit, with the secret told once.
func TestHooksAreRecordedWithTheirChange(t *testing.T) {
	a, news := audited(t, &parts{})
	root := Principal{Name: "root", Grants: fleet.Everywhere(Admin)}
	rule := hook.Rule{Name: "h", Webhook: &hook.Webhook{URL: "https://example.com/x"}}
	made, secret, err := a.AddHook(t.Context(), root, rule)
	if err != nil || !strings.HasPrefix(secret, "whsec_") || made.Webhook.Secret != nil {
		t.Fatalf("%+v %q %v", made, secret, err)
	}
	if _, _, err := a.AddHook(t.Context(), root, rule); fault.CodeOf(err) != fault.Exists {
		t.Error(err)
	}
	if list, err := a.Hooks(t.Context(), root); err != nil || len(list) != 1 || list[0].Webhook.Secret != nil {
		t.Errorf("%+v %v", list, err)
	}
	if again, err := a.RotateHook(t.Context(), root, "h"); err != nil || again == secret || !strings.HasPrefix(again, "whsec_") {
		t.Errorf("%q %v", again, err)
	}
	if err := a.RemoveHook(t.Context(), root, "h"); err != nil {
		t.Error(err)
	}
	var got []string
	for _, e := range news() {
		got = append(got, e.Act+" "+e.Target+" "+e.Outcome+" "+e.Detail)
	}
	want := []string{"hook.add h ok webhook https://example.com", "hook.add h exists webhook https://example.com",
		"hook.rotate h ok ", "hook.remove h ok "}
	if !slices.Equal(got, want) {
		t.Errorf("recorded %q", got)
	}
}
