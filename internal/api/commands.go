package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/service"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// policyJSON is a policy as the client wrote it, to be laid over that of the type:
// a decoded one could not tell a field that is left out from one that is zero.
type policyJSON json.RawMessage

// UnmarshalJSON keeps the bytes.
func (p *policyJSON) UnmarshalJSON(b []byte) error { *p = bytes.Clone(b); return nil }

// Schema is that of the policy.
func (p *policyJSON) Schema(r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[client.Policy](), true, "Policy")
}

// tidOf reads a tid of a path or a parameter.
func tidOf(s string) (command.TID, error) {
	t, err := uuid.Parse(s)
	if err != nil || len(s) != 36 {
		return command.TID{}, fault.Field("tid", "is not a transaction id like 01890a5d-ac96-774b-bcce-b302099a8057")
	}
	return t, nil
}

// DeviceInPath is the address of a device in a path. It is exported because huma
// sees no others.
type DeviceInPath struct {
	Group  string `path:"group" doc:"group of the device"`
	Device string `path:"device" doc:"name of the device within its group"`
}

func (d DeviceInPath) address() wire.Address { return wire.Address{Group: d.Group, Device: d.Device} }

// TIDInPath is the tid of a command in a path. It is exported because huma sees
// no others.
type TIDInPath struct {
	TID string `path:"tid" doc:"transaction id"`
}

type sendInput struct {
	DeviceInPath
	Key  string `header:"Idempotency-Key" doc:"the same key and body give the same command, for ever; another body is refused with key_reused"`
	Wait span   `query:"wait" doc:"wait for an end at most this long, for example 30s; the answer has the state by then"`
	Body struct {
		Name     string          `json:"name" doc:"command type: [A-Za-z0-9._:-]{1,128}" example:"valve.open"`
		Params   json.RawMessage `json:"params,omitempty" doc:"any JSON value, at most 192 KiB"`
		Policy   policyJSON      `json:"policy,omitempty"`
		Priority *int            `json:"priority,omitempty" minimum:"-9" maximum:"9" doc:"among those that wait for the device the highest goes first; default: that of the type, or 0"`
	}
}

type commandOutput struct {
	Status   int
	Location string `header:"Location" doc:"of the command"`
	Replayed string `header:"Idempotent-Replayed" doc:"true: the command existed already under this key"`
	Body     client.Command
}

func answer(status int, c *command.Command) *commandOutput {
	return &commandOutput{Status: status, Location: "/v1/commands/" + c.TID.String(), Body: commandDoc(c)}
}

type commandBody struct{ Body client.Command }

type listInput struct {
	Group       string    `query:"group"`
	Device      string    `query:"device" doc:"name within the group; needs group"`
	State       []string  `query:"state,explode" enum:"awaiting_approval,created,sent,acknowledged,running,cancelling,timed_out,executed,failed,rejected,expired,cancelled,denied" doc:"may be repeated"`
	Name        string    `query:"name" doc:"of the command"`
	RequestedBy string    `query:"requestedBy" doc:"name of a token"`
	Since       time.Time `query:"since" doc:"created then or later, RFC 3339"`
	Before      time.Time `query:"before" doc:"created before then, RFC 3339"`
	Cursor      string    `query:"cursor" doc:"next of the last page"`
	Limit       int       `query:"limit" minimum:"1" maximum:"1000" doc:"items a page; default 100"`
	Order       string    `query:"order" enum:"newest,oldest" doc:"default newest first"`
}

type whyInput struct {
	TIDInPath
	Body *struct {
		Reason string `json:"reason,omitempty" maxLength:"1024" doc:"why, for the timeline"`
	}
}

func (w *whyInput) why() string {
	if w.Body == nil {
		return ""
	}
	return w.Body.Reason
}

func (a *API) commands() {
	tags := []string{"commands"}
	typed(a, huma.Operation{Method: http.MethodPost, Path: "/v1/devices/{group}/{device}/commands", OperationID: "send", Tags: tags,
		Summary: "Ask a device to do something", DefaultStatus: http.StatusAccepted,
		Description: "202 for a new command, 200 for one that exists under the same idempotency key."}, a.send, withBody(commandBytes))
	typed(a, huma.Operation{Method: http.MethodGet, Path: "/v1/commands", OperationID: "list", Tags: tags,
		Summary: "List commands, newest first"}, a.list, repeatable("state"))
	typed(a, huma.Operation{Method: http.MethodGet, Path: "/v1/commands/{tid}", OperationID: "get", Tags: tags,
		Summary: "Look at a command, or wait for it"}, a.get)
	typed(a, huma.Operation{Method: http.MethodGet, Path: "/v1/commands/{tid}/timeline", OperationID: "timeline", Tags: tags,
		Summary: "The whole story of a command"}, a.timeline)
	typed(a, huma.Operation{Method: http.MethodPost, Path: "/v1/commands/{tid}/cancel", OperationID: "cancel", Tags: tags,
		Summary:     "Ask that a command be not done",
		Description: "One that was never sent ends at once. Otherwise its state is cancelling until the device confirms."}, a.cancel)
	typed(a, huma.Operation{Method: http.MethodPost, Path: "/v1/commands/{tid}/retry", OperationID: "retry", Tags: tags,
		Summary: "Try a command again",
		Description: "While it is open it is published once more, with the same tid: 200. When it has ended without having been " +
			"executed, a new command with the same content is made, and its retryOf names the old one: 202. An executed command is a conflict."}, a.retry)
}

func (a *API) send(ctx context.Context, in *sendInput) (*commandOutput, error) {
	if err := checkWait(in.Wait); err != nil {
		return nil, err // before the command is made
	}
	made, err := a.svc.Send(ctx, caller(ctx), service.Order{Device: in.address(), Name: in.Body.Name,
		Params: in.Body.Params, Policy: json.RawMessage(in.Body.Policy), Priority: in.Body.Priority, Key: in.Key})
	if err != nil {
		return nil, err
	}
	return a.made(ctx, made, in.Wait), nil
}

// made answers with a command that has been made, after a wait if one is asked for.
func (a *API) made(ctx context.Context, made service.Created, wait span) *commandOutput {
	c := made.Command
	if wait.d > 0 {
		// The command exists by now, so a wait that fails must not hide its tid.
		if later, err := a.wait(ctx, c.TID, wait.d, 0); err == nil {
			c = later
		}
	}
	if made.Existed {
		out := answer(http.StatusOK, &c)
		out.Replayed = "true"
		out.Body.Warning = warning(&made)
		return out
	}
	out := answer(http.StatusAccepted, &c)
	out.Body.Warning = warning(&made)
	return out
}

// warning is what whoever sent the command should know.
func warning(m *service.Created) string {
	if m.Deprecated == "" {
		return ""
	}
	return m.Command.Name + " is deprecated: " + m.Deprecated
}

func checkWait(s span) error {
	if s.d < 0 || s.d > service.MaxWait {
		return fault.Field("wait", "%s is not between 0s and %s", s.d, service.MaxWait)
	}
	return nil
}

// wait waits by the service. A server that shuts down waits no longer and
// answers with the command as it is.
func (a *API) wait(ctx context.Context, tid command.TID, d time.Duration, after int64) (command.Command, error) {
	until, cancel := a.untilDrain(ctx)
	defer cancel()
	c, err := a.svc.Wait(until, caller(ctx), tid, d, after)
	if err != nil && until.Err() != nil && ctx.Err() == nil {
		return a.svc.Command(ctx, caller(ctx), tid)
	}
	return c, err
}

type getInput struct {
	TIDInPath
	Wait  span  `query:"wait" doc:"wait at most this long, for example 30s: for an end, or until the outcome is unknown"`
	After int64 `query:"after" minimum:"1" doc:"with wait: until the version is above this"`
}

func (a *API) get(ctx context.Context, in *getInput) (*commandBody, error) {
	tid, err := tidOf(in.TID)
	if err != nil {
		return nil, err
	}
	if err := checkWait(in.Wait); err != nil {
		return nil, err
	}
	if in.After > 0 && in.Wait.d == 0 {
		return nil, fault.Field("after", "needs wait beside it")
	}
	var c command.Command
	if in.Wait.d > 0 {
		c, err = a.wait(ctx, tid, in.Wait.d, in.After)
	} else {
		c, err = a.svc.Command(ctx, caller(ctx), tid)
	}
	if err != nil {
		return nil, err
	}
	return &commandBody{commandDoc(&c)}, nil
}

func (a *API) list(ctx context.Context, in *listInput) (*struct{ Body client.CommandPage }, error) {
	q := store.Query{Group: in.Group, Device: in.Device, Name: in.Name, RequestedBy: in.RequestedBy, Since: in.Since,
		Before: in.Before, Cursor: in.Cursor, Limit: in.Limit, OldestFirst: in.Order == "oldest"}
	for _, s := range in.State {
		q.States = append(q.States, command.State(s))
	}
	page, next, err := a.svc.List(ctx, caller(ctx), q)
	if err != nil {
		return nil, err
	}
	return &struct{ Body client.CommandPage }{client.CommandPage{Items: mapped(page, commandDoc), Next: next}}, nil
}

func (a *API) timeline(ctx context.Context, in *TIDInPath) (*struct{ Body client.Timeline }, error) {
	tid, err := tidOf(in.TID)
	if err != nil {
		return nil, err
	}
	c, err := a.svc.Command(ctx, caller(ctx), tid)
	if err != nil {
		return nil, err
	}
	return &struct{ Body client.Timeline }{client.Timeline{Command: commandDoc(&c), Entries: entryDocs(c.Timeline)}}, nil
}

func (a *API) cancel(ctx context.Context, in *whyInput) (*commandBody, error) {
	tid, err := tidOf(in.TID)
	if err != nil {
		return nil, err
	}
	c, err := a.svc.Cancel(ctx, caller(ctx), tid, in.why())
	if err != nil {
		return nil, err
	}
	return &commandBody{commandDoc(&c)}, nil
}

func (a *API) retry(ctx context.Context, in *whyInput) (*commandOutput, error) {
	tid, err := tidOf(in.TID)
	if err != nil {
		return nil, err
	}
	c, isNew, err := a.svc.Retry(ctx, caller(ctx), tid, in.why())
	if err != nil {
		return nil, err
	}
	if isNew {
		return answer(http.StatusAccepted, &c), nil
	}
	return answer(http.StatusOK, &c), nil
}
