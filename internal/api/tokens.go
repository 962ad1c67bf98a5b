package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/service"
)

type tokenMade struct {
	Location string `header:"Location" doc:"of the token, for its removal"`
	Body     client.APIToken
}

func (a *API) tokens() {
	tags := []string{"tokens"}
	typed(a, huma.Operation{Method: http.MethodPost, Path: "/v1/tokens", OperationID: "createToken", Tags: tags,
		Summary: "Make a token", DefaultStatus: http.StatusCreated,
		Description: "The answer has the token's text, which is told this once and kept nowhere."}, a.createToken)
	typed(a, huma.Operation{Method: http.MethodGet, Path: "/v1/tokens", OperationID: "listTokens", Tags: tags,
		Summary:     "List tokens",
		Description: "All that the caller may remove, in one answer; of a user's sessions there are 64 at most."}, a.listTokens)
	typed(a, huma.Operation{Method: http.MethodDelete, Path: "/v1/tokens/{id}", OperationID: "removeToken", Tags: tags,
		Summary: "Make a token void at once", DefaultStatus: http.StatusNoContent}, a.removeToken)
}

func (a *API) createToken(ctx context.Context, in *struct{ Body client.NewToken }) (*tokenMade, error) {
	grants, err := tokenGrants(&in.Body)
	if err != nil {
		return nil, err
	}
	t, secret, err := a.svc.CreateToken(ctx, caller(ctx), service.NewToken{Name: in.Body.Name, User: in.Body.User, Grants: grants, TTL: in.Body.TTL.D()})
	if err != nil {
		return nil, err
	}
	return &tokenMade{Location: "/v1/tokens/" + t.ID, Body: tokenDoc(&t, secret)}, nil
}

// tokenGrants are those that are asked for, in the long form or the short one.
func tokenGrants(n *client.NewToken) ([]service.Grant, error) {
	switch {
	case len(n.Grants) > 0 && (n.Role != "" || n.Group != ""):
		return nil, fault.Field("grants", "give either grants, or role and group")
	case len(n.Grants) > 0:
		return mapped(n.Grants, grantOf), nil
	case n.Role == "" && n.User != "":
		return nil, nil
	case n.Role == "":
		return nil, fault.Field("role", "missing; give role, or grants")
	}
	g := service.Grant{Role: service.Role(n.Role)}
	if n.Group != "" {
		g.Groups = []string{n.Group}
	}
	return []service.Grant{g}, nil
}

func (a *API) listTokens(ctx context.Context, _ *struct{}) (*struct{ Body client.TokenList }, error) {
	list, err := a.svc.Tokens(ctx, caller(ctx))
	if err != nil {
		return nil, err
	}
	docs := mapped(list, func(t *service.Token) client.APIToken { return tokenDoc(t, "") })
	return &struct{ Body client.TokenList }{client.TokenList{Items: docs}}, nil
}

func (a *API) removeToken(ctx context.Context, in *struct {
	ID string `path:"id" doc:"public id of the token"`
}) (*struct{}, error) {
	return nil, a.svc.RemoveToken(ctx, caller(ctx), in.ID)
}
