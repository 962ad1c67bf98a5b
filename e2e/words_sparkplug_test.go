package e2e

import (
	"encoding/json"
	"fmt"
	"regexp"

	"github.com/rogpeppe/go-internal/testscript"
)

// wordEdgeNode: edgenode GROUP/NODE PATTERN waits until wilco sparkplug show has
// something that matches, and leaves it as stdout.
func wordEdgeNode(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 2, "edgenode GROUP/NODE PATTERN")
	w, pattern := of(ts), regexp.MustCompile(args[1])
	var doc json.RawMessage
	ts.Check(within(patience, func() error {
		if err := w.ask(&doc, "sparkplug", "show", args[0]); err != nil {
			return err
		}
		if !pattern.Match(doc) {
			return fmt.Errorf("it is %s", doc)
		}
		return nil
	}))
	fmt.Fprintf(ts.Stdout(), "%s\n", doc)
}
