package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fault"
)

func (a *app) rolloutCommand() *cobra.Command {
	c := &cobra.Command{Use: "rollout", Short: "Send one command to many devices, in waves"}
	c.AddCommand(a.rolloutStart(), a.rolloutList(), a.rolloutShow(), a.rolloutTargets(), a.rolloutWatch(),
		a.rolloutAsk("pause ID", "Start nothing more until it is resumed; what is under way goes on", "", (*client.Client).PauseRollout),
		a.rolloutAsk("resume ID", "Let a paused roll-out go on, also past a gate that was missed", "", (*client.Client).ResumeRollout),
		a.rolloutAsk("abort ID", "End a roll-out",
			"Nothing more is started, and what was never sent is cancelled. What a device may have is left to it: the\n"+
				"roll-out has ended when the last of that has.", (*client.Client).AbortRollout),
		a.rolloutApprove(),
		a.rolloutAsk("deny ID", "End a held roll-out", "Needs a token of the role approver.", (*client.Client).DenyRollout),
		a.rolloutAsk("break-glass ID", "Let a held roll-out go without the agreement that it needs",
			"For an emergency. Needs a token of the role approver and --reason.", (*client.Client).BreakGlassRollout),
		a.rolloutAsk("rollback ID", "Take a roll-out back that has ended",
			"Begins another roll-out: the last target first, only where it was executed, within the same rate, windows,\n"+
				"concurrency and threshold. What others have changed since is skipped.", (*client.Client).RollbackRollout))
	return a.parent(c)
}

// rolloutFlags are the simple cases, without a file.
type rolloutFlags struct {
	file, name, params, group, tag string
	devices                        []string
	all, online, offline           bool
	waves                          []string
	rate, concurrency              int
	abortShare, success            float64
	abortMinimum                   int
	soak                           time.Duration
	startAt, deadline              string
	dryRun, wait                   bool
}

func (a *app) rolloutStart() *cobra.Command {
	var f rolloutFlags
	c := &cobra.Command{Use: "start [COMMAND]", Short: "Begin a roll-out, out of a file or flags", Args: cobra.MaximumNArgs(1),
		Long: "Begin sends COMMAND to all devices that are selected, in waves and no faster than is said. Growing rates,\n" +
			"maintenance windows, policies and gates of single waves are for a file, in YAML or JSON: the form is RolloutSpec of\n" +
			"the HTTP API. A name makes it safe to ask twice: the same again begins nothing.\n\n" +
			"--dry-run prints targets, conflicts, waves and the shortest time, and begins nothing.",
		Example: "  wilco rollout start firmware.install --params '{\"version\":\"1.5.0\"}' --tag valve --wave 1% --wave 10% --success 0.95\n" +
			"  wilco rollout start -f firmware.yaml --dry-run"}
	fl := c.Flags()
	fl.StringVarP(&f.file, "file", "f", "", "file with the roll-out as YAML or JSON; - for standard input")
	fl.StringVar(&f.name, "name", "", "its id; the same again begins nothing twice")
	fl.StringVar(&f.params, "params", "", "parameters: JSON, @FILE or - for standard input")
	fl.StringVar(&f.group, "group", "", "devices of this group")
	fl.StringVar(&f.tag, "tag", "", "devices with this tag")
	fl.BoolVar(&f.online, "online", false, "devices that are online now")
	fl.BoolVar(&f.offline, "offline", false, "devices that are offline now")
	fl.StringArrayVar(&f.devices, "device", nil, "this device, in place of a selection")
	fl.BoolVar(&f.all, "all", false, "all devices")
	fl.StringArrayVar(&f.waves, "wave", nil, "the next wave: a number of devices, or a share like 10%; the rest comes behind the last")
	fl.Float64Var(&f.success, "success", 0, "share of each --wave that must be executed before the next (default: all have ended)")
	fl.DurationVar(&f.soak, "soak", 0, "pause after each --wave")
	fl.IntVar(&f.rate, "rate", 0, "devices started a minute at most")
	fl.IntVar(&f.concurrency, "concurrency", 0, "commands under way at once at most")
	fl.Float64Var(&f.abortShare, "abort-share", -1, "abort when more than this share has failed, rejected it or timed out")
	fl.IntVar(&f.abortMinimum, "abort-minimum", 0, "and at least so many have ended")
	fl.StringVar(&f.startAt, "start-at", "", "when it begins, like 2026-01-31T22:00:00Z (default now)")
	fl.StringVar(&f.deadline, "deadline", "", "when it ends at the latest")
	fl.BoolVar(&f.dryRun, "dry-run", false, "print what it would do, and begin nothing")
	fl.BoolVar(&f.wait, "wait", false, "show how it goes until it has ended")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		spec, err := a.rolloutSpec(&f, args)
		if err != nil {
			return err
		}
		c, err := a.connect()
		if err != nil {
			return err
		}
		if f.dryRun {
			p, err := c.PlanRollout(ctx, *spec)
			if err != nil {
				return a.unreachable(err)
			}
			return a.print(p, func(w io.Writer) { printRolloutPlan(w, p) })
		}
		r, err := c.StartRollout(ctx, *spec)
		if err != nil {
			return a.unreachable(err)
		}
		if f.wait {
			return a.watchRollout(ctx, c, r.ID)
		}
		return a.print(r, func(w io.Writer) { fmt.Fprintln(w, rolloutLine(r)) })
	})
	return c
}

// rolloutSpec makes what is asked for out of a file, and the flags over it.
func (a *app) rolloutSpec(f *rolloutFlags, args []string) (*client.RolloutSpec, error) {
	s := &client.RolloutSpec{}
	if f.file != "" {
		if err := a.readRollout(f.file, s); err != nil {
			return nil, err
		}
	}
	if len(args) > 0 {
		s.Command = args[0]
	}
	if s.Command == "" {
		return nil, fault.Field("command", "is missing; name the command, or a file with -f")
	}
	if f.name != "" {
		s.Name = f.name
	}
	if f.params != "" {
		b, err := a.readInput("params", f.params)
		if err != nil {
			return nil, err
		}
		if !json.Valid(b) {
			return nil, fault.Field("params", "is not JSON")
		}
		s.Params = b
	}
	if err := f.targets(&s.Targets); err != nil {
		return nil, err
	}
	return s, f.plan(s)
}

func (f *rolloutFlags) targets(t *client.RolloutTargets) error {
	if f.online && f.offline {
		return fault.Field("online", "and offline cannot both be")
	}
	if f.group != "" {
		t.Group = f.group
	}
	if f.tag != "" {
		t.Tag = f.tag
	}
	if f.online || f.offline {
		t.Online = &f.online
	}
	t.Devices = append(t.Devices, f.devices...)
	t.All = t.All || f.all
	return nil
}

func (f *rolloutFlags) plan(s *client.RolloutSpec) error {
	for _, w := range f.waves {
		wave := client.RolloutWave{Success: f.success, Soak: client.Duration(f.soak)}
		var err error
		if share, ok := strings.CutSuffix(w, "%"); ok {
			_, err = fmt.Sscanf(share+"\n", "%g\n", &wave.Share)
			wave.Share /= 100
		} else {
			_, err = fmt.Sscanf(w+"\n", "%d\n", &wave.Count)
		}
		if err != nil {
			return fault.Field("wave", "%q is neither a number of devices nor a share like 10%%", w)
		}
		s.Waves = append(s.Waves, wave)
	}
	if len(f.waves) == 0 && (f.success != 0 || f.soak != 0) {
		return fault.Field("wave", "is missing: --success and --soak are about waves")
	}
	if f.rate != 0 {
		s.Rate = &client.RolloutRate{PerMinute: f.rate}
	}
	if f.concurrency != 0 {
		s.Concurrency = f.concurrency
	}
	if f.abortShare >= 0 {
		s.Abort = &client.RolloutThreshold{Share: f.abortShare, Minimum: f.abortMinimum}
	}
	for _, t := range []struct {
		name, text string
		to         *time.Time
	}{{"start-at", f.startAt, &s.StartAt}, {"deadline", f.deadline, &s.Deadline}} {
		if t.text == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, t.text)
		if err != nil {
			return fault.Field(t.name, "%q is not a time like 2026-01-31T22:00:00Z", t.text)
		}
		*t.to = at
	}
	return nil
}

// readRollout reads a file strictly: what is not known is an error.
func (a *app) readRollout(file string, s *client.RolloutSpec) error {
	const most = 64 << 20 // a list of devices may be long
	var text []byte
	var err error
	if file == "-" {
		text, err = io.ReadAll(io.LimitReader(a.In, most))
	} else {
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return fault.Field("file", "cannot be read: %v", err)
	}
	var v any
	if err := yaml.Unmarshal(text, &v); err != nil {
		return fault.Field("file", "is neither YAML nor JSON: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	plain, err := json.Marshal(v)
	if err != nil {
		return fault.Field("file", "is not a roll-out: %v", err)
	}
	d := json.NewDecoder(bytes.NewReader(plain))
	d.DisallowUnknownFields()
	if err := d.Decode(s); err != nil {
		return fault.Field("file", "is not a roll-out: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

func printRolloutPlan(out io.Writer, p *client.RolloutPlan) {
	r := &p.Rollout
	fmt.Fprintf(out, "%s to %d devices: %s\n", clean(r.Spec.Command), r.Total, firstFew(p.Targets, r.Total))
	for i, w := range r.Waves {
		begins := ""
		if i < len(p.Waves) {
			begins = ", not before " + stamp(p.Waves[i])
		}
		fmt.Fprintf(out, "wave %d: %d devices%s\n", i+1, w.Total, begins)
	}
	switch {
	case p.End.IsZero():
		fmt.Fprintln(out, "shortest time: too long to tell")
	case p.EndsAs != "":
		fmt.Fprintf(out, "even at its quickest it does not come to its end: it is %s at %s\n", p.EndsAs, stamp(p.End))
	default:
		fmt.Fprintf(out, "shortest time: %s, until %s\n", p.End.Sub(r.Created).Round(time.Second), stamp(p.End))
	}
	if r.Approval != nil {
		fmt.Fprintf(out, "held until %d agree: %s\n", r.Approval.Quorum, clean(r.Approval.Rule))
	}
	texts := map[string]string{"offline": "are not known to be online: they get it when they come", "unsupported": "do not know the command: they are skipped",
		"open_command": "have a command of the name under way", "other_rollout": "are in another roll-out that has not ended"}
	for _, kind := range slices.Sorted(maps.Keys(p.Kinds)) {
		var some []string
		for _, c := range p.Conflicts {
			if c.Kind == kind {
				some = append(some, strings.TrimSpace(c.Device+" "+c.With))
			}
		}
		fmt.Fprintf(out, "conflict: %d %s: %s\n", p.Kinds[kind], texts[kind], firstFew(some, p.Kinds[kind]))
	}
}

// firstFew writes the beginning of a list that has all items.
func firstFew(some []string, all int) string {
	const shown = 5
	text := clean(strings.Join(some[:min(shown, len(some))], ", "))
	if more := all - min(shown, len(some)); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func (a *app) rolloutList() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List roll-outs, the newest first", Args: a.args()}
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		list, err := c.Rollouts(ctx)
		if err != nil {
			return a.unreachable(err)
		}
		return a.print(client.RolloutList{Items: list}, func(out io.Writer) {
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tCOMMAND\tSTATE\tTARGETS\tEXECUTED\tFAILED\tCREATED\tBY")
			for i := range list {
				r := &list[i]
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\n", r.ID, clean(r.Spec.Command), r.State, r.Total, r.Counts["executed"],
					r.Counts["failed"]+r.Counts["rejected"]+r.Counts["timed_out"], stamp(r.Created), clean(r.By))
			}
			w.Flush()
		})
	})
	return c
}

func (a *app) rolloutShow() *cobra.Command {
	c := &cobra.Command{Use: "show ID", Short: "Look at a roll-out", Args: a.args("ID")}
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		r, err := c.Rollout(ctx, args[0])
		if err != nil {
			return a.unreachable(err)
		}
		return a.print(r, func(w io.Writer) { printRollout(w, r) })
	})
	return c
}

func printRollout(out io.Writer, r *client.Rollout) {
	fmt.Fprintln(out, rolloutLine(r))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, clean(value))
		}
	}
	row("command", strings.TrimSpace(r.Spec.Command+" "+string(r.Spec.Params)))
	row("by", r.By)
	if r.Answers != r.By {
		row("resumed by", r.Answers)
	}
	row("detail", r.Detail)
	if r.Hold != "" && r.State == "running" {
		row("waits for", strings.TrimSpace(r.Hold+" "+stamp(r.Wake)))
	}
	row("takes back", r.Undoes)
	row("taken back by", r.UndoneBy)
	if a := r.Approval; a != nil {
		row("approval", fmt.Sprintf("%s (%d of %d agree)", a.Rule, len(a.Votes), a.Quorum))
		for _, v := range a.Votes {
			row("agreed", fmt.Sprintf("%s at %s %s", v.By, stamp(v.At), v.Reason))
		}
		if r.State == "awaiting_approval" {
			row("digest", a.Digest)
			row("agree until", stamp(a.Expires))
		}
	}
	for i := range r.Waves {
		row(fmt.Sprintf("wave %d", i+1), fmt.Sprintf("%s: %s", counted(r.Waves[i].Total, "device"), countsText(r.Waves[i].Counts)))
	}
	for _, e := range r.Log {
		row(stamp(e.At), strings.TrimSpace(fmt.Sprintf("%s: %s %s %s", e.State, strings.ReplaceAll(e.Reason, "_", " "), e.By, e.Detail)))
	}
	w.Flush()
}

func countsText(counts map[string]int) string {
	var said []string
	for _, state := range slices.Sorted(maps.Keys(counts)) {
		said = append(said, fmt.Sprintf("%d %s", counts[state], state))
	}
	return strings.Join(said, ", ")
}

// rolloutLine is a roll-out in one line.
func rolloutLine(r *client.Rollout) string {
	s := fmt.Sprintf("%s %s: %d of %d devices started", r.ID, r.State, r.Started, r.Total)
	if len(r.Waves) > 1 {
		s += fmt.Sprintf(", wave %d of %d", r.Wave, len(r.Waves))
	}
	return clean(s + "; " + countsText(r.Counts))
}

func (a *app) rolloutTargets() *cobra.Command {
	var states []string
	c := &cobra.Command{Use: "targets ID", Short: "What became of each device of a roll-out", Args: a.args("ID")}
	c.Flags().StringArrayVar(&states, "state", nil, "only in this state, like failed or waiting; may be given several times")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		list := []client.RolloutTarget{}
		for t, err := range c.RolloutTargets(ctx, args[0], states...) {
			if err != nil {
				return a.unreachable(err)
			}
			list = append(list, t)
		}
		return a.print(client.RolloutTargetPage{Items: list}, func(out io.Writer) {
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "DEVICE\tSTATE\tTID\tWHY")
			for _, t := range list {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", t.Device, t.State, t.TID, t.Why)
			}
			w.Flush()
		})
	})
	return c
}

func (a *app) rolloutWatch() *cobra.Command {
	c := &cobra.Command{Use: "watch ID", Short: "Show how a roll-out goes until it has ended", Args: a.args("ID"),
		Long: "With --json the last answer is printed. The exit code is that of how it ended: 0 when it is finished, 14 when it was\naborted or denied."}
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		return a.watchRollout(ctx, c, args[0])
	})
	return c
}

// watchRollout shows how a roll-out goes until it has ended. Its events say when to
// look; it looks by itself, less and less often, for what has none, like what it waits
// for, and for what happens while the stream is opened.
func (a *app) watchRollout(ctx context.Context, c *client.Client, id string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	news := rolloutNews(ctx, c, id)
	pause, longest := 100*time.Millisecond, 10*time.Second
	shown, drawn := "", false
	for {
		r, err := c.Rollout(ctx, id)
		if err != nil {
			return a.unreachable(err)
		}
		if line := rolloutLine(r); line != shown && !a.json {
			shown = line
			if drawn = a.Terminal; drawn {
				fmt.Fprintf(a.Err, "\r%s\x1b[K", line) // over the last one
			} else {
				fmt.Fprintln(a.Err, line)
			}
		}
		if r.Final() || r.Damaged() {
			if drawn {
				fmt.Fprintln(a.Err)
			}
			return a.rolloutEnded(r)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case _, open := <-news:
			if !open {
				news, longest = nil, time.Second // there is no stream for us
			}
		case <-time.After(pause):
		}
		pause = min(2*pause, longest)
	}
}

// rolloutNews gets something when a roll-out has changed, until ctx ends; it is closed
// when there is no stream.
func rolloutNews(ctx context.Context, c *client.Client, id string) <-chan struct{} {
	news := make(chan struct{}, 1)
	go func() {
		defer close(news)
		for _, err := range c.Events(ctx, client.EventOptions{Rollout: id, After: -1}) {
			if err != nil {
				return
			}
			select {
			case news <- struct{}{}:
			default: // one is waiting to be seen
			}
		}
	}()
	return news
}

func (a *app) rolloutEnded(r *client.Rollout) error {
	if err := a.print(r, func(w io.Writer) { fmt.Fprintln(w, rolloutLine(r)) }); err != nil || r.State == "finished" {
		return err
	}
	return fault.New(fault.CommandCancelled, "the roll-out %s is %s: %s %s", r.ID, r.State, r.Reason, r.Detail)
}

// rolloutAsk is a word that asks one thing of a roll-out.
func (a *app) rolloutAsk(use, short, long string, ask func(*client.Client, context.Context, string, string) (*client.Rollout, error)) *cobra.Command {
	var why string
	c := &cobra.Command{Use: use, Short: short, Long: long, Args: a.args("ID")}
	c.Flags().StringVar(&why, "reason", "", "why, for its log")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		r, err := ask(c, ctx, args[0], why)
		if err != nil {
			return a.unreachable(err)
		}
		return a.print(r, func(w io.Writer) { fmt.Fprintln(w, rolloutLine(r)) })
	})
	return c
}

// rolloutApprove looks at the roll-out first and votes for what it has shown, as
// approveCommand does.
func (a *app) rolloutApprove() *cobra.Command {
	var why, digest string
	c := &cobra.Command{Use: "approve ID", Short: "Agree to a held roll-out", Args: a.args("ID"),
		Long: "Needs a token of the role approver; who has requested it cannot. With the last agreement that it needs it begins."}
	c.Flags().StringVar(&why, "reason", "", "why, for its log")
	c.Flags().StringVar(&digest, "digest", "", "of what you have looked at, as wilco rollout show ID prints it; default: what this command shows")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		r, err := c.Rollout(ctx, args[0])
		if err != nil {
			return a.unreachable(err)
		}
		if digest == "" {
			if r.Approval == nil {
				return fault.New(fault.Conflict, "the roll-out %s is %s and waits for nobody", r.ID, r.State)
			}
			digest = r.Approval.Digest
		}
		after, err := c.ApproveRollout(ctx, args[0], digest, why)
		if err != nil {
			return a.unreachable(err)
		}
		return a.print(after, func(w io.Writer) { printRollout(w, after) })
	})
	return c
}
