package scenario

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/sim"
)

// Report is what a run has shown.
type Report struct {
	Scenario string         `json:"scenario"`
	Seed     uint64         `json:"seed"`
	Devices  int            `json:"devices"`
	Seconds  float64        `json:"seconds"`
	Total    int            `json:"total"`
	Commands map[string]int `json:"commands"` // by end state
	Retries  int            `json:"retries"`
	Reboots  int64          `json:"reboots"`
	Restarts int64          `json:"restarts"` // of the server
	Faults   Faults         `json:"faults"`
	P50Ms    float64        `json:"p50Ms"` // creation to executed
	P99Ms    float64        `json:"p99Ms"`
	sim.Verdict
	Expectations []Expectation `json:"expectations"`
}

// Faults is what the simulated networks did.
type Faults struct {
	CommandsLost       int64 `json:"commandsLost"`
	CommandsDuplicated int64 `json:"commandsDuplicated"`
	CommandsReordered  int64 `json:"commandsReordered"`
	AnswersLost        int64 `json:"answersLost"`
	AnswersDuplicated  int64 `json:"answersDuplicated"`
	AnswersReordered   int64 `json:"answersReordered"`
	ConnectionsCut     int64 `json:"connectionsCut"`
}

// Good says whether everything that was expected is so.
func (r *Report) Good() bool {
	return !slices.ContainsFunc(r.Expectations, func(e Expectation) bool { return !e.Met })
}

// report compares what the server says of the orders, nil where it knows
// nothing, with what the devices say.
func (r *run) report(said []*client.Command) *Report {
	claims := make([]sim.Claim, len(said))
	var took []time.Duration
	retries := 0
	for i, c := range said {
		o := r.plan.orders[i]
		claims[i] = sim.Claim{TID: o.tid, Device: o.device}
		if c == nil {
			continue
		}
		claims[i].Known, claims[i].State, claims[i].Final, claims[i].Sent = true, string(c.State), c.Ended, !c.Sent.IsZero()
		retries += max(c.Attempt-1, 0)
		if c.State == client.Executed {
			took = append(took, c.Finished.Sub(c.Created))
		}
	}
	slices.Sort(took)
	f := r.fleet.Faults()
	out := &Report{Scenario: r.s.Name, Seed: r.o.Seed, Devices: r.s.Count(), Seconds: time.Since(r.began).Seconds(), Total: len(claims),
		Retries: retries, Reboots: r.fleet.Reboots(), Restarts: r.restarts.Load(), Verdict: sim.Audit(claims, r.fleet.Logs()),
		Faults: Faults{CommandsLost: f.LostDown.Load(), CommandsDuplicated: f.DuplicatedDown.Load(), CommandsReordered: f.SwappedDown.Load(),
			AnswersLost: f.LostUp.Load(), AnswersDuplicated: f.DuplicatedUp.Load(), AnswersReordered: f.SwappedUp.Load(), ConnectionsCut: f.Cut.Load()},
		P50Ms: share(took, 0.5), P99Ms: share(took, 0.99)}
	out.Commands = out.ByState
	out.Expectations = r.s.judge(out)
	return out
}

// share gives the p-th share of sorted durations in milliseconds.
func share(d []time.Duration, p float64) float64 {
	if len(d) == 0 {
		return 0
	}
	return float64(d[min(int(float64(len(d))*p), len(d)-1)].Microseconds()) / 1000
}

// Print writes the report for people.
func (r *Report) Print(w io.Writer) {
	fmt.Fprintf(w, "\n%s, seed %d: %d commands to %d devices in %.0f s\n\n", r.Scenario, r.Seed, r.Total, r.Devices, r.Seconds)
	for _, st := range slices.Sorted(maps.Keys(r.Commands)) {
		fmt.Fprintf(w, "  %-12s %6d\n", st, r.Commands[st])
	}
	f := r.Faults
	fmt.Fprintf(w, "\n  commands on their way: %d lost, %d twice, %d overtaken\n", f.CommandsLost, f.CommandsDuplicated, f.CommandsReordered)
	fmt.Fprintf(w, "  answers on their way:  %d lost, %d twice, %d overtaken\n", f.AnswersLost, f.AnswersDuplicated, f.AnswersReordered)
	fmt.Fprintf(w, "  connections cut %d, reboots %d, restarts of the server %d, retries %d\n", f.ConnectionsCut, r.Reboots, r.Restarts, r.Retries)
	fmt.Fprintf(w, "  from creation to executed: half within %.0f ms, 99 %% within %.0f ms\n\n", r.P50Ms, r.P99Ms)
	fmt.Fprintf(w, "The auditor read the devices' own logs:\n")
	for _, e := range r.Expectations {
		word := "as expected"
		if !e.Met {
			word = "NOT as expected"
		}
		fmt.Fprintf(w, "  %-16s %8.4g   %s: %s\n", e.Expect.Figure, e.Got, word, e.Expect)
	}
	for _, e := range r.Examples {
		fmt.Fprintf(w, "    %s\n", e)
	}
}
