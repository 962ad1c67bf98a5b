package sim

import (
	"fmt"

	"github.com/wilco-iot/wilco/wire"
)

// Claim is what the server says of a command that it has taken.
type Claim struct {
	TID    string // as a UUID of version 7 these sort by age
	Device wire.Address
	Known  bool   // the server still knows it
	State  string // its state
	Final  bool   // it has ended for good
	Sent   bool   // it was published at least once
}

// Verdict is what the devices' own logs say about the server's claims. All but
// Commands, ByState and Examples should be zero.
type Verdict struct {
	Commands      int            `json:"-"`
	ByState       map[string]int `json:"-"`
	ExecutedTwice int            `json:"executedTwice"` // tids whose effect began more than once
	Lost          int            `json:"lost"`          // taken, and unknown to the server now
	OutOfOrder    int            `json:"outOfOrder"`    // effects that began after that of a younger command of the same device
	Unsettled     int            `json:"unsettled"`     // not ended
	Untrue        int            `json:"untrue"`        // the server's state contradicts the device's log
	Examples      []string       `json:"examples,omitempty"`
}

// Good says whether nothing is wrong.
func (v *Verdict) Good() bool {
	return v.ExecutedTwice+v.Lost+v.OutOfOrder+v.Unsettled+v.Untrue == 0
}

// maxExamples bounds Verdict.Examples.
const maxExamples = 20

// Audit compares what the server says with what the devices wrote down. It looks
// at the devices' logs alone to tell what happened.
func Audit(claims []Claim, logs []Log) Verdict {
	v := Verdict{Commands: len(claims), ByState: make(map[string]int)}
	effects := make(map[string]int)
	ends := make(map[string]string)
	for _, l := range logs {
		youngest := ""
		for _, tid := range l.Effects {
			if effects[tid]++; effects[tid] == 2 {
				v.ExecutedTwice++
				v.example("%s executed twice by %s", tid, l.Address)
			}
			if tid < youngest && !l.Unordered {
				v.OutOfOrder++
				v.example("%s began after %s on %s", tid, youngest, l.Address)
			}
			youngest = max(youngest, tid)
		}
		for tid, status := range l.Ends {
			ends[tid] = status
		}
	}
	for _, c := range claims {
		if !c.Known {
			v.Lost++
			v.example("%s was taken and is unknown now", c.TID)
			continue
		}
		v.ByState[c.State]++
		if !c.Final {
			v.Unsettled++
			v.example("%s is %s", c.TID, c.State)
			continue
		}
		if why := untrue(c, effects[c.TID], ends[c.TID]); why != "" {
			v.Untrue++
			v.example("%s of %s: %s", c.TID, c.Device, why)
		}
	}
	return v
}

// untrue says how a claim contradicts the device's log, "" when it does not.
func untrue(c Claim, effects int, end string) string {
	switch c.State {
	case "executed":
		if effects == 0 || end != wire.Success {
			return fmt.Sprintf("executed, but the device has %d effects and the end %q", effects, end)
		}
	case "failed":
		if end != wire.Failure {
			return fmt.Sprintf("failed, but the device's end is %q", end)
		}
	case "rejected", "expired", "denied":
		if effects > 0 {
			return c.State + ", which means not executed, but the device began it"
		}
	case "cancelled":
		if !c.Sent && effects > 0 || c.Sent && end != wire.Cancelled {
			return fmt.Sprintf("cancelled, but the device has %d effects and the end %q", effects, end)
		}
	}
	return ""
}

func (v *Verdict) example(format string, args ...any) {
	if len(v.Examples) < maxExamples {
		v.Examples = append(v.Examples, fmt.Sprintf(format, args...))
	}
}
