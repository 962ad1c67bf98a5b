package undo

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/replica"
	"github.com/wilco-iot/wilco/wire"
	"github.com/wilco-iot/wilco/wire/state"
)

var (
	t0    = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	tid   = uuid.MustParse("01900000-0000-7000-8000-00000000000a")
	other = uuid.MustParse("01900000-0000-7000-8000-00000000000b")
)

// story is a command and the state of its device, told from the first report on.
type story struct {
	t *testing.T
	r replica.Replica
	c command.Command
}

func (s *story) report(patch, tid string) *story {
	s.t.Helper()
	o, err := state.Parse([]byte(patch))
	if err == nil {
		s.r, _, err = s.r.Report(replica.Report{Patch: o, TID: tid}, t0)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return s
}

func (s *story) desire(patch, tid string) *story {
	s.t.Helper()
	o, err := state.Parse([]byte(patch))
	if err == nil {
		s.r, _, err = s.r.Desire(replica.Change{Patch: o, TID: tid, By: "bo"}, t0)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return s
}

// sent records what stands before, as the engine does.
func (s *story) sent() *story { s.c.FirstSent = t0; s.c.Former = s.stood(); return s }

// ended records what stands after.
func (s *story) ended(as command.State) *story { s.c.State = as; s.c.After = s.stood(); return s }

func (s *story) stood() json.RawMessage {
	var paths []string
	for _, e := range s.c.Effects() {
		paths = append(paths, e.Path)
	}
	if paths == nil {
		o, err := state.Parse(s.c.Params)
		if err != nil {
			s.t.Fatal(err)
		}
		for p := range o.Leaves() {
			paths = append(paths, p)
		}
	}
	b, err := json.Marshal(s.r.Former(paths))
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

func (s *story) plan() Plan {
	return Of(&s.c, &s.r, func(id string) string {
		if id == other.String() {
			return "cy"
		}
		return ""
	})
}

// begin tells of a command with effects written PATH or PATH=PARAM.
func begin(t *testing.T, name, params, effects string) *story {
	c, err := command.New(tid, wire.Address{Group: "g", Device: "d"}, name, json.RawMessage(params), command.Policy{}, "ann", nil, t0)
	if err != nil {
		t.Fatal(err)
	}
	c.Terms = &command.Terms{}
	for _, e := range strings.Fields(effects) {
		path, param, _ := strings.Cut(e, "=")
		c.Terms.Effects = append(c.Terms.Effects, command.PathEffect{Path: path, Param: param})
	}
	return &story{t: t, c: c}
}

func TestInverse(t *testing.T) {
	for name, c := range map[string]struct{ cmd, params, effects, before, after, want string }{
		"params":                  {"valve.set", `{"to":40,"slowly":true}`, "pos=to", `{"pos":10}`, `{"pos":40}`, `valve.set {"slowly":true,"to":10}`},
		"nested params":           {"valve.set", `{"a":{"to":40,"x":1}}`, "v.pos=a.to", `{"v":{"pos":10}}`, `{"v":{"pos":40}}`, `valve.set {"a":{"to":10,"x":1}}`},
		"a param left out":        {"valve.set", `{"to":40}`, "pos=to speed=speed", `{"pos":10,"speed":2}`, `{"pos":40}`, `valve.set {"speed":2,"to":10}`},
		"no params at all":        {"valve.home", ``, "pos=to", `{"pos":10}`, `{"pos":0}`, `valve.home {"to":10}`},
		"an object as a param":    {"valve.set", `{"to":{"a":1,"b":2}}`, "pos=to", `{"pos":{"a":3}}`, `{"pos":{"a":1,"b":2}}`, `valve.set {"to":{"a":3}}`},
		"one effect has no param": {"valve.set", `{"to":40}`, "pos=to mode", `{"pos":10,"mode":"auto"}`, `{"pos":40,"mode":"hand"}`, `state.desired {"mode":"auto","pos":10}`},
		"one was absent":          {"valve.set", `{"to":40,"lid":1}`, "pos=to lid=lid", `{"pos":10}`, `{"pos":40,"lid":1}`, `state.desired {"lid":null,"pos":10}`},
		"params are no object":    {"valve.set", `[40]`, "pos=to", `{"pos":10}`, `{"pos":40}`, `state.desired {"pos":10}`},
		"an object has grown":     {"pump.run", ``, "pump", `{"pump":{"rpm":5,"m":{"a":1}}}`, `{"pump":{"rpm":7,"on":true,"m":{"b":1}}}`, `state.desired {"pump":{"m":{"a":1,"b":null},"on":null,"rpm":5}}`},
		"an object has gone":      {"pump.run", ``, "pump", `{"pump":{"rpm":5}}`, `{"pump":null}`, `state.desired {"pump":{"rpm":5}}`},
		"a desired state":         {StateDesired, `{"pos":40,"new":1,"old":null}`, "", `{"pos":10,"old":"x"}`, `{"pos":40,"new":1,"old":null}`, `state.desired {"new":null,"old":"x","pos":10}`},
		"a desired state of one who had said nothing": {StateDesired, `{"pos":40}`, "", `{}`, `{"pos":40}`, `state.desired {"pos":null}`},
	} {
		s := begin(t, c.cmd, c.params, c.effects).report(c.before, "").sent().report(c.after, "").ended(command.Executed)
		p := s.plan()
		if p.Refusal != nil {
			t.Errorf("%s: refused: %s", name, p.Refusal.Text)
		}
		if got := p.Name + " " + string(p.Params); got != c.want {
			t.Errorf("%s: got  %s\n\twant %s", name, got, c.want)
		}
	}
}

func TestTheStateIsAsBefore(t *testing.T) {
	for before, after := range map[string]string{
		`{"pump":{"rpm":5,"m":{"a":1}}}`:   `{"pump":{"rpm":7,"on":true,"m":{"b":1}}}`,
		`{"pump":{"rpm":5}}`:               `{"pump":3}`,
		`{"pump":3}`:                       `{"pump":{"rpm":5}}`,
		`{"pump":[1,{"a":null}]}`:          `{"pump":[1]}`,
		`{"pump":{"a~b":1,"c.d":{"e":2}}}`: `{"pump":{"c.d":null}}`,
	} {
		s := begin(t, "pump.run", "", "pump").report(before, "").sent()
		was := s.r.Reported
		s.report(after, "").ended(command.Executed)
		s.report(string(s.plan().Params), "")
		if !state.Equal(s.r.Reported, was) {
			t.Errorf("%s, then %s, and taken back: %s", before, after, s.r.Reported)
		}
	}
}

func TestGuard(t *testing.T) {
	set := func(t *testing.T) *story {
		return begin(t, "valve.set", `{"to":40}`, "pos=to mode").report(`{"pos":10,"mode":"auto"}`, "").sent()
	}
	done := func(t *testing.T) *story {
		return set(t).report(`{"pos":40,"mode":"hand"}`, "").ended(command.Executed)
	}
	desired := func(t *testing.T) *story {
		return begin(t, StateDesired, `{"pos":40}`, "").report(`{"pos":10}`, "").desire(`{"pos":40}`, tid.String()).sent()
	}
	for name, c := range map[string]struct {
		s    *story
		want string // the refusal's text, or a piece of it; "" for none
	}{
		"as it was left":                            {done(t), ""},
		"something else has changed":                {done(t).report(`{"x":1}`, ""), ""},
		"said again":                                {done(t).report(`{"pos":40.0}`, ""), ""},
		"the report comes after the end, as asked":  {set(t).ended(command.Executed).report(`{"pos":40}`, ""), ""},
		"... by the report of another command":      {set(t).ended(command.Executed).report(`{"pos":40}`, other.String()), ""},
		"... or names the command":                  {set(t).ended(command.Executed).report(`{"pos":38}`, tid.String()), ""},
		"the report comes after the end, unasked":   {set(t).ended(command.Executed).report(`{"mode":"hand"}`, ""), "mode was \"auto\" before it, \"auto\" after it, and is \"hand\" now"},
		"somebody changed it":                       {done(t).report(`{"pos":60}`, ""), "pos was 10 before it, 40 after it, and is 60 now"},
		"another command changed it":                {done(t).report(`{"pos":60}`, other.String()), "is 60 now (cy, with " + other.String() + ")"},
		"another command changed it before the end": {set(t).report(`{"mode":"hand"}`, other.String()).ended(command.Executed), "mode was"},
		"there and back":                            {done(t).report(`{"mode":"off"}`, "").report(`{"mode":"hand"}`, ""), "mode was"},
		"it has gone":                               {done(t).report(`{"pos":null}`, ""), "and is absent now"},
		"back by itself":                            {done(t).report(`{"pos":10,"mode":"auto"}`, ""), "everything is as it was"},
		"half back by itself":                       {done(t).report(`{"pos":10}`, ""), ""},
		"rejected":                                  {set(t).ended(command.Rejected), "everything is as it was"},
		"failed half way":                           {set(t).report(`{"pos":25}`, "").ended(command.Failed), ""},
		"unknown, and it has done it":               {set(t).ended(command.TimedOut).report(`{"pos":40}`, ""), ""},
		"unknown, and something is there":           {set(t).ended(command.TimedOut).report(`{"pos":50}`, ""), "pos was 10 before it, 10 after it, and is 50 now"},
		"desired, and done":                         {desired(t).report(`{"pos":40}`, "").ended(command.Executed), ""},
		"desired, and refused: it is still desired": {desired(t).ended(command.Rejected), ""},
		"desired otherwise since":                   {desired(t).ended(command.Rejected).desire(`{"pos":50}`, other.String()), "(bo, with " + other.String() + ")"},
		"desired otherwise since, though done":      {desired(t).report(`{"pos":40}`, "").ended(command.Executed).desire(`{"pos":50}`, other.String()), "bo, with"},
		"desired as at first, by others":            {desired(t).report(`{"pos":40}`, "").ended(command.Executed).desire(`{"pos":50}`, other.String()).desire(`{"pos":40}`, other.String()), "and shall be 40 (bo"},
		"a wish since, that is not done":            {done(t).desire(`{"pos":50}`, other.String()), "is 40 now, and shall be 50 (bo"},
		"a wish since, for what was before":         {done(t).desire(`{"pos":10}`, other.String()), ""},
		"a wish before, that the command overruled": {begin(t, "valve.set", `{"to":40}`, "pos=to").report(`{"pos":10}`, "").desire(`{"pos":5}`, other.String()).sent().report(`{"pos":40}`, "").ended(command.Executed), ""},
		"desired as before since, and not done":     {desired(t).ended(command.Rejected).desire(`{"pos":10}`, other.String()), "everything is as it was"},
	} {
		p := c.s.plan()
		switch got := p.Refusal; {
		case got == nil && c.want != "":
			t.Errorf("%s: not refused", name)
		case got != nil && (c.want == "" || !strings.Contains(got.Text, c.want)):
			t.Errorf("%s: refused: %s", name, got.Text)
		case got != nil && got.Force != strings.HasPrefix(got.Text, "changed since: "):
			t.Errorf("%s: force %v", name, got.Force)
		}
	}
}

func TestWhatCannotBeTakenBack(t *testing.T) {
	for _, c := range []struct {
		do   func(*story)
		want string
	}{
		{func(s *story) {}, "has not been sent"},
		{func(s *story) { s.c.State = command.AwaitingApproval }, "cancel it: wilco cancel " + tid.String()},
		{func(s *story) { s.c.State = command.Cancelled }, "never sent"},
		{func(s *story) { s.c.State = command.Denied }, "never sent"},
		{func(s *story) { s.sent().ended(command.Expired) }, "certainly not executed"},
		{func(s *story) { s.sent().c.State = command.Sent }, "it is sent; cancel it first"},
		{func(s *story) { s.sent().c.State = command.Running }, "or wait"},
		{func(s *story) { s.sent().c.State = command.Cancelling }, "or wait"},
		{func(s *story) { s.sent().ended(command.Executed).c.Former = nil }, "declared no effects"},
		{func(s *story) { s.sent().ended(command.Executed).c.Former = json.RawMessage(`7`) }, "cannot be read"},
		{func(s *story) { s.report(`{"pos":null}`, "").sent().report(`{"pos":40}`, "").ended(command.Executed) }, "reported nothing at pos"},
	} {
		s := begin(t, "valve.set", `{"to":40}`, "pos=to").report(`{"pos":10}`, "")
		c.do(s)
		if p := s.plan(); p.Refusal == nil || p.Refusal.Force || !strings.Contains(p.Refusal.Text, c.want) || p.Name != "" {
			t.Errorf("%s: %+v", c.want, p)
		}
	}
}

func TestAgain(t *testing.T) {
	for state, want := range map[command.State]string{
		command.AwaitingApproval: "already", command.Created: "already", command.Running: "already", command.TimedOut: "already",
		command.Executed: "undo " + tid.String(), command.Failed: "", command.Rejected: "", command.Expired: "", command.Cancelled: "", command.Denied: "",
	} {
		no := Again(&command.Command{TID: tid, State: state})
		if (no != nil) != (want != "") || no != nil && (no.Force || !strings.Contains(no.Text, want)) {
			t.Errorf("%s: %v", state, no)
		}
	}
	if no := Again(&command.Command{TID: tid, State: command.TimedOut, Closed: true}); no == nil || !no.Force {
		t.Errorf("an outcome that is unknown for ever: %v", no)
	}
}

func TestTookEffect(t *testing.T) {
	made := func(change string, as command.State) command.Command {
		return begin(t, "valve.set", `{"to":40}`, "pos=to").report(`{"pos":10}`, "").sent().report(change, "").ended(as).c
	}
	never := begin(t, "valve.set", `{"to":40}`, "pos=to").c
	never.State = command.Expired
	for _, c := range []struct {
		c    command.Command
		want bool
	}{
		{made(`{"pos":40}`, command.Executed), true}, {made(`{}`, command.Executed), true}, {made(`{}`, command.TimedOut), true},
		{made(`{"pos":25}`, command.Failed), true}, {made(`{}`, command.Failed), false}, {made(`{}`, command.Rejected), false},
		{made(`{"pos":25}`, command.Cancelled), true}, {never, false}, {begin(t, "x", "", "").c, false},
	} {
		if got := TookEffect(&c.c); got != c.want {
			t.Errorf("%s, %s to %s: %v", c.c.State, c.c.Former, c.c.After, got)
		}
	}
}

func TestRival(t *testing.T) {
	c := &command.Command{TID: tid}
	for pair, want := range map[string]bool{"a.b a.b": true, "a a.b": true, "a.b a": true, "a.b a.c": false, "a ab": false, "x,a a": true} {
		mine, theirs, _ := strings.Cut(pair, " ")
		no := Rival(c, &command.Command{TID: other, Name: "n", State: command.Sent}, strings.Split(mine, ","), strings.Split(theirs, ","))
		if (no != nil) != want || want && !no.Force {
			t.Errorf("%s: %v", pair, no)
		}
	}
	if no := Rival(c, &command.Command{TID: other, State: command.Executed}, []string{"a"}, []string{"a"}); no != nil {
		t.Errorf("one that has ended: %v", no)
	}
	if no := Rival(c, c, []string{"a"}, []string{"a"}); no != nil {
		t.Errorf("itself: %v", no)
	}
}

func TestLongListsAreCut(t *testing.T) {
	s := begin(t, "n", "", "a b c d e").report(`{"a":1,"b":1,"c":1,"d":1,"e":1}`, "").sent().ended(command.Executed).
		report(fmt.Sprintf(`{"a":2,"b":"%s","c":2,"d":2,"e":2}`, strings.Repeat("é", 300)), "")
	if text := s.plan().Refusal.Text; !strings.HasSuffix(text, "; and 2 more") || len(text) > 400 || !strings.Contains(text, "é…") {
		t.Error(text)
	}
}
