package conformance

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the pages of docs")

// TestConformanceCurrent holds docs/conformance.md to the citations, and the
// citations to the statements: none of an unknown statement, no statement
// without code and test unless reasons has one, and no reason that is not needed.
// Shows [B11a].
func TestConformanceCurrent(t *testing.T) {
	versions := []struct {
		title string
		list  []*statement
	}{
		{"MQTT 5.0", statements(t, "mqtt5.csv", "")},
		{"MQTT 3.1.1", statements(t, "mqtt311.csv", " v3.1.1")},
	}
	byID := map[string]*statement{}
	for _, v := range versions {
		for _, s := range v.list {
			byID[s.id] = s
		}
	}
	mqttSource.collect(t, func(id, place string, test bool) {
		s := byID[id]
		switch {
		case s == nil:
			t.Errorf("%s cites %s, which does not exist", place, id)
		case test:
			s.tests = add(s.tests, place)
		default:
			s.code = add(s.code, place)
		}
	})
	inherit(t, byID)
	checkReasons(t, byID)

	var page strings.Builder
	page.WriteString(head)
	for _, v := range versions {
		writeTable(&page, v.title, v.list)
	}
	name := filepath.Join(root, "docs/conformance.md")
	was, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	current(t, name, was, []byte(page.String()))
}

// inherit gives each twin what its MQTT 5.0 statement has.
func inherit(t *testing.T, byID map[string]*statement) {
	t.Helper()
	for old, now := range twins {
		from, to := byID[now], byID[old+" v3.1.1"]
		if from == nil || to == nil {
			t.Errorf("twins: %s or %s does not exist", old, now)
			continue
		}
		for _, place := range from.code {
			to.code = add(to.code, place)
		}
		for _, place := range from.tests {
			to.tests = add(to.tests, place)
		}
	}
}

func checkReasons(t *testing.T, byID map[string]*statement) {
	t.Helper()
	for id, s := range byID {
		full := len(s.code) > 0 && len(s.tests) > 0
		switch why := reason(s); {
		case !full && why == "":
			t.Errorf("%s (%s) has %d places in the code and %d tests: %s", id, s.side, len(s.code), len(s.tests), s.says)
		case full && reasons[id] != "":
			t.Errorf("%s has code and test: it needs no reason", id)
		}
	}
	for id := range reasons {
		if byID[id] == nil {
			t.Errorf("reasons: %s does not exist", id)
		}
	}
}

// reason says why a statement lacks code or test. A twin's reason is that of
// its MQTT 5.0 statement.
func reason(s *statement) string {
	if why := reasons[s.id]; why != "" {
		return why
	}
	if old, ok := strings.CutSuffix(s.id, " v3.1.1"); ok {
		return reasons[twins[old]]
	}
	return ""
}

const head = `# Conformance

Every normative statement of MQTT 5.0 and MQTT 3.1.1, where it is obeyed, and the test that shows it. This page is
written by ` + "`make generate`" + ` from the citations in the source, and a test fails when it is not current. The
statements are paraphrased; the standards have the words that count. "Side" is whom a statement binds; a statement
for clients is obeyed by the client library, or by the broker in what it refuses, or by both.
`

func writeTable(w *strings.Builder, title string, list []*statement) {
	full := 0
	for _, s := range list {
		if len(s.code) > 0 && len(s.tests) > 0 {
			full++
		}
	}
	fmt.Fprintf(w, "\n## %s\n\n%d statements: %d have code and a test, %d have a reason why not.\n\n", title, len(list), full, len(list)-full)
	w.WriteString("| statement | side | what it says | obeyed at | shown by |\n| --- | --- | --- | --- | --- |\n")
	for _, s := range list {
		id := strings.TrimPrefix(strings.TrimSuffix(s.id, " v3.1.1"), "MQTT-")
		says := strings.ReplaceAll(strings.TrimSpace(strings.TrimSuffix(s.says, "[ordering]")), "|", `\|`)
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", id, s.side, says, cell(s.code, s), cell(s.tests, s))
	}
}

func cell(places []string, s *statement) string {
	if len(places) == 0 {
		return reason(s)
	}
	return strings.Join(places, "<br>")
}
