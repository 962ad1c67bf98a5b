package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/audit"
	"github.com/wilco-iot/wilco/internal/fault"
)

func (a *app) auditCommand() *cobra.Command {
	c := &cobra.Command{Use: "audit", Short: "Who did what, and whether the record of it was changed"}
	c.AddCommand(a.auditList(), a.auditVerify(), a.auditHead())
	return a.parent(c)
}

func (a *app) auditList() *cobra.Command {
	var limit int
	var after int64
	c := &cobra.Command{Use: "list", Short: "List the newest entries, the oldest of them first", Args: a.args(),
		Example: "  wilco audit list --limit 20\n  wilco audit list --after 0 --limit 1000 --json"}
	f := c.Flags()
	f.IntVar(&limit, "limit", 50, "how many, 1 to 1000")
	f.Int64Var(&after, "after", -1, "those behind the entry of this number; 0: from the first (default the newest)")
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		if after < 0 {
			head, err := c.Audit(ctx, client.AuditOptions{Limit: 1})
			if err != nil {
				return a.unreachable(err)
			}
			after = max(0, head.Head.Seq-int64(limit))
		}
		page, err := c.Audit(ctx, client.AuditOptions{After: after, Limit: limit})
		if err != nil {
			return a.unreachable(err)
		}
		return a.print(page, func(out io.Writer) {
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "SEQ\tAT\tWHO\tROLE\tACT\tTARGET\tOUTCOME\tDETAIL")
			for _, e := range page.Items {
				detail := e.Detail
				if e.Count > 1 {
					detail = strings.TrimSpace(fmt.Sprintf("%d × %s", e.Count, detail))
				}
				fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Seq, stamp(e.At), clean(e.Who), clean(e.Role), clean(e.Act), clean(e.Target),
					clean(e.Outcome), clean(detail))
			}
			w.Flush()
		})
	})
	return c
}

func (a *app) auditHead() *cobra.Command {
	c := &cobra.Command{Use: "head", Short: "Print the end of the log, to be kept elsewhere for wilco audit verify --head", Args: a.args()}
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		page, err := c.Audit(ctx, client.AuditOptions{Limit: 1})
		if err != nil {
			return a.unreachable(err)
		}
		h := audit.Head(page.Head)
		return a.print(page.Head, func(w io.Writer) { fmt.Fprintln(w, h) })
	})
	return c
}

// auditReport is what verify prints.
type auditReport struct {
	Entries  int64            `json:"entries"`
	Head     client.AuditHead `json:"head"`
	Problems []auditProblem   `json:"problems"`
}

type auditProblem struct {
	Key  string `json:"key"`
	What string `json:"what"`
}

func (a *app) auditVerify() *cobra.Command {
	var kept []string
	c := &cobra.Command{Use: "verify", Short: "Read the whole log and find what was changed, removed, moved or inserted", Args: a.args(),
		Long: "Verify reads all entries and computes their hashes here, so that it need not trust the server. A chain that was\n" +
			"computed anew as a whole shows only beside a head that was kept elsewhere: give it with --head. It ends with the\n" +
			"exit code of conflict (5) when anything is wrong.",
		Example: "  wilco audit verify --head $(cat /mnt/safe/head)"}
	c.Flags().StringArrayVar(&kept, "head", nil, "a head that was kept: NUMBER:HASH; may be repeated")
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		var v audit.Verifier
		for _, s := range kept {
			h, err := audit.ParseHead(strings.TrimSpace(s))
			if err != nil {
				return fault.Field("head", "%v", err)
			}
			v.Heads = append(v.Heads, h)
		}
		c, err := a.connect()
		if err != nil {
			return err
		}
		r, err := readAudit(ctx, c, &v)
		if err != nil {
			return a.unreachable(err)
		}
		if err := a.print(r, func(w io.Writer) {
			for _, p := range r.Problems {
				fmt.Fprintf(w, "entry %s: %s\n", clean(p.Key), clean(p.What))
			}
			if len(r.Problems) == 0 {
				fmt.Fprintf(w, "%d entries, each follows the one before; head %s\n", r.Entries, v.Head())
			}
		}); err != nil {
			return err
		}
		if n := len(r.Problems); n > 0 {
			return fault.New(fault.Conflict, "the audit log is not as it was written: %d problems", n)
		}
		return nil
	})
	return c
}

// readAudit takes all entries through v.
func readAudit(ctx context.Context, c *client.Client, v *audit.Verifier) (r auditReport, err error) {
	r.Problems = []auditProblem{}
	add := func(found []audit.Problem) {
		for _, p := range found {
			r.Problems = append(r.Problems, auditProblem(p))
		}
	}
	for o := (client.AuditOptions{Limit: 1000}); ; {
		page, err := c.Audit(ctx, o)
		if err != nil {
			return r, err
		}
		if o.Cursor == "" && page.Head.Seq > 0 {
			// What the server takes for its end at the beginning must be met.
			v.Heads = append(v.Heads, audit.Head(page.Head))
		}
		for i := range page.Items {
			add(v.Next(entryOf(&page.Items[i])))
			r.Entries++
		}
		if o.Cursor = page.Next; o.Cursor == "" {
			break
		}
	}
	add(v.End())
	r.Head = client.AuditHead(v.Head())
	return r, nil
}

func entryOf(d *client.AuditEntry) *audit.Entry {
	e := &audit.Entry{Seq: d.Seq, At: d.At, Who: d.Who, Role: d.Role, Group: d.Group, Act: d.Act, Target: d.Target, Outcome: d.Outcome,
		Detail: d.Detail, Count: d.Count, Digest: d.Digest, Prev: d.Prev, Hash: d.Hash, Key: d.Key}
	if e.Key == "" {
		e.Key = audit.KeyOf(e.Seq)
	}
	return e
}
