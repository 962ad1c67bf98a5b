package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fault"
)

func (a *app) sparkplugWatch() *cobra.Command {
	var group string
	c := &cobra.Command{Use: "watch [GROUP/NODE]", Short: "Follow edge nodes, until interrupted",
		Long: "Watch prints one line for each birth, death, gap and so on of all edge nodes; of one that is named its DATA too, a line for\n" +
			"each value. With --json it prints one JSON document a line. It begins with what happens next, once it says that it is\n" +
			"connected. It connects again when the connection is lost; where that, or too much at once, has made a hole, a line\n" +
			"says so.",
		ValidArgsFunction: a.completeNodes}
	c.Flags().StringVar(&group, "group", "", "only of this group")
	c.Args = func(c *cobra.Command, got []string) error {
		if len(got) == 0 {
			return a.args()(c, got)
		}
		return a.args("GROUP/NODE")(c, got)
	}
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		o := client.SparkplugEventOptions{Group: group}
		if len(args) > 0 {
			o.Group, o.Node, _ = strings.Cut(args[0], "/")
			if o.Values = true; o.Group == "" || o.Node == "" {
				return fault.Field("node", "must be GROUP/NODE")
			}
		}
		return a.watchEdges(ctx, o)
	})
	return c
}

func (a *app) watchEdges(ctx context.Context, o client.SparkplugEventOptions) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	for e, err := range c.SparkplugEvents(ctx, o) {
		switch {
		case errors.Is(err, context.Canceled):
			return nil // that is how a watch ends
		case err != nil:
			return a.unreachable(err)
		case a.json:
			err = json.NewEncoder(a.Out).Encode(e)
		default:
			err = a.printEdge(&e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *app) printEdge(e *client.SparkplugEvent) error {
	switch e.Kind {
	case client.Connected:
		_, err := fmt.Fprintln(a.Out, "-- connected: what happens from now on is shown --")
		return err
	case client.ConnectionLost:
		why := ""
		if e.Detail != "" {
			why = " (" + clean(e.Detail) + ")"
		}
		_, err := fmt.Fprintf(a.Out, "-- no connection%s: what happens meanwhile is not known --\n", why)
		return err
	}
	if e.Missed > 0 {
		if _, err := fmt.Fprintf(a.Out, "-- %d events were missed --\n", e.Missed); err != nil {
			return err
		}
	}
	head := e.At.UTC().Format("15:04:05.000") + " " + e.Node
	if e.Device != "" {
		head += ":" + e.Device
	}
	if e.Kind != "data" {
		line := head + " " + e.Kind
		switch {
		case e.Missing > 0:
			line += fmt.Sprintf(": %d messages at least", e.Missing)
		case e.Metrics > 0:
			line += fmt.Sprintf(": %d metrics", e.Metrics)
		}
		if why := strings.Trim(e.Reason+": "+e.Detail, ": "); why != "" {
			line += ": " + why
		}
		_, err := fmt.Fprintln(a.Out, clean(line))
		return err
	}
	for _, v := range e.Values {
		line := head + " " + v.Name + " = " + clip(string(v.Value), 60)
		if v.Quality != "good" {
			line += " (" + v.Quality + ")"
		}
		if v.Historical {
			line += " (historical, of " + stamp(v.Time) + ")"
		}
		if _, err := fmt.Fprintln(a.Out, clean(line)); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) sparkplugWrite() *cobra.Command {
	var o orderFlags
	c := &cobra.Command{Use: "write GROUP/NODE[:DEVICE] METRIC=VALUE...", Short: "Write metrics of an edge node or of a device behind it, and wait for the confirmation",
		Long: "Write is the command sparkplug.write to a registered device of the profile sparkplug: GROUP/NODE for the edge node itself,\n" +
			"GROUP/NODE:DEVICE for a device behind it. It is executed when the node reports every metric with its value. The value is\n" +
			"JSON if it can be read as such, else text; a metric of the type String takes 5 as '\"5\"'. A DataSet and a Template are\n" +
			"written in the form in which show --json has them; of a Template the members that are to be written will do. The exit\n" +
			"code is that of send.",
		Example: "  wilco sparkplug write plant-1/line-2:pump speed=1500 'Outputs/Valve 3=true' --finish-by 30s\n" +
			"  wilco sparkplug write plant-1/line-2:pump 'motor={\"ref\": \"Motor\", \"members\": [{\"name\": \"rpm\", \"value\": 900}]}'",
		ValidArgsFunction: a.completeNodes,
		Args: func(c *cobra.Command, got []string) error {
			return a.args("GROUP/NODE[:DEVICE]", "METRIC=VALUE")(c, got[:min(len(got), 2)])
		}}
	f := c.Flags()
	f.StringVar(&o.key, "key", "", "idempotency key: sending the same again gives the same command")
	f.BoolVar(&o.noWait, "no-wait", false, "return as soon as the command is durable on the server")
	f.DurationVar(&o.timeout, "timeout", 0, "wait at most this long (exit code 7); the command goes on")
	f.DurationVar((*time.Duration)(&o.policy.DeliverBy), "deliver-by", 0, "how long it may wait for the node (default: the server's)")
	f.DurationVar((*time.Duration)(&o.policy.FinishBy), "finish-by", 0, "how long the node has to report the values (default: the server's)")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		params, err := written(args[1:])
		if err != nil {
			return err
		}
		o.params = params
		return a.send(ctx, args[0], "sparkplug.write", &o)
	})
	return c
}

// written makes the params of sparkplug.write out of METRIC=VALUE. The name ends at
// the first equals sign.
func written(pairs []string) (string, error) {
	metrics := map[string]json.RawMessage{}
	for _, pair := range pairs {
		name, value, found := strings.Cut(pair, "=")
		if _, twice := metrics[name]; !found || name == "" || twice {
			return "", fault.Field("metric", "%q is not METRIC=VALUE, or names a metric twice", pair)
		}
		metrics[name] = typed(value)
	}
	b, err := json.Marshal(map[string]any{"metrics": metrics})
	return string(b), err
}
