package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/internal/fault"
)

func (a *app) healthCommand() *cobra.Command {
	c := &cobra.Command{Use: "health", Short: "Tell how the server is; exit code 6 when it is not ready", Args: a.args()}
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		h, err := c.Health(ctx)
		if err != nil {
			return a.unreachable(err)
		}
		err = a.print(h, func(w io.Writer) {
			fmt.Fprintf(w, "version %s\n", h.Version)
			for _, p := range h.Parts {
				state := "ready"
				if !p.Ready {
					state = "down: " + clean(p.Detail)
				}
				fmt.Fprintf(w, "%s %s\n", p.Name, state)
			}
		})
		if err == nil && !h.Ready {
			err = fault.New(fault.Unavailable, "the server is not ready")
		}
		return err
	})
	return c
}
