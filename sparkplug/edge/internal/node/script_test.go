package node

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestScripts runs testdata/*.txt. Lines that begin with ">" are steps, the lines
// after each are everything that came out of it; "> node WORDS" begins anew with
// that configuration. Other lines that begin with "#" are comments. -rewrite
// puts in what comes out now.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, file, runScript(t, want))
		})
	}
}

// compare holds got against a golden file, or writes it.
func compare(t *testing.T, file string, got []byte) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	w, g := strings.Split(string(want), "\n"), strings.Split(string(got), "\n")
	for i := range max(len(w), len(g)) {
		if i >= len(w) || i >= len(g) || w[i] != g[i] {
			t.Fatalf("line %d\ngot  %q\nwant %q", i+1, at(g, i), at(w, i))
		}
	}
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return "(end)"
}

func runScript(t *testing.T, text []byte) []byte {
	var out bytes.Buffer
	st := newStage(t, Config{})
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		line := lines.Text()
		step, ok := strings.CutPrefix(line, "> ")
		if !ok {
			if strings.HasPrefix(line, "#") || line == "" {
				fmt.Fprintln(&out, line)
			}
			continue
		}
		fmt.Fprintln(&out, line)
		if words, ok := strings.CutPrefix(step, "node"); ok {
			st = newStage(t, config(strings.Fields(words)))
			continue
		}
		st.lines = nil
		st.know(step)
		st.step(step)
		for _, l := range st.lines {
			fmt.Fprintln(&out, l)
		}
	}
	return out.Bytes()
}

// know tells the strict host what the step does to devices.
func (st *stage) know(step string) {
	if w := strings.Fields(step); w[0] == "device" {
		st.host.setUp(w[1], w[2] == "up" || w[2] == "add")
	}
}

func config(words []string) (cfg Config) {
	plain, pairs := parse(words)
	cfg.Servers, cfg.History = number(pairs, "servers"), number(pairs, "history")
	for _, w := range plain {
		switch w {
		case "aliases":
			cfg.Aliases = true
		case "primary":
			cfg.PrimaryHost = "scada"
		case "legacy":
			cfg.Legacy = true
		case "echo":
			cfg.Echo = true
		}
	}
	return cfg
}
