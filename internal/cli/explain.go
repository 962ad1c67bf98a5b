package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/command"
)

func (a *app) explainCommand() *cobra.Command {
	c := &cobra.Command{Use: "explain TID", Short: "Tell the whole story of a command", Args: a.args("TID")}
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		t, err := c.Timeline(ctx, args[0])
		if err != nil {
			return a.unreachable(err)
		}
		return a.print(t, func(w io.Writer) { story(w, t) })
	})
	return c
}

// story prints a timeline for people: when, after how long, what, why and by whom.
func story(w io.Writer, t *client.Timeline) {
	c := &t.Command
	fmt.Fprintf(w, "%s  %s → %s\n", c.TID, clean(c.Name), c.Device)
	if len(c.Params) > 0 {
		fmt.Fprintf(w, "params %s\n", clip(clean(string(c.Params)), 200))
	}
	if c.Undoes != "" {
		fmt.Fprintf(w, "undoes %s\n", c.Undoes)
	}
	if c.UndoneBy != "" {
		fmt.Fprintf(w, "undone by %s\n", c.UndoneBy)
	}
	if c.Rollout != "" {
		fmt.Fprintf(w, "part of the roll-out %s\n", c.Rollout)
	}
	if c.RetryOf != "" {
		fmt.Fprintf(w, "repeats %s\n", c.RetryOf)
	}
	fmt.Fprintln(w)
	last := c.Created
	for _, e := range t.Entries {
		fmt.Fprintf(w, "%s  %8s  ", e.At.UTC().Format("2006-01-02 15:04:05.000"), "+"+length(e.At.Sub(last)))
		if e.Anomaly {
			fmt.Fprint(w, "ANOMALY ")
		}
		fmt.Fprintf(w, "%s: %s", e.State, reasonText(e.Reason))
		if e.By != "" && e.By != "device" && e.By != "clock" && e.By != "server" {
			fmt.Fprintf(w, ", by %s", clean(e.By))
		}
		if e.Attempt > 1 {
			fmt.Fprintf(w, ", attempt %d", e.Attempt)
		}
		if e.Detail != "" {
			fmt.Fprintf(w, " — %s", clip(clean(e.Detail), 200))
		}
		if e.Count > 1 {
			fmt.Fprintf(w, " (%d times, until %s)", e.Count, e.Until.UTC().Format("15:04:05.000"))
		}
		fmt.Fprintln(w)
		last = e.At
		if e.Until.After(last) {
			last = e.Until
		}
	}
	fmt.Fprintln(w)
	ending(w, c)
}

// ending says in one sentence where the command stands.
func ending(w io.Writer, c *client.Command) {
	switch {
	case c.Ended && c.State != client.TimedOut:
		fmt.Fprintf(w, "It is %s, %s after it was asked for.\n", c.State, length(c.Finished.Sub(c.Created)))
	case c.Ended:
		fmt.Fprintln(w, "Its outcome stays unknown: the time for a late answer is over.")
	case c.State == client.TimedOut:
		fmt.Fprintln(w, "Its outcome is unknown; a late answer still settles it.")
	case c.State == client.Created:
		fmt.Fprintf(w, "It has not been sent. It must begin before %s.\n", c.NotAfter.UTC().Format(time.RFC3339))
	default:
		fmt.Fprintf(w, "It is %s and has not ended.\n", c.State)
	}
	if len(c.Result) > 0 {
		fmt.Fprintf(w, "result %s\n", clip(clean(string(c.Result)), 400))
	}
}

// reasonTexts say the closed set of reasons in words.
var reasonTexts = map[command.Reason]string{
	command.Requested:         "asked for",
	command.VoteCounted:       "agreed; more people must",
	command.Approved:          "approved",
	command.GlassBroken:       "let go without the approval that it needs",
	command.NotApproved:       "not approved",
	command.ApprovalExpired:   "not enough people approved it in time",
	command.DeliverByPassed:   "it could not be sent in time; certainly not executed",
	command.BrokerWouldNot:    "the broker would not take it; certainly not executed",
	command.PreconditionUnmet: "the state that the device reports is not what its type asks for",
	command.NoPlace:           "others that it must not run beside are in flight",
	command.TurnCame:          "its turn came, and it was published",
	command.NoAckYet:          "no answer yet, published again",
	command.CameOnline:        "the device came online, so it was asked again",
	command.DeviceRebooted:    "the device restarted in the middle of it",
	command.RebootExpected:    "the device restarted, as its type expects; it is to go on by itself",
	command.AskedAgain:        "published again at somebody's wish",
	command.CancelAsked:       "somebody wants it not done; the device must confirm",
	command.CancelledUnsent:   "cancelled before it was sent",
	command.Superseded:        "a newer command took its place",
	command.DeviceReceived:    "the device has received it",
	command.DeviceRunning:     "the device works on it",
	command.DeviceSucceeded:   "the device says that it is done",
	command.DeviceFailed:      "the device says that it failed",
	command.DeviceInterrupted: "a reboot of the device broke it off",
	command.DeviceRejected:    "the device refused it",
	command.DeviceTooLate:     "the device refused it because it came too late or was overtaken",
	command.DeviceNeverGotIt:  "the device never got it, and will refuse it now",
	command.DeviceCancelled:   "the device confirms that it was cancelled",
	command.DeviceWontCancel:  "the device will not cancel it and goes on",
	command.NoAck:             "no answer at all; whether it was executed is unknown",
	command.HeartbeatMissed:   "the device went quiet; whether it was executed is unknown",
	command.FinishByPassed:    "no result in time; whether it was executed is unknown",
	command.CancelUnconfirmed: "the device did not confirm the cancel; whether it was executed is unknown",
	command.OutcomeAsked:      "the device was asked what became of it",
	command.NeverSettled:      "no answer came while one still counted",
	command.ReportAwaited:     "the device says that it is done; its report must show it",
	command.StateReported:     "done: the device's report has what was asked for",
	command.NotConverged:      "the device said that it is done, and its report never showed it",
	command.ChangedSince:      "somebody else has changed what it was to take back while it waited",
	command.Undone:            "a command was made that takes it back",
	command.Contradiction:     "the device said the opposite of its first final word; not obeyed",
	command.Unexpected:        "the device spoke of a command that it was never sent; not obeyed",
	command.BadResult:         "it was executed, and its result does not fit the schema of its type",
	command.GatewayActed:      "the gateway of the device did another command first, without knowing of this one",
	command.AfterClose:        "the device answered after the time for late answers; not obeyed",
}

func reasonText(r string) string {
	if text, ok := reasonTexts[command.Reason(r)]; ok {
		return text
	}
	return clean(r) // of a newer server
}

// length writes a duration for people: three digits are enough.
func length(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + "…"
	}
	return s
}
