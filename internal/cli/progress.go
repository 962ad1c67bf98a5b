package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/client"
)

// progress shows a command's life while somebody waits: lines, or one line that
// is drawn over on a terminal. With --json it shows nothing.
type progress struct {
	a     *app
	shown int    // entries of the timeline
	said  string // of the device's progress, last
	drawn bool
	began time.Time
}

func (a *app) newProgress(c *client.Command) *progress {
	p := &progress{a: a, began: time.Now()}
	if !a.json {
		fmt.Fprintf(a.Err, "%s %s %s\n", c.TID, c.Device, c.Name)
	}
	return p
}

// absent tells the one who waits when that may take long: the device is not there.
// It is a courtesy, and nothing when the device cannot be looked at.
func (p *progress) absent(ctx context.Context, c *client.Client, cmd *client.Command) {
	if p.a.json || cmd.State != client.Created {
		return
	}
	d, err := c.Device(ctx, cmd.Device)
	if err != nil || d.Presence.Online {
		return
	}
	fmt.Fprintf(p.a.Err, "%s is not online: the command waits for it until %s; Ctrl-C ends the waiting, not the command\n",
		cmd.Device, stamp(cmd.NotAfter))
}

// follow returns the command as soon as it is settled; on error, as it was last
// seen.
func (p *progress) follow(ctx context.Context, c *client.Client, cmd *client.Command) (*client.Command, error) {
	for {
		if !p.a.json {
			if err := p.show(ctx, c, cmd.TID); err != nil {
				return cmd, err
			}
		}
		if cmd.Settled() {
			return cmd, nil
		}
		next, err := c.Changed(ctx, cmd.TID, cmd.Version)
		if err != nil {
			return cmd, err
		}
		cmd = next
	}
}

// show prints what the timeline has gained: the versions of a command that
// changes quickly are not all seen, its timeline has them.
func (p *progress) show(ctx context.Context, c *client.Client, tid string) error {
	t, err := c.Timeline(ctx, tid)
	if err != nil {
		return err
	}
	if p.a.Terminal {
		p.draw(&t.Command)
		return nil
	}
	for ; p.shown < len(t.Entries); p.shown++ {
		e := &t.Entries[p.shown]
		line := fmt.Sprintf("%s %s: %s", e.At.UTC().Format("15:04:05.000"), e.State, reasonText(e.Reason))
		if e.Detail != "" {
			line += ": " + e.Detail
		}
		fmt.Fprintln(p.a.Err, clean(line))
	}
	if said := advance(&t.Command); said != p.said && said != "" {
		p.said = said
		fmt.Fprintf(p.a.Err, "%s %s:%s\n", t.Command.Heard.UTC().Format("15:04:05.000"), t.Command.State, clean(said))
	}
	return nil
}

// advance is what the device says of how far it has come, with a space before it.
func advance(c *client.Command) (s string) {
	if c.Progress == nil || c.Ended {
		return ""
	}
	if c.Progress.Percent != nil {
		s = fmt.Sprintf(" %.0f%%", *c.Progress.Percent)
	}
	if c.Progress.Note != "" {
		s += " " + c.Progress.Note
	}
	return s
}

func (p *progress) draw(c *client.Command) {
	line := fmt.Sprintf("%s: %s%s", c.State, reasonText(c.Reason), advance(c))
	line = fmt.Sprintf("%s (%s)", clean(line), time.Since(p.began).Round(100*time.Millisecond))
	if r := []rune(line); p.a.Columns > 1 && len(r) >= p.a.Columns {
		line = string(r[:p.a.Columns-1]) // a line that is broken cannot be drawn over
	}
	// Carriage return, text, erase to the end of the line.
	fmt.Fprintf(p.a.Err, "\r%s\x1b[K", line)
	p.drawn = true
}

func (p *progress) done() {
	if p.drawn {
		fmt.Fprintln(p.a.Err)
	}
}

// clean takes control characters out of what devices and people have written,
// so that it cannot move the cursor or forge lines.
func clean(s string) string {
	return strings.Map(func(c rune) rune {
		if c < 0x20 || c >= 0x7f && c < 0xa0 {
			return ' '
		}
		return c
	}, s)
}
