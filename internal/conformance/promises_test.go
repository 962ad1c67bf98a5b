package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	promise  = regexp.MustCompile(`(?m)^## (B[0-9]+): `)
	testName = regexp.MustCompile("`([a-z0-9/]+\\.(?:Test|Fuzz)\\w+)`")
	pageLink = regexp.MustCompile(`\]\(([^)#]+)\)`)
)

// TestPromisesAreShown holds docs/promises.md to the tests: every promise, B1 to
// B11, names some, and every name is that of a test.
func TestPromisesAreShown(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/promises.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range checkPromises(string(text), tests(t)) {
		t.Error(wrong)
	}
	for _, m := range pageLink.FindAllStringSubmatch(string(text), -1) {
		if _, err := os.Stat(filepath.Join(root, "docs", m[1])); err != nil {
			t.Errorf("a link leads nowhere: %v", err)
		}
	}
}

const promises = 11

func checkPromises(page string, tests map[string]bool) (wrong []string) {
	heads := promise.FindAllStringSubmatchIndex(page, -1)
	if len(heads) != promises {
		wrong = append(wrong, fmt.Sprintf("%d promises, not %d", len(heads), promises))
	}
	for i, h := range heads {
		end := len(page)
		if i+1 < len(heads) {
			end = heads[i+1][0]
		}
		name, section := page[h[2]:h[3]], page[h[0]:end]
		if name != fmt.Sprintf("B%d", i+1) {
			wrong = append(wrong, name+" is not in its place")
		}
		shown, _, _ := strings.Cut(section, "\n- Not promised")
		if len(testName.FindAllString(shown, -1)) == 0 {
			wrong = append(wrong, name+" is shown by nothing")
		}
		for _, m := range testName.FindAllStringSubmatch(section, -1) {
			if !tests[m[1]] {
				wrong = append(wrong, name+": there is no test "+m[1])
			}
		}
	}
	return wrong
}

func TestCheckPromisesFindsWhatIsWrong(t *testing.T) {
	page := func(change func([]string)) string {
		var sections []string
		for i := range promises {
			sections = append(sections, fmt.Sprintf("## B%d: words\n\n- Shown by `a/b.TestX`.\n- Not promised: `a.TestY`.\n", i+1))
		}
		change(sections)
		return strings.Join(sections, "\n")
	}
	tests := map[string]bool{"a/b.TestX": true, "a.TestY": true}
	if wrong := checkPromises(page(func([]string) {}), tests); len(wrong) > 0 {
		t.Errorf("%q", wrong)
	}
	for name, change := range map[string]func([]string){
		"a name that is no test": func(s []string) { s[3] = strings.Replace(s[3], "TestX", "TestZ", 1) },
		"nothing shown":          func(s []string) { s[4] = strings.Replace(s[4], "`a/b.TestX`", "faith", 1) },
		"a promise left out":     func(s []string) { s[10] = "" },
		"another order":          func(s []string) { s[1], s[2] = s[2], s[1] },
	} {
		if wrong := checkPromises(page(change), tests); len(wrong) == 0 {
			t.Errorf("%s is not found", name)
		}
	}
}
