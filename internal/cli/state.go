package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/wire/state"
)

func (a *app) stateCommand() *cobra.Command {
	c := &cobra.Command{Use: "state", Short: "Look at what devices report of themselves, and say how they should be", Args: a.args()}
	c.AddCommand(a.stateShow(), a.stateSet(), a.stateHistory(), a.stateWatch())
	return a.parent(c)
}

func (a *app) stateShow() *cobra.Command {
	var meta bool
	c := &cobra.Command{Use: "show GROUP/DEVICE", Short: "Show what is desired of a device and what it has reported", Args: a.args("GROUP/DEVICE")}
	c.Flags().BoolVar(&meta, "meta", false, "also where each value comes from")
	c.RunE = a.withDevice(func(ctx context.Context, c *client.Client, device string) error {
		s, err := c.State(ctx, device, meta)
		if err != nil {
			return err
		}
		return a.print(s, func(w io.Writer) { printState(w, s) })
	})
	return c
}

// printState writes one line for each leaf of either document.
func printState(out io.Writer, s *client.DeviceState) {
	var desired, reported state.Object
	_ = json.Unmarshal(s.Desired, &desired) // of our own server
	_ = json.Unmarshal(s.Reported, &reported)
	paths := map[string]bool{}
	for _, o := range []state.Object{desired, reported} {
		for path := range o.Leaves() {
			paths[path] = true
		}
	}
	fmt.Fprintf(out, "version %d, desired %d\n", s.Version, s.DesiredVersion)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PATH\tDESIRED\tREPORTED\tOUTSTANDING")
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		pending := ""
		if slices.Contains(s.Pending, path) {
			pending = "yes"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s%s%s\n", clean(path), leaf(desired, path), leaf(reported, path), pending,
			origin(s.DesiredMeta, path), origin(s.ReportedMeta, path))
	}
	w.Flush()
}

func leaf(o state.Object, path string) string {
	v, ok := o.Get(path)
	if !ok {
		return "-"
	}
	b, _ := json.Marshal(v) // was JSON before
	return clean(string(b))
}

func origin(meta map[string]client.Stamp, path string) string {
	s, ok := meta[path]
	if !ok {
		return ""
	}
	by := s.By
	if by == "" {
		by = "device"
	}
	return fmt.Sprintf("\t%s v%d %s", clean(by), s.Version, stamp(s.At))
}

func (a *app) stateSet() *cobra.Command {
	var o struct {
		patch     string
		ifVersion int64
		key       string
		noWait    bool
		timeout   time.Duration
	}
	c := &cobra.Command{Use: "set GROUP/DEVICE [PATH=VALUE]...", Short: "Say how a device should be, and wait until it reports that",
		Long: "Set changes what is desired of a device, and waits until the device has reported it. A value is JSON if it can be read\n" +
			"as such, else text; null takes the path away. In a name a dot is written ~1.\n" +
			"The exit code tells the end as that of wilco send; 5 when somebody else has changed it since --if-version.",
		Example: "  wilco state set plant-1/pump-3 position=40 motor.mode=slow\n  wilco state set plant-1/pump-3 --patch '{\"motor\":{\"mode\":null}}' --if-version 3",
		Args: func(c *cobra.Command, got []string) error {
			a.command = c.CommandPath()
			if len(got) == 0 {
				return fault.New(fault.Invalid, "GROUP/DEVICE is missing")
			}
			return nil
		}}
	f := c.Flags()
	f.StringVar(&o.patch, "patch", "", "merge patch as JSON, @FILE or - for standard input")
	f.Int64Var(&o.ifVersion, "if-version", -1, "only if the desired state is at this version still")
	f.StringVar(&o.key, "key", "", "idempotency key: sending the same again gives the same command")
	f.BoolVar(&o.noWait, "no-wait", false, "return as soon as the change is durable on the server")
	f.DurationVar(&o.timeout, "timeout", 0, "wait at most this long (exit code 7); the command goes on")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		d := client.Desire{Key: o.key}
		var err error
		if d.Patch, err = a.patch(o.patch, args[1:]); err != nil {
			return err
		}
		if o.ifVersion >= 0 {
			d.IfVersion = &o.ifVersion
		}
		c, err := a.connect()
		if err != nil {
			return err
		}
		cmd, err := c.SetDesired(ctx, args[0], d)
		if err != nil {
			return a.unreachable(err)
		}
		if o.noWait {
			return a.print(cmd, func(w io.Writer) { fmt.Fprintf(w, "%s %s\n", cmd.TID, cmd.State) })
		}
		return a.await(ctx, c, cmd, o.timeout)
	})
	return c
}

// patch makes a merge patch of the flag and of PATH=VALUE.
func (a *app) patch(flag string, pairs []string) (json.RawMessage, error) {
	patch := state.Object{}
	if flag != "" {
		b, err := a.readInput("patch", flag)
		if err != nil {
			return nil, err
		}
		if patch, err = state.Parse(b); err != nil {
			return nil, fault.Field("patch", "%s", strings.TrimPrefix(err.Error(), "state: "))
		}
	}
	for _, pair := range pairs {
		path, text, found := strings.Cut(pair, "=")
		if !found {
			return nil, fault.Field("PATH=VALUE", "%q has no =", pair)
		}
		v, err := state.Parse([]byte(`{"v":` + string(typed(text)) + `}`))
		if err != nil {
			return nil, fault.Field(path, "%s", strings.TrimPrefix(err.Error(), "state: "))
		}
		if err := put(patch, path, v["v"]); err != nil {
			return nil, fault.Field(path, "%s", strings.TrimPrefix(err.Error(), "state: "))
		}
	}
	if len(patch) == 0 {
		return nil, fault.New(fault.Invalid, "nothing to change; give PATH=VALUE or --patch")
	}
	return patch.Append(nil), nil
}

// put sets v at a path of a patch. Unlike a merge it keeps nulls.
func put(patch state.Object, path string, v any) error {
	names, err := state.SplitPath(path)
	if err != nil {
		return err
	}
	for _, name := range names[:len(names)-1] {
		inner, ok := patch[name].(state.Object)
		if !ok {
			inner = state.Object{}
			patch[name] = inner
		}
		patch = inner
	}
	patch[names[len(names)-1]] = v
	return nil
}

func (a *app) stateHistory() *cobra.Command {
	var limit int
	c := &cobra.Command{Use: "history GROUP/DEVICE", Short: "List the last changes of a device's state, newest first", Args: a.args("GROUP/DEVICE")}
	c.Flags().IntVar(&limit, "limit", 0, "at most so many, 1 to 100 (default all that are kept)")
	c.RunE = a.withDevice(func(ctx context.Context, c *client.Client, device string) error {
		list, err := c.StateHistory(ctx, device, limit)
		if err != nil {
			return err
		}
		return a.print(client.StateHistory{Items: list}, func(out io.Writer) {
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "VERSION\tAT\tSIDE\tBY\tCHANGE")
			for _, r := range list {
				by := r.By
				if by == "" {
					by = "device"
				}
				fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", r.Version, stamp(r.At), r.Side, clean(by), clean(string(r.Patch)))
			}
			w.Flush()
		})
	})
	return c
}

func (a *app) stateWatch() *cobra.Command {
	c := &cobra.Command{Use: "watch GROUP/DEVICE", Short: "Follow the changes of a device's state, until interrupted", Args: a.args("GROUP/DEVICE")}
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		o := client.EventOptions{After: -1}
		o.Group, o.Device, _ = strings.Cut(args[0], "/")
		return a.watch(ctx, o, func(e *client.Event) bool { return e.Type == "state" })
	})
	return c
}
