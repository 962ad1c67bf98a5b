package cli

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/wilco-iot/wilco/internal/config"
)

// configFlags adds the flags of all settings to a command, and returns what
// loads the settings with them.
func (a *app) configFlags(f *pflag.FlagSet) func() (*config.Loaded, error) {
	file := f.String("config", "", "configuration file (WILCO_CONFIG)")
	for _, s := range config.Settings() {
		f.String(s.Flag, s.Default, s.Doc)
	}
	return func() (*config.Loaded, error) {
		src := config.Source{File: first(*file, a.env("WILCO_CONFIG")), Env: a.Env, Flags: map[string]string{}}
		for _, s := range config.Settings() {
			if f.Changed(s.Flag) {
				src.Flags[s.Flag], _ = f.GetString(s.Flag) // it was added as one
			}
		}
		l, err := config.Load(src)
		if err != nil {
			return nil, err
		}
		for _, w := range l.Warnings {
			fmt.Fprintf(a.Err, "wilco: warning: %s\n", w)
		}
		return l, nil
	}
}

func (a *app) configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Show and check the settings of a server"}
	c.AddCommand(a.configShow(), a.configCheck())
	return a.parent(c)
}

// shown is one setting as config show prints it.
type shown struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Origin string `json:"origin"`
}

func (a *app) configShow() *cobra.Command {
	c := &cobra.Command{Use: "show", Short: "Print the settings in force and where each came from; secrets are masked", Args: a.args()}
	load := a.configFlags(c.Flags())
	c.RunE = a.do(func(context.Context, []string) error {
		l, err := load()
		if err != nil {
			return err
		}
		list := make([]shown, 0, len(config.Settings()))
		for _, s := range config.Settings() {
			list = append(list, shown{s.Path, s.Value(&l.Config), l.Origin[s.Path]})
		}
		return a.print(struct {
			Settings []shown `json:"settings"`
		}{list}, func(out io.Writer) {
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "KEY\tVALUE\tFROM")
			for _, s := range list {
				fmt.Fprintf(w, "%s\t%s\t%s\n", s.Key, first(s.Value, "-"), s.Origin)
			}
			w.Flush()
		})
	})
	return c
}

func (a *app) configCheck() *cobra.Command {
	c := &cobra.Command{Use: "check", Short: "Say whether the settings are right", Args: a.args()}
	load := a.configFlags(c.Flags())
	c.RunE = a.do(func(context.Context, []string) error {
		if _, err := load(); err != nil {
			return err
		}
		return a.print(struct {
			OK bool `json:"ok"`
		}{true}, func(w io.Writer) { fmt.Fprintln(w, "the settings are right") })
	})
	return c
}
