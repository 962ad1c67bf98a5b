package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

type approveInput struct {
	TIDInPath
	Body struct {
		Digest string `json:"digest" doc:"the digest of the command's approval: what you have looked at"`
		Reason string `json:"reason,omitempty" maxLength:"1024" doc:"why, for the timeline"`
	}
}

type breakInput struct {
	TIDInPath
	Body struct {
		Reason string `json:"reason" minLength:"1" maxLength:"1024" doc:"what the emergency is"`
	}
}

func (a *API) approvals() {
	tags := []string{"approval"}
	typed(a, huma.Operation{Method: http.MethodPost, Path: "/v1/commands/{tid}/approve", OperationID: "approve", Tags: tags,
		Summary: "Agree to a held command",
		Description: "Needs the role approver; who has requested the command cannot. With the last agreement that it needs the " +
			"command goes on. A command that is not held, or that is not what was looked at, is a conflict."}, a.approve)
	typed(a, huma.Operation{Method: http.MethodPost, Path: "/v1/commands/{tid}/deny", OperationID: "deny", Tags: tags,
		Summary: "End a held command", Description: "Needs the role approver."}, a.deny)
	typed(a, huma.Operation{Method: http.MethodPost, Path: "/v1/commands/{tid}/break-glass", OperationID: "breakGlass", Tags: tags,
		Summary:     "Let a held command go without the agreement that it needs",
		Description: "For an emergency. Needs the role approver and a reason, and is an alarm."}, a.breakGlass)
}

func (a *API) approve(ctx context.Context, in *approveInput) (*commandBody, error) {
	tid, err := tidOf(in.TID)
	if err != nil {
		return nil, err
	}
	c, err := a.svc.Approve(ctx, caller(ctx), tid, in.Body.Digest, in.Body.Reason)
	if err != nil {
		return nil, err
	}
	return &commandBody{commandDoc(&c)}, nil
}

func (a *API) deny(ctx context.Context, in *whyInput) (*commandBody, error) {
	tid, err := tidOf(in.TID)
	if err != nil {
		return nil, err
	}
	c, err := a.svc.Deny(ctx, caller(ctx), tid, in.why())
	if err != nil {
		return nil, err
	}
	return &commandBody{commandDoc(&c)}, nil
}

func (a *API) breakGlass(ctx context.Context, in *breakInput) (*commandBody, error) {
	tid, err := tidOf(in.TID)
	if err != nil {
		return nil, err
	}
	c, err := a.svc.BreakGlass(ctx, caller(ctx), tid, in.Body.Reason)
	if err != nil {
		return nil, err
	}
	return &commandBody{commandDoc(&c)}, nil
}
