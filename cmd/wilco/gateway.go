package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/wilco-iot/wilco/internal/cli"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/gateway"
	"github.com/wilco-iot/wilco/internal/gateway/config"
	"github.com/wilco-iot/wilco/internal/gateway/ledger"
)

func runGateway(ctx context.Context, file string, streams cli.IO) error {
	c, err := config.Load(file)
	if err != nil {
		return err
	}
	return gateway.Run(ctx, c, cli.Version(), reload(), streams.Out, logger(streams.Err, c.Server.Log.Level, c.Server.Log.Format))
}

// gatewayLedger prints what is in a ledger, and what of it cannot be trusted.
func gatewayLedger(_ context.Context, o cli.LedgerOptions, streams cli.IO) error {
	entries := []ledger.Entry{}
	r, err := ledger.Read(o.Dir, func(e ledger.Entry) error {
		if o.Show && (o.Device == "" || o.Device == e.Device) {
			entries = append(entries, e)
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(err, fault.NotFound, "there is no ledger in %s; name the directory ledger in the gateway's data directory", o.Dir)
	}
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "%v", err)
	}
	if o.JSON {
		doc := struct {
			First   int64           `json:"first"`
			Last    int64           `json:"last"`
			Head    string          `json:"head"`
			Good    int             `json:"good"`
			Damage  []ledger.Damage `json:"damage"`
			Entries []ledger.Entry  `json:"entries,omitempty"`
		}{r.First, r.Seq, r.Head, r.Entries, append([]ledger.Damage{}, r.Damage...), entries}
		if err := printJSON(streams.Out, doc); err != nil {
			return err
		}
	} else {
		printLedger(o, r, entries, streams)
	}
	if len(r.Damage) > 0 {
		return fault.New(fault.Conflict, "%d places of the ledger cannot be trusted; the first is %s", len(r.Damage), r.Damage[0])
	}
	return nil
}

func printLedger(o cli.LedgerOptions, r ledger.Report, entries []ledger.Entry, streams cli.IO) {
	if o.Show {
		w := tabwriter.NewWriter(streams.Out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "SEQ\tAT\tDEVICE\tSIDE\tPATH\tFORMER\tVALUE\tBY")
		for _, e := range entries {
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%q\t%s\t%s\t%q\n", e.Seq, e.At.Format(time.RFC3339), e.Device, e.Side, e.Path, orDash(e.Former), orDash(e.Value), e.By)
		}
		w.Flush()
	}
	for _, d := range r.Damage {
		fmt.Fprintf(streams.Err, "damaged: %s\n", d)
	}
	if !o.Show && len(r.Damage) == 0 {
		fmt.Fprintf(streams.Out, "%d entries, %d to %d, are as they were written\nhead %s\n", r.Entries, r.First, r.Seq, r.Head)
	}
}

// orDash shows JSON in a table; control characters in it are escaped already.
func orDash(b []byte) string {
	if len(b) == 0 {
		return "-"
	}
	return strings.ToValidUTF8(string(b), "?")
}
