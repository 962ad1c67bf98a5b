package cli_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/wilco-iot/wilco/device"
	"github.com/wilco-iot/wilco/internal/app"
	"github.com/wilco-iot/wilco/internal/cli"
	"github.com/wilco-iot/wilco/internal/config"
	"github.com/wilco-iot/wilco/wire"
)

// TestMain lets the test binary be the programs that scripts call.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"wilco": wilco, "device": obedient})
}

func wilco() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(cli.Main(ctx, os.Args[1:], cli.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Env: os.Environ()}, cli.Runner{
		Broker: func(_ context.Context, o cli.BrokerOptions, s cli.IO) error {
			_, err := io.WriteString(s.Out, "broker "+o.TCP+" "+strconv.Itoa(len(o.Users))+" users "+o.UsersFile+"\n")
			return err
		},
	}))
}

// obedient is a device: device ADDRESS SECRET. It does open, breaks at break, and
// goes slowly at slow, which can be cancelled.
func obedient() {
	address, err := wire.ParseAddress(os.Args[1])
	if err != nil {
		panic(err)
	}
	d, err := device.New(device.Config{Address: address, Servers: []string{"mqtt://" + os.Getenv("MQTT")},
		Password: []byte(os.Args[2]), Dir: os.Getenv("WORK") + "/journal", Firmware: "7.1", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		panic(err)
	}
	d.Handle("open", func(_ context.Context, r *device.Request) (any, error) { return map[string]bool{"open": true}, nil })
	d.Handle("break", func(context.Context, *device.Request) (any, error) {
		return nil, device.Fail("stuck", "the valve\x1b[2J is stuck")
	})
	d.Handle("slow", func(ctx context.Context, _ *device.Request) (any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := d.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		panic(err)
	}
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "serve": serve, "golden": golden, "capture": capture},
	})
}

// exits runs a program and wants an exit code: exits CODE PROGRAM ARG...
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG...")
	}
	code := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("%v: exit code %d, want %s", args[1:], code, args[0])
	}
}

// serve starts a server in this process, and stops it at the end of the script.
// It sets WILCO_SERVER, HTTP, WILCO_DATA and MQTT.
func serve(ts *testscript.TestScript, _ bool, _ []string) {
	c := config.Default()
	c.Data = ts.MkAbs("data")
	c.HTTP.Address, c.MQTT.TCP = "127.0.0.1:0", "127.0.0.1:0"
	ts.Check(os.MkdirAll(c.Data, 0o700))
	out, in := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		err := app.Serve(ctx, c, "test", nil, in, slog.New(slog.DiscardHandler))
		in.CloseWithError(io.EOF)
		done <- err
	}()
	ts.Defer(func() {
		cancel()
		if err := <-done; err != nil {
			ts.Logf("server: %v", err)
		}
	})
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if rest, ready := strings.CutPrefix(lines.Text(), "ready "); ready {
			for _, kv := range strings.Fields(rest) {
				switch name, value, _ := strings.Cut(kv, "="); name {
				case "http":
					ts.Setenv("WILCO_SERVER", "http://"+value)
					ts.Setenv("HTTP", value)
				case "tcp":
					ts.Setenv("MQTT", value)
				}
			}
			ts.Setenv("WILCO_DATA", c.Data)
			go func() { _, _ = io.Copy(io.Discard, out) }() // ends with the server
			return
		}
	}
	ts.Fatalf("the server did not start: %v", <-done)
}

// capture sets a variable to what a pattern with one group finds in stdout:
// capture NAME PATTERN.
func capture(ts *testscript.TestScript, _ bool, args []string) {
	m := regexp.MustCompile("(?m)" + args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if m == nil {
		ts.Fatalf("%s is not in stdout", args[1])
	}
	ts.Setenv(args[0], m[1])
}

var variable = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`), "TID"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?`), "TIME"},
	{regexp.MustCompile(`"(secret|token|boot|id|requestId)": ?"[^"]+"`), `"$1": "VARIABLE"`},
	{regexp.MustCompile(`"version": \d+`), `"version": NUMBER`},
}

// golden compares stdout with a file, after what is never the same has been
// replaced.
func golden(ts *testscript.TestScript, _ bool, args []string) {
	got := ts.ReadFile("stdout")
	for _, v := range variable {
		got = v.pattern.ReplaceAllString(got, v.name)
	}
	if want := ts.ReadFile(args[0]); got != want {
		ts.Fatalf("%s: got\n%s\nwant\n%s", args[0], got, want)
	}
}

// TestInterrupt breaks off a watch by its context.
func TestInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	code := cli.Main(ctx, []string{"get", "01890a5d-ac96-774b-bcce-b302099a8057"}, cli.IO{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard}, cli.Runner{})
	if code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
}
