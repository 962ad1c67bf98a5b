package cli

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const happened = `:
id: 3

id: 4
event: command
data: {"id":4,"type":"command","at":"2026-01-02T03:04:05.678Z","device":"a/b","tid":"t","name":"open","state":"failed","reason":"device_failed","detail":"stuck\u001b[2J"}

id: 5
event: device
data: {"id":5,"type":"device","at":"2026-01-02T03:04:06Z","device":"a/b","online":true}

id: 6
event: device
data: {"id":6,"type":"device","at":"2026-01-02T03:04:07Z","device":"a/b","online":false}

id: 8
event: gap
data: {"after":6,"first":9}

id: 9
event: anomaly
data: {"id":9,"type":"anomaly","at":"2026-01-02T03:04:08Z","device":"a/b","kind":"malformed","detail":"no JSON"}

`

// TestWatch follows a stream that ends with a refusal.
func TestWatch(t *testing.T) {
	for _, c := range []struct {
		flags []string
		want  string
	}{
		{nil, "4 03:04:05.678 a/b t open failed: the device says that it failed: stuck [2J\n" +
			"5 03:04:06.000 a/b online\n6 03:04:07.000 a/b offline\n-- events 7 to 8 are gone --\n" +
			"9 03:04:08.000 a/b ANOMALY malformed: no JSON\n"},
		{[]string{"--json"}, `{"id":4,"type":"command","at":"2026-01-02T03:04:05.678Z","device":"a/b","tid":"t","name":"open","state":"failed","reason":"device_failed","detail":"stuck\u001b[2J"}
{"id":5,"type":"device","at":"2026-01-02T03:04:06Z","device":"a/b","online":true}
{"id":6,"type":"device","at":"2026-01-02T03:04:07Z","device":"a/b","online":false}
{"gap":{"after":6,"first":9}}
{"id":9,"type":"anomaly","at":"2026-01-02T03:04:08Z","device":"a/b","kind":"malformed","detail":"no JSON"}
`},
	} {
		var asked []string
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if asked = append(asked, r.URL.RawQuery); len(asked) > 1 {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			_, _ = io.WriteString(w, happened)
		}))
		var out, errs bytes.Buffer
		args := append([]string{"watch", "--server", server.URL, "--token", "x", "--device", "a/b", "--after", "3"}, c.flags...)
		code := Main(t.Context(), args, IO{Out: &out, Err: &errs}, Runner{})
		server.Close()
		if got := out.String(); got != c.want || code != 3 {
			t.Errorf("exit code %d, got\n%s\nwant\n%s%s", code, got, c.want, errs.String())
		}
		if got := strings.Join(asked, " "); got != "after=3&device=b&group=a after=9&device=b&group=a" {
			t.Errorf("asked %q", got)
		}
	}
}
