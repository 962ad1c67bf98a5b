// Package cli is the command line: it reads arguments, calls the HTTP API by
// package client, and prints. It decides nothing about commands itself.
//
// Each command has a file of its own. What runs in this process and not behind
// the API (serve, broker, demo, bench, check, simulate, mosquitto config)
// comes in through [Runner], so that this package knows none of those parts.
//
// What a command prints on standard output is its result, for people or, with
// --json, one JSON document whose names never change. Everything else, errors
// first of all, goes to standard error. The exit code is that of the fault's
// code (docs/reference/errors.md); 130 when the user broke off.
//
// Main keeps no global state and may be called more than once, also at the same
// time; its goroutines end before it returns.
package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/internal/config"
	"github.com/wilco-iot/wilco/internal/fault"
)

// IO is what a command talks to.
type IO struct {
	In       io.Reader
	Out, Err io.Writer
	Terminal bool     // Err is a terminal: progress may be drawn over
	Columns  int      // of that terminal; 0: not known
	Env      []string // as os.Environ gives it
}

// Runner is what runs in this process. A nil function means that this build
// does not have it.
type Runner struct {
	Serve          func(context.Context, *config.Loaded, IO) error
	Gateway        func(ctx context.Context, file string, streams IO) error
	GatewayLedger  func(context.Context, LedgerOptions, IO) error
	Broker         func(context.Context, BrokerOptions, IO) error
	Demo           func(context.Context, DemoOptions, IO) error
	BenchCommands  func(context.Context, BenchCommandsOptions, IO) error
	BenchState     func(context.Context, BenchStateOptions, IO) error
	BenchRollout   func(context.Context, BenchRolloutOptions, IO) error
	BenchMQTT      func(context.Context, BenchMQTTOptions, IO) error
	BenchSparkplug func(context.Context, BenchSparkplugOptions, IO) error
	Simulate       func(context.Context, SimulateOptions, IO) error
	Scenario       func(context.Context, ScenarioOptions, IO) error
	SimulateEdges  func(context.Context, SimulateOptions, IO) error
	Mosquitto      func(context.Context, MosquittoOptions, IO) error
	CheckBroker    func(context.Context, CheckBrokerOptions, IO) error
	CheckTable     func(files []string, streams IO) error // each NAME=FILE
}

// exitInterrupted is the exit code after SIGINT or SIGTERM, as shells have it.
const exitInterrupted = 130

// app is one call of Main.
type app struct {
	IO
	run     Runner
	json    bool
	server  string
	token   string
	ca      string
	started bool   // the arguments were right
	command string // that was meant, when they were not
}

// Main runs one command line, without the program's name, and returns its exit
// code. It stops soon after ctx ends.
func Main(ctx context.Context, args []string, streams IO, run Runner) int {
	a := &app{IO: streams, run: run}
	root := a.root()
	root.SetArgs(args)
	return a.finish(ctx, root.ExecuteContext(ctx))
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "wilco",
		Short: "Reliable, ordered commands to devices over MQTT",
		Long: "wilco asks devices to do things over MQTT, and always knows what became of it.\n\n" +
			"Start a server with \"wilco serve\", or see everything at once with \"wilco demo\".",
		SilenceErrors: true, SilenceUsage: true,
		Version: Version(),
	}
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	root.SetVersionTemplate("wilco {{.Version}}\n")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		a.command = c.CommandPath()
		return fault.New(fault.Invalid, "%s", err)
	})
	f := root.PersistentFlags()
	f.BoolVar(&a.json, "json", false, "print JSON")
	f.StringVar(&a.server, "server", "", "URL of the server (WILCO_SERVER; default "+defaultServer+")")
	f.StringVar(&a.token, "token", "", "token of the API (WILCO_TOKEN; on the server's machine the one in its data directory)")
	f.StringVar(&a.ca, "ca", "", "PEM file with the authorities of the certificate of an https server (WILCO_CA; default: those of the system)")
	root.AddGroup(&cobra.Group{ID: "commands", Title: "Commands to devices:"}, &cobra.Group{ID: "manage", Title: "Management:"},
		&cobra.Group{ID: "run", Title: "Programs:"})
	grouped := func(id string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	grouped("commands", a.sendCommand(), a.getCommand(), a.listCommand(), a.watchCommand(), a.cancelCommand(), a.retryCommand(), a.rollbackCommand(), a.approveCommand(), a.denyCommand(), a.breakGlassCommand(), a.explainCommand(), a.statsCommand(), a.stateCommand())
	grouped("manage", a.deviceCommand(), a.typeCommand(), a.sparkplugCommand(), a.userCommand(), a.loginCommand(), a.logoutCommand(), a.tokenCommand(), a.hookCommand(), a.rolloutCommand(), a.auditCommand(), a.healthCommand(), a.configCommand(), a.mosquittoCommand())
	grouped("run", a.serveCommand(), a.gatewayCommand(), a.brokerCommand(), a.demoCommand(), a.scenarioCommand(), a.benchCommand(), a.checkCommand())
	root.AddCommand(a.versionCommand(), a.docsCommand())
	a.complete(root)
	a.wrapHelp(root)
	return root
}

// wrapHelp breaks what flags mean into lines that a terminal can show.
func (a *app) wrapHelp(root *cobra.Command) {
	width := 100
	if a.Columns > 0 {
		width = max(60, min(a.Columns, width))
	}
	const plain = "FlagUsages | trimTrailingWhitespaces"
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), plain,
		fmt.Sprintf("FlagUsagesWrapped %d | trimTrailingWhitespaces", width)))
}

// do makes the function of a cobra command. Errors before it are of the
// arguments, and so the user's.
func (a *app) do(f func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		a.started = true
		return f(c.Context(), args)
	}
}

// args takes as many arguments as there are names.
func (a *app) args(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, got []string) error {
		a.command = c.CommandPath()
		switch {
		case len(got) < len(names):
			return fault.New(fault.Invalid, "%s is missing", names[len(got)])
		case len(got) > len(names):
			return fault.New(fault.Invalid, "%q is one argument too many", got[len(names)])
		}
		return nil
	}
}

// print writes v as the result: as JSON, or by the function for people.
func (a *app) print(v any, people func(io.Writer)) error {
	if !a.json {
		people(a.Out)
		return nil
	}
	return a.printJSON(v)
}

func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.Out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// env looks up a variable.
func (a *app) env(name string) string {
	for _, kv := range a.Env {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			return v
		}
	}
	return ""
}

// missing is the answer of a command that this build does not have.
func missing(what string) error {
	return fault.New(fault.Unavailable, "this build has no %s", what)
}

// readInput reads a value that may stand in a file (@FILE) or on standard input (-).
func (a *app) readInput(flag, value string) ([]byte, error) {
	var b []byte
	var err error
	switch {
	case value == "-":
		b, err = io.ReadAll(io.LimitReader(a.In, 1<<20))
	case strings.HasPrefix(value, "@"):
		b, err = os.ReadFile(value[1:])
	default:
		return []byte(value), nil
	}
	if err != nil {
		return nil, fault.Field(flag, "cannot be read: %v", err)
	}
	return b, nil
}
