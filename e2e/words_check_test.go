package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// wordOnline: online GROUP/DEVICE waits until the server knows that it is.
func wordOnline(ts *testscript.TestScript, neg bool, args []string) {
	awaitPresence(ts, neg, args, true)
}

// wordOffline: offline GROUP/DEVICE waits until the server knows that it is.
func wordOffline(ts *testscript.TestScript, neg bool, args []string) {
	awaitPresence(ts, neg, args, false)
}

func awaitPresence(ts *testscript.TestScript, neg bool, args []string, want bool) {
	need(ts, !neg && len(args) == 1, "online|offline GROUP/DEVICE")
	w := of(ts)
	ts.Check(within(patience, func() error {
		var d struct{ Presence struct{ Known, Online bool } }
		if err := w.ask(&d, "device", "show", args[0]); err != nil {
			return err
		}
		if !d.Presence.Known || d.Presence.Online != want {
			return fmt.Errorf("presence of %s is %+v", args[0], d.Presence)
		}
		return nil
	}))
}

// wordAwait: await TID STATE [REASON] waits for a state of a command, and leaves
// the command as stdout.
func wordAwait(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && (len(args) == 2 || len(args) == 3), "await TID STATE [REASON]")
	w := of(ts)
	var doc json.RawMessage
	ts.Check(within(patience, func() error {
		if err := w.ask(&doc, "get", args[0]); err != nil {
			return err
		}
		var c struct{ State, Reason string }
		if err := json.Unmarshal(doc, &c); err != nil {
			return err
		}
		if c.State != args[1] || len(args) == 3 && c.Reason != args[2] {
			return fmt.Errorf("it is %s, %s; want %q", c.State, c.Reason, args[1:])
		}
		return nil
	}))
	fmt.Fprintf(ts.Stdout(), "%s\n", doc)
}

// wordAnomaly: anomaly GROUP/DEVICE KIND [PATTERN] waits until wilco device
// anomalies lists one of that kind whose detail matches.
func wordAnomaly(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && (len(args) == 2 || len(args) == 3), "anomaly GROUP/DEVICE KIND [PATTERN]")
	w := of(ts)
	pattern := regexp.MustCompile(strings.Join(args[2:], ""))
	ts.Check(within(patience, func() error {
		var list struct {
			Items []struct{ Kind, Detail, Device string }
		}
		if err := w.ask(&list, "device", "anomalies", args[0]); err != nil {
			return err
		}
		for _, a := range list.Items {
			if a.Kind == args[1] && a.Device == args[0] && pattern.MatchString(a.Detail) {
				return nil
			}
		}
		return fmt.Errorf("no such anomaly among %+v", list.Items)
	}))
}

// wordHTTP: http METHOD PATH STATUS [HEADER=VALUE...] [BODY|@FILE] asks the API as
// the admin, or as $WILCO_TOKEN, wants a status, and leaves the answer as stdout.
func wordHTTP(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) >= 3, "http METHOD PATH STATUS [HEADER=VALUE...] [BODY|@FILE]")
	w := of(ts)
	header, body := http.Header{}, ""
	for _, a := range args[3:] {
		name, value, found := strings.Cut(a, "=")
		switch {
		case found && httpHeader.MatchString(name):
			header.Set(name, value)
		case strings.HasPrefix(a, "@"):
			body = ts.ReadFile(a[1:])
		default:
			body = a
		}
	}
	req, err := http.NewRequest(args[0], "http://"+w.http+args[1], strings.NewReader(body))
	ts.Check(err)
	token := ts.Getenv("WILCO_TOKEN")
	if token == "" {
		b, err := os.ReadFile(filepath.Join(w.data, "admin.token"))
		ts.Check(err)
		token = strings.TrimSpace(string(b))
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	maps.Copy(req.Header, header)
	res, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%s", answer)
	if strconv.Itoa(res.StatusCode) != args[2] {
		ts.Fatalf("status %d, want %s\n%s", res.StatusCode, args[2], answer)
	}
	if kind := res.Header.Get("Content-Type"); res.StatusCode >= 400 && kind != "application/problem+json" {
		ts.Fatalf("an error of type %q and not application/problem+json", kind)
	}
}

var httpHeader = regexp.MustCompile(`^[A-Z][A-Za-z-]*$`)

// at finds the value at a path like items.0.tid in the JSON on stdout.
func at(ts *testscript.TestScript, path string) (any, bool) {
	var doc any
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	dec.UseNumber()
	if err := dec.Decode(&doc); err != nil {
		ts.Fatalf("stdout is not JSON: %v", err)
	}
	if path == "." {
		return doc, true
	}
	for key := range strings.SplitSeq(path, ".") {
		switch v := doc.(type) {
		case map[string]any:
			found := false
			if doc, found = v[key]; !found {
				return nil, false
			}
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(v) {
				return nil, false
			}
			doc = v[i]
		default:
			return nil, false
		}
	}
	return doc, true
}

// text writes a value as it is compared: strings without quotes.
func text(ts *testscript.TestScript, v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	b, err := json.Marshal(v)
	ts.Check(err)
	return string(b)
}

// wordLet: let NAME PATH keeps a value of the JSON on stdout as a variable.
func wordLet(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 2, "let NAME PATH")
	v, ok := at(ts, args[1])
	if !ok {
		ts.Fatalf("there is no %s in\n%s", args[1], ts.ReadFile("stdout"))
	}
	ts.Setenv(args[0], text(ts, v))
}

// wordJSON: [!] json PATH [VALUE] compares a value of the JSON on stdout; without
// VALUE it must be there, or not be there.
func wordJSON(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, len(args) == 1 || len(args) == 2, "[!] json PATH [VALUE]")
	v, ok := at(ts, args[0])
	if len(args) == 2 && ok {
		got := text(ts, v)
		if (got == args[1]) == neg {
			ts.Fatalf("%s is %s, want %s", args[0], got, args[1])
		}
		return
	}
	if ok == neg {
		ts.Fatalf("%s: present: %v\n%s", args[0], ok, ts.ReadFile("stdout"))
	}
}

// wordKeys: keys PATH KEY... wants an object with exactly these keys.
func wordKeys(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) > 1, "keys PATH KEY...")
	v, _ := at(ts, args[0])
	object, ok := v.(map[string]any)
	if !ok {
		ts.Fatalf("%s is no object", args[0])
	}
	got, want := slices.Sorted(maps.Keys(object)), slices.Sorted(slices.Values(args[1:]))
	if !slices.Equal(got, want) {
		ts.Fatalf("the keys of %s are\n%q, want\n%q", args[0], got, want)
	}
}
