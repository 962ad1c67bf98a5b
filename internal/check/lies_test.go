package check

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestEveryLieIsFound is what the tester is for: each way of being wrong is
// found by the case that looks for it, with the right word.
func TestEveryLieIsFound(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		lie, id string
		want    Verdict
	}{
		{"swap", "O01", ReorderFirst},
		{"lose", "O01", LossAcked},
		{"twice", "O01", DupLive},
		{"twice", "O01", DupQoS2},
		{"corrupt", "O01", Corrupt},
		{"phantom", "O01", Phantom},
		{"stall", "O01", Stall},
		{"swap", "O02", ReorderFirst},
		{"lose", "O02", LossAcked},
		{"swap", "O03", ReorderFirst},
		{"swap", "O04", ReorderFirst},
		{"lose", "O05", LossAcked},
		{"swap", "O06", ReorderFirst},
		{"swap", "O07", ReorderFirst},
		{"too large", "O08", LimitExceeded},
		{"expired", "O09", ExpiredDelivered},
		{"expiry frozen", "O09", Corrupt},
		{"no dup flag", "O10", DupLive},
		{"resume reversed", "O10", ReorderLast},
		{"no resend", "O10", LossAcked},
		{"queue lost", "O10", LossAcked},
		{"acknowledged again", "O11", ReorderLast},
		{"queue lost", "O12", LossAcked},
		{"backlog shuffled", "O12", ReorderFirst},
		{"live first", "O13", ReorderFirst},
		{"resume reversed", "O14", ReorderLast},
		{"no resend", "O14", LossAcked},
		{"window", "O16", LimitExceeded},
		{"ids reused", "O16", Corrupt},
		{"stall", "O16", Stall},
		{"resend live", "O17", DupLive},
		{"window", "O17", LimitExceeded},
		{"ids reused", "O18", Corrupt},
		{"stall", "O19", Stall},
		{"no resend", "O19", LossAcked},
		{"qos 2 twice", "O20", DupQoS2},
		{"no dup flag", "O20", DupLive},
		{"qos 2 twice", "O21", DupQoS2},
		{"two live", "O23", Split},
		{"lose", "O23", LossAcked},
		{"shared to all", "O29", DupLive},
		{"lose", "O30", LossAcked},
		{"refused goes on", "O31", DupLive},
		{"stale retained", "O32", ReorderFirst},
		{"no will", "O33", LossAcked},
		{"no correlation", "O35", Corrupt},
		{"lose", "O35", LossAcked},
	} {
		virtually(t, x.lie+"/"+x.id+"/"+string(x.want), func(t *testing.T) {
			var missed []string
			for range 3 { // whether a liar gets to its lie is a matter of when it is asked
				r, err := Run(t.Context(), Options{URL: startLiar(t, x.lie), open: connect, Cases: []string{x.id}, Patience: time.Second})
				if err != nil {
					t.Fatal(err)
				}
				c := r.Cases[0]
				if c.Violated && slices.Contains(c.Verdicts, x.want) {
					return
				}
				missed = append(missed, fmt.Sprintf("%s, not %s: %s", c.Line(), x.want, c.Detail))
			}
			t.Error(strings.Join(missed, "\n"))
		})
	}
}

// TestNoLieIsFoundWhereThereIsNone runs everything against the same broker when
// it tells the truth: otherwise the lies would prove nothing.
func TestNoLieIsFoundWhereThereIsNone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testNoLie)
}

func testNoLie(t *testing.T) {
	// The many messages of O18 are with our own broker.
	cases := slices.DeleteFunc(quick(t), func(id string) bool { return id == "O18" })
	r := mustRun(t, Options{URL: startLiar(t, ""), open: connect, Cases: cases})
	if n := r.Violations(); n > 0 {
		t.Errorf("%d cases are violated", n)
	}
	for _, s := range []Strength{TotalOrder, CrossTopic} {
		if !slices.Contains(r.Strengths, s) {
			t.Errorf("%s was not seen", s)
		}
	}
	if slices.Contains(r.Strengths, KeyOrderShared) {
		t.Error("key order was seen, although members take turns")
	}
}

// TestWhatTheStandardAllowsIsNoViolation is about brokers that are weaker than
// ours in ways they may be.
func TestWhatTheStandardAllowsIsNoViolation(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		lie, id string
		not     Strength
		says    Verdict
	}{
		{"topics overtake", "O03", CrossTopic, Strict},
		{"subscribers differ", "O05", TotalOrder, Strict},
		{"drop newest", "O07", "", GapSilent},
	} {
		virtually(t, x.lie, func(t *testing.T) {
			o := Options{URL: startLiar(t, x.lie), open: connect, Cases: []string{x.id}, Patience: time.Second}
			r, err := Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			c := r.Cases[0]
			if c.Violated || !slices.Contains(c.Verdicts, x.says) || x.not != "" && slices.Contains(r.Strengths, x.not) {
				t.Errorf("%s, strengths %v: %s", c.Line(), r.Strengths, c.Detail)
			}
			o.Strict = true
			if r, err = Run(t.Context(), o); err != nil || !r.Cases[0].Violated {
				t.Errorf("not violated when strict: %v, %v", r, err)
			}
		})
	}
}
