package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/internal/fault"
)

// BenchCommandsOptions are those of wilco bench commands.
type BenchCommandsOptions struct {
	For      time.Duration // of each phase
	Devices  int
	InFlight int
	Backlog  int    // measure this many waiting commands and a restart instead; 0: do not
	Data     string // "" means a directory that is removed
	JSON     bool
}

// BenchStateOptions are those of wilco bench state.
type BenchStateOptions struct {
	For             time.Duration
	Devices, Window int
	Data            string // "" means a directory that is removed
	JSON            bool
}

// BenchRolloutOptions are those of wilco bench rollout.
type BenchRolloutOptions struct {
	Targets, Concurrency int
	Failing              float64
	Data                 string // "" means a directory that is removed
	JSON                 bool
}

// BenchMQTTOptions are those of wilco bench mqtt and the commands below it.
type BenchMQTTOptions struct {
	Load                                       MQTTLoad
	URL                                        string // "" means a broker of its own
	QoS, Publishers, Subscribers, Size, Window int
	For                                        time.Duration
	ServerPID                                  int     // process of the broker, to measure its CPU and memory; 0: not known
	Version                                    string  // 3.1.1 or 5
	Rate                                       float64 // messages a second in all; 0: as fast as it goes, and none beside requests
	Persistent, JSON                           bool
	Connections                                int // idle ones
	Messages                                   int // to be queued
}

// MQTTLoad is what is done to the broker.
type MQTTLoad int

// The loads.
const (
	LoadStream   MQTTLoad = iota // publishers and subscribers on one topic
	LoadRequests                 // one message at a time, there and back
	LoadIdle                     // connections that do nothing
	LoadQueue                    // messages for a session that is away
	LoadConnect                  // clients that come and go
)

func (a *app) benchCommand() *cobra.Command {
	c := &cobra.Command{Use: "bench", Short: "Measure a server or a broker"}
	c.AddCommand(a.benchCommands(), a.benchState(), a.benchRollout(), a.benchMQTT(), a.benchSparkplug())
	return a.parent(c)
}

func (a *app) benchCommands() *cobra.Command {
	var o BenchCommandsOptions
	c := &cobra.Command{Use: "commands", Short: "Measure whole lives of commands: asked for, sent, acknowledged, executed, all durable",
		Long: "It starts a server in a process of its own, so that CPU time and memory are the server's alone, and simulated\n" +
			"devices in this one. It measures one command at a time, full load, and half load, and audits every command.\n" +
			"With --backlog it measures what waiting commands cost, and a restart with them.",
		Example: "  wilco bench commands --for 10s --json\n  wilco bench commands --backlog 1000000", Args: a.args()}
	f := c.Flags()
	f.DurationVar(&o.For, "for", 10*time.Second, "how long each phase takes")
	f.IntVar(&o.Devices, "devices", 1000, "how many devices are simulated")
	f.IntVar(&o.InFlight, "in-flight", 0, "commands under way at once at full load (default: two for each device)")
	f.IntVar(&o.Backlog, "backlog", 0, "measure this many commands for offline devices instead")
	f.StringVar(&o.Data, "data", "", "directory of the server (default: one that is removed at the end)")
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		o.JSON = a.json
		for _, n := range []struct {
			flag     string
			value    int
			min, max float64
		}{{"devices", o.Devices, 1, 1e5}, {"in-flight", o.InFlight, 0, 1e6}, {"backlog", o.Backlog, 0, 1e8}} {
			if err := between(n.flag, float64(n.value), n.min, n.max); err != nil {
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

func (a *app) benchRollout() *cobra.Command {
	var o BenchRolloutOptions
	c := &cobra.Command{Use: "rollout", Short: "Measure a roll-out to many devices, from its request to its end, all durable",
		Long: "It starts a broker and a server, each in a process of its own, and simulated devices in this one: all of them over a\n" +
			"few connections, because the roll-out is measured and not how many connections there can be. Each acknowledges its\n" +
			"command and does it at once.",
		Example: "  wilco bench rollout --targets 100000\n  wilco bench rollout --failing 0.1", Args: a.args()}
	f := c.Flags()
	f.IntVar(&o.Targets, "targets", 100_000, "how many devices there are")
	f.IntVar(&o.Concurrency, "concurrency", 0, "commands under way at once (default: any number)")
	f.Float64Var(&o.Failing, "failing", 0, "share of the devices that fail; the roll-out is to abort at half of it")
	f.StringVar(&o.Data, "data", "", "directory of broker and server (default: one that is removed at the end)")
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		o.JSON = a.json
		if err := between("targets", float64(o.Targets), 1, 1e6); err != nil {
			return err
		}
		if err := between("concurrency", float64(o.Concurrency), 0, 1e6); err != nil {
			return err
		}
		if err := between("failing", o.Failing, 0, 1); err != nil {
			return err
		}
		if a.run.BenchRollout == nil {
			return missing("benchmark of roll-outs")
		}
		return a.run.BenchRollout(ctx, o, a.IO)
	})
	return c
}

func (a *app) benchState() *cobra.Command {
	var o BenchStateOptions
	c := &cobra.Command{Use: "state", Short: "Measure reports of devices: published, kept with their history, answered, all durable",
		Long: "It starts a server in a process of its own, and simulated devices in this one. Each device reports its state, six\n" +
			"values of which one is new, as soon as the server has accepted the report before.",
		Example: "  wilco bench state --for 10s --devices 1000", Args: a.args()}
	f := c.Flags()
	f.DurationVar(&o.For, "for", 10*time.Second, "how long it takes")
	f.IntVar(&o.Devices, "devices", 200, "how many devices are simulated")
	f.IntVar(&o.Window, "window", 1, "reports of each device under way at once")
	f.StringVar(&o.Data, "data", "", "directory of the server (default: one that is removed at the end)")
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		o.JSON = a.json
		if err := between("devices", float64(o.Devices), 1, 1e5); err != nil {
			return err
		}
		if err := between("window", float64(o.Window), 1, 1000); err != nil {
			return err
		}
		if a.run.BenchState == nil {
			return missing("benchmark of the state")
		}
		return a.run.BenchState(ctx, o, a.IO)
	})
	return c
}

func (a *app) benchMQTT() *cobra.Command {
	o := newLoad(LoadStream)
	c := &cobra.Command{Use: "mqtt", Short: "Measure an MQTT broker, this one or any other",
		Example: "  wilco bench mqtt --url mqtt://127.0.0.1:1883 --qos 1 --pubs 1 --subs 50 --server-pid $(pidof mosquitto) --json", Args: a.args()}
	o.broker(c)
	o.message(c)
	f := c.Flags()
	f.IntVar(&o.Publishers, "pubs", 1, "how many publish")
	f.IntVar(&o.Subscribers, "subs", 1, "how many receive everything")
	f.DurationVar(&o.For, "for", 5*time.Second, "how long messages are published")
	f.Float64Var(&o.Rate, "rate", 0, "messages a second in all (default: as fast as it goes)")
	f.IntVar(&o.Window, "window", 100, "unacknowledged messages a publisher")
	f.BoolVar(&o.Persistent, "persistent", false, "subscribers have persistent sessions")
	c.RunE = a.benchLoad(o)
	c.AddCommand(a.benchRequests(), a.benchIdle(), a.benchQueue(), a.benchConnect())
	return c
}

func (a *app) benchRequests() *cobra.Command {
	o := newLoad(LoadRequests)
	c := &cobra.Command{Use: "requests", Short: "Measure the way there and back, one message at a time", Args: a.args(),
		Example: "  wilco bench mqtt requests --url mqtt://127.0.0.1:1883 --rate 5000"}
	o.broker(c)
	o.message(c)
	c.Flags().DurationVar(&o.For, "for", 5*time.Second, "how long requests are made")
	c.Flags().Float64Var(&o.Rate, "rate", 0, "messages a second from one other client to another, meanwhile")
	c.RunE = a.benchLoad(o)
	return c
}

func (a *app) benchIdle() *cobra.Command {
	o := newLoad(LoadIdle)
	c := &cobra.Command{Use: "idle", Short: "Measure the memory of connections that do nothing", Args: a.args(),
		Example: "  wilco bench mqtt idle --url mqtt://127.0.0.1:1883 --server-pid $(pidof mosquitto)"}
	o.broker(c)
	c.Flags().IntVar(&o.Connections, "connections", 10_000, "how many, with a subscription each")
	c.RunE = a.benchLoad(o)
	return c
}

func (a *app) benchQueue() *cobra.Command {
	o := newLoad(LoadQueue)
	c := &cobra.Command{Use: "queue", Short: "Measure a queue for a session that is away: filling it, then draining it", Args: a.args(),
		Example: "  wilco bench mqtt queue --url mqtt://127.0.0.1:1883 --messages 100000"}
	o.broker(c)
	f := c.Flags()
	f.IntVar(&o.Messages, "messages", 100_000, "how many, at QoS 1")
	f.IntVar(&o.Size, "size", 64, "bytes of a message")
	f.IntVar(&o.Window, "window", 100, "unacknowledged messages of the publisher")
	c.RunE = a.benchLoad(o)
	return c
}

func (a *app) benchConnect() *cobra.Command {
	o := newLoad(LoadConnect)
	c := &cobra.Command{Use: "connect", Short: "Measure how fast clients can connect and subscribe", Args: a.args(),
		Example: "  wilco bench mqtt connect --url mqtt://user:password@127.0.0.1:1883 --for 3s"}
	o.broker(c)
	c.Flags().DurationVar(&o.For, "for", 5*time.Second, "how long clients come and go")
	c.RunE = a.benchLoad(o)
	return c
}

// newLoad is valid also where a load has no flag for a field.
func newLoad(l MQTTLoad) *BenchMQTTOptions {
	return &BenchMQTTOptions{Load: l, QoS: 1, Publishers: 1, Subscribers: 1, Size: 64, Window: 100, Connections: 1, Messages: 1}
}

// broker is the flags about what is measured.
func (o *BenchMQTTOptions) broker(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.URL, "url", "", "URL of the broker (default: one of its own, in a process of its own)")
	f.IntVar(&o.ServerPID, "server-pid", 0, "process id of the broker, to measure its CPU and memory")
	f.StringVar(&o.Version, "mqtt-version", "5", "3.1.1 or 5")
}

func (o *BenchMQTTOptions) message(c *cobra.Command) {
	c.Flags().IntVar(&o.Size, "size", 64, "bytes of a message")
	c.Flags().IntVar(&o.QoS, "qos", 1, "quality of service, 0 to 2")
}

func (a *app) benchLoad(o *BenchMQTTOptions) func(*cobra.Command, []string) error {
	return a.do(func(ctx context.Context, _ []string) error {
		o.JSON = a.json
		if err := o.check(); err != nil {
			return err
		}
		if a.run.BenchMQTT == nil {
			return missing("benchmark of brokers")
		}
		return a.run.BenchMQTT(ctx, *o, a.IO)
	})
}

func (o *BenchMQTTOptions) check() error {
	least := 0
	if o.Load == LoadRequests || o.Load == LoadQueue {
		least = 24 // what is checked is in the message
	}
	for _, n := range []struct {
		flag            string
		value, min, max int
	}{{"pubs", o.Publishers, 1, 1e5}, {"subs", o.Subscribers, 0, 1e5}, {"size", o.Size, least, 1 << 20},
		{"qos", o.QoS, 0, 2}, {"window", o.Window, 1, 65535}, {"connections", o.Connections, 1, 1e6}, {"messages", o.Messages, 1, 1e9}} {
		if err := between(n.flag, float64(n.value), float64(n.min), float64(n.max)); err != nil {
			return err
		}
	}
	if o.Version != "5" && o.Version != "3.1.1" {
		return fault.Field("mqtt-version", "%q is not one of 3.1.1, 5", o.Version)
	}
	if o.Load == LoadIdle && o.URL != "" && o.ServerPID == 0 {
		return fault.Field("server-pid", "is missing: the memory of the broker's process is what is measured")
	}
	return nil
}

// between checks the value of a flag.
func between(flag string, value, low, high float64) error {
	if !(value >= low && value <= high) {
		return fault.Field(flag, "%g is not between %g and %g", value, low, high)
	}
	return nil
}
