package plan

import (
	"encoding/json"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
)

// Spec is what is asked for. The JSON form is that of the API and the stored one;
// never change the names.
type Spec struct {
	Name     string          `json:"name,omitempty"`    // the id; "": one is made
	Command  string          `json:"command,omitempty"` // name of the command
	Params   json.RawMessage `json:"params,omitempty"`
	Policy   json.RawMessage `json:"policy,omitempty"` // what differs from the type's
	Priority *int            `json:"priority,omitempty"`
	Targets  Targets         `json:"targets"`

	Waves       []Wave     `json:"waves,omitempty"` // behind the last one comes the rest, if there is any
	Rate        *Rate      `json:"rate,omitempty"`
	Concurrency int        `json:"concurrency,omitempty"` // commands under way at once; 0: any number
	Abort       *Threshold `json:"abort,omitempty"`
	Windows     []Window   `json:"windows,omitempty"` // nothing is started outside; none: always
	StartAt     time.Time  `json:"startAt,omitzero"`
	Deadline    time.Time  `json:"deadline,omitzero"`
	Dynamic     bool       `json:"dynamic,omitempty"` // devices that match later are taken in, until the deadline
}

// Targets says which devices: those of the list, or those that everything that is
// said holds for.
type Targets struct {
	All     bool     `json:"all,omitempty"`
	Group   string   `json:"group,omitempty"`
	Tag     string   `json:"tag,omitempty"`
	Online  *bool    `json:"online,omitempty"`
	Devices []string `json:"devices,omitempty"` // not kept with the roll-out
	Listed  bool     `json:"listed,omitempty"`  // there were Devices
}

// Wave is a part of the targets, and what must be before the next one begins.
type Wave struct {
	Share   float64          `json:"share,omitempty"`   // of all targets, 0 to 1, rounded up
	Count   int              `json:"count,omitempty"`   // of targets
	Success float64          `json:"success,omitempty"` // share of the wave that must be executed; 0: all have ended, however
	Soak    command.Duration `json:"soak,omitempty"`    // the pause after that
}

// Rate bounds how many targets are started in any minute. It is constant, or grows:
// after each Every successes it is Factor times what it was, and never above Max.
type Rate struct {
	PerMinute int     `json:"perMinute"`
	Factor    float64 `json:"factor,omitempty"` // above 1; 0: constant
	Every     int     `json:"every,omitempty"`
	Max       int     `json:"max,omitempty"`
}

// Threshold ends a roll-out when more than Share of the targets whose outcome is to be
// known have failed, rejected or timed out, and at least Minimum have ended.
type Threshold struct {
	Share   float64 `json:"share"`
	Minimum int     `json:"minimum,omitempty"`
}

// Window is a time of the week. From is included and To is not; when To is not
// behind From it is on the next day. Both are minutes since midnight by the clocks
// of Zone.
type Window struct {
	Days []string `json:"days,omitempty"` // mon, tue, ..., on which it begins; none: all
	From string   `json:"from"`           // HH:MM
	To   string   `json:"to"`
	Zone string   `json:"zone,omitempty"` // of the IANA database; "": UTC
}

// Cut gives the ends of the waves for so many targets. The last is total.
func (s *Spec) Cut(total int) []int {
	var ends []int
	at := 0
	for _, w := range s.Waves {
		n := w.Count
		if n == 0 {
			n = ceil(w.Share, total)
		}
		at += min(n, total-at)
		ends = append(ends, at)
	}
	if at < total || len(ends) == 0 {
		ends = append(ends, total)
	}
	return ends
}

// ceil is the share of n, rounded up: a hair below a whole number is that number,
// because 0.07 of 100 is no more than 7.
func ceil(share float64, n int) int {
	const hair = 1e-9
	v := share * float64(n)
	k := int(v)
	if v-float64(k) > hair {
		k++
	}
	return min(k, n)
}
