package conformance

import (
	"encoding/csv"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// elsewhere says why an attack has no test of its name.
var elsewhere = map[string]string{
	"B11": "the broker substitutes nothing: rights are asked of Identity with the topic as it is",
	"E09": "there is no file of rights: the rights of a device follow from its address",
	"F06": "secrets are random and hashed fast (internal/fleet); a CONNECT is at most 64 KiB before authentication",
	"F08": "metrics are labelled by reason only (broker.Stats)",
	"F10": "what is on the disk is the store's: broker/store and internal/store/sqlite inject the faults",
}

var attackTest = regexp.MustCompile(`^Test([A-G][0-9]{2})_`)

// TestEveryAttackHasATest holds docs/attacks.csv to the tests that carry the
// attacks' names, and the other way round.
func TestEveryAttackHasATest(t *testing.T) {
	f, err := os.Open(filepath.Join(root, "docs/attacks.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil || len(rows) < 2 {
		t.Fatal("no attacks", err)
	}
	tests := attackTests(t)
	known := map[string]bool{}
	for _, r := range rows[1:] {
		id := r[0]
		known[id] = true
		switch why := elsewhere[id]; {
		case tests[id] == "" && why == "":
			t.Errorf("%s has no test and no reason why not: %s", id, r[1])
		case tests[id] != "" && why != "":
			t.Errorf("%s has a test, %s, and needs no reason", id, tests[id])
		}
	}
	for id, name := range tests {
		if !known[id] {
			t.Errorf("%s is named after an attack that is not listed", name)
		}
	}
}

// attackTests finds the tests that are named after an attack.
func attackTests(t *testing.T) map[string]string {
	t.Helper()
	tests := map[string]string{}
	for _, dir := range speakers {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			for _, d := range file.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
					if m := attackTest.FindStringSubmatch(f.Name.Name); m != nil {
						tests[m[1]] = f.Name.Name
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return tests
}
