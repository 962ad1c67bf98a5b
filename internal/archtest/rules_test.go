package archtest

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/wilco-iot/wilco"

// TestTheModuleKeepsItsShape applies every rule to every file of the module.
func TestTheModuleKeepsItsShape(t *testing.T) {
	root := filepath.Join("..", "..")
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	files, err := load(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 50 {
		t.Fatalf("only %d files were found: the rules would prove nothing", len(files))
	}
	for _, c := range check(files) {
		t.Error(c)
	}
}

// file is one source file of the module.
type file struct {
	path    string // slash-separated, within the module
	dir     string
	test    bool
	lines   int
	ast     *ast.File
	imports map[string]string // path -> name in this file
}

// load parses all Go files below the root, testdata and hidden folders apart.
func load(tree fs.FS) ([]file, error) {
	var files []file
	err := fs.WalkDir(tree, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // written and taken away by something else meanwhile
			}
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if p != "." && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "node_modules" || name == "vendor") {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
			return nil
		}
		f, err := parse(tree, p)
		if err != nil {
			return err
		}
		files = append(files, f)
		return nil
	})
	return files, err
}

func parse(tree fs.FS, p string) (file, error) {
	src, err := fs.ReadFile(tree, p)
	if err != nil {
		return file{}, err
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), p, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return file{}, err
	}
	f := file{path: p, dir: path.Dir(p), test: strings.HasSuffix(p, "_test.go"), lines: bytes.Count(src, []byte("\n")), ast: parsed,
		imports: map[string]string{}}
	for _, imp := range parsed.Imports {
		target, err := strconv.Unquote(imp.Path.Value)
		if err != nil {
			return file{}, err
		}
		name := path.Base(target)
		if imp.Name != nil {
			name = imp.Name.Name
		}
		f.imports[target] = name
	}
	return f, nil
}

// check is all rules; the answers are sorted.
func check(files []file) []string {
	var said []string
	say := func(f file, format string, args ...any) {
		said = append(said, f.path+": "+fmt.Sprintf(format, args...))
	}
	documented := map[string]bool{}
	for _, f := range files {
		if f.ast.Doc != nil {
			documented[f.dir] = true
		}
		checkNames(f, say)
		checkComments(f, say)
		place, ok := find(f.dir)
		if !ok {
			say(f, "package %s is in no layer: give it a line in internal/archtest/layers_test.go, in the lowest layer above all that it imports", f.dir)
			continue
		}
		checkImports(f, place, say)
		checkCalls(f, place, say)
		if !f.test && f.lines > maxLines {
			say(f, "%d lines; more than %d want two files", f.lines, maxLines)
		}
	}
	for _, f := range files {
		if !documented[f.dir] {
			documented[f.dir] = true // once is enough
			say(f, "package %s has no package comment", f.dir)
		}
	}
	slices.Sort(said)
	return said
}

type sayer func(f file, format string, args ...any)

// place is where a package stands.
type place struct {
	unit
	level int
}

func find(dir string) (place, bool) {
	for level, l := range layers {
		for _, u := range l.units {
			if u.path == dir {
				return place{u, level}, true
			}
			if tree, ok := strings.CutSuffix(u.path, "/..."); ok && (dir == tree || strings.HasPrefix(dir, tree+"/")) {
				return place{u, level}, true
			}
		}
	}
	return place{}, false
}

func (p place) marked(m mark) bool { return p.is&m != 0 }

func checkImports(f file, here place, say sayer) {
	if f.test {
		return
	}
	for target := range f.imports {
		if local, ok := strings.CutPrefix(target, module+"/"); ok {
			checkLocal(f, here, local, say)
			continue
		}
		outside := strings.Contains(strings.Split(target, "/")[0], ".")
		if outside && here.marked(std) {
			say(f, "imports %s; %s is for the standard library only", target, here.path)
		}
		if here.marked(pure) && below(target, impureImports) {
			say(f, "imports %s; %s is pure", target, here.path)
		}
		if below(target, onlyForTests) && !here.marked(tests) && !here.marked(testDeps) {
			say(f, "imports %s, which is for tests only", target)
		}
	}
}

// checkLocal judges an import of the module's own.
func checkLocal(f file, here place, local string, say sayer) {
	there, ok := find(local)
	switch {
	case !ok:
		return // said of the package itself
	case there.level == here.level && there.path == here.path:
		return // one tree
	case there.level == here.level:
		say(f, "imports %s, which stands beside it in the layer %q: what joins them belongs above", local, layers[here.level].name)
	case there.level > here.level:
		say(f, "imports %s, which stands above it: imports point down only", local)
	}
	if here.marked(public) && strings.HasPrefix(local, "internal/") {
		say(f, "imports %s; %s is public and must work without the server", local, here.path)
	}
	if here.marked(pure) && !there.marked(pure) {
		say(f, "imports %s, which is not pure, and %s is", local, here.path)
	}
	if there.marked(tests) && !here.marked(tests) {
		say(f, "imports %s, which is for tests only", local)
	}
}

func below(target string, roots []string) bool {
	return slices.ContainsFunc(roots, func(r string) bool { return target == r || strings.HasPrefix(target, r+"/") })
}

// checkCalls looks for uses of clocks and randomness in pure packages, and for
// tests that sleep. In a synctest bubble sleeping is how virtual time passes.
func checkCalls(f file, here place, say sayer) {
	_, virtual := f.imports["testing/synctest"]
	_, polls := mayPoll[f.path]
	ast.Inspect(f.ast, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		pkg, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		for target, names := range impureCalls {
			if here.marked(pure) && !f.test && f.imports[target] == pkg.Name && slices.Contains(names, sel.Sel.Name) {
				say(f, "uses %s.%s; %s is pure", pkg.Name, sel.Sel.Name, here.path)
			}
		}
		if f.test && !virtual && !polls && f.imports["time"] == pkg.Name && sel.Sel.Name == "Sleep" {
			say(f, "sleeps; wait for what is awaited (a signal, a channel, virtual time), or give mayPoll in layers_test.go the reason why nothing can tell")
		}
		return true
	})
}

func checkNames(f file, say sayer) {
	name := strings.TrimSuffix(strings.TrimSuffix(path.Base(f.path), ".go"), "_test")
	if slices.Contains(noNames, name) {
		say(f, "the file's name says nothing about what is inside")
	}
	if pkg := strings.TrimSuffix(f.ast.Name.Name, "_test"); slices.Contains(noNames, pkg) {
		say(f, "the package's name, %s, says nothing about what is inside", pkg)
	}
}

var unfinished = regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`)

func checkComments(f file, say sayer) {
	for _, group := range f.ast.Comments {
		for _, c := range group.List {
			if word := unfinished.FindString(c.Text); word != "" {
				say(f, "has a comment with %s; do it, or write an issue", word)
			}
		}
	}
}
