package conformance

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What a row of promises.csv is: a promise, a clause that says how far it holds,
// which tests cite by its id, or a limit of the promise.
const (
	isPromise = "promise"
	isClause  = "holds"
	isLimit   = "ends"
)

var (
	promiseSource = source{[]string{"broker", "e2e", "internal", "mqtt", "order"}, regexp.MustCompile(`\[(B[0-9]+[a-z])\]`)}
	placeOfTest   = regexp.MustCompile("_test\\.go` (?:Test|Fuzz)")
	pageLink      = regexp.MustCompile(`\]\(([^)#]+)\)`)
)

// TestPromisesCurrent holds docs/promises.md to docs/conformance/promises.csv and
// to the tests that cite its clauses: a clause that no test shows fails, and so
// does a citation of a clause that does not exist.
func TestPromisesCurrent(t *testing.T) {
	list := statements(t, "promises.csv", "")
	promiseSource.collect(t, func(id, place string, _ bool) {
		if err := shows(list, id, place); err != nil {
			t.Error(err)
		}
	})
	if err := checkPromises(list); err != nil {
		t.Error(err)
	}
	page := promisesPage(list)
	for _, m := range pageLink.FindAllStringSubmatch(page, -1) {
		if _, err := os.Stat(filepath.Join(root, "docs", m[1])); err != nil {
			t.Errorf("a link leads nowhere: %v", err)
		}
	}
	name := filepath.Join(root, "docs/promises.md")
	was, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	current(t, name, was, []byte(page))
}

// shows adds the test at place to the clause that it cites.
func shows(list []*statement, id, place string) error {
	if !placeOfTest.MatchString(place) {
		return fmt.Errorf("%s cites %s, and is no test", place, id)
	}
	for _, s := range list {
		if s.side == isClause && s.id == id {
			s.tests = add(s.tests, place)
			return nil
		}
	}
	return fmt.Errorf("%s cites %s, which does not exist", place, id)
}

// checkPromises tells which rows are not in their place, which clauses nothing
// shows, and which promises have no clause or no limit.
func checkPromises(list []*statement) error {
	var wrong []error
	promise, clauses, limits := 0, 0, 0
	end := func() {
		if promise > 0 && (clauses == 0 || limits == 0) {
			wrong = append(wrong, fmt.Errorf("B%d has %d clauses and %d limits", promise, clauses, limits))
		}
	}
	for _, s := range list {
		want := ""
		switch s.side {
		case isPromise:
			end()
			promise, clauses, limits = promise+1, 0, 0
			want = fmt.Sprintf("B%d", promise)
		case isClause:
			want = fmt.Sprintf("B%d%c", promise, 'a'+clauses)
			clauses++
			if len(s.tests) == 0 {
				wrong = append(wrong, fmt.Errorf("%s is shown by no test: %s", s.id, s.says))
			}
		case isLimit:
			want = fmt.Sprintf("B%d", promise)
			limits++
		}
		if s.id != want {
			wrong = append(wrong, fmt.Errorf("%s, %s, is not in its place", s.id, s.side))
		}
	}
	end()
	return errors.Join(wrong...)
}

const promisesHead = `# What the broker promises

What is promised, how far it holds, where it ends, and the tests that show it. This page is written by ` + "`make generate`" + `
from [promises.csv](conformance/promises.csv) and from the tests, each of which names in its comment what it shows; a
test fails when the page is not current, or when nothing shows a clause. ` + "`wilco check broker URL`" + ` looks from
outside, at this broker or any other. The words MQTT already has are in [conformance.md](conformance.md), attacks in
[attacks.csv](attacks.csv), each with its tests.

They hold for one broker process. Nothing here is about a cluster.
`

// promisesPage is docs/promises.md: a section for each promise.
func promisesPage(list []*statement) string {
	var w strings.Builder
	w.WriteString(promisesHead)
	before := ""
	for _, s := range list {
		switch {
		case s.side == isPromise:
			fmt.Fprintf(&w, "\n## %s: %s\n", s.id, s.says)
		case s.side == isClause && before == isPromise:
			w.WriteString("\n| | how far it holds | shown by |\n| --- | --- | --- |\n")
		case s.side == isLimit && before == isClause:
			w.WriteString("\nNot promised, and limits:\n\n")
		}
		switch s.side {
		case isClause:
			fmt.Fprintf(&w, "| %s | %s | %s |\n", s.id, strings.ReplaceAll(s.says, "|", `\|`), strings.Join(s.tests, "<br>"))
		case isLimit:
			fmt.Fprintf(&w, "- %s\n", s.says)
		}
		before = s.side
	}
	return w.String()
}

func TestCheckPromisesFindsWhatIsWrong(t *testing.T) {
	const test = "`broker/x_test.go` TestX"
	list := func(change func(list []*statement)) []*statement {
		list := []*statement{
			{id: "B1", side: isPromise}, {id: "B1a", side: isClause}, {id: "B1b", side: isClause}, {id: "B1", side: isLimit},
			{id: "B2", side: isPromise}, {id: "B2a", side: isClause}, {id: "B2", side: isLimit},
		}
		for _, id := range []string{"B1a", "B1b", "B2a"} {
			if err := shows(list, id, test); err != nil {
				t.Fatal(err)
			}
		}
		change(list)
		return list
	}
	if err := checkPromises(list(func([]*statement) {})); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func([]*statement){
		"a clause without a test":       func(l []*statement) { l[2].tests = nil },
		"clauses in another order":      func(l []*statement) { l[1].id, l[2].id = "B1b", "B1a" },
		"promises in another order":     func(l []*statement) { l[4].id = "B3" },
		"a limit of another promise":    func(l []*statement) { l[6].id = "B1" },
		"a promise without a limit":     func(l []*statement) { l[6].side, l[6].id, l[6].tests = isClause, "B2b", []string{test} },
		"a promise without a clause":    func(l []*statement) { l[5].side, l[5].id = isLimit, "B2" },
		"a row that is of no such sort": func(l []*statement) { l[3].side = "hopes" },
	} {
		if checkPromises(list(change)) == nil {
			t.Errorf("%s is not found", name)
		}
	}
	for place, id := range map[string]string{test: "B1c", "`broker/x_test.go` TestY": "B1", "`broker/x.go` TestX": "B1a", "`broker/x_test.go` start": "B1a"} {
		if shows(list(func([]*statement) {}), id, place) == nil {
			t.Errorf("%s may cite %s", place, id)
		}
	}
}
