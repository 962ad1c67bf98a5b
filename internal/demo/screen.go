package demo

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
)

// Screen shows a running demo: a table that is drawn over on a terminal, a line
// every few seconds elsewhere. It is for one goroutine.
type Screen struct {
	w        io.Writer
	terminal bool
	lines    int // drawn last
	last     time.Time
}

// NewScreen makes a screen that writes to w.
func NewScreen(w io.Writer, terminal bool) *Screen { return &Screen{w: w, terminal: terminal} }

// How often the screen is drawn.
const (
	drawEvery = 200 * time.Millisecond
	lineEvery = 3 * time.Second
)

// Show draws p, unless something was drawn just before.
func (s *Screen) Show(p Progress) {
	every := lineEvery
	if s.terminal {
		every = drawEvery
	}
	if time.Since(s.last) < every {
		return
	}
	s.last = time.Now()
	if !s.terminal {
		fmt.Fprintf(s.w, "%5.1fs  devices %d of %d with power  commands %d  open %d  executed %d  failed %d  retries %d  duplicates absorbed %d  reboots %d\n",
			p.Elapsed.Seconds(), p.Online, p.Devices, p.Sent, p.Engine.Open, p.Engine.Ended[command.Executed], p.Engine.Ended[command.Failed],
			p.Engine.Retries, p.Engine.Duplicates, p.Reboots)
		return
	}
	s.draw(s.table(p))
}

func (s *Screen) table(p Progress) string {
	var b strings.Builder
	doing := fmt.Sprintf("%.0f of %.0f s", p.Elapsed.Seconds(), p.For.Seconds())
	if p.Settling {
		doing = "no more faults; the last commands come to their ends"
	}
	fmt.Fprintf(&b, "wilco demo   %s\n\n", doing)
	fmt.Fprintf(&b, "  devices   %4d with power of %d          %4d reboots in the middle of things\n", p.Online, p.Devices, p.Reboots)
	f := p.Faults
	fmt.Fprintf(&b, "  network   %4d commands lost  %4d twice   %4d answers lost  %4d twice  %4d overtaken  %3d cuts\n",
		f.CommandsLost, f.CommandsDuplicated, f.AnswersLost, f.AnswersDuplicated, f.AnswersReordered, f.ConnectionsCut)
	e := p.Engine
	fmt.Fprintf(&b, "  commands  %4d sent  %4d open   %4d retries  %4d duplicates absorbed\n", p.Sent, e.Open, e.Retries, e.Duplicates)
	fmt.Fprintf(&b, "  ended    ")
	for _, st := range slices.Sorted(maps.Keys(e.Ended)) {
		fmt.Fprintf(&b, " %s %d ", st, e.Ended[st])
	}
	b.WriteString("\n\n")
	for _, a := range p.Acts {
		fmt.Fprintf(&b, "  %-9s %s\n", a.Name, a.Said)
	}
	b.WriteString("\n")
	for _, l := range p.Recent {
		fmt.Fprintf(&b, "  %s  %-16s %-6s %-10s %-22s %d sent %9s\n", l.TID[len(l.TID)-12:], l.Device, l.Name, l.State, l.Reason, l.Attempts, l.Took.Round(time.Millisecond))
	}
	return b.String()
}

// draw writes text over what was drawn before.
func (s *Screen) draw(text string) {
	var b strings.Builder
	if s.lines > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", s.lines)
	}
	b.WriteString(text)
	s.lines = strings.Count(text, "\n")
	_, _ = io.WriteString(s.w, b.String()) // a terminal that is gone ends the program anyway
}

// Report writes what the demo has shown.
func (s *Screen) Report(r Report) {
	w := s.w
	fmt.Fprintf(w, "\n%d commands to %d devices in %.0f s, seed %d\n\n", r.Total, r.Devices, r.Seconds, r.Seed)
	for _, st := range slices.Sorted(maps.Keys(r.Commands)) {
		fmt.Fprintf(w, "  %-12s %6d\n", st, r.Commands[st])
	}
	fmt.Fprintf(w, "\n  retries %d, duplicates absorbed %d, reboots survived %d, reorderings seen %d\n", r.Retries, r.Duplicates, r.Reboots, r.Reordered)
	fmt.Fprintf(w, "  from creation to executed: half within %.0f ms, 99 %% within %.0f ms\n\n", r.P50Ms, r.P99Ms)
	fmt.Fprintf(w, "This went on meanwhile:\n")
	for _, a := range r.Acts {
		word := ""
		if !a.Good {
			word = "WRONG: "
		}
		fmt.Fprintf(w, "  %-9s %s%s\n", a.Name, word, a.Said)
	}
	fmt.Fprintf(w, "\nThe auditor read the devices' own logs:\n")
	for _, l := range []struct {
		what string
		n    int
	}{{"executed twice", r.ExecutedTwice}, {"lost", r.Lost}, {"out of order", r.OutOfOrder}, {"not ended", r.Unsettled}, {"in a state that is not true", r.Untrue}} {
		fmt.Fprintf(w, "  %-28s %d\n", l.what, l.n)
	}
	for _, e := range r.Examples {
		fmt.Fprintf(w, "    %s\n", e)
	}
	if r.Good() {
		fmt.Fprintf(w, "\nEvery command ended in a state that is true.\n")
	}
}
