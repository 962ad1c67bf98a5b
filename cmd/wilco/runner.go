package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/wilco-iot/wilco/internal/app"
	"github.com/wilco-iot/wilco/internal/bench"
	"github.com/wilco-iot/wilco/internal/cli"
	"github.com/wilco-iot/wilco/internal/config"
	"github.com/wilco-iot/wilco/internal/demo"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/sim"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/wire"
)

// runner is what runs in this process.
var runner = cli.Runner{
	Serve:          serve,
	Gateway:        runGateway,
	GatewayLedger:  gatewayLedger,
	Broker:         runBroker,
	Demo:           runDemo,
	BenchCommands:  benchCommands,
	BenchState:     benchState,
	BenchRollout:   benchRollout,
	BenchMQTT:      benchMQTT,
	BenchSparkplug: benchSparkplug,
	Simulate:       simulate,
	Scenario:       runScenario,
	SimulateEdges:  simulateEdges,
	Mosquitto:      mosquittoConfig,
	CheckBroker:    checkBroker,
	CheckTable:     checkTable,
}

func serve(ctx context.Context, l *config.Loaded, streams cli.IO) error {
	return app.Serve(ctx, l.Config, cli.Version(), reload(), streams.Out, logger(streams.Err, l.Config.Log.Level, l.Config.Log.Format))
}

// reload tells of a SIGHUP: files are to be read anew.
func reload() <-chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c
}

// logger writes to w as the settings say.
func logger(w io.Writer, level, format string) *slog.Logger {
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		least = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: least}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

func runBroker(ctx context.Context, o cli.BrokerOptions, streams cli.IO) error {
	users := make(map[string]string, len(o.Users))
	for _, u := range o.Users {
		users[u.Name] = u.Password
	}
	return app.RunBroker(ctx, app.BrokerOptions{TCP: o.TCP, WS: o.WS, TLS: o.TLS, Data: o.Data,
		Files:      app.TLSFiles{Cert: o.Cert, Key: o.Key, ClientCA: o.ClientCA},
		Durability: o.Durability, Anonymous: o.Anonymous, Users: users, UsersFile: o.UsersFile, Shares: o.Shares,
		Overflow: o.Overflow, Metrics: o.Metrics, Version: cli.Version()}, reload(), streams.Out, logger(streams.Err, "warn", "text"))
}

func runDemo(ctx context.Context, o cli.DemoOptions, streams cli.IO) error {
	screen := demo.NewScreen(streams.Out, streams.Terminal)
	opt := demo.Options{For: o.For, Devices: o.Devices, Seed: o.Seed}
	if !o.JSON {
		opt.Progress = screen.Show
	}
	report, err := demo.Run(ctx, opt)
	if err != nil {
		return err
	}
	if o.JSON {
		if err := printJSON(streams.Out, report); err != nil {
			return err
		}
	} else {
		screen.Report(report)
	}
	if !report.Good() {
		return fault.New(fault.Internal, "the auditor found contradictions; run again with --seed %d", report.Seed)
	}
	return nil
}

func benchCommands(ctx context.Context, o cli.BenchCommandsOptions, streams cli.IO) error {
	report, err := bench.Commands(ctx, bench.CommandsOptions{For: o.For, Devices: o.Devices, InFlight: o.InFlight,
		Backlog: o.Backlog, Data: o.Data, Progress: progress(streams, o.JSON)})
	if err != nil {
		return err
	}
	if o.JSON {
		return printJSON(streams.Out, report)
	}
	report.Print(streams.Out)
	return nil
}

func benchState(ctx context.Context, o cli.BenchStateOptions, streams cli.IO) error {
	report, err := bench.State(ctx, bench.StateOptions{For: o.For, Devices: o.Devices, Window: o.Window, Data: o.Data,
		Progress: progress(streams, o.JSON)})
	if err != nil {
		return err
	}
	if o.JSON {
		return printJSON(streams.Out, report)
	}
	report.Print(streams.Out)
	return nil
}

func benchRollout(ctx context.Context, o cli.BenchRolloutOptions, streams cli.IO) error {
	report, err := bench.Rollout(ctx, bench.RolloutOptions{Targets: o.Targets, Concurrency: o.Concurrency, Failing: o.Failing, Data: o.Data,
		Progress: progress(streams, o.JSON)})
	if err != nil {
		return err
	}
	if o.JSON {
		return printJSON(streams.Out, report)
	}
	report.Print(streams.Out)
	return nil
}

func benchMQTT(ctx context.Context, o cli.BenchMQTTOptions, streams cli.IO) error {
	if o.URL != "" {
		return benchBroker(ctx, o, streams)
	}
	data := ""
	if o.Load == cli.LoadQueue || o.Persistent {
		var err error
		if data, err = os.MkdirTemp("", "wilco-bench-"); err != nil {
			return err
		}
		defer os.RemoveAll(data)
	}
	return bench.OwnBroker(ctx, data, func(url string, pid int) error {
		o.URL, o.ServerPID = url, pid
		return benchBroker(ctx, o, streams)
	})
}

func benchBroker(ctx context.Context, o cli.BenchMQTTOptions, streams cli.IO) error {
	version := mqtt.V5
	if o.Version == "3.1.1" {
		version = mqtt.V311
	}
	options := bench.MQTTOptions{URL: o.URL, QoS: o.QoS, Publishers: o.Publishers, Subscribers: o.Subscribers,
		Size: o.Size, For: o.For, ServerPID: o.ServerPID, Version: version, Persistent: o.Persistent, Window: o.Window, Rate: o.Rate,
		Progress: progress(streams, o.JSON)}
	var report interface{ Print(io.Writer) }
	var err error
	switch o.Load {
	case cli.LoadRequests:
		report, err = bench.MQTTRequests(ctx, options)
	case cli.LoadIdle:
		report, err = bench.MQTTIdle(ctx, options, o.Connections)
	case cli.LoadQueue:
		report, err = bench.MQTTQueue(ctx, options, o.Messages)
	case cli.LoadConnect:
		report, err = bench.MQTTConnect(ctx, options)
	default:
		report, err = bench.MQTT(ctx, options)
	}
	if err != nil {
		return err
	}
	if o.JSON {
		return printJSON(streams.Out, report)
	}
	report.Print(streams.Out)
	return nil
}

func benchSparkplug(ctx context.Context, o cli.BenchSparkplugOptions, streams cli.IO) error {
	return bench.OwnBroker(ctx, "", func(url string, pid int) error {
		report, err := bench.Sparkplug(ctx, bench.SparkplugOptions{URL: url, BrokerPID: pid, For: o.For, Nodes: o.Nodes, Metrics: o.Metrics,
			Reordered: o.Reordered, Progress: progress(streams, o.JSON)})
		if err != nil {
			return err
		}
		if o.JSON {
			return printJSON(streams.Out, report)
		}
		report.Print(streams.Out)
		return nil
	})
}

// progress tells what long work is at, on standard error.
func progress(streams cli.IO, quiet bool) func(string) {
	if quiet {
		return nil
	}
	return func(s string) { fmt.Fprintln(streams.Err, s) }
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// simulate is devices until ctx ends.
func simulate(ctx context.Context, o cli.SimulateOptions, streams cli.IO) error {
	s, err := swarmOf(o, "broker")
	if err != nil {
		return err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	fleet := sim.New(sim.Options{Members: s.members, Seed: s.seed, Crash: o.Crash, Away: o.Away, Slow: o.Slow,
		Faults: sim.Faults{Down: sim.Direction{Lose: o.Lose, Duplicate: o.Duplicate}, Up: sim.Direction{Lose: o.Lose, Duplicate: o.Duplicate, Reorder: o.Reorder}},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Dial:   func(ctx context.Context, _ wire.Address) (net.Conn, error) { return s.dial(ctx) }})
	if !o.JSON {
		fmt.Fprintf(streams.Out, "devices: %d, seed %d, broker %s; end with Ctrl-C\n", len(s.members), s.seed, s.url)
	}
	stopped := make(chan struct{})
	go func() { fleet.Run(ctx); close(stopped) }()
	ticker := time.NewTicker(5 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-stopped:
			return report(fleet, o.JSON, streams.Out)
		case <-ticker.C:
			if !o.JSON {
				fmt.Fprintf(streams.Out, "%d with power, %d commands ended, %d reboots\n", fleet.Online(), fleet.Executed(), fleet.Reboots())
			}
		}
	}
}

// report says what a simulation has done.
func report(f *sim.Fleet, asJSON bool, w io.Writer) error {
	c := f.Faults()
	r := struct {
		Ended      int64 `json:"commandsEnded"`
		Reboots    int64 `json:"reboots"`
		Lost       int64 `json:"messagesLost"`
		Duplicated int64 `json:"messagesDuplicated"`
		Reordered  int64 `json:"messagesReordered"`
	}{f.Executed(), f.Reboots(), c.LostDown.Load() + c.LostUp.Load(), c.DuplicatedDown.Load() + c.DuplicatedUp.Load(), c.SwappedUp.Load()}
	if asJSON {
		return printJSON(w, r)
	}
	fmt.Fprintf(w, "%d commands ended, %d reboots; messages lost %d, repeated %d, overtaken %d\n", r.Ended, r.Reboots, r.Lost, r.Duplicated, r.Reordered)
	return nil
}
