package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/catalog"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
)

func (a *app) typeCommand() *cobra.Command {
	c := &cobra.Command{Use: "type", Short: "Say what commands mean: their parameters, results, times and conditions"}
	c.AddCommand(a.typeApply(), a.typeList(), a.typeShow(), a.typeLint(), a.typeDeprecate())
	return a.parent(c)
}

func (a *app) typeApply() *cobra.Command {
	var file string
	c := &cobra.Command{Use: "apply -f FILE", Short: "Make command types, or their next versions, out of a file", Args: a.args(),
		Long: "Apply makes each command type in the file the one that new commands of its name are made by. The same\n" +
			"content again makes no new version, and what is under way keeps the version that it was made by.",
		Example: "  wilco type apply -f valve.yaml"}
	typeFile(c, &file)
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		types, err := a.readTypes(file)
		if err != nil {
			return err
		}
		c, err := a.connect()
		if err != nil {
			return err
		}
		var made []client.CommandType
		for i := range types {
			text, err := json.Marshal(&types[i])
			if err != nil {
				return err
			}
			t, isNew, err := c.ApplyType(ctx, types[i].Name, text)
			if err != nil {
				return a.unreachable(err)
			}
			made = append(made, *t)
			if !a.json {
				fmt.Fprintf(a.Out, "%s version %d%s\n", t.Name, t.Version, map[bool]string{false: ", as it was"}[isNew])
			}
		}
		if a.json {
			return a.printJSON(client.TypeList{Items: made})
		}
		return nil
	})
	return c
}

func typeFile(c *cobra.Command, file *string) {
	c.Flags().StringVarP(file, "file", "f", "", "file with types as YAML or JSON; - for standard input")
}

// readTypes reads and checks the types of a file.
func (a *app) readTypes(file string) ([]catalog.Type, error) {
	var text []byte
	var err error
	switch file {
	case "":
		return nil, fault.Field("file", "is missing; name a file of types, or - for standard input")
	case "-":
		text, err = io.ReadAll(io.LimitReader(a.In, catalog.MaxSize+1))
	default:
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, fault.Field("file", "cannot be read: %v", err)
	}
	types, err := catalog.Parse(text)
	for i := range types {
		if _, err := catalog.Compile(types[i]); err != nil {
			return nil, err
		}
	}
	return types, err
}

func (a *app) typeLint() *cobra.Command {
	var file string
	c := &cobra.Command{Use: "lint -f FILE", Short: "Check a file of command types, without a server", Args: a.args(),
		Long: "Lint tells what is wrong with the types of a file, and what is allowed and probably not meant. The latter\n" +
			"are remarks, and no failure."}
	typeFile(c, &file)
	c.RunE = a.do(func(context.Context, []string) error {
		types, err := a.readTypes(file)
		if err != nil {
			return err
		}
		type report struct {
			Name    string           `json:"name"`
			Remarks []catalog.Remark `json:"remarks"`
		}
		reports := make([]report, len(types))
		for i := range types {
			reports[i] = report{types[i].Name, catalog.Lint(&types[i], command.Defaults)}
		}
		return a.print(reports, func(w io.Writer) {
			for _, r := range reports {
				if len(r.Remarks) == 0 {
					fmt.Fprintf(w, "%s: nothing to remark\n", r.Name)
				}
				for _, m := range r.Remarks {
					fmt.Fprintf(w, "%s: %s\n", r.Name, m)
				}
			}
		})
	})
	return c
}

func (a *app) typeList() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List command types", Args: a.args()}
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		list, err := c.Types(ctx)
		if err != nil {
			return a.unreachable(err)
		}
		return a.print(client.TypeList{Items: list}, func(out io.Writer) {
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "TYPE\tVERSION\tPRIORITY\tAPPLIED\tBY\tDESCRIPTION")
			for _, t := range list {
				about := t.Description
				if t.Deprecated != "" {
					about = "DEPRECATED: " + t.Deprecated
				}
				fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\n", t.Name, t.Version, t.Priority, stamp(t.Created), clean(t.By), clip(clean(about), 60))
			}
			w.Flush()
		})
	})
	return c
}

func (a *app) typeShow() *cobra.Command {
	version := 0
	c := &cobra.Command{Use: "show NAME", Short: "Look at a command type", Args: a.args("NAME")}
	c.Flags().IntVar(&version, "version", 0, "which version (default: the newest)")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		t, err := c.Type(ctx, args[0], version)
		if err != nil {
			return a.unreachable(err)
		}
		return a.print(t, func(w io.Writer) { typeDetails(w, t) })
	})
	return c
}

func typeDetails(out io.Writer, t *client.CommandType) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name string, v any) {
		text, ok := v.(string)
		if !ok {
			b, err := json.Marshal(v)
			if err != nil {
				return
			}
			text = string(b)
		}
		if text != "" && text != "null" && text != "0" {
			fmt.Fprintf(w, "%s\t%s\n", name, clean(text))
		}
	}
	row("type", t.Name)
	row("version", strconv.Itoa(t.Version))
	row("deprecated", t.Deprecated)
	row("description", t.Description)
	row("params", t.Params)
	row("result", t.Result)
	row("policy", t.Policy)
	row("window", t.Window)
	row("priority", t.Priority)
	row("on reboot", t.OnReboot)
	row("effects", t.Effects)
	row("approval", t.Approval)
	row("if", t.If)
	row("unmet", t.Unmet)
	row("at most", t.AtMost)
	row("exclusive", t.Exclusive)
	row("applied", stamp(t.Created))
	row("by", t.By)
	w.Flush()
}

func (a *app) typeDeprecate() *cobra.Command {
	var why string
	c := &cobra.Command{Use: "deprecate NAME --reason TEXT", Short: "Warn those who send commands of a type", Args: a.args("NAME"),
		Long: "Deprecate makes a version of the type whose commands come with a warning. Applying the type's file again\n" +
			"takes it back."}
	c.Flags().StringVar(&why, "reason", "", "why, and what to use instead")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		if why == "" {
			return fault.Field("reason", "is missing; say why, and what to use instead")
		}
		c, err := a.connect()
		if err != nil {
			return err
		}
		t, err := c.DeprecateType(ctx, args[0], why)
		if err != nil {
			return a.unreachable(err)
		}
		return a.print(t, func(w io.Writer) { fmt.Fprintf(w, "%s version %d, deprecated\n", t.Name, t.Version) })
	})
	return c
}
