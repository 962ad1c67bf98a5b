package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fault"
)

// orderFlags are the flags that make up an order.
type orderFlags struct {
	params   string
	pairs    []string
	key      string
	policy   client.Policy
	priority int
	ranked   bool // a priority was given
	noWait   bool
	timeout  time.Duration
}

func (a *app) sendCommand() *cobra.Command {
	var o orderFlags
	c := &cobra.Command{
		Use: "send GROUP/DEVICE COMMAND", Short: "Ask a device to do something, and wait for what becomes of it",
		Long: "Send asks a device to do something and waits until it has ended, or its outcome is unknown.\n" +
			"The exit code tells the end: 0 executed, 10 outcome unknown, 11 failed, 12 rejected, 13 expired, 14 cancelled.",
		Example: "  wilco send plant-1/pump-3 valve.open --param percent=40 --param slowly=true\n" +
			"  wilco send plant-1/pump-3 firmware.update --params @firmware.json --finish-by 2h --no-wait",
		Args: a.args("GROUP/DEVICE", "COMMAND"),
	}
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		o.ranked = c.Flags().Changed("priority")
		return a.send(ctx, args[0], args[1], &o)
	})
	f := c.Flags()
	f.StringVar(&o.params, "params", "", "parameters as JSON, @FILE or - for standard input")
	f.StringArrayVar(&o.pairs, "param", nil, "one parameter, NAME=VALUE; the value is JSON if it can be read as such, else text (repeatable)")
	f.StringVar(&o.key, "key", "", "idempotency key: sending the same again gives the same command")
	f.BoolVar(&o.noWait, "no-wait", false, "return as soon as the command is durable on the server")
	f.DurationVar(&o.timeout, "timeout", 0, "wait at most this long (exit code 7); the command goes on")
	f.IntVar(&o.priority, "priority", 0, "-9 to 9: among those that wait for the device the highest goes first (default: that of its type, or 0)")
	policyFlags(f, &o.policy)
	return c
}

func policyFlags(f *pflag.FlagSet, p *client.Policy) {
	clock := func(d *client.Duration, name, doc string) {
		f.DurationVar((*time.Duration)(d), name, 0, doc+" (default: the server's)")
	}
	clock(&p.DeliverBy, "deliver-by", "from creation until the device must not begin any more")
	clock(&p.AckBy, "ack-by", "from a publication until its acknowledgement")
	clock(&p.Heartbeat, "heartbeat", "at most between two RUNNING")
	clock(&p.FinishBy, "finish-by", "from the first publication until the result")
	clock(&p.Settle, "settle", "how long a late answer still counts")
	f.StringVar(&p.Backoff, "backoff", "", "none, linear or exponential (default: the server's)")
	f.IntVar(&p.MaxAttempts, "max-attempts", 0, "publications without an answer (default: the server's)")
	f.BoolVar(&p.Supersede, "supersede", false, "a newer command of the same name replaces it while it waits")
}

func (o *orderFlags) order(a *app, name string) (client.Order, error) {
	out := client.Order{Name: name, Key: o.key}
	if o.ranked {
		out.Priority = &o.priority
	}
	if o.policy != (client.Policy{}) {
		out.Policy = &o.policy
	}
	if o.params != "" {
		b, err := a.readInput("params", o.params)
		if err != nil {
			return out, err
		}
		if !json.Valid(b) {
			return out, fault.Field("params", "is not JSON")
		}
		out.Params = b
	}
	if len(o.pairs) == 0 {
		return out, nil
	}
	merged := map[string]json.RawMessage{}
	if out.Params != nil {
		if err := json.Unmarshal(out.Params, &merged); err != nil {
			return out, fault.Field("params", "must be a JSON object when --param is given too")
		}
	}
	for _, pair := range o.pairs {
		k, v, found := strings.Cut(pair, "=")
		if !found || k == "" {
			return out, fault.Field("param", "%q is not NAME=VALUE", pair)
		}
		merged[k] = typed(v)
	}
	var err error
	out.Params, err = json.Marshal(merged)
	return out, err
}

// typed takes a value for JSON where it is, and for text where it is not.
func typed(v string) json.RawMessage {
	if json.Valid([]byte(v)) {
		return json.RawMessage(v)
	}
	return json.RawMessage(quoted(v))
}

func (a *app) send(ctx context.Context, device, name string, o *orderFlags) error {
	order, err := o.order(a, name)
	if err != nil {
		return err
	}
	c, err := a.connect()
	if err != nil {
		return err
	}
	cmd, err := c.Send(ctx, device, order)
	if err != nil {
		return a.unreachable(err)
	}
	if cmd.Warning != "" {
		fmt.Fprintf(a.Err, "wilco: %s\n", clean(cmd.Warning))
	}
	if o.noWait {
		return a.print(cmd, func(w io.Writer) { fmt.Fprintf(w, "%s %s\n", cmd.TID, cmd.State) })
	}
	return a.await(ctx, c, cmd, o.timeout)
}

// await follows a command to its end, shows what happens, and returns the error
// that stands for the end.
func (a *app) await(ctx context.Context, c *client.Client, cmd *client.Command, timeout time.Duration) error {
	wctx := ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		wctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	p := a.newProgress(cmd)
	p.absent(wctx, c, cmd)
	last, err := p.follow(wctx, c, cmd)
	p.done()
	if err != nil {
		timedOut := ctx.Err() == nil && wctx.Err() != nil
		if timedOut {
			err = fault.New(fault.Timeout, "the command is %s after %s and goes on; see wilco get %s", last.State, timeout, last.TID)
		}
		if a.json {
			if perr := a.printJSON(last); perr != nil {
				return perr
			}
		} else if !timedOut {
			fmt.Fprintf(a.Err, "wilco: the command goes on; see wilco get %s\n", last.TID)
		}
		return a.unreachable(err)
	}
	if err := a.print(last, func(w io.Writer) { summary(w, last) }); err != nil {
		return err
	}
	return outcome(last)
}

// outcome is the fault that a command's end is; nil for executed, and for what
// has not ended.
func outcome(c *client.Command) error {
	code := map[client.State]fault.Code{client.Failed: fault.CommandFailed, client.Rejected: fault.CommandRejected,
		client.Expired: fault.CommandExpired, client.Cancelled: fault.CommandCancelled, client.Denied: fault.CommandCancelled,
		client.TimedOut: fault.OutcomeUnknown}[c.State]
	if code == "" {
		return nil
	}
	text := reasonText(c.Reason)
	if c.Detail != "" {
		text += ": " + c.Detail
	}
	return fault.New(code, "%s", text)
}

func quoted(s string) json.RawMessage {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always can be
	}
	return b
}
