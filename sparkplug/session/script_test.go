package session_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write what came out into the scripts and goldens")

// TestScripts runs testdata/*.txt. "## name" begins a scene with a node of which
// nothing is known; lines that begin with ">" are steps, and the lines after
// each are all that came out of it. -rewrite puts in what comes out now.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			head, rest, _ := strings.Cut(string(want), "## ")
			var all bytes.Buffer
			all.WriteString(head)
			for scene := range strings.SplitSeq(rest, "\n## ") {
				name, _, _ := strings.Cut(scene, "\n")
				number, _, _ := strings.Cut(name, " ")
				got := ""
				t.Run(number, func(t *testing.T) {
					got = runScene(t, scene)
					if strings.TrimSpace(got) != strings.TrimSpace(scene) && !*rewrite {
						t.Error(name, difference(scene, got))
					}
				})
				fmt.Fprintf(&all, "## %s\n\n", strings.TrimSpace(got))
			}
			if *rewrite {
				if err := os.WriteFile(file, append(bytes.TrimSpace(all.Bytes()), '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func runScene(t *testing.T, scene string) string {
	var out strings.Builder
	st := newStage()
	for i, line := range strings.Split(scene, "\n") {
		switch {
		case strings.HasPrefix(line, ">"):
			fmt.Fprintln(&out, line)
			st.step(t, strings.Fields(line[1:]))
			for _, l := range st.lines {
				fmt.Fprintln(&out, l)
			}
			st.lines = nil
		case i == 0, strings.HasPrefix(line, "#"):
			fmt.Fprintln(&out, line)
		}
	}
	return out.String()
}

// difference shows the first line in which two texts differ.
func difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		if i >= len(w) || i >= len(g) || w[i] != g[i] {
			return fmt.Sprintf("line %d\ngot  %q\nwant %q", i+1, at(g, i), at(w, i))
		}
	}
	return "same"
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return "(end)"
}

// TestMatrix takes each input to each state, and compares what comes out with
// testdata/matrix.golden.
func TestMatrix(t *testing.T) {
	const (
		nbirth = "nbirth seq=0 bdseq=1 ts=100 temp:1:Double=1"
		dbirth = "dbirth dev seq=1 ts=101 speed:2:Double=2"
	)
	states := []struct {
		name  string
		steps []string
	}{
		{"unknown", nil},
		{"online", []string{nbirth, dbirth}},
		{"reordering", []string{nbirth, dbirth, "ndata seq=4 ts=105 :1:=4"}},
		{"resync", []string{nbirth, dbirth, "ndata seq=4 ts=105 :1:=4", "wait 5s", "due"}},
		{"resync after the loss of the broker", []string{nbirth, dbirth, "lost"}},
		{"offline", []string{nbirth, dbirth, "ndeath bdseq=1"}},
		{"offline, some time after", []string{nbirth, dbirth, "ndeath bdseq=1", "wait 1s"}},
	}
	inputs := []string{
		"nbirth seq=0 bdseq=2 ts=200 temp:1:Double=9",
		"nbirth seq=0 bdseq=1 ts=200 temp:1:Double=9",
		nbirth,
		"nbirth seq=300 bdseq=2",
		"nbirth text=garbage",
		"ndeath bdseq=1", "ndeath bdseq=7", "ndeath", "ndeath text=garbage",
		"ndata seq=2 ts=102 :1:=2", "ndata seq=3 ts=103 :1:=3", "ndata seq=1 ts=101 :1:=1", "ndata seq=1 ts=300 :1:=1",
		"ndata text=garbage", "ndata ts=102 :1:=2", "ndata seq=2 retained :1:=2", "ncmd ts=3",
		"dbirth dev seq=2 ts=102 speed:2:Double=2", "dbirth new seq=2 ts=102 speed:2:Double=2",
		"ddata dev seq=2 ts=102 :2:=5", "ddata new seq=2 ts=102 :2:=5",
		"ddeath dev seq=2 ts=102", "ddeath new seq=2 ts=102",
		"due", "lost", "found",
	}
	var out strings.Builder
	for _, state := range states {
		fmt.Fprintf(&out, "## %s\n", state.name)
		for _, in := range inputs {
			st := newStage()
			for _, s := range state.steps {
				st.step(t, strings.Fields(s))
			}
			st.lines = nil
			st.step(t, strings.Fields(in))
			for i := range st.lines {
				st.lines[i] = strings.TrimSpace(st.lines[i])
			}
			fmt.Fprintf(&out, "%-46s %s\n", in, strings.Join(st.lines, "; "))
		}
		fmt.Fprintln(&out)
	}
	const file = "testdata/matrix.golden"
	if *rewrite {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Error(difference(string(want), out.String()))
	}
}
