package api_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/wilco-iot/wilco/client"
)

// reply is an answer, read whole.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// request describes one; fields left out have their usual values.
type request struct {
	method, path, body string
	token              string // "-": none
	header             map[string]string
}

func (w *world) do(t *testing.T, q request) reply {
	t.Helper()
	if q.method == "" {
		q.method = http.MethodGet
	}
	var body io.Reader
	if q.body != "" {
		body = strings.NewReader(q.body)
	}
	r, err := http.NewRequestWithContext(t.Context(), q.method, w.URL+q.path, body)
	if err != nil {
		t.Fatal(err)
	}
	switch q.token {
	case "":
		r.Header.Set("Authorization", "Bearer "+w.Token)
	case "-":
	default:
		r.Header.Set("Authorization", "Bearer "+q.token)
	}
	if q.body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for k, v := range q.header {
		r.Header.Set(k, v)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{res.StatusCode, res.Header, b}
}

// read decodes a body into T; fields that T does not know are a mistake.
func read[T any](t *testing.T, r reply, status int) T {
	t.Helper()
	var v T
	if r.status != status {
		t.Fatalf("status %d, want %d: %s", r.status, status, r.body)
	}
	d := json.NewDecoder(bytes.NewReader(r.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, r.body)
	}
	return v
}

// refused checks a problem document.
func refused(t *testing.T, r reply, status int, code, field, detail string) {
	t.Helper()
	p := read[client.Error](t, r, status)
	if got := r.header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("content type %q", got)
	}
	if p.Code != code || p.Field != field || !strings.Contains(p.Detail, detail) || p.Status != status {
		t.Errorf("got code %q field %q detail %q, want %q %q %q", p.Code, p.Field, p.Detail, code, field, detail)
	}
	if p.Cure == "" || p.RequestID == "" || p.RequestID != r.header.Get("X-Request-Id") {
		t.Errorf("cure %q, request id %q and %q", p.Cure, p.RequestID, r.header.Get("X-Request-Id"))
	}
}
