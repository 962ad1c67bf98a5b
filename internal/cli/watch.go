package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/client"
)

func (a *app) watchCommand() *cobra.Command {
	o := client.EventOptions{After: -1}
	c := &cobra.Command{Use: "watch", Short: "Follow what happens, until interrupted",
		Long: "Watch prints one line for each event, with --json one JSON document a line. It begins with what happens next,\n" +
			"or goes on after --after; a broken connection is taken up again where it broke.", Args: a.args()}
	f := c.Flags()
	f.StringVar(&o.Group, "group", "", "only of this group")
	f.StringVar(&o.Device, "device", "", "only of this device: GROUP/DEVICE, or its name beside --group")
	f.StringVar(&o.TID, "tid", "", "only of this command")
	f.StringVar(&o.Rollout, "rollout", "", "only of this roll-out: its state, how far it is, its alarms")
	f.Int64Var(&o.After, "after", -1, "go on after the event of this id; 0: from the first that is kept")
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		if group, device, found := strings.Cut(o.Device, "/"); found {
			o.Group, o.Device = group, device
		}
		return a.watch(ctx, o, func(*client.Event) bool { return true })
	})
	return c
}

// watch prints the events that are wanted, and the gaps, until ctx ends.
func (a *app) watch(ctx context.Context, o client.EventOptions, wanted func(*client.Event) bool) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	for item, err := range c.Events(ctx, o) {
		if errors.Is(err, context.Canceled) {
			return nil // that is how a watch ends
		}
		if err != nil {
			return a.unreachable(err)
		}
		if item.Event != nil && !wanted(item.Event) {
			continue
		}
		if err := a.printItem(item); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) printItem(item client.Item) error {
	if a.json {
		var v any = item.Event
		if item.Gap != nil {
			v = struct {
				Gap *client.Gap `json:"gap"`
			}{item.Gap}
		}
		return json.NewEncoder(a.Out).Encode(v)
	}
	if g := item.Gap; g != nil {
		_, err := fmt.Fprintf(a.Out, "-- events %d to %d are gone --\n", g.After+1, g.First-1)
		return err
	}
	e := item.Event
	line := fmt.Sprintf("%d %s %s", e.ID, e.At.UTC().Format("15:04:05.000"), e.Device)
	switch {
	case e.Type == "device" && e.Online != nil && *e.Online:
		line += " online"
	case e.Type == "device" && e.Online != nil:
		line += " offline"
	case e.Type == "state":
		line += fmt.Sprintf(" %s %d", e.Name, e.Version)
	case e.Type == "anomaly":
		line += " ANOMALY " + e.Kind
	case e.Type == "rollout":
		line = fmt.Sprintf("%d %s roll-out %s %s %s", e.ID, e.At.UTC().Format("15:04:05.000"), e.Rollout, e.Name, e.State)
		if e.Percent != nil {
			line += fmt.Sprintf(" %.0f%%", *e.Percent)
		}
		if e.Reason != "" {
			line += ": " + strings.ReplaceAll(e.Reason, "_", " ")
		}
	case e.Type == "alarm":
		line += fmt.Sprintf(" ALARM of %s: %s %s %s", e.By, e.TID, e.Name, e.State)
	default:
		line += fmt.Sprintf(" %s %s %s: %s", e.TID, e.Name, e.State, reasonText(e.Reason))
	}
	if e.Detail != "" {
		line += ": " + e.Detail
	}
	_, err := fmt.Fprintln(a.Out, clean(line))
	return err
}
