package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestReadme runs the commands of README.md, with the built program, in an empty
// directory and over a server that runs: every block
//
//	<!-- tour -->
//	```sh
//	wilco list
//	```
//
// in one shell, in their order. What a reader does beside it is done for him: after
// wilco device add the example device is started with the password that it printed;
// TID is the newest command's; what goes on until it is interrupted (wilco watch)
// or ends with & runs in the background. Every command must succeed.
func TestReadme(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := tourOf(string(b))
	if err != nil {
		t.Fatal(err)
	}
	if len(blocks) == 0 {
		t.Skip("README.md marks no block with <!-- tour -->")
	}
	out, err := runTour(t, blocks)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// The sample shows that the commands really run, and that a mistake is noticed.
func TestReadmeSample(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join("testdata", "readme", "sample.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := tourOf(string(b))
	if err != nil {
		t.Fatal(err)
	}
	if len(blocks) != 2 {
		t.Fatalf("%d blocks: %q", len(blocks), blocks)
	}
	out, err := runTour(t, blocks)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(out, "It is executed") {
		t.Errorf("the last command printed nothing about an execution:\n%s", out)
	}
	if out, err := runTour(t, append(blocks[:1:1], "wilco get no-such-tid\necho went on\n")); err == nil || strings.Contains(out, "went on") {
		t.Errorf("a command that fails was not noticed:\n%s", out)
	}
}

func TestTourOf(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
		bad        bool
	}{
		{name: "none", text: "# wilco\n```sh\nrm -rf /\n```\n"},
		{name: "marked", text: "<!-- tour -->\n```sh\nwilco serve\n```\n```sh\nnot this\n```\n\n<!-- tour -->\n\n```sh\na\nb\n```\n", want: []string{"wilco serve\n", "a\nb\n"}},
		{name: "no block", text: "<!-- tour -->\nSome text.\n", bad: true},
		{name: "another language", text: "<!-- tour -->\n```go\nx\n```\n", bad: true},
		{name: "not closed", text: "<!-- tour -->\n```sh\nwilco serve\n", bad: true},
		{name: "at the end", text: "<!-- tour -->\n", bad: true},
	} {
		got, err := tourOf(c.text)
		if (err != nil) != c.bad || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
}

// tourOf gives the marked blocks of a Markdown text.
func tourOf(text string) (blocks []string, err error) {
	const (
		outside = iota
		marked
		inside
	)
	at, block := outside, ""
	n := 0
	for line := range strings.Lines(text) {
		n++
		switch trimmed := strings.TrimRight(line, " \r\n"); {
		case at == outside && trimmed == "<!-- tour -->":
			at = marked
		case at == marked && trimmed == "":
		case at == marked && trimmed == "```sh":
			at, block = inside, ""
		case at == marked:
			return nil, fmt.Errorf("line %d: %q and not ```sh comes after <!-- tour -->", n, trimmed)
		case at == inside && trimmed == "```":
			at, blocks = outside, append(blocks, block)
		case at == inside:
			block += trimmed + "\n"
		}
	}
	if at != outside {
		return nil, errors.New("the last marked block is not closed")
	}
	return blocks, nil
}

// shellOf makes one shell script of the blocks.
func shellOf(blocks []string) string {
	var b strings.Builder
	b.WriteString("set -eu\npids=\ntrap 'code=$?; kill $pids 2>kill.txt || :; wait; exit $code' EXIT\n")
	const newest = `$(wilco list --limit 1 | tail -n 1 | cut -d ' ' -f 1)`
	for line := range strings.Lines(strings.Join(blocks, "")) {
		line = strings.ReplaceAll(strings.TrimSuffix(line, "\n"), " TID", " "+newest)
		command, _, _ := strings.Cut(line, " #")
		switch device, added := strings.CutPrefix(command, "wilco device add "); {
		case added && !strings.Contains(command, "--profile sparkplug"): // those are edge nodes
			// Read at once: what runs in the background would read that of the next one.
			fmt.Fprintf(&b, "%s >added.txt\ncat added.txt\nsecret=$(sed -n 's/^password *//p' added.txt)\n", command)
			fmt.Fprintf(&b, "device --server \"$BROKER\" --device %s --secret \"$secret\" --dir ./%s &\n", device, strings.ReplaceAll(device, "/", "-"))
			b.WriteString("pids=\"$pids $!\"\n")
		case strings.HasSuffix(command, " &"):
			fmt.Fprintf(&b, "%s\npids=\"$pids $!\"\n", line)
		case strings.HasPrefix(command, "wilco watch"):
			fmt.Fprintf(&b, "%s &\npids=\"$pids $!\"\n", command)
		default:
			fmt.Fprintf(&b, "%s\n", line)
		}
	}
	return b.String()
}

// runTour runs the blocks and returns what they printed.
func runTour(t *testing.T, blocks []string) (string, error) {
	t.Helper()
	home := t.TempDir()
	data := "WILCO_DATA=" + filepath.Join(home, "data")
	srv, err := serve([]string{data, "WILCO_HTTP_ADDRESS=127.0.0.1:0", "WILCO_MQTT_TCP=127.0.0.1:0", "WILCO_LOG_LEVEL=error"})
	if err != nil {
		return "", err
	}
	defer srv.kill()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", shellOf(blocks))
	cmd.Dir = home
	cmd.Env = append(os.Environ(), "HOME="+home, "PATH="+programs+string(os.PathListSeparator)+os.Getenv("PATH"),
		data, "WILCO_SERVER=http://"+srv.http, "BROKER=mqtt://"+srv.tcp)
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		return "", err
	}
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	endWithGroup(cmd)
	cmd.WaitDelay = patience
	err = cmd.Run()
	out, err2 := os.ReadFile(f.Name())
	return string(out), errors.Join(err, err2)
}
