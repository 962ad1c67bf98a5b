package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/internal/fault"
)

// BenchCommandsOptions are those of wilco bench commands.
type BenchCommandsOptions struct {
	Server, Token string // "" means a server of its own
	Broker        string // URL, with Server: the broker that the devices connect to
	Devices       int
	Commands      int
	Batch         int           // commands in one request
	Rate          float64       // commands a second; 0: as fast as it goes
	Takes         time.Duration // how long a device takes
	JSON          bool
}

// BenchMQTTOptions are those of wilco bench mqtt.
type BenchMQTTOptions struct {
	Broker      string // URL; "" means a broker of its own
	PID         int    // process of the broker, to measure its CPU and memory; 0: not known
	Publishers  int
	Subscribers int
	Messages    int
	Payload     int // bytes
	QoS         int
	Version     string // 3.1.1 or 5
	Window      int    // messages in flight a publisher
	JSON        bool
}

func (a *app) benchCommand() *cobra.Command {
	c := &cobra.Command{Use: "bench", Short: "Measure a server or a broker"}
	c.AddCommand(a.benchCommands(), a.benchMQTT())
	return parent(c)
}

func (a *app) benchCommands() *cobra.Command {
	var o BenchCommandsOptions
	c := &cobra.Command{Use: "commands", Short: "Measure whole lives of commands: asked for, sent, acknowledged, executed",
		Long: "It runs a server of its own in memory of this process, or the one of --server with simulated devices at --broker.", Args: args()}
	f := c.Flags()
	f.StringVar(&o.Broker, "broker", "", "URL of the broker that the devices connect to; with --server")
	f.IntVar(&o.Devices, "devices", 100, "how many devices are simulated")
	f.IntVar(&o.Commands, "commands", 10000, "how many commands are sent in all")
	f.IntVar(&o.Batch, "batch", 100, "commands in one request, 1 to 1000")
	f.Float64Var(&o.Rate, "rate", 0, "commands a second (default: as fast as it goes)")
	f.DurationVar(&o.Takes, "takes", 0, "how long a device takes for one")
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		o.Server, o.Token, o.JSON = first(a.server, a.env("WILCO_SERVER")), first(a.token, a.env("WILCO_TOKEN")), a.json
		for _, n := range []struct {
			flag       string
			value, max int
		}{{"devices", o.Devices, 1e6}, {"commands", o.Commands, 1e9}, {"batch", o.Batch, 1000}} {
			if err := between(n.flag, float64(n.value), 1, float64(n.max)); err != nil {
				return err
			}
		}
		if a.run.BenchCommands == nil {
			return missing("benchmark of commands")
		}
		return a.run.BenchCommands(ctx, o, a.IO)
	})
	return c
}

func (a *app) benchMQTT() *cobra.Command {
	var o BenchMQTTOptions
	c := &cobra.Command{Use: "mqtt", Short: "Measure an MQTT broker, this one or any other", Args: args()}
	f := c.Flags()
	f.StringVar(&o.Broker, "broker", "", "URL of the broker (default: one of its own)")
	f.IntVar(&o.PID, "pid", 0, "process id of the broker, to measure its CPU and memory")
	f.IntVar(&o.Publishers, "publishers", 10, "how many publish")
	f.IntVar(&o.Subscribers, "subscribers", 1, "how many receive everything")
	f.IntVar(&o.Messages, "messages", 100000, "how many messages are published in all")
	f.IntVar(&o.Payload, "payload", 64, "bytes of a message")
	f.IntVar(&o.QoS, "qos", 1, "quality of service, 0 to 2")
	f.StringVar(&o.Version, "mqtt-version", "5", "3.1.1 or 5")
	f.IntVar(&o.Window, "window", 100, "messages in flight a publisher")
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		o.JSON = a.json
		for _, n := range []struct {
			flag            string
			value, min, max int
		}{{"publishers", o.Publishers, 1, 1e5}, {"subscribers", o.Subscribers, 0, 1e5}, {"messages", o.Messages, 1, 1e9},
			{"payload", o.Payload, 0, 1 << 20}, {"qos", o.QoS, 0, 2}, {"window", o.Window, 1, 65535}} {
			if err := between(n.flag, float64(n.value), float64(n.min), float64(n.max)); err != nil {
				return err
			}
		}
		if o.Version != "5" && o.Version != "3.1.1" {
			return fault.Field("mqtt-version", "%q is not one of 3.1.1, 5", o.Version)
		}
		if a.run.BenchMQTT == nil {
			return missing("benchmark of brokers")
		}
		return a.run.BenchMQTT(ctx, o, a.IO)
	})
	return c
}

// between checks the value of a flag.
func between(flag string, value, low, high float64) error {
	if !(value >= low && value <= high) {
		return fault.Field(flag, "%g is not between %g and %g", value, low, high)
	}
	return nil
}
