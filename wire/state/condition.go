package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
)

// Bounds of a condition.
const (
	MaxConditions     = 32 // all of one, nested ones included
	maxConditionDepth = 4
	maxOneOf          = 64
)

// Condition says what must hold of the reported state. It is one test of a path,
// or all, any or the negation of others:
//
//	{"path": "door", "eq": "closed", "maxAge": "10s"}
//	{"any": [{"path": "mode", "in": ["auto", "test"]}, {"path": "pressure.bar", "lt": 2.5}]}
//	{"not": {"path": "alarm", "exists": true}}
//
// The tests are eq, ne, in, exists, and, between two numbers or two strings, lt,
// le, gt, ge. A test of a value that is absent fails, ne included: nothing is
// known. So does one that is older than MaxAge. Both fail the whole condition,
// even under "not": what is not known is never a reason to act.
type Condition struct {
	Path   string
	Op     Op
	Value  any           // eq, ne, lt, le, gt, ge; []any for in; bool for exists
	MaxAge time.Duration // since the device reported the value; 0: any

	All []Condition
	Any []Condition
	Not *Condition
}

// Op is a test. Sent and stored; never change.
type Op string

// The tests.
const (
	Eq     Op = "eq"
	Ne     Op = "ne"
	Lt     Op = "lt"
	Le     Op = "le"
	Gt     Op = "gt"
	Ge     Op = "ge"
	In     Op = "in"
	Exists Op = "exists"
)

// ops is the order in which tests are looked for.
var ops = []Op{Eq, Ne, Lt, Le, Gt, Ge, In, Exists}

// UnknownAge is that of a value of which nobody knows when it was reported: older
// than any MaxAge.
const UnknownAge = time.Duration(math.MaxInt64)

// Reported is the state that conditions are asked of: the value at a path, and
// how long ago the device reported it. Age is of a point that may be in a
// subtree: the oldest of its leaves.
type Reported interface {
	Value(path string) (v any, age time.Duration, ok bool)
}

// Unmet says which test failed, and why. It has no value of the document beyond
// what the path holds.
type Unmet struct {
	Path string
	Why  string // a sentence without subject: "is open, must be closed"
	// Unknown means that the value is absent or too old, and not that it is
	// another: waiting for a report may help.
	Unknown bool
}

// Error returns "path why".
func (u *Unmet) Error() string { return u.Path + " " + u.Why }

// Check returns nil when the condition holds, and else the first test that
// failed.
func (c *Condition) Check(r Reported) *Unmet {
	if ok, u := c.check(r); !ok || u != nil && u.Unknown {
		return u
	}
	return nil
}

// check tells whether c holds. An Unmet that is Unknown comes back whatever the
// answer, so that it is not turned round by not.
func (c *Condition) check(r Reported) (bool, *Unmet) {
	switch {
	case c.Not != nil:
		ok, u := c.Not.check(r)
		if u != nil && u.Unknown {
			return false, u
		}
		if ok {
			return false, &Unmet{Path: c.Not.where(), Why: "must not be so: " + c.Not.String()}
		}
		return true, nil
	case len(c.All) > 0:
		for i := range c.All {
			if ok, u := c.All[i].check(r); !ok {
				return false, u
			}
		}
		return true, nil
	case len(c.Any) > 0:
		var first *Unmet
		for i := range c.Any {
			ok, u := c.Any[i].check(r)
			if ok {
				return true, nil
			}
			if first == nil || u.Unknown && !first.Unknown {
				first = u
			}
		}
		return false, first
	}
	return c.test(r)
}

func (c *Condition) where() string {
	for c.Path == "" {
		switch {
		case c.Not != nil:
			c = c.Not
		case len(c.All) > 0:
			c = &c.All[0]
		case len(c.Any) > 0:
			c = &c.Any[0]
		default:
			return ""
		}
	}
	return c.Path
}

func (c *Condition) test(r Reported) (bool, *Unmet) {
	v, age, there := r.Value(c.Path)
	if c.Op == Exists {
		want, _ := c.Value.(bool)
		switch {
		case there && want && c.MaxAge > 0 && age > c.MaxAge:
			return false, c.old(age)
		case there != want && want:
			return false, &Unmet{Path: c.Path, Why: "is absent"}
		case there != want:
			return false, &Unmet{Path: c.Path, Why: "is there"}
		}
		return true, nil
	}
	if !there {
		return false, &Unmet{Path: c.Path, Why: "was never reported", Unknown: true}
	}
	if c.MaxAge > 0 && age > c.MaxAge {
		return false, c.old(age)
	}
	if c.holds(v) {
		return true, nil
	}
	return false, &Unmet{Path: c.Path, Why: "is " + text(v) + ", must be " + c.must()}
}

func (c *Condition) old(age time.Duration) *Unmet {
	if age == UnknownAge {
		return &Unmet{Path: c.Path, Unknown: true, Why: fmt.Sprintf("was not reported since the start, must be no older than %s", c.MaxAge)}
	}
	return &Unmet{Path: c.Path, Unknown: true,
		Why: fmt.Sprintf("was reported %s ago, must be no older than %s", age.Round(time.Millisecond), c.MaxAge)}
}

func (c *Condition) holds(v any) bool {
	switch c.Op {
	case Eq:
		return Equal(v, c.Value)
	case Ne:
		return !Equal(v, c.Value)
	case In:
		for _, one := range c.Value.([]any) {
			if Equal(v, one) {
				return true
			}
		}
		return false
	}
	n, ok := order(v, c.Value)
	if !ok {
		return false
	}
	switch c.Op {
	case Lt:
		return n < 0
	case Le:
		return n <= 0
	case Gt:
		return n > 0
	case Ge:
		return n >= 0
	}
	return false
}

// order compares two numbers, or two strings by their bytes.
func order(a, b any) (int, bool) {
	switch a := a.(type) {
	case json.Number:
		if b, ok := b.(json.Number); ok {
			return compareNumbers(a, b), true
		}
	case string:
		if b, ok := b.(string); ok {
			return bytes.Compare([]byte(a), []byte(b)), true
		}
	}
	return 0, false
}

var words = map[Op]string{Eq: "", Ne: "other than ", Lt: "below ", Le: "at most ", Gt: "above ", Ge: "at least ", In: "one of "}

func (c *Condition) must() string { return words[c.Op] + text(c.Value) }

// text is a value as JSON, cut to what fits in a sentence.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "?"
	}
	if len(b) > 80 {
		return string(bytes.ToValidUTF8(b[:77], nil)) + "..."
	}
	return string(b)
}

// String writes the condition as JSON.
func (c *Condition) String() string {
	b, err := c.MarshalJSON()
	if err != nil {
		return "?"
	}
	return string(b)
}

// MarshalJSON writes the form that UnmarshalJSON reads.
func (c *Condition) MarshalJSON() ([]byte, error) {
	m := map[string]any{}
	switch {
	case c.Not != nil:
		m["not"] = c.Not
	case len(c.All) > 0:
		m["all"] = pointers(c.All)
	case len(c.Any) > 0:
		m["any"] = pointers(c.Any)
	default:
		m["path"], m[string(c.Op)] = c.Path, c.Value
		if c.MaxAge > 0 {
			m["maxAge"] = c.MaxAge.String()
		}
	}
	return json.Marshal(m)
}

func pointers(list []Condition) []*Condition {
	out := make([]*Condition, len(list))
	for i := range list {
		out[i] = &list[i]
	}
	return out
}

// UnmarshalJSON reads a condition strictly: what is not known is an error. Errors
// are *Error, with the path within the condition.
func (c *Condition) UnmarshalJSON(b []byte) error {
	o, err := Parse(b)
	if err != nil {
		return err
	}
	p := conditionReader{}
	*c, err = p.read(o, "", 1)
	return err
}

type conditionReader struct{ count int }

func (p *conditionReader) read(o Object, at string, depth int) (c Condition, err error) {
	fail := func(field, text string) (Condition, error) { return Condition{}, &Error{Path: at + field, Text: text} }
	if p.count++; p.count > MaxConditions || depth > maxConditionDepth {
		return fail("", "is more than "+strconv.Itoa(MaxConditions)+" conditions, or nested deeper than "+strconv.Itoa(maxConditionDepth))
	}
	for _, group := range []string{"all", "any", "not"} {
		v, there := o[group]
		if !there {
			continue
		}
		if len(o) > 1 {
			return fail(group, "stands alone; put what is beside it into an \"all\"")
		}
		if group == "not" {
			inner, ok := v.(Object)
			if !ok {
				return fail(group, "must be a condition")
			}
			n, err := p.read(inner, at+group+".", depth+1)
			return Condition{Not: &n}, err
		}
		list, ok := v.([]any)
		if !ok || len(list) == 0 {
			return fail(group, "must be a list of conditions")
		}
		var read []Condition
		for i, one := range list {
			inner, ok := one.(Object)
			if !ok {
				return fail(group+"."+strconv.Itoa(i), "must be a condition")
			}
			n, err := p.read(inner, at+group+"."+strconv.Itoa(i)+".", depth+1)
			if err != nil {
				return Condition{}, err
			}
			read = append(read, n)
		}
		if group == "all" {
			return Condition{All: read}, nil
		}
		return Condition{Any: read}, nil
	}
	return readTest(o, fail)
}

func readTest(o Object, fail func(field, text string) (Condition, error)) (c Condition, err error) {
	for name, v := range o {
		switch {
		case name == "path":
			path, _ := v.(string)
			if _, err := SplitPath(path); err != nil {
				return fail("path", err.(*Error).Text)
			}
			c.Path = path
		case name == "maxAge":
			s, _ := v.(string)
			if c.MaxAge, err = time.ParseDuration(s); err != nil || c.MaxAge <= 0 {
				return fail("maxAge", `must be a duration above zero, like "10s"`)
			}
		case words[Op(name)] != "" || Op(name) == Eq || Op(name) == Exists:
			if c.Op != "" {
				return fail(name, "is a second test; put both into an \"all\"")
			}
			c.Op, c.Value = Op(name), v
		default:
			return fail(name, "is not known; there are path, maxAge, eq, ne, lt, le, gt, ge, in, exists, all, any and not")
		}
	}
	switch {
	case c.Path == "":
		return fail("path", "is missing; name the value, like \"valve.position\"")
	case c.Op == "":
		return fail("", "has no test; there are "+fmt.Sprint(ops))
	}
	return c, checkValue(c, fail)
}

func checkValue(c Condition, fail func(field, text string) (Condition, error)) (err error) {
	switch c.Op {
	case In:
		list, ok := c.Value.([]any)
		if !ok || len(list) == 0 || len(list) > maxOneOf {
			_, err = fail("in", "must be a list of 1 to "+strconv.Itoa(maxOneOf)+" values")
		}
	case Exists:
		if _, ok := c.Value.(bool); !ok {
			_, err = fail("exists", "must be true or false")
		}
	case Lt, Le, Gt, Ge:
		if _, ok := order(c.Value, c.Value); !ok {
			_, err = fail(string(c.Op), "must be a number or a string")
		}
	case Eq, Ne:
		if c.Value == nil {
			_, err = fail(string(c.Op), "must not be null; use exists")
		}
	}
	return err
}
