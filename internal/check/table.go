package check

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Column is the report of one broker, in a table of several.
type Column struct {
	Name string
	Report
}

// Table writes reports side by side as Markdown: a row for each case, with what
// it shows of each broker, and then one line for each that is refuted. Errors of
// w are ignored, as with any printing.
func Table(w io.Writer, columns []Column) {
	fmt.Fprint(w, "| | MQTT | seed | cases run | violated | beyond the standard | took |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	for _, c := range columns {
		run := 0
		for _, r := range c.Cases {
			if r.Skipped == "" {
				run++
			}
		}
		words := "-"
		if len(c.Strengths) > 0 {
			words = join(c.Strengths, ", ")
		}
		fmt.Fprintf(w, "| %s | %s | %d | %d | %d | %s | %.0f s |\n", cell(c.Name), c.Version, c.Seed, run, c.Violations(), words, c.Seconds)
	}
	fmt.Fprint(w, "\n| case | what happens |")
	for _, c := range columns {
		fmt.Fprintf(w, " %s |", cell(c.Name))
	}
	fmt.Fprint(w, "\n| --- | --- |"+strings.Repeat(" --- |", len(columns))+"\n")
	for _, row := range rows(columns) {
		fmt.Fprintf(w, "| %s | %s |", row[0].ID, cell(row[0].Title))
		for _, r := range row {
			fmt.Fprintf(w, " %s |", r.mark())
		}
		fmt.Fprintln(w)
	}
	for _, c := range columns {
		fmt.Fprintf(w, "\n## %s\n\n", c.Name)
		seen(w, c.Cases)
	}
}

// rows turns the columns round: each is one case at all brokers, with a zero
// Result, but for its id, where a report has none. The cases are those of the
// first report.
func rows(columns []Column) (list [][]Result) {
	if len(columns) == 0 {
		return nil
	}
	for _, first := range columns[0].Cases {
		var row []Result
		for _, c := range columns {
			i := slices.IndexFunc(c.Cases, func(r Result) bool { return r.ID == first.ID })
			if i < 0 {
				row = append(row, Result{ID: first.ID, Skipped: "not run"})
				continue
			}
			row = append(row, c.Cases[i])
		}
		list = append(list, row)
	}
	return list
}

// mark is a case in one cell.
func (c Result) mark() string {
	switch {
	case c.Skipped != "":
		return "-"
	case c.Violated:
		return "**" + c.words() + "**"
	case len(c.Verdicts) == 0:
		return "ok"
	}
	return c.words()
}

// seen writes what lies behind the cells that are bad, and behind the empty
// ones.
func seen(w io.Writer, cases []Result) {
	for _, c := range cases {
		if c.Detail != "" && (c.Violated || slices.ContainsFunc(c.Verdicts, Verdict.open)) {
			fmt.Fprintf(w, "- %s: %s\n", c.ID, cell(c.Detail))
		}
	}
	var why []string
	ids := map[string][]string{}
	for _, c := range cases {
		if c.Skipped != "" {
			if ids[c.Skipped] == nil {
				why = append(why, c.Skipped)
			}
			ids[c.Skipped] = append(ids[c.Skipped], c.ID)
		}
	}
	for _, reason := range why {
		fmt.Fprintf(w, "- %s did not run: %s\n", strings.Join(ids[reason], ", "), cell(reason))
	}
}

// cell makes a text fit into a table.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(s)
}
