package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var sparkplugSource = source{[]string{"sparkplug"}, regexp.MustCompile(`\[((?:tck-id|UNTAGGED)-[A-Za-z0-9-]+)\]`)}

// TestSparkplugConformanceCurrent holds docs/sparkplug-conformance.md to the
// citations as TestConformanceCurrent does for MQTT.
func TestSparkplugConformanceCurrent(t *testing.T) {
	list := statements(t, "sparkplug.csv", "")
	byID := map[string]*statement{}
	for _, s := range list {
		byID[s.id] = s
	}
	sparkplugSource.collect(t, func(id, place string, test bool) {
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
	repeat(t, byID)
	for _, s := range list {
		full := len(s.code) > 0 && len(s.tests) > 0
		switch why := sparkplugReasons[s.id]; {
		case !full && why == "":
			t.Errorf("%s (%s) has %d places in the code and %d tests: %s", s.id, s.side, len(s.code), len(s.tests), s.says)
		case full && why != "":
			t.Errorf("%s has code and test: it needs no reason", s.id)
		}
	}
	for id := range sparkplugReasons {
		if byID[id] == nil {
			t.Errorf("sparkplugReasons: %s does not exist", id)
		}
	}
	var page strings.Builder
	writeSparkplug(&page, list)
	writeNasty(t, &page)
	name := filepath.Join(root, "docs/sparkplug-conformance.md")
	was, err := os.ReadFile(name)
	if err != nil && !*update {
		t.Fatal(err)
	}
	current(t, name, was, []byte(page.String()))
}

// repeat gives statements that say once more what another one says what that has.
func repeat(t *testing.T, byID map[string]*statement) {
	t.Helper()
	for again, first := range sparkplugRepeats {
		from, to := byID["tck-id-"+first], byID["tck-id-"+again]
		if from == nil || to == nil {
			t.Errorf("sparkplugRepeats: %s or %s does not exist", again, first)
			continue
		}
		if len(to.code) > 0 && len(to.tests) > 0 {
			t.Errorf("sparkplugRepeats: %s has code and test of its own", again)
		}
		for _, place := range from.code {
			to.code = add(to.code, place)
		}
		for _, place := range from.tests {
			to.tests = add(to.tests, place)
		}
	}
}

const sparkplugHead = `# Sparkplug conformance

Every requirement of Sparkplug 3.0.0, where it is obeyed, and the test that shows it. This page is written by
` + "`make generate`" + ` from the citations in the source, and a test fails when it is not current. The requirements
are paraphrased; the specification has the words that count. What binds an edge node or a payload is obeyed by
` + "`sparkplug/edge`" + ` in what it sends, and by ` + "`sparkplug/session`" + ` and ` + "`sparkplug/host`" + ` in what they make of it.
`

func writeSparkplug(w *strings.Builder, list []*statement) {
	full := 0
	for _, s := range list {
		if len(s.code) > 0 && len(s.tests) > 0 {
			full++
		}
	}
	w.WriteString(sparkplugHead)
	fmt.Fprintf(w, "\n## Requirements\n\n%d requirements: %d have code and a test, %d have a reason why not.\n\n", len(list), full, len(list)-full)
	w.WriteString("| requirement | side | what it says | obeyed at | shown by |\n| --- | --- | --- | --- | --- |\n")
	for _, s := range list {
		says := strings.ReplaceAll(s.says, "|", `\|`)
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", strings.TrimPrefix(s.id, "tck-id-"), s.side, says, sparkplugCell(s.code, s), sparkplugCell(s.tests, s))
	}
}

func sparkplugCell(places []string, s *statement) string {
	if len(places) == 0 {
		return sparkplugReasons[s.id]
	}
	return strings.Join(places, "<br>")
}

const nastyHead = `
## Nasty cases

What edge nodes, brokers and other hosts do in the field, and the test that shows what our host makes of it.
` + "`TestScripts/nasty/NN`" + ` is a scene of ` + "`sparkplug/session/testdata/nasty.txt`" + `.

| case | what happens | shown by |
| --- | --- | --- |
`

// nastyCases is how many are numbered.
const nastyCases = 80

func writeNasty(t *testing.T, w *strings.Builder) {
	t.Helper()
	w.WriteString(nastyHead)
	rows := nastyRows(t)
	for _, wrong := range checkNasty(rows, tests(t), nastyScenes(t)) {
		t.Error(wrong)
	}
	for _, r := range rows {
		shown := r[3]
		if r[2] != "" {
			shown = "`" + strings.ReplaceAll(r[2], " ", "`<br>`") + "`"
		}
		fmt.Fprintf(w, "| %s | %s | %s |\n", r[0], r[1], shown)
	}
}

func nastyRows(t *testing.T) [][]string {
	t.Helper()
	rows := readCSV(t, "sparkplug-nasty.csv")
	for _, r := range rows {
		if len(r) != 4 {
			t.Fatalf("%q has not four columns", r)
		}
	}
	return rows
}

var (
	sceneHead = regexp.MustCompile(`(?m)^## (([0-9]+)\w*) `)
	nastyTest = regexp.MustCompile(`\.TestNasty([0-9]{2})`)
)

const scenePrefix = "sparkplug/session.TestScripts/nasty/"

// nastyScenes is the scenes of the script, as tests.
func nastyScenes(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "sparkplug/session/testdata/nasty.txt"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, m := range sceneHead.FindAllStringSubmatch(string(text), -1) {
		found[scenePrefix+m[1]] = true
	}
	return found
}

// checkNasty wants each case in its place, with tests that exist or a reason, and
// every scene and every TestNastyNN in the row of its number.
func checkNasty(rows [][]string, tests, scenes map[string]bool) (wrong []string) {
	if len(rows) != nastyCases {
		wrong = append(wrong, fmt.Sprintf("%d nasty cases, not %d", len(rows), nastyCases))
	}
	listed := map[string][]string{}
	for i, r := range rows {
		number, shown, why := r[0], strings.Fields(r[2]), r[3]
		if number != fmt.Sprintf("%02d", i+1) {
			wrong = append(wrong, number+" is not in its place")
		}
		if (len(shown) == 0) == (why == "") {
			wrong = append(wrong, number+" has not one of a test and a reason")
		}
		for _, test := range shown {
			if !tests[test] && !scenes[test] {
				wrong = append(wrong, number+": there is no test "+test)
			}
		}
		listed[number] = shown
	}
	for test := range scenes {
		number := strings.TrimPrefix(test, scenePrefix)[:2]
		if !slices.Contains(listed[number], test) {
			wrong = append(wrong, number+" does not name "+test)
		}
	}
	for test := range tests {
		if m := nastyTest.FindStringSubmatch(test); m != nil && !slices.Contains(listed[m[1]], test) {
			wrong = append(wrong, m[1]+" does not name "+test)
		}
	}
	return wrong
}

func TestCheckNastyFindsWhatIsWrong(t *testing.T) {
	tests, scenes := map[string]bool{"a.TestNasty03X": true, "a.TestY": true}, map[string]bool{scenePrefix + "01": true, scenePrefix + "01b": true}
	page := func(change func([][]string)) []string {
		var rows [][]string
		for i := range nastyCases {
			rows = append(rows, []string{fmt.Sprintf("%02d", i+1), "words", "a.TestY", ""})
		}
		rows[0][2], rows[2][2] = scenePrefix+"01 "+scenePrefix+"01b", "a.TestNasty03X"
		change(rows)
		return checkNasty(rows, tests, scenes)
	}
	if wrong := page(func([][]string) {}); len(wrong) > 0 {
		t.Errorf("%q", wrong)
	}
	for name, change := range map[string]func([][]string){
		"a test that is not there":  func(r [][]string) { r[5][2] = "a.TestZ" },
		"a scene that is not named": func(r [][]string) { r[0][2] = scenePrefix + "01" },
		"a test that is not named":  func(r [][]string) { r[2][2] = "a.TestY" },
		"nothing":                   func(r [][]string) { r[7][2] = "" },
		"a reason beside a test":    func(r [][]string) { r[7][3] = "because" },
		"another order":             func(r [][]string) { r[7][0] = "09" },
	} {
		if wrong := page(change); len(wrong) != 1 {
			t.Errorf("%s: %q", name, wrong)
		}
	}
}
