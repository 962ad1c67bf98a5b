// Command wilco asks devices to do things over MQTT, and always knows what
// became of it. See package cli for what it can do.
package main

//go:generate go run . docs ../../docs/reference

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"github.com/wilco-iot/wilco/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	columns, _, err := term.GetSize(int(os.Stderr.Fd()))
	code := cli.Main(ctx, os.Args[1:], cli.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		Terminal: err == nil, Columns: columns, Env: os.Environ()}, runner)
	stop()
	os.Exit(code)
}
