package command

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestStatesPageCurrent keeps docs/reference/states.md in step with the table
// and with the comments beside the constants.
func TestStatesPageCurrent(t *testing.T) {
	golden(t, filepath.Join("..", "..", "docs", "reference", "states.md"), statesPage(t))
}

func statesPage(t *testing.T) string {
	said := comments(t)
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# The life of a command\n")
	p("<!-- Written by go test ./internal/command -update, from internal/command. Do not edit. -->\n")
	p("A command is in one of %d states. What happens to it is an event, and what an event does in a state is one cell of a table", len(States))
	p("in `internal/command/table.go`: this page is that table. Every transition has a reason out of the closed set below, and is a")
	p("line of the command's timeline (`wilco explain TID`).\n")
	p("Executed, failed and rejected are said by the device and by nobody else. A clock that runs out after a command was sent")
	p("makes it `timed_out`: the outcome is unknown, and a late answer still settles it until the settle window closes.\n")
	diagram(p)
	p("## States\n\n| state | | in the window | meaning |\n| --- | --- | --- | --- |")
	for _, s := range States {
		p("| `%s` | %s | %s | %s |", s, map[bool]string{true: "end", false: ""}[s.Final()], yes(s.InFlight()), said["State."+string(s)])
	}
	p("\n`timed_out` becomes final, `closed`, when its settle window is over.\n")
	p("## What an event does\n\nAn event that is not listed for a state is refused, and the command stays as it is. \"stays\": recorded where it tells")
	p("something new, and the state remains.\n")
	for _, s := range States {
		p("### `%s`\n\n%s.\n\n| event | leads to |\n| --- | --- |", s, sentence(said["State."+string(s)]))
		for _, k := range Kinds {
			if cell, ok := table[s][k]; ok {
				p("| `%s` | %s |", k, targets(s, cell.to))
			}
		}
		p("")
	}
	p("## Events\n\n| event | said by | meaning |\n| --- | --- | --- |")
	for _, k := range Kinds {
		p("| `%s` | %s | %s |", k, speaker(k), said["Kind."+string(k)])
	}
	p("\n## Reasons\n\n| reason | meaning |\n| --- | --- |")
	for _, r := range Reasons {
		p("| `%s` | %s |", r, said["Reason."+string(r)])
	}
	p("\n## Publications\n\nWhat the machine asks for. Each leaves after the new state is durable.\n\n| effect | document |\n| --- | --- |")
	for _, e := range []Effect{SendRequest, SendCancel, SendQuery} {
		p("| `%s` | %s |", e, said["Effect."+string(e)])
	}
	clocks(p, said)
	return b.String()
}

func diagram(p func(string, ...any)) {
	p("```mermaid\nstateDiagram-v2\n    [*] --> awaiting_approval: type needs approval\n    [*] --> created")
	for _, s := range States {
		to := map[State][]string{}
		for _, k := range Kinds {
			for _, next := range table[s][k].to {
				if next != s {
					to[next] = append(to[next], string(k))
				}
			}
		}
		for _, next := range States {
			if len(to[next]) > 0 {
				p("    %s --> %s: %s", s, next, strings.Join(to[next], ", "))
			}
		}
	}
	for _, s := range States {
		if s.Final() {
			p("    %s --> [*]", s)
		}
	}
	p("    timed_out --> [*]: settle window over\n```\n")
}

func clocks(p func(string, ...any), said map[string]string) {
	p("\n## Clocks and retry\n\nA command keeps the policy that it was made with. Durations are text, like `1m30s`, from %s to %s,", minClock, maxClock)
	p("cut to milliseconds.\n\n| field | default | meaning |\n| --- | --- | --- |")
	v := reflect.ValueOf(Defaults)
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		p("| `%s` | %v | %s |", name, v.Field(i).Interface(), said["Policy."+f.Name])
	}
	p("\nBackoff is one of:\n")
	for _, b := range []Backoff{NoRetry, Linear, Exponential} {
		p("- `%s`: %s", b, said["Backoff."+string(b)])
	}
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func targets(from State, to []State) string {
	var s []string
	for _, next := range to {
		if next == from {
			s = append(s, "stays")
		} else {
			s = append(s, "`"+string(next)+"`")
		}
	}
	return strings.Join(s, ", ")
}

func speaker(k Kind) string {
	switch {
	case k.FromDevice():
		return "the device"
	case slices.Contains([]Kind{Approve, Deny, BreakGlass, Cancel, Retry}, k):
		return "a person or program"
	case k == Tick:
		return "the clock"
	case k == BrokerRefused:
		return "the broker"
	case k == Online:
		return "the device's status"
	}
	return "the server"
}

// comments reads the line comments of the string constants, by type and
// value, and of the fields of Policy. Every one must have a comment.
func comments(t *testing.T) map[string]string {
	said := map[string]string{}
	for _, file := range []string{"command.go", "event.go", "policy.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				if len(n.Values) == 1 {
					if lit, ok := n.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
						value, _ := strconv.Unquote(lit.Value)
						note(t, said, fmt.Sprint(n.Type)+"."+value, n.Comment)
					}
				}
			case *ast.TypeSpec:
				if st, ok := n.Type.(*ast.StructType); ok && n.Name.Name == "Policy" {
					for _, field := range st.Fields.List {
						note(t, said, "Policy."+field.Names[0].Name, field.Comment)
					}
				}
			}
			return true
		})
	}
	return said
}

func note(t *testing.T, said map[string]string, key string, c *ast.CommentGroup) {
	text := strings.TrimSpace(c.Text())
	if text == "" {
		t.Errorf("%s has no comment beside it: the page could not say what it means", key)
	}
	said[key] = strings.ReplaceAll(text, "|", "\\|")
}
