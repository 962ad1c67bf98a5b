package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fault"
)

func (a *app) deviceCommand() *cobra.Command {
	c := &cobra.Command{Use: "device", Short: "Register devices and look at them", Args: a.args()}
	c.AddCommand(a.deviceAdd(), a.deviceList(), a.deviceShow(), a.deviceSet(), a.deviceSwitch("enable", "Let a device log in and take commands again", false),
		a.deviceSwitch("disable", "Cut a device off: it may not log in and takes no commands", true),
		a.deviceRotate(), a.deviceRemove(), a.deviceAnomalies(), a.simulateCommand())
	return a.parent(c)
}

// parent makes a command that only has others below it complain of what it does
// not know, in place of showing its help as if all were well.
func (a *app) parent(c *cobra.Command) *cobra.Command {
	c.Args = nil
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			a.command = c.CommandPath()
			return fault.New(fault.Invalid, "unknown command %q for %q", args[0], c.CommandPath())
		}
		return c.Help()
	}
	return c
}

// withDevice makes the function of a command about one device.
func (a *app) withDevice(f func(context.Context, *client.Client, string) error) func(*cobra.Command, []string) error {
	return a.do(func(ctx context.Context, args []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		return a.unreachable(f(ctx, c, args[0]))
	})
}

func (a *app) deviceAdd() *cobra.Command {
	var n client.NewDevice
	c := &cobra.Command{Use: "add GROUP/DEVICE", Short: "Register a device and print its secret, which is told this once", Args: a.args("GROUP/DEVICE")}
	f := c.Flags()
	f.StringVar(&n.Profile, "profile", "", "language that it speaks: wilco, atlas, or sparkplug for an edge node NODE or a device behind it, NODE:DEVICE (default: the server's)")
	f.IntVar(&n.Window, "window", 0, "commands in flight at once (default 1: strictly one after the other)")
	f.StringSliceVar(&n.Tags, "tag", nil, "a tag (repeatable)")
	f.StringVar(&n.Note, "note", "", "a note for people")
	f.BoolVar(&n.Certificate, "cert", false, "it logs in with a certificate that names it wilco:GROUP/DEVICE; no secret is made")
	f.StringVar(&n.Via, "via", "", "gateway that it is behind, GROUP/DEVICE: that logs in for it; no secret is made")
	c.RunE = a.withDevice(func(ctx context.Context, c *client.Client, device string) error {
		n.Device = device
		d, err := c.AddDevice(ctx, n)
		if err != nil {
			return err
		}
		return a.printSecret(d)
	})
	return c
}

func (a *app) printSecret(d *client.Device) error {
	return a.print(d, func(w io.Writer) {
		if d.Via != "" {
			fmt.Fprintf(w, "device   %s\ngateway  %s\n", d.Device, d.Via)
			return
		}
		if d.Certificate {
			fmt.Fprintf(w, "device       %s\nclient id    %s\ncertificate  subjectAltName=URI:wilco:%s\n", d.Device, d.Device, d.Device)
			return
		}
		fmt.Fprintf(w, "device    %s\nusername  %s\nclient id %s\npassword  %s\n", d.Device, d.Device, d.Device, d.Secret)
		fmt.Fprintln(a.Err, "The password is shown this once and kept nowhere.")
	})
}

func (a *app) deviceList() *cobra.Command {
	var o client.DeviceOptions
	var online, offline, all bool
	c := &cobra.Command{Use: "list", Short: "List devices", Args: a.args()}
	f := c.Flags()
	f.StringVar(&o.Group, "group", "", "only of this group")
	f.StringVar(&o.Tag, "tag", "", "only with this tag")
	f.BoolVar(&online, "online", false, "only those that are online")
	f.BoolVar(&offline, "offline", false, "only those that are not")
	f.IntVar(&o.Limit, "limit", 100, "at most so many, 1 to 1000")
	f.StringVar(&o.Cursor, "cursor", "", "go on where the last page ended")
	f.BoolVar(&all, "all", false, "all pages")
	c.MarkFlagsMutuallyExclusive("online", "offline")
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		if online || offline {
			o.Online = &online
		}
		return a.listDevices(ctx, o, all)
	})
	return c
}

func (a *app) listDevices(ctx context.Context, o client.DeviceOptions, all bool) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	page, err := pages(all, o.Cursor, func(cursor string) (*client.DevicePage, error) {
		o.Cursor = cursor
		return c.Devices(ctx, o)
	})
	if err != nil {
		return a.unreachable(err)
	}
	return a.print(page, func(out io.Writer) {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "DEVICE\tPRESENCE\tSEEN\tFIRMWARE\tTAGS")
		for _, d := range page.Items {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", d.Device, presence(&d), stamp(d.Presence.Seen), clean(d.Presence.Firmware), strings.Join(d.Tags, ","))
		}
		w.Flush()
		sayMore(a.Err, page.Next)
	})
}

func presence(d *client.Device) string {
	switch {
	case d.Disabled:
		return "disabled"
	case !d.Presence.Known:
		return "unknown"
	case d.Presence.Online:
		return "online"
	}
	return "offline"
}

func (a *app) deviceShow() *cobra.Command {
	c := &cobra.Command{Use: "show GROUP/DEVICE", Short: "Look at a device", Args: a.args("GROUP/DEVICE")}
	c.RunE = a.withDevice(func(ctx context.Context, c *client.Client, device string) error {
		d, err := c.Device(ctx, device)
		if err != nil {
			return err
		}
		return a.printDevice(d)
	})
	return c
}

func (a *app) printDevice(d *client.Device) error {
	return a.print(d, func(out io.Writer) {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		row := func(name, value string) {
			if value != "" {
				fmt.Fprintf(w, "%s\t%s\n", name, clean(value))
			}
		}
		row("device", d.Device)
		row("presence", presence(d))
		row("since", stamp(d.Presence.Since))
		row("seen", stamp(d.Presence.Seen))
		row("boot", d.Presence.Boot)
		row("firmware", d.Presence.Firmware)
		row("commands", strings.Join(d.Presence.Commands, ", "))
		row("profile", d.Profile)
		row("window", fmt.Sprint(d.Window))
		row("tags", strings.Join(d.Tags, ","))
		row("note", d.Note)
		row("gateway", d.Via)
		if d.Certificate {
			row("login", "certificate with URI:wilco:"+d.Device)
		}
		row("created", stamp(d.Created))
		row("secret of", stamp(d.Rotated))
		w.Flush()
	})
}

func (a *app) deviceSet() *cobra.Command {
	var window int
	var tags []string
	var note string
	c := &cobra.Command{Use: "set GROUP/DEVICE", Short: "Change a device's window, tags or note", Args: a.args("GROUP/DEVICE")}
	f := c.Flags()
	f.IntVar(&window, "window", 0, "commands in flight at once")
	f.StringSliceVar(&tags, "tag", nil, "the tags, in place of those it has (repeatable; \"\" for none)")
	f.StringVar(&note, "note", "", "a note for people")
	c.RunE = a.withDevice(func(ctx context.Context, c2 *client.Client, device string) error {
		var change client.DeviceChange
		if f.Changed("window") {
			change.Window = &window
		}
		if f.Changed("tag") {
			if len(tags) == 1 && tags[0] == "" {
				tags = []string{}
			}
			change.Tags = &tags
		}
		if f.Changed("note") {
			change.Note = &note
		}
		if change == (client.DeviceChange{}) {
			return fault.New(fault.Invalid, "nothing to change; give at least one of --window, --tag, --note")
		}
		d, err := c2.ChangeDevice(ctx, device, change)
		if err != nil {
			return err
		}
		return a.printDevice(d)
	})
	return c
}

func (a *app) deviceSwitch(use, short string, disabled bool) *cobra.Command {
	c := &cobra.Command{Use: use + " GROUP/DEVICE", Short: short, Args: a.args("GROUP/DEVICE")}
	c.RunE = a.withDevice(func(ctx context.Context, c *client.Client, device string) error {
		d, err := c.ChangeDevice(ctx, device, client.DeviceChange{Disabled: &disabled})
		if err != nil {
			return err
		}
		return a.print(d, func(w io.Writer) { fmt.Fprintf(w, "%s %sd\n", d.Device, use) })
	})
	return c
}

func (a *app) deviceRotate() *cobra.Command {
	c := &cobra.Command{Use: "rotate GROUP/DEVICE", Short: "Give a device a new secret; the old one is void at once", Args: a.args("GROUP/DEVICE")}
	c.RunE = a.withDevice(func(ctx context.Context, c *client.Client, device string) error {
		d, err := c.RotateDevice(ctx, device)
		if err != nil {
			return err
		}
		return a.printSecret(d)
	})
	return c
}

func (a *app) deviceRemove() *cobra.Command {
	c := &cobra.Command{Use: "remove GROUP/DEVICE", Short: "Forget a device; its commands can still be looked at", Args: a.args("GROUP/DEVICE")}
	c.RunE = a.withDevice(func(ctx context.Context, c *client.Client, device string) error {
		if err := c.RemoveDevice(ctx, device); err != nil {
			return err
		}
		return a.print(struct {
			Removed string `json:"removed"`
		}{device}, func(w io.Writer) { fmt.Fprintf(w, "%s removed\n", device) })
	})
	return c
}

func (a *app) deviceAnomalies() *cobra.Command {
	var limit int
	c := &cobra.Command{Use: "anomalies GROUP/DEVICE", Short: "List what a device said and was not obeyed, newest first", Args: a.args("GROUP/DEVICE")}
	c.Flags().IntVar(&limit, "limit", 0, "at most so many, 1 to 100 (default all)")
	c.RunE = a.withDevice(func(ctx context.Context, c *client.Client, device string) error {
		list, err := c.Anomalies(ctx, device, limit)
		if err != nil {
			return err
		}
		return a.print(client.AnomalyList{Items: list}, func(out io.Writer) {
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "AT\tKIND\tTID\tDETAIL")
			for _, x := range list {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", stamp(x.At), clean(x.Kind), clean(x.TID), clean(x.Detail))
			}
			w.Flush()
		})
	})
	return c
}
