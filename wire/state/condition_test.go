package state_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/wire/state"
)

// seen is a reported state of which every leaf is as old as ages says, or new.
type seen struct {
	doc  state.Object
	ages map[string]time.Duration
}

func (s seen) Value(path string) (any, time.Duration, bool) {
	v, ok := s.doc.Get(path)
	return v, s.ages[path], ok
}

func condition(t *testing.T, s string) (c state.Condition) {
	t.Helper()
	if err := json.Unmarshal([]byte(s), &c); err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return c
}

func TestCondition(t *testing.T) {
	r := seen{parse(t, `{"door":"closed","tank":{"level":40.0,"full":false},"mode":"auto","old":1}`), map[string]time.Duration{"old": time.Minute}}
	for _, test := range []struct{ condition, path, why string }{ // no why: it holds
		{`{"path":"door","eq":"closed"}`, "", ""},
		{`{"path":"door","eq":"open"}`, "door", `is "closed", must be "open"`},
		{`{"path":"door","ne":"closed"}`, "door", `is "closed", must be other than "closed"`},
		{`{"path":"tank.level","eq":40}`, "", ""},
		{`{"path":"tank.level","lt":40}`, "tank.level", "is 40.0, must be below 40"},
		{`{"path":"tank.level","le":40}`, "", ""},
		{`{"path":"tank.level","gt":39.99}`, "", ""},
		{`{"path":"tank.level","ge":40.01}`, "tank.level", "must be at least 40.01"},
		{`{"path":"door","lt":"d"}`, "", ""},
		{`{"path":"door","lt":1}`, "door", "must be below 1"}, // not comparable
		{`{"path":"mode","in":["auto","test"]}`, "", ""},
		{`{"path":"mode","in":["off"]}`, "mode", `must be one of ["off"]`},
		{`{"path":"tank","eq":{"full":false,"level":40}}`, "", ""},
		{`{"path":"tank","exists":true}`, "", ""},
		{`{"path":"tank.lid","exists":true}`, "tank.lid", "is absent"},
		{`{"path":"tank.lid","exists":false}`, "", ""},
		{`{"path":"tank","exists":false}`, "tank", "is there"},
		{`{"path":"tank.lid","ne":"open"}`, "tank.lid", "was never reported"},
		{`{"path":"old","eq":1,"maxAge":"1m"}`, "", ""},
		{`{"path":"old","eq":1,"maxAge":"59s"}`, "old", "was reported 1m0s ago, must be no older than 59s"},
		{`{"path":"old","exists":true,"maxAge":"59s"}`, "old", "was reported 1m0s ago"},
		{`{"all":[{"path":"door","eq":"closed"},{"path":"mode","eq":"off"}]}`, "mode", `is "auto", must be "off"`},
		{`{"any":[{"path":"door","eq":"open"},{"path":"mode","eq":"auto"}]}`, "", ""},
		{`{"any":[{"path":"door","eq":"open"},{"path":"mode","eq":"off"}]}`, "door", `must be "open"`},
		{`{"any":[{"path":"door","eq":"open"},{"path":"lid","eq":"off"}]}`, "lid", "was never reported"},
		{`{"not":{"path":"door","eq":"open"}}`, "", ""},
		{`{"not":{"path":"door","eq":"closed"}}`, "door", "must not be so"},
		{`{"not":{"path":"lid","eq":"open"}}`, "lid", "was never reported"}, // not known is no reason to act
		{`{"not":{"path":"old","eq":2,"maxAge":"1s"}}`, "old", "was reported"},
		{`{"not":{"any":[{"path":"door","eq":"open"},{"path":"lid","eq":"x"}]}}`, "lid", "was never reported"},
		{`{"not":{"not":{"path":"door","eq":"closed"}}}`, "", ""},
	} {
		c := condition(t, test.condition)
		u := c.Check(r)
		switch {
		case u == nil && test.why == "":
		case u == nil || test.why == "":
			t.Errorf("%s: %v, want %q", test.condition, u, test.why)
		case u.Path != test.path || !strings.Contains(u.Why, test.why):
			t.Errorf("%s: %v, want %q %q", test.condition, u, test.path, test.why)
		case u.Unknown != (strings.Contains(u.Why, "reported")):
			t.Errorf("%s: %+v", test.condition, u)
		}
		if again := condition(t, c.String()); again.String() != c.String() {
			t.Errorf("%s comes back as %s", c.String(), again.String())
		}
	}
}

func TestConditionRefuses(t *testing.T) {
	many := `{"all":[` + strings.Repeat(`{"path":"a","eq":1},`, state.MaxConditions) + `{"path":"a","eq":1}]}`
	for _, test := range []struct{ condition, path, text string }{
		{`{}`, "path", "missing"},
		{`{"path":"a"}`, "", "has no test"},
		{`{"eq":1}`, "path", "missing"},
		{`{"path":"a","eq":1,"ne":2}`, "", "second test"},
		{`{"path":"a..b","eq":1}`, "path", "empty name"},
		{`{"path":"a","eq":null}`, "eq", "use exists"},
		{`{"path":"a","lt":true}`, "lt", "number or a string"},
		{`{"path":"a","in":[]}`, "in", "list of 1 to"},
		{`{"path":"a","exists":1}`, "exists", "true or false"},
		{`{"path":"a","eq":1,"maxAge":"soon"}`, "maxAge", "duration"},
		{`{"path":"a","eq":1,"maxAge":"-1s"}`, "maxAge", "above zero"},
		{`{"path":"a","equals":1}`, "equals", "not known"},
		{`{"all":[],"path":"a"}`, "all", "stands alone"},
		{`{"any":[]}`, "any", "list of conditions"},
		{`{"any":[1]}`, "any.0", "must be a condition"},
		{`{"all":[{"path":"a","eq":1},{"not":{"path":"b"}}]}`, "all.1.not.", "has no test"},
		{`{"not":[]}`, "not", "must be a condition"},
		{`{"not":{"not":{"not":{"not":{"path":"a","eq":1}}}}}`, "not.not.not.not.", "nested deeper"},
		{many, "all.31.", "more than"},
	} {
		var c state.Condition
		err := json.Unmarshal([]byte(test.condition), &c)
		var e *state.Error
		if !errors.As(err, &e) || !strings.Contains(e.Text, test.text) || test.path != "" && e.Path != test.path {
			t.Errorf("%.60s: %v", test.condition, err)
		}
	}
}
