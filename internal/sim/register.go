package sim

import (
	"context"
	"errors"
	"slices"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fault"
)

// tag marks devices that were registered for a simulation. Only such are given a
// new secret when they are simulated again. Stored; never change.
const tag = "simulated"

// Register registers a device for a simulation at a server, or takes one of an
// earlier simulation over, with a new secret and the window that is asked for.
// Errors: "exists" when it was not registered for one, and those of the API.
func Register(ctx context.Context, api *client.Client, d client.NewDevice) (*client.Device, error) {
	d.Tags = []string{tag}
	made, err := api.AddDevice(ctx, d)
	var e *client.Error
	if !errors.As(err, &e) || e.Code != string(fault.Exists) {
		return made, err
	}
	if made, err = api.Device(ctx, d.Device); err != nil {
		return nil, err
	}
	if !slices.Contains(made.Tags, tag) {
		return nil, fault.New(fault.Exists, "the device %s is not a simulated one (it has no tag %q); choose another group", d.Device, tag)
	}
	if d.Window != 0 && d.Window != made.Window {
		if _, err := api.ChangeDevice(ctx, d.Device, client.DeviceChange{Window: &d.Window}); err != nil {
			return nil, err
		}
	}
	return api.RotateDevice(ctx, d.Device)
}
