package conformance

import (
	"bytes"
	"encoding/csv"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// elsewhere says why an attack has no test of its name.
var elsewhere = map[string]string{
	"B11": "the broker substitutes nothing: rights are asked of Identity with the topic as it is",
	"F10": "what is on the disk is the store's: broker/store/pebble and internal/store/sqlite inject the faults",
}

var attackTest = regexp.MustCompile(`^Test([A-J][0-9]{2})_`)

// TestEveryAttackHasATest holds docs/attacks.csv to the tests that carry the
// attacks' names, and the other way round. The last column is written from them.
// Shows [B10a].
func TestEveryAttackHasATest(t *testing.T) {
	name := filepath.Join(root, "docs/attacks.csv")
	was, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(was)).ReadAll()
	if err != nil || len(rows) < 2 {
		t.Fatal("no attacks", err)
	}
	shown := map[string][]string{}
	for test := range tests(t) {
		_, function, _ := strings.Cut(test, ".")
		if m := attackTest.FindStringSubmatch(function); m != nil {
			shown[m[1]] = add(shown[m[1]], test)
		}
	}
	known := map[string]bool{}
	for _, r := range rows[1:] {
		id := r[0]
		known[id] = true
		switch why := elsewhere[id]; {
		case len(shown[id]) == 0 && why == "":
			t.Errorf("%s has no test and no reason why not: %s", id, r[1])
		case len(shown[id]) > 0 && why != "":
			t.Errorf("%s has a test, %s, and needs no reason", id, shown[id])
		case why != "":
			r[3] = why
		default:
			r[3] = strings.Join(shown[id], " ")
		}
	}
	for id, tests := range shown {
		if !known[id] {
			t.Errorf("%s is named after an attack that is not listed", tests)
		}
	}
	var now bytes.Buffer
	if err := csv.NewWriter(&now).WriteAll(rows); err != nil {
		t.Fatal(err)
	}
	current(t, name, was, now.Bytes())
}

// current holds a page to what it should be, or writes it.
func current(t *testing.T, name string, was, now []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, now, 0o644); err != nil {
			t.Fatal(err)
		}
	} else if !bytes.Equal(was, now) {
		t.Errorf("%s is not current: run make generate", strings.TrimPrefix(filepath.ToSlash(name), root+"/"))
	}
}
