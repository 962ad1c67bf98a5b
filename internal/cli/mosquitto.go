package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/internal/config"
)

// MosquittoOptions are those of wilco mosquitto config.
type MosquittoOptions struct {
	Config      *config.Loaded // whose data directory has the devices
	Dir         string         // where the files go
	Listen      string
	Cert, Key   string
	User        string
	Persistence string
	JSON        bool
}

func (a *app) mosquittoCommand() *cobra.Command {
	c := &cobra.Command{Use: "mosquitto", Short: "Use an Eclipse Mosquitto broker in place of the built-in one"}
	c.AddCommand(a.mosquittoConfig())
	return a.parent(c)
}

func (a *app) mosquittoConfig() *cobra.Command {
	var o MosquittoOptions
	c := &cobra.Command{Use: "config DIR", Short: "Write a configuration that lets in the registered devices and the server, and nobody else",
		Long: "Config writes mosquitto.conf, passwd, acl and the server's own secret into DIR, out of the devices in the data\n" +
			"directory. Run it again after devices have changed, and send Mosquitto a SIGHUP.",
		Args: a.args("DIR")}
	f := c.Flags()
	load := a.configFlags(f)
	f.StringVar(&o.Listen, "listen", "127.0.0.1:1883", "address of Mosquitto's listener")
	f.StringVar(&o.Cert, "cert", "", "PEM file with a certificate chain: listen with TLS")
	f.StringVar(&o.Key, "key", "", "PEM file with the private key")
	f.StringVar(&o.User, "user", "", "system user that Mosquitto changes to (default: its own)")
	f.StringVar(&o.Persistence, "persistence", "", "directory of Mosquitto's own state (default: in memory)")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		var err error
		if o.Config, err = load(); err != nil {
			return err
		}
		o.Dir, o.JSON = args[0], a.json
		if a.run.Mosquitto == nil {
			return missing("configuration of Mosquitto")
		}
		return a.run.Mosquitto(ctx, o, a.IO)
	})
	return c
}
