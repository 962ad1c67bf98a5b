package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/service"
	"github.com/wilco-iot/wilco/internal/undo"
)

type rollbackInput struct {
	TIDInPath
	Key  string `header:"Idempotency-Key" doc:"the same key gives the same command, for ever; for another command it is refused with key_reused"`
	Wait span   `query:"wait" doc:"wait for an end at most this long, for example 30s; the answer has the state by then"`
	Body *struct {
		Force  bool   `json:"force,omitempty" doc:"take back also what others have changed since; needs reason"`
		Reason string `json:"reason,omitempty" maxLength:"1024" doc:"why, for the timelines of both commands"`
	}
}

func (a *API) rollback() {
	tags := []string{"commands"}
	const path = "/v1/commands/{tid}/rollback"
	typed(a, huma.Operation{Method: http.MethodGet, Path: path, OperationID: "planRollback", Tags: tags,
		Summary:     "What taking a command back would do now",
		Description: "The values that it has changed: before, after and now; what would be sent; what is in the way. Changes nothing."}, a.planRollback)
	typed(a, huma.Operation{Method: http.MethodPost, Path: path, OperationID: "rollback", Tags: tags,
		Summary: "Take a command back", DefaultStatus: http.StatusAccepted,
		Description: "Makes a command that brings back what the device had reported before the other was first sent: the same command with " +
			"the former values as parameters, or a change of the desired state. It goes the way of every command. 202 for a new command, " +
			"200 for one that exists under the same idempotency key; 409 when there is nothing to take back, when it is in flight or has " +
			"been taken back already, or when somebody else has changed the values since: force passes over that."}, a.takeBack)
}

func (a *API) planRollback(ctx context.Context, in *TIDInPath) (*struct{ Body client.RollbackPlan }, error) {
	tid, err := tidOf(in.TID)
	if err != nil {
		return nil, err
	}
	r, err := a.svc.PlanRollback(ctx, caller(ctx), tid)
	if err != nil {
		return nil, err
	}
	return &struct{ Body client.RollbackPlan }{rollbackDoc(&r)}, nil
}

func rollbackDoc(r *service.Rollback) client.RollbackPlan {
	d := client.RollbackPlan{TID: r.Command.TID.String(), Device: r.Command.Device.String(), Name: r.Name, Params: r.Params,
		Changes: mapped(r.Changes, changeDoc)}
	if r.Hold != nil {
		d.Approval, d.Quorum = r.Hold.Rule, r.Hold.Quorum
	}
	if no := r.Refusal; no != nil {
		d.Refused, d.Forcible = no.Text, no.Force
	}
	return d
}

func changeDoc(c *undo.Change) client.RollbackChange {
	return client.RollbackChange{Path: c.Path, Former: c.Former, After: c.After, Now: c.Now, Differs: c.Differs, Foreign: c.Foreign, Desired: c.Desired,
		By: c.By, TID: c.TID, At: c.At}
}

func (a *API) takeBack(ctx context.Context, in *rollbackInput) (*commandOutput, error) {
	tid, err := tidOf(in.TID)
	if err != nil {
		return nil, err
	}
	if err := checkWait(in.Wait); err != nil {
		return nil, err
	}
	o := service.RollbackOptions{Key: in.Key}
	if in.Body != nil {
		o.Force, o.Why = in.Body.Force, in.Body.Reason
	}
	made, err := a.svc.Rollback(ctx, caller(ctx), tid, o)
	if err != nil {
		return nil, err
	}
	return a.made(ctx, made, in.Wait), nil
}
