package conformance

import (
	"bufio"
	"encoding/csv"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the module, as seen from here.
const root = "../.."

// source is where the citations of a standard stand, and how they look: the
// first group is the statement's id.
type source struct {
	dirs     []string
	citation *regexp.Regexp
}

var mqttSource = source{[]string{"mqtt", "broker"}, regexp.MustCompile(`\[(MQTT-[0-9.]+-[0-9]+(?: v3\.1\.1)?)\]`)}

// statement is a row of a list.
type statement struct {
	id    string // with " v3.1.1" for that version, as it is cited
	side  string
	says  string
	code  []string // who obeys it
	tests []string // what shows it
}

// statements reads a list; suffix is what citations of its version end in.
func statements(t *testing.T, name, suffix string) []*statement {
	t.Helper()
	var list []*statement
	for _, r := range readCSV(t, "conformance/"+name) {
		list = append(list, &statement{id: r[0] + suffix, side: r[1], says: r[2]})
	}
	return list
}

// cite is called with each citation, and where it stands.
type cite func(id, place string, test bool)

// collect walks the directories.
func (s source) collect(t *testing.T, each cite) {
	t.Helper()
	for _, dir := range s.dirs {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			name, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			switch name = filepath.ToSlash(name); {
			case strings.HasSuffix(name, ".go"):
				return s.inGo(name, text, each)
			case strings.HasSuffix(name, ".txt") && strings.Contains(name, "/testdata/"):
				s.inScript(name, string(text), each)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (s source) inScript(name, text string, each cite) {
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		for _, m := range s.citation.FindAllStringSubmatch(lines.Text(), -1) {
			each(m[1], "`"+name+"`", true)
		}
	}
}

// inGo reports the citations in comments and string literals of a Go file.
func (s source) inGo(name string, text []byte, each cite) error {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	report := func(pos token.Pos, text string) {
		for _, m := range s.citation.FindAllStringSubmatch(text, -1) {
			place := "`" + name + "`"
			if d := around(file, pos); d != "" {
				place = fmt.Sprintf("`%s` %s", name, d)
			}
			each(m[1], place, strings.HasSuffix(name, "_test.go"))
		}
	}
	for _, g := range file.Comments {
		for _, c := range g.List {
			report(c.Pos(), c.Text)
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
			report(l.Pos(), l.Value)
		}
		return true
	})
	return nil
}

// around names the declaration that a position is in, or that it documents.
func around(file *ast.File, pos token.Pos) string {
	for _, d := range file.Decls {
		from := d.Pos()
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Doc != nil {
				from = d.Doc.Pos()
			}
			if from <= pos && pos < d.End() {
				return funcName(d)
			}
		case *ast.GenDecl:
			if d.Doc != nil {
				from = d.Doc.Pos()
			}
			if from <= pos && pos < d.End() && len(d.Specs) > 0 {
				return specName(d.Specs, pos)
			}
		}
	}
	return ""
}

func funcName(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return d.Name.Name
	}
	recv := d.Recv.List[0].Type
	if p, ok := recv.(*ast.StarExpr); ok {
		recv = p.X
	}
	if id, ok := recv.(*ast.Ident); ok {
		return id.Name + "." + d.Name.Name
	}
	return d.Name.Name
}

// specName is the name of the last declaration of a group that begins before
// pos or, for the group's own comment, of the first.
func specName(specs []ast.Spec, pos token.Pos) string {
	name := ""
	for _, s := range specs {
		switch s := s.(type) {
		case *ast.TypeSpec:
			if name == "" || s.Pos() <= pos {
				name = s.Name.Name
			}
		case *ast.ValueSpec:
			if name == "" || s.Pos() <= pos {
				name = s.Names[0].Name
			}
		}
	}
	return name
}

// add keeps places apart, and in order.
func add(list []string, place string) []string {
	i, found := slices.BinarySearch(list, place)
	if found {
		return list
	}
	return slices.Insert(list, i, place)
}

// readCSV is the rows of a table of docs, without its head.
func readCSV(t *testing.T, name string) [][]string {
	t.Helper()
	f, err := os.Open(filepath.Join(root, "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil || len(rows) < 2 {
		t.Fatal(name, "has no rows", err)
	}
	return rows[1:]
}
