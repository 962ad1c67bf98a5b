package client

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
)

// AddDevice registers a device. The answer's Secret is told this once. It is not
// repeated after a failure of the network, because the secret would be lost.
// Errors: "exists", "invalid".
func (c *Client) AddDevice(ctx context.Context, d NewDevice) (*Device, error) {
	return c.device(ctx, call{method: http.MethodPost, path: "/v1/devices", body: d, once: true})
}

func (c *Client) device(ctx context.Context, k call) (*Device, error) {
	out := &Device{}
	k.out = out
	if _, err := c.do(ctx, k); err != nil {
		return nil, err
	}
	return out, nil
}

// Device looks at a device, "group/device". Errors: "not_found".
func (c *Client) Device(ctx context.Context, device string) (*Device, error) {
	return c.device(ctx, call{method: http.MethodGet, path: devicePath(device, "")})
}

// DeviceOptions select devices. Zero fields select all.
type DeviceOptions struct {
	Group, Tag string
	Online     *bool
	Limit      int // items a page, 1 to 1000; 0 means 100
	Cursor     string
}

// Devices gives one page of devices, in the order of their addresses.
func (c *Client) Devices(ctx context.Context, o DeviceOptions) (*DevicePage, error) {
	q := url.Values{}
	set(q, "group", o.Group)
	set(q, "tag", o.Tag)
	set(q, "cursor", o.Cursor)
	if o.Online != nil {
		q.Set("online", strconv.FormatBool(*o.Online))
	}
	if o.Limit > 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	out := &DevicePage{}
	if _, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/devices", query: q, out: out}); err != nil {
		return nil, err
	}
	return out, nil
}

// RotateDevice gives a device a new secret, told this once; the old one is void
// at once. It is not repeated after a failure of the network.
func (c *Client) RotateDevice(ctx context.Context, device string) (*Device, error) {
	return c.device(ctx, call{method: http.MethodPost, path: devicePath(device, "/rotate"), once: true})
}

// ChangeDevice changes a device.
func (c *Client) ChangeDevice(ctx context.Context, device string, change DeviceChange) (*Device, error) {
	return c.device(ctx, call{method: http.MethodPatch, path: devicePath(device, ""), body: change})
}

// RemoveDevice forgets a device. Its commands can still be looked at.
func (c *Client) RemoveDevice(ctx context.Context, device string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: devicePath(device, ""), gone: true})
	return err
}

// Anomalies lists what the device said and was not obeyed, newest first; at most
// limit, 0 means all that is kept.
func (c *Client) Anomalies(ctx context.Context, device string, limit int) ([]Anomaly, error) {
	q := url.Values{}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	out := &AnomalyList{}
	_, err := c.do(ctx, call{method: http.MethodGet, path: devicePath(device, "/anomalies"), query: q, out: out})
	return out.Items, err
}

// Health tells how the server is. A server that is not ready answers too: its
// Ready is false. It is asked once, without a retry.
func (c *Client) Health(ctx context.Context) (*Health, error) {
	out := &Health{}
	_, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/health", out: out, once: true,
		accept: []int{http.StatusServiceUnavailable}})
	if err == nil && !out.Live {
		err = &documentError{errors.New("no health document")}
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}
