package main

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"

	"github.com/wilco-iot/wilco/internal/cli"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/fleet/mosquitto"
	"github.com/wilco-iot/wilco/internal/store/sqlite"
	"github.com/wilco-iot/wilco/wire"
)

// mosquittoConfig writes a configuration for Mosquitto out of the data directory.
// The server may be running.
func mosquittoConfig(ctx context.Context, o cli.MosquittoOptions, streams cli.IO) error {
	devices, err := sqlite.ReadDevices(ctx, filepath.Join(o.Config.Data, "wilco.db"))
	if err != nil {
		return fault.Wrap(err, fault.NotFound, "the devices cannot be read: %v", err)
	}
	wilco, err := wire.Lookup("wilco", o.Config.Root)
	if err != nil {
		return fault.Field("root", "%v", err)
	}
	profiles := []wire.Profile{wilco, wire.Atlas()}
	if o.Config.Profile == wire.Atlas().Name() {
		slices.Reverse(profiles)
	}
	w, err := mosquitto.Write(mosquitto.Options{Dir: o.Dir, Listen: o.Listen, CertFile: o.Cert, KeyFile: o.Key, User: o.User,
		Persistence: o.Persistence, Profiles: profiles, Devices: slices.Values(devices)})
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "%v", err)
	}
	scheme := "mqtt"
	if o.Cert != "" {
		scheme = "mqtts"
	}
	broker := url.URL{Scheme: scheme, User: url.UserPassword(w.ServerUser, w.ServerSecret), Host: o.Listen}
	if o.JSON {
		type skipped struct {
			Device string `json:"device"`
			Reason string `json:"reason"`
		}
		doc := struct {
			Config  string    `json:"config"`
			Broker  string    `json:"broker"` // what wilco serve --broker-url takes
			Devices int       `json:"devices"`
			Skipped []skipped `json:"skipped"`
		}{w.Config, broker.String(), w.Devices, []skipped{}}
		for _, s := range w.Skipped {
			doc.Skipped = append(doc.Skipped, skipped{s.Device.String(), s.Reason})
		}
		return printJSON(streams.Out, doc)
	}
	fmt.Fprintf(streams.Out, "%d devices may log in\n", w.Devices)
	for _, s := range w.Skipped {
		fmt.Fprintf(streams.Out, "%s may not: %s\n", s.Device, s.Reason)
	}
	// The secret is neither shown nor an argument, which others on this machine could read.
	fmt.Fprintf(streams.Out, "start Mosquitto:  mosquitto -c %s\nand the server:   WILCO_BROKER_URL=\"%s://%s:$(cat %s)@%s\" wilco serve\n",
		w.Config, scheme, w.ServerUser, filepath.Join(filepath.Dir(w.Config), "server.secret"), o.Listen)
	return nil
}
