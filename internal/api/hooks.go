package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/hook"
)

// HookInPath is the name of a hook in a path. It is exported because huma sees no
// others.
type HookInPath struct {
	Name string `path:"name" doc:"name of the hook"`
}

func (a *API) hooks() {
	tags := []string{"hooks"}
	const one = "/v1/hooks/{name}"
	typed(a, huma.Operation{Method: http.MethodPost, Path: "/v1/hooks", OperationID: "addHook", Tags: tags,
		Summary: "Make a hook", DefaultStatus: http.StatusCreated,
		Description: "A webhook gets HookMessage documents, signed as the Standard Webhooks specification has it: webhook-signature is v1, and " +
			"the base64 of HMAC-SHA-256 over webhook-id, webhook-timestamp and the body with dots between. The answer has the secret, which is told this once."}, a.addHook)
	typed(a, huma.Operation{Method: http.MethodGet, Path: "/v1/hooks", OperationID: "listHooks", Tags: tags,
		Summary: "List hooks", Description: "All, in one answer: there are 64 at most."}, a.listHooks)
	typed(a, huma.Operation{Method: http.MethodDelete, Path: one, OperationID: "removeHook", Tags: tags,
		Summary: "Remove a hook and forget what it had still to deliver", DefaultStatus: http.StatusNoContent}, a.removeHook)
	typed(a, huma.Operation{Method: http.MethodPost, Path: one + "/rotate", OperationID: "rotateHook", Tags: tags,
		Summary:     "Give a webhook another secret, which is told this once",
		Description: "For a day everything is signed with the secret before too: webhook-signature has two signatures then."}, a.rotateHook)
	typed(a, huma.Operation{Method: http.MethodGet, Path: one + "/dead", OperationID: "deadDeliveries", Tags: tags,
		Summary: "Deliveries that were given up, the oldest first"}, a.deadDeliveries)
	typed(a, huma.Operation{Method: http.MethodPost, Path: one + "/redrive", OperationID: "redrive", Tags: tags,
		Summary: "Try deliveries again that were given up: that of one event, or the 200 oldest"}, a.redrive)
	schemaOf[client.HookMessage](a) // not reached from any other document
}

func (a *API) addHook(ctx context.Context, in *struct{ Body client.NewHook }) (*struct{ Body client.Hook }, error) {
	b := &in.Body
	rule := hook.Rule{Name: b.Name, On: hook.On{Types: b.On.Types, Groups: b.On.Groups}}
	for _, s := range b.On.States {
		rule.On.States = append(rule.On.States, command.State(s))
	}
	for _, r := range b.On.Reasons {
		rule.On.Reasons = append(rule.On.Reasons, command.Reason(r))
	}
	if w := b.Webhook; w != nil {
		rule.Webhook = &hook.Webhook{URL: w.URL, AllowPrivate: w.AllowPrivate}
	}
	if c := b.Command; c != nil {
		rule.Command = &hook.FollowUp{Name: c.Name, Params: c.Params}
	}
	if al := b.Alarm; al != nil {
		rule.Alarm = &hook.Alarm{Text: al.Text}
	}
	made, secret, err := a.svc.AddHook(ctx, caller(ctx), rule)
	if err != nil {
		return nil, err
	}
	d := hookDoc(&made)
	d.Secret = secret
	return &struct{ Body client.Hook }{d}, nil
}

func (a *API) listHooks(ctx context.Context, _ *struct{}) (*struct{ Body client.HookList }, error) {
	list, err := a.svc.Hooks(ctx, caller(ctx))
	if err != nil {
		return nil, err
	}
	return &struct{ Body client.HookList }{client.HookList{Items: mapped(list, hookDoc)}}, nil
}

func (a *API) removeHook(ctx context.Context, in *HookInPath) (*struct{}, error) {
	return nil, a.svc.RemoveHook(ctx, caller(ctx), in.Name)
}

func (a *API) rotateHook(ctx context.Context, in *HookInPath) (*struct{ Body client.HookSecret }, error) {
	secret, err := a.svc.RotateHook(ctx, caller(ctx), in.Name)
	if err != nil {
		return nil, err
	}
	return &struct{ Body client.HookSecret }{client.HookSecret{Secret: secret}}, nil
}

func (a *API) deadDeliveries(ctx context.Context, in *struct {
	HookInPath
	After int64 `query:"after" minimum:"1" doc:"event of the last delivery that is known"`
	Limit int   `query:"limit" minimum:"1" maximum:"1000" doc:"items a page; default 100"`
}) (*struct{ Body client.DeadPage }, error) {
	list, err := a.svc.Deliveries(ctx, caller(ctx), in.Name, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	page := client.DeadPage{Items: mapped(list, deadDoc)}
	if len(list) > 0 {
		page.Next = list[len(list)-1].Event
	}
	return &struct{ Body client.DeadPage }{page}, nil
}

func (a *API) redrive(ctx context.Context, in *struct {
	HookInPath
	Event int64 `query:"event" minimum:"1" doc:"that of this event only"`
}) (*struct{ Body client.Redriven }, error) {
	n, more, err := a.svc.Redrive(ctx, caller(ctx), in.Name, in.Event)
	if err != nil {
		return nil, err
	}
	return &struct{ Body client.Redriven }{client.Redriven{Count: n, More: more}}, nil
}

func hookDoc(s *hook.Status) client.Hook {
	d := client.Hook{NewHook: client.NewHook{Name: s.Name, On: client.HookOn{Types: s.On.Types, Groups: s.On.Groups}}, Created: s.Created,
		Since: s.Since, Waiting: s.Waiting, Delivered: s.Delivered, Failed: s.Failed, Died: s.Died}
	for _, st := range s.On.States {
		d.On.States = append(d.On.States, client.State(st))
	}
	for _, r := range s.On.Reasons {
		d.On.Reasons = append(d.On.Reasons, string(r))
	}
	if w := s.Webhook; w != nil {
		d.Webhook = &client.HookReceiver{URL: w.URL, AllowPrivate: w.AllowPrivate}
	}
	if c := s.Command; c != nil {
		d.Command = &client.HookCommand{Name: c.Name, Params: c.Params}
	}
	if al := s.Alarm; al != nil {
		d.Alarm = &client.HookAlarm{Text: al.Text}
	}
	return d
}

func deadDoc(d *hook.Delivery) client.DeadDelivery {
	return client.DeadDelivery{ID: d.ID, Event: d.Event, Device: d.Device.String(), TID: d.TID.String(), Name: d.Name,
		State: client.State(d.State), Created: d.Created, Attempts: d.Attempts, Problem: d.Problem}
}
