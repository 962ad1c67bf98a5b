package api

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/rollout"
	"github.com/wilco-iot/wilco/internal/rollout/plan"
	"github.com/wilco-iot/wilco/internal/service"
	"github.com/wilco-iot/wilco/wire"
)

// RolloutInPath is the id of a roll-out in a path. It is exported because huma sees
// no others.
type RolloutInPath struct {
	ID string `path:"id" doc:"of the roll-out"`
}

type rolloutBody struct{ Body client.Rollout }

type askRolloutInput struct {
	RolloutInPath
	Body struct {
		Reason string `json:"reason,omitempty" maxLength:"1024" doc:"why, for the log"`
		Digest string `json:"digest,omitempty" doc:"with approve: the digest of the roll-out's approval, what you have looked at"`
	}
}

// rolloutWords are what can be asked of a roll-out, and what the description says.
var rolloutWords = []struct {
	word, id string
	kind     plan.Kind
	summary  string
}{
	{"pause", "pauseRollout", plan.Pause, "Start nothing more until it is resumed; what is under way goes on"},
	{"resume", "resumeRollout", plan.Resume, "Let a paused roll-out go on, also past a gate that was missed"},
	{"abort", "abortRollout", plan.Abort, "End it: nothing more is started, and what was never sent is cancelled"},
	{"approve", "approveRollout", plan.Approve, "Agree to a roll-out that is held"},
	{"deny", "denyRollout", plan.Deny, "End a roll-out that is held"},
	{"break-glass", "breakGlassRollout", plan.BreakGlass, "Let a held roll-out go without the agreement that it needs"},
}

func (a *API) rollouts() {
	tags := []string{"rollouts"}
	const all, one = "/v1/rollouts", "/v1/rollouts/{id}"
	typed(a, huma.Operation{Method: http.MethodPost, Path: all, OperationID: "startRollout", Tags: tags,
		Summary: "Send one command to many devices, in waves", DefaultStatus: http.StatusAccepted,
		Description: "A roll-out whose command's type asks for approval of so many targets is held as a whole. The name is a key: " +
			"the same again answers with the one that there is."}, a.startRollout, withBody(bulkBytes))
	typed(a, huma.Operation{Method: http.MethodPost, Path: all + "/plan", OperationID: "planRollout", Tags: tags,
		Summary: "What a roll-out would do: targets, conflicts, waves, and the shortest time"}, a.planRollout, withBody(bulkBytes))
	typed(a, huma.Operation{Method: http.MethodGet, Path: all, OperationID: "listRollouts", Tags: tags,
		Summary:     "List roll-outs, the newest first",
		Description: "All that are kept, in one answer: 64 at most that have not ended, and those that have until the retention is over."}, a.listRollouts)
	typed(a, huma.Operation{Method: http.MethodGet, Path: one, OperationID: "getRollout", Tags: tags,
		Summary: "Look at a roll-out"}, a.getRollout)
	typed(a, huma.Operation{Method: http.MethodGet, Path: one + "/targets", OperationID: "rolloutTargets", Tags: tags,
		Summary: "What became of each device of a roll-out"}, a.rolloutTargets)
	for _, w := range rolloutWords {
		typed(a, huma.Operation{Method: http.MethodPost, Path: one + "/" + w.word, OperationID: w.id, Tags: tags, Summary: w.summary},
			func(ctx context.Context, in *askRolloutInput) (*rolloutBody, error) {
				return answerRollout(a.svc.AskRollout(ctx, caller(ctx), in.ID, plan.Event{Kind: w.kind, Text: in.Body.Reason, Digest: in.Body.Digest}))
			})
	}
	typed(a, huma.Operation{Method: http.MethodPost, Path: one + "/rollback", OperationID: "rollbackRollout", Tags: tags,
		Summary: "Take a roll-out back that has ended", DefaultStatus: http.StatusAccepted,
		Description: "Begins another one: the last target first, only where it was executed, within the same rate, windows, " +
			"concurrency and threshold. What others have changed since is skipped."},
		func(ctx context.Context, in *askRolloutInput) (*rolloutBody, error) {
			return answerRollout(a.svc.RollbackRollout(ctx, caller(ctx), in.ID, in.Body.Reason))
		})
}

func answerRollout(r plan.Rollout, err error) (*rolloutBody, error) {
	if err != nil {
		return nil, err
	}
	d, err := rolloutDoc(&r)
	return &rolloutBody{d}, err
}

// specOf reads the one form as the other: the names are the same, a test says so.
func specOf(d *client.RolloutSpec) (s plan.Spec, err error) {
	b, err := json.Marshal(d)
	if err != nil {
		return s, fault.New(fault.Invalid, "not a roll-out: %v", err)
	}
	return s, json.Unmarshal(b, &s)
}

func (a *API) startRollout(ctx context.Context, in *struct{ Body client.RolloutSpec }) (*rolloutBody, error) {
	s, err := specOf(&in.Body)
	if err != nil {
		return nil, err
	}
	r, _, err := a.svc.StartRollout(ctx, caller(ctx), s)
	return answerRollout(r, err)
}

func (a *API) planRollout(ctx context.Context, in *struct{ Body client.RolloutSpec }) (*struct{ Body client.RolloutPlan }, error) {
	s, err := specOf(&in.Body)
	if err != nil {
		return nil, err
	}
	p, err := a.svc.PlanRollout(ctx, caller(ctx), s)
	if err != nil {
		return nil, err
	}
	d, err := rolloutPlanDoc(&p)
	return &struct{ Body client.RolloutPlan }{d}, err
}

func rolloutPlanDoc(p *service.RolloutPlan) (d client.RolloutPlan, err error) {
	const most = 1000
	d.Rollout, err = rolloutDoc(&p.Rollout)
	d.Targets = mapped(p.Targets[:min(len(p.Targets), most)], func(t *wire.Address) string { return t.String() })
	d.Kinds = map[string]int{}
	for _, c := range p.Conflicts {
		d.Kinds[string(c.Kind)]++
	}
	d.Conflicts = mapped(p.Conflicts[:min(len(p.Conflicts), most)], func(c *service.Conflict) client.RolloutConflict {
		return client.RolloutConflict{Device: c.Device.String(), Kind: string(c.Kind), With: c.With}
	})
	if p.Foretold {
		d.Waves, d.End, d.EndsAs = p.Forecast.Waves, p.Forecast.End, string(p.Forecast.Stopped)
	}
	return d, err
}

func (a *API) listRollouts(ctx context.Context, _ *struct{}) (*struct{ Body client.RolloutList }, error) {
	list, err := a.svc.Rollouts(ctx, caller(ctx))
	if err != nil {
		return nil, err
	}
	out := client.RolloutList{Items: make([]client.Rollout, len(list))}
	for i := range list {
		if out.Items[i], err = rolloutDoc(&list[i]); err != nil {
			return nil, err
		}
	}
	return &struct{ Body client.RolloutList }{out}, nil
}

func (a *API) getRollout(ctx context.Context, in *RolloutInPath) (*rolloutBody, error) {
	return answerRollout(a.svc.Rollout(ctx, caller(ctx), in.ID))
}

func (a *API) rolloutTargets(ctx context.Context, in *struct {
	RolloutInPath
	State []string `query:"state,explode" doc:"only in this state; may be given several times"`
	From  int      `query:"from" minimum:"0" doc:"number of the first target"`
	Limit int      `query:"limit" minimum:"1" maximum:"1000" doc:"items a page; default 100"`
}) (*struct{ Body client.RolloutTargetPage }, error) {
	var cells []plan.Cell
	for _, s := range in.State {
		at := slices.Index(plan.CellNames(), s)
		if at < 0 {
			return nil, fault.Field("state", "%q is no state of a target", s)
		}
		cells = append(cells, plan.Cell(at))
	}
	limit := in.Limit
	if limit == 0 {
		limit = 100
	}
	list, err := a.svc.RolloutTargets(ctx, caller(ctx), in.ID, cells, in.From, limit)
	if err != nil {
		return nil, err
	}
	page := client.RolloutTargetPage{Items: mapped(list, func(t *rollout.Target) client.RolloutTarget {
		d := client.RolloutTarget{Number: t.Number, Device: t.Device.String(), State: t.State.String(), Why: t.Why}
		if t.TID != (command.TID{}) {
			d.TID = t.TID.String()
		}
		return d
	})}
	if len(list) == limit {
		page.Next = list[len(list)-1].Number + 1
	}
	return &struct{ Body client.RolloutTargetPage }{page}, nil
}

func rolloutDoc(r *plan.Rollout) (d client.Rollout, err error) {
	all := r.Counts()
	d = client.Rollout{ID: r.ID, By: r.By, Answers: r.Answers.Name, State: string(r.State), Reason: string(r.Reason), Detail: r.Detail, Hold: string(r.Hold), Wake: r.Wake,
		Digest: r.Digest, Undoes: r.Undoes, UndoneBy: r.UndoneBy, Groups: r.Groups, Total: r.Total, Started: r.Next, Counts: cellCounts(&all),
		Wave: r.Wave + 1, Created: r.Created, Begun: r.Begun, Ended: r.Ended, Approval: approvalDoc(r.Approval)}
	for i := range r.Waves {
		n := &r.Waves[i].Counts
		d.Waves = append(d.Waves, client.RolloutCounts{Total: n.Sum(), Counts: cellCounts(n)})
	}
	for _, e := range r.Log {
		d.Log = append(d.Log, client.RolloutEntry{At: e.At, State: string(e.State), Reason: string(e.Reason), By: e.By, Detail: e.Detail})
	}
	b, err := json.Marshal(r.Spec)
	if err == nil {
		err = json.Unmarshal(b, &d.Spec)
	}
	return d, err
}

func cellCounts(n *plan.Counts) map[string]int {
	m := map[string]int{}
	for cell, count := range n {
		if count > 0 {
			m[plan.Cell(cell).String()] = count
		}
	}
	return m
}
