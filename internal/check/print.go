package check

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Print writes the report as a table for people. Errors of w are ignored, as
// with any printing.
func (r Report) Print(w io.Writer) {
	fmt.Fprintf(w, "%s, MQTT %s, seed %d, %.1f s\n\n", r.Broker, r.Version, r.Seed, r.Seconds)
	for _, c := range r.Cases {
		fmt.Fprintln(w, c.Line())
		if c.Detail != "" && (c.Violated || slices.ContainsFunc(c.Verdicts, Verdict.open)) {
			for part := range strings.SplitSeq(c.Detail, "; ") {
				fmt.Fprintf(w, "       %s\n", part)
			}
		}
	}
	violated, skipped := r.Violations(), 0
	for _, c := range r.Cases {
		if c.Skipped != "" {
			skipped++
		}
	}
	fmt.Fprintf(w, "\n%d cases: %d as the standard demands, %d violated, %d skipped\n", len(r.Cases), len(r.Cases)-violated-skipped, violated, skipped)
	if len(r.Strengths) > 0 {
		fmt.Fprintf(w, "beyond the standard: %s\n", join(r.Strengths, ", "))
	}
}

// Line is the case on one line.
func (c Result) Line() string {
	mark, text := "ok", fmt.Sprintf("%-23s %s", c.words(), c.Title)
	switch {
	case c.Skipped != "":
		mark, text = "-", "skipped: "+c.Skipped
	case c.Violated:
		mark = "BAD"
	}
	return strings.TrimRight(fmt.Sprintf("%-4s %-4s %-10s %s", mark, c.ID, c.Group, text), " ")
}

// words are the verdicts, with the places of what is missing.
func (c Result) words() string {
	said := make([]string, len(c.Verdicts))
	for i, v := range c.Verdicts {
		said[i] = string(v)
		if v == LossAcked || (v == GapSilent || v == GapTold) && !slices.Contains(c.Verdicts, LossAcked) {
			said[i] += c.places()
		}
	}
	return strings.Join(said, " ")
}

// places tells where acknowledged messages are missing, as " (prefix 3)".
func (c Result) places() string {
	var where []string
	for _, at := range []string{"prefix", "middle", "postfix"} {
		if n := c.Counts["lost"+strings.ToUpper(at[:1])+at[1:]]; n > 0 {
			where = append(where, fmt.Sprintf("%s %d", at, n))
		}
	}
	if len(where) == 0 {
		return ""
	}
	return " (" + strings.Join(where, ", ") + ")"
}

func join[S ~string](list []S, by string) string {
	words := make([]string, len(list))
	for i, s := range list {
		words[i] = string(s)
	}
	return strings.Join(words, by)
}
