package service

import (
	"context"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
)

// Bounds of what Stats looks at.
const (
	MaxStats       = 100_000             // commands, the newest
	MaxStatsWindow = 31 * 24 * time.Hour // since when
	maxStatsNames  = 200                 // names told apart; the rest is one
	maxWorst       = 10                  // devices in each list of worst ones
)

// StatsQuery selects the commands that Stats counts: those made since then, of one
// group or all that the caller may look at, of one type or all.
type StatsQuery struct {
	Group, Type string
	Since       time.Time
}

// Stats is what became of commands. Cut says that there were more than MaxStats:
// then From is when the oldest that was counted was made.
type Stats struct {
	From, Until time.Time
	Commands    int
	Cut         bool
	Types       []TypeStats   // by name; what is beyond 200 names is named ""
	MostFailed  []DeviceStats // with at least one that failed, the most first; at most 10
	Slowest     []DeviceStats // by Mean, the longest first; at most 10
}

// TypeStats is what became of the commands of one name.
type TypeStats struct {
	Name     string
	Commands int
	Open     int
	Ends     []EndStats // the most frequent first

	CreatedToSent, SentToAcked, SentToEnded, CreatedToEnded Spread
}

// EndStats counts the commands that ended in one way.
type EndStats struct {
	State  command.State
	Reason command.Reason
	Count  int
}

// Spread is how long something took, to the millisecond: by nearest rank, so that
// each is a time that was measured. Zero when Count is.
type Spread struct {
	Count              int
	P50, P90, P99, Max time.Duration
}

// DeviceStats is what became of the commands to one device.
type DeviceStats struct {
	Device   string
	Commands int
	Failed   int           // failed, rejected, expired, or of unknown outcome for ever
	Mean     time.Duration // from the first publication to the end
}

// Stats counts what became of commands. It reads them in pages of their own, beside
// the writers, and looks at no more than MaxStats.
func (s *Service) Stats(ctx context.Context, p Principal, q StatsQuery) (Stats, error) {
	if err := must(p, Viewer); err != nil {
		return Stats{}, err
	}
	now := time.Now()
	if !q.Since.Before(now) || now.Sub(q.Since) > MaxStatsWindow+time.Minute {
		return Stats{}, fault.Field("since", "must be in the last %d days", int(MaxStatsWindow.Hours()/24))
	}
	if q.Type != "" && !validName(q.Type) {
		return Stats{}, fault.Field("type", "must be 1 to %d of the characters A-Z a-z 0-9 . _ : -", MaxName)
	}
	list := store.Query{Name: q.Type, Since: q.Since, Limit: MaxPage}
	var err error
	if list.Group, list.Groups, err = narrow(p, q.Group, ""); err != nil {
		return Stats{}, err
	}
	t := newTally()
	for {
		page, next, err := s.opt.Store.List(ctx, list)
		if err != nil {
			return Stats{}, done(err)
		}
		for i := range page {
			t.add(&page[i])
		}
		if next == "" || t.commands >= MaxStats {
			out := t.stats()
			out.From, out.Until, out.Cut = q.Since, now, next != ""
			if out.Cut {
				out.From = t.oldest
			}
			return out, nil
		}
		list.Cursor = next
	}
}
