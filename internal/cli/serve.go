package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func (a *app) serveCommand() *cobra.Command {
	c := &cobra.Command{Use: "serve", Short: "Run the server: broker, engine and HTTP API",
		Long: "Serve runs the server until it is interrupted. Its settings come from flags, WILCO_* variables and a YAML file;\n" +
			"see wilco config show. The first start makes an admin token and leaves it in the data directory, readable by\n" +
			"this user only, so that the other commands just work on this machine.", Args: a.args()}
	load := a.configFlags(c.Flags())
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		l, err := load()
		if err != nil {
			return err
		}
		if a.run.Serve == nil {
			return missing("server")
		}
		return a.run.Serve(ctx, l, a.IO)
	})
	return c
}
