package scenario

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/wilco-iot/wilco/internal/command"
)

// Expect is one thing that must be true of the report, like "executedShare >= 0.99".
type Expect struct {
	Figure string // of the closed set of figures
	Op     string
	Value  float64
}

// figures are what can be expected of a report.
var figures = func() map[string]func(*Report) float64 {
	m := map[string]func(*Report) float64{
		"commands":   func(r *Report) float64 { return float64(r.Total) },
		"twice":      func(r *Report) float64 { return float64(r.ExecutedTwice) },
		"lost":       func(r *Report) float64 { return float64(r.Lost) },
		"outOfOrder": func(r *Report) float64 { return float64(r.OutOfOrder) },
		"unsettled":  func(r *Report) float64 { return float64(r.Unsettled) },
		"untrue":     func(r *Report) float64 { return float64(r.Untrue) },
		"reboots":    func(r *Report) float64 { return float64(r.Reboots) },
		"restarts":   func(r *Report) float64 { return float64(r.Restarts) },
		"p99Ms":      func(r *Report) float64 { return r.P99Ms },
	}
	for _, s := range []command.State{command.Executed, command.Failed, command.Rejected, command.Expired, command.Cancelled, command.TimedOut} {
		name, _, _ := strings.Cut(string(s), "_")
		if s == command.TimedOut {
			name = "timedOut"
		}
		m[name] = func(r *Report) float64 { return float64(r.Commands[string(s)]) }
		m[name+"Share"] = func(r *Report) float64 { return float64(r.Commands[string(s)]) / float64(max(r.Total, 1)) }
	}
	return m
}()

var ops = map[string]func(a, b float64) bool{
	"=": func(a, b float64) bool { return a == b }, ">=": func(a, b float64) bool { return a >= b },
	"<=": func(a, b float64) bool { return a <= b }, ">": func(a, b float64) bool { return a > b },
	"<": func(a, b float64) bool { return a < b },
}

// UnmarshalText reads "executedShare >= 0.99".
func (e *Expect) UnmarshalText(b []byte) error {
	words := strings.Fields(string(b))
	if len(words) != 3 {
		return fmt.Errorf("%q is not three words like executedShare >= 0.99", b)
	}
	e.Figure, e.Op = words[0], words[1]
	if figures[e.Figure] == nil {
		return fmt.Errorf("%q is no figure of a report; one of %s is", e.Figure, strings.Join(slices.Sorted(maps.Keys(figures)), ", "))
	}
	if ops[e.Op] == nil {
		return fmt.Errorf("%q is none of =, >=, <=, >, <", e.Op)
	}
	var err error
	if e.Value, err = strconv.ParseFloat(words[2], 64); err != nil || math.IsNaN(e.Value) {
		return fmt.Errorf("%q is not a number", words[2])
	}
	return nil
}

func (e Expect) String() string { return fmt.Sprintf("%s %s %g", e.Figure, e.Op, e.Value) }

// MarshalText writes it as files have it.
func (e Expect) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// Expectation is what became of one.
type Expectation struct {
	Expect Expect  `json:"expect"`
	Got    float64 `json:"got"`
	Met    bool    `json:"met"`
}

// always is expected of every scenario that does not say otherwise of the figure.
var always = []string{"twice", "lost", "unsettled", "untrue", "outOfOrder"}

// judge looks at what is expected of a report.
func (s *Scenario) judge(r *Report) []Expectation {
	list := slices.Clone(s.Expect)
	for _, figure := range always {
		if !slices.ContainsFunc(list, func(e Expect) bool { return e.Figure == figure }) {
			list = append(list, Expect{figure, "=", 0})
		}
	}
	out := make([]Expectation, len(list))
	for i, e := range list {
		got := figures[e.Figure](r)
		out[i] = Expectation{Expect: e, Got: got, Met: ops[e.Op](got, e.Value)}
	}
	return out
}
