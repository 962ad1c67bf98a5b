package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/service"
)

// UserInPath is the name of a user in a path. It is exported because huma sees no
// others.
type UserInPath struct {
	Name string `path:"name" doc:"of the user"`
}

type userBody struct{ Body client.User }

type userMade struct {
	Location string `header:"Location" doc:"of the user"`
	Body     client.User
}

func (a *API) users() {
	tags := []string{"users"}
	typed(a, huma.Operation{Method: http.MethodPost, Path: "/v1/login", OperationID: "login", Tags: tags,
		Summary: "Begin a session", DefaultStatus: http.StatusCreated,
		Description: "The answer has a token that is good for 12 hours, told this once. Too many attempts that fail, of a user or from an " +
			"address, are answered with 429."}, a.login, withoutToken)
	typed(a, huma.Operation{Method: http.MethodDelete, Path: "/v1/session", OperationID: "logout", Tags: tags,
		Summary: "End the session that the request comes by", DefaultStatus: http.StatusNoContent}, a.logout)
	typed(a, huma.Operation{Method: http.MethodPost, Path: "/v1/users", OperationID: "addUser", Tags: tags,
		Summary: "Make a user", DefaultStatus: http.StatusCreated}, a.addUser)
	typed(a, huma.Operation{Method: http.MethodGet, Path: "/v1/users", OperationID: "listUsers", Tags: tags,
		Summary: "List users", Description: "All that the caller may change, in one answer."}, a.listUsers)
	typed(a, huma.Operation{Method: http.MethodGet, Path: "/v1/users/{name}", OperationID: "getUser", Tags: tags,
		Summary: "Look at a user"}, a.getUser)
	typed(a, huma.Operation{Method: http.MethodPatch, Path: "/v1/users/{name}", OperationID: "changeUser", Tags: tags,
		Summary: "Change what a user may do", Description: "It holds at once for all sessions and tokens of the user. A user that is disabled " +
			"loses its sessions."}, a.changeUser)
	typed(a, huma.Operation{Method: http.MethodPost, Path: "/v1/users/{name}/password", OperationID: "setPassword", Tags: tags,
		Summary: "Give a user another password", Description: "The user's sessions end. Who changes the own password gives the old one too."}, a.setPassword)
	typed(a, huma.Operation{Method: http.MethodDelete, Path: "/v1/users/{name}", OperationID: "removeUser", Tags: tags,
		Summary: "Remove a user, with its sessions and tokens", DefaultStatus: http.StatusNoContent}, a.removeUser)
}

func (a *API) login(ctx context.Context, in *struct{ Body client.Login }) (*struct{ Body client.Session }, error) {
	t, secret, err := a.svc.Login(ctx, in.Body.Name, in.Body.Password, remote(ctx))
	if err != nil {
		return nil, err
	}
	return &struct{ Body client.Session }{client.Session{ID: t.ID, User: t.User, Token: secret, Expires: t.Expires}}, nil
}

func (a *API) logout(ctx context.Context, _ *struct{}) (*struct{}, error) {
	return nil, a.svc.Logout(ctx, caller(ctx))
}

func (a *API) addUser(ctx context.Context, in *struct{ Body client.NewUser }) (*userMade, error) {
	u, err := a.svc.AddUser(ctx, caller(ctx), service.NewUser{Name: in.Body.Name, Password: in.Body.Password, Grants: mapped(in.Body.Grants, grantOf)})
	if err != nil {
		return nil, err
	}
	return &userMade{Location: "/v1/users/" + u.Name, Body: userDoc(&u)}, nil
}

func (a *API) listUsers(ctx context.Context, _ *struct{}) (*struct{ Body client.UserList }, error) {
	list, err := a.svc.Users(ctx, caller(ctx))
	if err != nil {
		return nil, err
	}
	return &struct{ Body client.UserList }{client.UserList{Items: mapped(list, userDoc)}}, nil
}

func (a *API) getUser(ctx context.Context, in *UserInPath) (*userBody, error) {
	u, err := a.svc.User(ctx, caller(ctx), in.Name)
	return userAnswer(&u, err)
}

func (a *API) changeUser(ctx context.Context, in *struct {
	UserInPath
	Body client.UserChange
}) (*userBody, error) {
	c := service.UserChange{Disabled: in.Body.Disabled}
	if in.Body.Grants != nil {
		if len(in.Body.Grants) == 0 {
			return nil, fault.Field("grants", "must not be empty; disable the user instead")
		}
		c.Grants = mapped(in.Body.Grants, grantOf)
	}
	u, err := a.svc.ChangeUser(ctx, caller(ctx), in.Name, c)
	return userAnswer(&u, err)
}

func (a *API) setPassword(ctx context.Context, in *struct {
	UserInPath
	Body client.Password
}) (*userBody, error) {
	u, err := a.svc.SetPassword(ctx, caller(ctx), in.Name, in.Body.Password, in.Body.Old, remote(ctx))
	return userAnswer(&u, err)
}

func (a *API) removeUser(ctx context.Context, in *UserInPath) (*struct{}, error) {
	return nil, a.svc.RemoveUser(ctx, caller(ctx), in.Name)
}

func userAnswer(u *service.User, err error) (*userBody, error) {
	if err != nil {
		return nil, err
	}
	return &userBody{userDoc(u)}, nil
}

func userDoc(u *service.User) client.User {
	return client.User{Name: u.Name, Grants: mapped(u.Grants, grantDoc), Disabled: u.Disabled, Created: u.Created, PasswordChanged: u.Changed}
}
