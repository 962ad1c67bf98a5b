package api_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/wilco-iot/wilco/internal/api"
)

// TestOpenAPIIsCommitted compares what is served with docs/reference.
func TestOpenAPIIsCommitted(t *testing.T) {
	want, err := os.ReadFile("../../docs/reference/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, options{})
	got := w.do(t, request{token: "-", path: "/openapi.json"})
	if got.status != 200 || !bytes.Equal(got.body, want) {
		t.Error("docs/reference/openapi.json is out of date: run wilco docs")
	}
}

// TestRoutesAndDescriptionAgree has every described operation answered by a
// route, and finds no route that is not described.
func TestRoutesAndDescriptionAgree(t *testing.T) {
	a := api.New(api.Options{})
	var doc struct {
		OpenAPI string                                `json:"openapi"`
		Paths   map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(a.OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1.") {
		t.Errorf("OpenAPI %s", doc.OpenAPI)
	}
	described := map[string]bool{}
	for path, methods := range doc.Paths {
		for m := range methods {
			described[strings.ToUpper(m)+" "+path] = true
		}
	}
	routes := a.Routes()
	for r := range described {
		if !routes[r] {
			t.Errorf("%s is described and has no route", r)
		}
	}
	for r := range routes {
		if !described[r] {
			t.Errorf("%s is a route and not described", r)
		}
	}
	for _, want := range []string{"POST /v1/devices/{group}/{device}/commands", "POST /v1/commands", "GET /v1/commands", "GET /v1/commands/{tid}",
		"GET /v1/commands/{tid}/timeline", "POST /v1/commands/{tid}/cancel", "POST /v1/commands/{tid}/retry", "GET /v1/events", "GET /v1/health",
		"GET /metrics", "GET /openapi.json", "DELETE /v1/tokens/{id}", "PATCH /v1/devices/{group}/{device}"} {
		if !described[want] {
			t.Errorf("%s is missing", want)
		}
	}
	if _, ok := any(a).(http.Handler); !ok {
		t.Error("an API is a handler")
	}
}
