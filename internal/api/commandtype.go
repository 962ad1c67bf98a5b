package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/catalog"
	"github.com/wilco-iot/wilco/internal/fault"
)

const yamlType = "application/yaml"

// TypeInPath is the name of a command type in a path. It is exported because huma
// sees no others.
type TypeInPath struct {
	Name string `path:"name" doc:"of the command type"`
}

type typeBody struct{ Body client.CommandType }

type typeInput struct {
	TypeInPath
	Version int `query:"version" minimum:"1" doc:"default: the newest"`
}

type deprecateInput struct {
	TypeInPath
	Body struct {
		Why string `json:"reason" minLength:"1" maxLength:"2048" doc:"why, and what to use instead"`
	}
}

// types registers the routes of command types. There is none that removes one:
// commands go on naming the version that they were made by.
func (a *API) types() {
	tags := []string{"types"}
	schema := schemaOf[client.CommandType](a)
	answer := func(text string) *huma.Response {
		return &huma.Response{Description: text, Content: map[string]*huma.MediaType{"application/json": {Schema: schema}}}
	}
	a.plain(&huma.Operation{Method: http.MethodPut, Path: "/v1/types/{name}", OperationID: "applyType", Tags: tags,
		Summary: "Make a command type, or its next version",
		Description: "The body is a type as JSON or YAML, without version, created and by. The same content again makes no new " +
			"version. Commands that were made by an older version keep it.",
		Parameters:  []*huma.Param{{Name: "name", In: "path", Required: true, Description: "of the command type", Schema: &huma.Schema{Type: huma.TypeString}}},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: schema}, yamlType: {Schema: schema}}},
		Responses:   map[string]*huma.Response{"200": answer("It is what it was"), "201": answer("A new version")},
	}, a.applyType, withBody(catalog.MaxSize))
	typed(a, huma.Operation{Method: http.MethodGet, Path: "/v1/types", OperationID: "listTypes", Tags: tags,
		Summary:     "List command types, each in its newest version",
		Description: "All, in one answer: there are 10,000 versions of all types at most."}, a.listTypes)
	typed(a, huma.Operation{Method: http.MethodGet, Path: "/v1/types/{name}", OperationID: "getType", Tags: tags,
		Summary: "Look at a command type"}, a.getType)
	typed(a, huma.Operation{Method: http.MethodPost, Path: "/v1/types/{name}/deprecate", OperationID: "deprecateType", Tags: tags,
		Summary:     "Warn those who send commands of a type",
		Description: "Makes a version that is deprecated. Applying the type without deprecated takes it back."}, a.deprecateType)
}

func (a *API) applyType(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		fail(w, err)
		return
	}
	list, err := catalog.Parse(text)
	switch {
	case err != nil:
		fail(w, err)
		return
	case len(list) != 1:
		fail(w, fault.New(fault.Invalid, "%d command types; apply one at a time", len(list)))
		return
	case list[0].Name != r.PathValue("name"):
		fail(w, fault.Field("name", "%q is not the name in the path", list[0].Name))
		return
	}
	t, isNew, err := a.svc.ApplyType(r.Context(), caller(r.Context()), list[0])
	if err != nil {
		fail(w, err)
		return
	}
	doc, err := typeDoc(&t)
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if isNew {
		w.Header().Set("Location", fmt.Sprintf("/v1/types/%s?version=%d", t.Name, t.Version))
		w.WriteHeader(http.StatusCreated)
	}
	_ = json.NewEncoder(w).Encode(doc) // whoever asked is gone if this fails
}

func (a *API) listTypes(ctx context.Context, _ *struct{}) (*struct{ Body client.TypeList }, error) {
	list, err := a.svc.ListTypes(ctx, caller(ctx))
	if err != nil {
		return nil, err
	}
	out := client.TypeList{Items: make([]client.CommandType, len(list))}
	for i := range list {
		if out.Items[i], err = typeDoc(&list[i]); err != nil {
			return nil, err
		}
	}
	return &struct{ Body client.TypeList }{out}, nil
}

func (a *API) getType(ctx context.Context, in *typeInput) (*typeBody, error) {
	t, err := a.svc.Type(ctx, caller(ctx), in.Name, in.Version)
	return typeAnswer(&t, err)
}

func (a *API) deprecateType(ctx context.Context, in *deprecateInput) (*typeBody, error) {
	t, err := a.svc.DeprecateType(ctx, caller(ctx), in.Name, in.Body.Why)
	return typeAnswer(&t, err)
}

func typeAnswer(t *catalog.Type, err error) (*typeBody, error) {
	if err != nil {
		return nil, err
	}
	doc, err := typeDoc(t)
	return &typeBody{doc}, err
}

// typeDoc goes by way of JSON, whose names are the same on both sides.
func typeDoc(t *catalog.Type) (doc client.CommandType, err error) {
	text, err := json.Marshal(t)
	if err == nil {
		err = json.Unmarshal(text, &doc)
	}
	return doc, err
}
