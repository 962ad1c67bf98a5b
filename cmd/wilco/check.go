package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/wilco-iot/wilco/internal/check"
	"github.com/wilco-iot/wilco/internal/cli"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/mqtt"
)

func checkBroker(ctx context.Context, o cli.CheckBrokerOptions, streams cli.IO) error {
	opt := check.Options{URL: o.URL, Cases: o.Cases, Seed: o.Seed, Start: o.Start, Data: o.Data,
		Bridge: o.Bridge, For: o.For, Full: o.Full, Patience: o.Patience, Strict: o.Strict, Version: mqtt.V5}
	if o.Version == "3.1.1" {
		opt.Version = mqtt.V311
	}
	if !o.JSON {
		opt.Progress = func(e check.Event) {
			if e.Result != nil {
				fmt.Fprintf(streams.Err, "%d/%d %s\n", e.Done, e.Total, e.Result.Line())
			}
		}
	}
	report, err := check.Run(ctx, opt)
	if err != nil {
		return err
	}
	if o.JSON {
		if err := printJSON(streams.Out, report); err != nil {
			return err
		}
	} else {
		report.Print(streams.Out)
	}
	if n := report.Violations(); n > 0 {
		return fault.New(fault.Conflict, "%d of %d cases are violated", n, len(report.Cases))
	}
	return nil
}

func checkTable(files []string, streams cli.IO) error {
	columns := make([]check.Column, len(files))
	for i, f := range files {
		name, path, found := strings.Cut(f, "=")
		if !found || name == "" {
			return fault.Field("file", "%q must be NAME=FILE", f)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return fault.Field("file", "cannot be read: %v", err)
		}
		columns[i].Name = name
		if err := json.Unmarshal(b, &columns[i].Report); err != nil {
			return fault.Field("file", "%s is no report of wilco check broker --json: %v", path, err)
		}
	}
	check.Table(streams.Out, columns)
	return nil
}
