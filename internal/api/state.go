package api

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/replica"
	"github.com/wilco-iot/wilco/internal/service"
)

type stateOutput struct {
	ETag string `header:"ETag" doc:"version of the desired state, for If-Match"`
	Body client.DeviceState
}

type desireInput struct {
	DeviceInPath
	Key     string          `header:"Idempotency-Key" doc:"the same key and body give the same command, for ever; another body is refused with key_reused"`
	IfMatch string          `header:"If-Match" doc:"ETag of the state that the patch was made for; without it any"`
	Wait    span            `query:"wait" doc:"wait for an end at most this long, for example 30s; the answer has the state by then"`
	Body    json.RawMessage `contentType:"application/merge-patch+json" required:"true" doc:"merge patch (RFC 7396) of the desired document, at most 64 KiB"`
}

func (a *API) state() {
	tags := []string{"state"}
	const path = "/v1/devices/{group}/{device}/state"
	typed(a, huma.Operation{Method: http.MethodGet, Path: path, OperationID: "getState", Tags: tags,
		Summary: "What is desired of a device, and what it has reported"}, a.getState)
	typed(a, huma.Operation{Method: http.MethodPatch, Path: path + "/desired", OperationID: "desire", Tags: tags,
		Summary: "Change what is desired of a device", DefaultStatus: http.StatusAccepted,
		Description: "Makes the command state.desired, with the patch as params, which goes out in the device's order and is executed " +
			"when the device has reported what the patch asks for. 202 for a new command, 200 for one that exists under the same " +
			"idempotency key, 412 when somebody else has changed the desired state since."}, a.desire, withBody(commandBytes),
		func(rt *route) { rt.bodies = append([]string{"application/json"}, rt.bodies...) })
	typed(a, huma.Operation{Method: http.MethodGet, Path: path + "/history", OperationID: "stateHistory", Tags: tags,
		Summary: "The last changes of a device's state, newest first"}, a.stateHistory)
}

func (a *API) getState(ctx context.Context, in *struct {
	DeviceInPath
	Meta string `query:"meta" enum:"true,false" doc:"true: also who said each value, when, and since which version"`
}) (*stateOutput, error) {
	r, err := a.svc.State(ctx, caller(ctx), in.address())
	if err != nil {
		return nil, err
	}
	return &stateOutput{ETag: strconv.Quote(strconv.FormatInt(r.DesiredVersion, 10)),
		Body: stateDoc(in.address().String(), &r, in.Meta == "true")}, nil
}

func stateDoc(device string, r *replica.Replica, meta bool) client.DeviceState {
	d := client.DeviceState{Device: device, Version: r.Version, DesiredVersion: r.DesiredVersion, Desired: r.Desired.Append(nil),
		Reported: r.Reported.Append(nil), Delta: r.Delta().Append(nil), Pending: r.Pending()}
	if d.Pending == nil {
		d.Pending = []string{}
	}
	if meta {
		d.DesiredMeta, d.ReportedMeta = stampDocs(r.DesiredMeta), stampDocs(r.ReportedMeta)
	}
	return d
}

func stampDocs(m map[string]replica.Stamp) map[string]client.Stamp {
	out := make(map[string]client.Stamp, len(m))
	for path, s := range m {
		out[path] = client.Stamp{Version: s.Version, At: s.At, TS: s.TS, Boot: s.Boot, By: s.By, TID: s.TID}
	}
	return out
}

func (a *API) desire(ctx context.Context, in *desireInput) (*commandOutput, error) {
	if err := checkWait(in.Wait); err != nil {
		return nil, err
	}
	version, err := ifMatch(in.IfMatch)
	if err != nil {
		return nil, err
	}
	made, err := a.svc.Send(ctx, caller(ctx), service.Order{Device: in.address(), Name: service.StateDesired, Params: in.Body,
		Key: in.Key, IfDesired: version})
	if err != nil {
		return nil, err
	}
	return a.made(ctx, made, in.Wait), nil
}

// ifMatch reads an ETag of a state; nil when any will do.
func ifMatch(header string) (*int64, error) {
	if header == "" || header == "*" {
		return nil, nil
	}
	v, err := strconv.ParseInt(strings.Trim(header, `"`), 10, 64)
	if err != nil || v < 0 {
		return nil, fault.Field("If-Match", `must be the ETag of the state, like "3"`)
	}
	return &v, nil
}

func (a *API) stateHistory(ctx context.Context, in *struct {
	DeviceInPath
	Limit int `query:"limit" minimum:"1" maximum:"100" doc:"default 100, which is all that is kept"`
}) (*struct{ Body client.StateHistory }, error) {
	list, err := a.svc.StateHistory(ctx, caller(ctx), in.address(), in.Limit)
	if err != nil {
		return nil, err
	}
	docs := mapped(list, func(r *replica.Revision) client.Revision {
		return client.Revision{Version: r.Version, At: r.At, Side: string(r.Side), Patch: r.Patch.Append(nil), By: r.By, TID: r.TID, TS: r.TS, Boot: r.Boot}
	})
	return &struct{ Body client.StateHistory }{client.StateHistory{Items: slices.Clip(docs)}}, nil
}
