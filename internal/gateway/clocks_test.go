package gateway

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/wilco-iot/wilco/internal/app"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/internal/store/sqlite"
	"github.com/wilco-iot/wilco/wire"
)

var (
	noon  = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	valve = wire.Address{Group: "plant", Device: "valve"}
)

// stored is a gateway of which only the store is there.
func stored(t *testing.T, commands ...command.Command) *Gateway {
	t.Helper()
	s, err := sqlite.Open(filepath.Join(t.TempDir(), "db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	b := store.Batch{}
	for _, c := range commands {
		b.Commands = append(b.Commands, store.CommandWrite{Command: c})
	}
	if _, err := s.Commit(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return &Gateway{server: &app.Server{Store: s}, ctx: t.Context()}
}

// tidAt is a TID that a clock has made at a time.
func tidAt(at time.Time) (tid command.TID) {
	ms := uint64(at.UnixMilli())
	for i := range 6 {
		tid[i] = byte(ms >> (40 - 8*i))
	}
	random := uuid.New()
	copy(tid[6:], random[6:])
	tid[6] = 0x70 | tid[6]&0x0f
	return tid
}

// executed is a command as the gateway keeps it: the TID is of the clock of who
// asked, the times are of its own.
func executed(who string, tid command.TID, at time.Time) command.Command {
	return command.Command{TID: tid, Device: valve, Name: "turn", RequestedBy: who, Created: at, State: command.Executed,
		Ended: at.Add(time.Second), Version: 1, Timeline: []command.Entry{{At: at, Kind: command.Create, State: command.Executed}}}
}

// TestClocksThatDiffer: whether the server's clock is hours before the gateway's or
// behind it, an act names the last of the server's commands that was here, and a rule
// takes back what was done last.
func TestClocksThatDiffer(t *testing.T) {
	for name, off := range map[string]time.Duration{"ahead": 3 * time.Hour, "behind": -3 * time.Hour, "the same": 0} {
		t.Run(name, func(t *testing.T) {
			above := func(at time.Duration) command.Command {
				return executed(Upstream, tidAt(noon.Add(at+off)), noon.Add(at))
			}
			here := func(at time.Duration) command.Command { return executed("bo", tidAt(noon.Add(at)), noon.Add(at)) }
			first, second, mine, third := above(0), above(time.Minute), here(2*time.Minute), above(3*time.Minute)
			g := stored(t, first, second, mine, third)
			if seen, err := g.seen(&mine); err != nil || seen != second.TID.String() {
				t.Errorf("seen is %s, want the second, %s: %v", seen, second.TID, err)
			}
			if last, err := g.lastChange(valve); err != nil || last != third.TID {
				t.Errorf("the last change is %s, want the third, %s: %v", last, third.TID, err)
			}
			g = stored(t, first, mine)
			if last, err := g.lastChange(valve); err != nil || last != mine.TID {
				t.Errorf("the last change is %s, want that made here, %s: %v", last, mine.TID, err)
			}
		})
	}
}
