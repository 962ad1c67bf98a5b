package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/service"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

type deviceOutput struct {
	Location string `header:"Location"`
	Body     client.Device
}

type deviceBody struct{ Body client.Device }

type devicesInput struct {
	Group  string `query:"group"`
	Tag    string `query:"tag"`
	Online string `query:"online" enum:"true,false"`
	Cursor string `query:"cursor" doc:"next of the last page"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" doc:"items a page; default 100"`
}

func (a *API) devices() {
	tags := []string{"devices"}
	const one = "/v1/devices/{group}/{device}"
	typed(a, huma.Operation{Method: http.MethodPost, Path: "/v1/devices", OperationID: "addDevice", Tags: tags,
		Summary: "Register a device", DefaultStatus: http.StatusCreated,
		Description: "The answer has the device's secret, which is told this once and kept nowhere; none for a device that logs in with a certificate."}, a.addDevice)
	typed(a, huma.Operation{Method: http.MethodGet, Path: "/v1/devices", OperationID: "listDevices", Tags: tags,
		Summary: "List devices"}, a.listDevices)
	typed(a, huma.Operation{Method: http.MethodGet, Path: one, OperationID: "getDevice", Tags: tags,
		Summary: "Look at a device"}, a.getDevice)
	typed(a, huma.Operation{Method: http.MethodPatch, Path: one, OperationID: "changeDevice", Tags: tags,
		Summary: "Change a device; what is left out stays"}, a.changeDevice)
	typed(a, huma.Operation{Method: http.MethodDelete, Path: one, OperationID: "removeDevice", Tags: tags,
		Summary: "Forget a device", DefaultStatus: http.StatusNoContent,
		Description: "Its connection ends and its secret is void. Its commands can still be looked at."}, a.removeDevice)
	typed(a, huma.Operation{Method: http.MethodPost, Path: one + "/rotate", OperationID: "rotateDevice", Tags: tags,
		Summary: "Give a device a new secret; the old one is void at once"}, a.rotateDevice)
	typed(a, huma.Operation{Method: http.MethodGet, Path: one + "/anomalies", OperationID: "anomalies", Tags: tags,
		Summary: "What the device said and was not obeyed, newest first"}, a.anomalies)
}

func (a *API) addDevice(ctx context.Context, in *struct{ Body client.NewDevice }) (*deviceOutput, error) {
	address, err := wire.ParseAddress(in.Body.Device)
	if err != nil {
		return nil, fault.Field("device", "must be group/device, each 1 to 64 of the characters A-Z a-z 0-9 . _ : -")
	}
	var via wire.Address
	if in.Body.Via != "" {
		if via, err = wire.ParseAddress(in.Body.Via); err != nil {
			return nil, fault.Field("via", "must be group/device, each 1 to 64 of the characters A-Z a-z 0-9 . _ : -")
		}
	}
	d, secret, err := a.svc.AddDevice(ctx, caller(ctx), service.NewDevice{Address: address, Via: via, Profile: in.Body.Profile,
		Window: in.Body.Window, Tags: in.Body.Tags, Note: in.Body.Note, Certificate: in.Body.Certificate})
	if err != nil {
		return nil, err
	}
	return &deviceOutput{Location: "/v1/devices/" + address.String(), Body: deviceDoc(&d, secret)}, nil
}

func (a *API) listDevices(ctx context.Context, in *devicesInput) (*struct{ Body client.DevicePage }, error) {
	q := store.DeviceQuery{Group: in.Group, Tag: in.Tag, Cursor: in.Cursor, Limit: in.Limit}
	if in.Online != "" {
		online := in.Online == "true"
		q.Online = &online
	}
	page, next, err := a.svc.Devices(ctx, caller(ctx), q)
	if err != nil {
		return nil, err
	}
	docs := mapped(page, func(d *store.Device) client.Device { return deviceDoc(d, "") })
	return &struct{ Body client.DevicePage }{client.DevicePage{Items: docs, Next: next}}, nil
}

func (a *API) getDevice(ctx context.Context, in *DeviceInPath) (*deviceBody, error) {
	d, err := a.svc.Device(ctx, caller(ctx), in.address())
	if err != nil {
		return nil, err
	}
	return &deviceBody{deviceDoc(&d, "")}, nil
}

func (a *API) changeDevice(ctx context.Context, in *struct {
	DeviceInPath
	Body client.DeviceChange
}) (*deviceBody, error) {
	d, err := a.svc.ChangeDevice(ctx, caller(ctx), in.address(), service.DeviceChange{Disabled: in.Body.Disabled,
		Window: in.Body.Window, Tags: in.Body.Tags, Note: in.Body.Note})
	if err != nil {
		return nil, err
	}
	return &deviceBody{deviceDoc(&d, "")}, nil
}

func (a *API) removeDevice(ctx context.Context, in *DeviceInPath) (*struct{}, error) {
	return nil, a.svc.RemoveDevice(ctx, caller(ctx), in.address())
}

func (a *API) rotateDevice(ctx context.Context, in *DeviceInPath) (*deviceBody, error) {
	d, secret, err := a.svc.RotateDevice(ctx, caller(ctx), in.address())
	if err != nil {
		return nil, err
	}
	return &deviceBody{deviceDoc(&d, secret)}, nil
}

func (a *API) anomalies(ctx context.Context, in *struct {
	DeviceInPath
	Limit int `query:"limit" minimum:"1" maximum:"100" doc:"default 100, which is all that is kept"`
}) (*struct{ Body client.AnomalyList }, error) {
	list, err := a.svc.Anomalies(ctx, caller(ctx), in.address(), in.Limit)
	if err != nil {
		return nil, err
	}
	return &struct{ Body client.AnomalyList }{client.AnomalyList{Items: mapped(list, anomalyDoc)}}, nil
}
