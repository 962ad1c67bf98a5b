package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fault"
)

// description is the head of the OpenAPI document. Its version is that of the
// API, not of the program.
func description() huma.Config {
	c := huma.DefaultConfig("wilco", "1")
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "", "", "" // served by meta
	c.CreateHooks = nil                                   // no $schema in answers
	c.Info.Description = "Ordered, durable commands to devices over MQTT. Errors are problem documents whose `code` is one of a closed set."
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer", Description: "A token of wilco token create, or of a login."}}
	c.Security = []map[string][]string{{"token": {}}}
	c.Tags = []*huma.Tag{
		{Name: "commands", Description: "Ask devices to do things, and see what became of it."},
		{Name: "events", Description: "Everything that happens, in the order of its commit."},
		{Name: "devices", Description: "Who may be asked."},
		{Name: "state", Description: "How devices are, and how they should be."},
		{Name: "types", Description: "What may be asked for, and how."},
		{Name: "users", Description: "People, and their sessions."},
		{Name: "tokens", Description: "Programs that may ask, and sessions."},
		{Name: "hooks", Description: "What happens at the end of a command. For admins of all groups."},
		{Name: "sparkplug", Description: "Sparkplug edge nodes, and how far their values can be trusted."},
		{Name: "server", Description: "How the server is."},
	}
	return c
}

// durations tells the schema of a policy what a duration looks like, so that one
// that is wrong is refused by the name of its field.
func (a *API) durations() {
	policy := a.huma.OpenAPI().Components.Schemas.Map()["Policy"]
	for f := range reflect.TypeFor[client.Policy]().Fields() {
		if f.Type != reflect.TypeFor[client.Duration]() {
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		p := policy.Properties[name]
		p.Pattern, p.PatternDescription = `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`, "a duration like 30s or 1h30m"
		p.PrecomputeMessages()
	}
}

// Sizes of bodies, in bytes.
const (
	smallBytes   = 64 << 10
	commandBytes = 260 << 10 // params may be 192 KiB
	bulkBytes    = 16 << 20
)

// An option says what is special about a route.
type option func(*route)

func withoutToken(rt *route) {
	rt.open = true
	rt.op.Security = []map[string][]string{{}}
}

func withBody(limit int64) option { return func(rt *route) { rt.maxBody = limit } }

// repeatable marks the query parameters that may be given more than once.
func repeatable(names ...string) option {
	return func(rt *route) {
		for _, n := range names {
			rt.query[n] = true
		}
	}
}

// typed registers a handler that huma wraps.
func typed[I, O any](a *API, op huma.Operation, handler func(context.Context, *I) (*O, error), options ...option) {
	op.MaxBodyBytes = bulkBytes // the body has been read and bounded before huma
	huma.Register(a.huma, op, handler)
	a.enter(a.operation(op.Method, op.Path), options)
}

// plain registers a handler that reads and writes by itself; op describes it.
func (a *API) plain(op *huma.Operation, handler http.HandlerFunc, options ...option) {
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{}
	}
	op.Responses["default"] = a.problemResponse()
	a.huma.OpenAPI().AddOperation(op)
	a.mux.HandleFunc(op.Method+" "+op.Path, handler)
	a.enter(op, options)
}

func (a *API) problemResponse() *huma.Response {
	return &huma.Response{Description: "Error", Content: map[string]*huma.MediaType{problemType: {Schema: schemaOf[Problem](a)}}}
}

// enter makes the route's entry out of its description.
func (a *API) enter(op *huma.Operation, options []option) {
	rt := &route{op: op, query: map[string]bool{}, maxBody: smallBytes}
	for _, p := range op.Parameters {
		if p.In == "query" {
			rt.query[p.Name] = false
			rt.names = append(rt.names, p.Name)
		}
	}
	slices.Sort(rt.names)
	if op.RequestBody != nil {
		for t := range op.RequestBody.Content {
			rt.bodies = append(rt.bodies, t)
		}
		slices.Sort(rt.bodies)
	}
	for _, o := range options {
		o(rt)
	}
	a.routes[op.Method+" "+op.Path] = rt
}

// operation finds a registered operation in the description.
func (a *API) operation(method, path string) *huma.Operation {
	item := a.huma.OpenAPI().Paths[path]
	switch method {
	case http.MethodGet:
		return item.Get
	case http.MethodPost:
		return item.Post
	case http.MethodPut:
		return item.Put
	case http.MethodPatch:
		return item.Patch
	case http.MethodDelete:
		return item.Delete
	}
	return nil
}

// OpenAPI is the description of the API as it is served: indented JSON, the
// same bytes for the same program.
func (a *API) OpenAPI() []byte {
	raw, err := json.Marshal(a.huma.OpenAPI())
	if err != nil {
		panic(err) // the description is made of constants
	}
	var b bytes.Buffer
	_ = json.Indent(&b, raw, "", "  ") // of what was just marshalled
	b.WriteByte('\n')
	return b.Bytes()
}

// meta serves the description.
func (a *API) meta() {
	var doc []byte // made once all routes are there
	a.plain(&huma.Operation{Method: http.MethodGet, Path: "/openapi.json", OperationID: "openapi", Tags: []string{"server"},
		Summary:   "This description",
		Responses: map[string]*huma.Response{"200": {Description: "OpenAPI 3.1", Content: map[string]*huma.MediaType{"application/json": {}}}},
	}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(doc) // whoever asked is gone if this fails
	}, withoutToken)
	doc = a.OpenAPI()
}

// param describes a query parameter of a plain route.
func param(name, doc string, s *huma.Schema) *huma.Param {
	return &huma.Param{Name: name, In: "query", Description: doc, Schema: s}
}

func parseQuery(raw string) (url.Values, error) {
	q, err := url.ParseQuery(raw)
	if err != nil {
		return nil, fault.Field("query", "is not well-formed")
	}
	return q, nil
}
