package engine

import (
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// device is what is known of a device in memory. Everything here can be made
// again from the store and the broker.
type device struct {
	address  wire.Address
	profile  wire.Profile
	lane     *command.Lane
	barred   bool // not registered any more, or disabled: gets nothing
	presence store.Presence
	oldBoots []string // the last few, to know a replayed status by
	seq      int64    // of the last publication of a request, in this epoch

	// named is by name what waits, and what has waited; nil until it is needed.
	named   map[string][]command.TID
	indexed int // tids in it
	// inLine are the commands that wait for places, or have been given them and not
	// been told; see interlocks.
	inLine []command.TID

	// How much this device may still write into the list of anomalies.
	notes   float64
	notedAt time.Time
}

// A device that goes on saying nonsense is told of by the counters only: at
// most this many anomalies at once, and so many a second, are worth a write.
const (
	notesAtOnce = 20
	notesASec   = 0.5
)

// mayNote takes one of the anomalies that d may write.
func (d *device) mayNote(now time.Time) bool {
	d.notes = min(d.notes+now.Sub(d.notedAt).Seconds()*notesASec, notesAtOnce)
	d.notedAt = now
	if d.notes < 1 {
		return false
	}
	d.notes--
	return true
}

// device gives the entry of a, made when it is new.
func (s *shard) device(a wire.Address) *device {
	d := s.devices[a]
	if d == nil {
		d = &device{address: a, lane: command.NewLane(1), presence: store.Presence{Device: a}}
		d.learn(s.e)
		s.devices[a] = d
	}
	return d
}

// learn takes what the directory says of d now.
func (d *device) learn(e *Engine) {
	reg, ok := e.opt.Directory.Device(d.address)
	if d.barred = !ok || reg.Disabled; !ok {
		if d.profile == nil {
			d.profile = e.profile("")
		}
		return // removed: what is known of it is how it was
	}
	d.profile = e.profile(reg.Profile)
	d.lane.SetWindow(reg.Window)
}

// idle says whether d has no open command.
func (d *device) idle() bool {
	return d.lane.Waiting()+len(d.lane.InFlight())+len(d.lane.Unsettled()) == 0
}

// letIn gives the jobs for devices that were barred and no longer are. Nobody
// tells of that; one that reports its presence will say itself that it is there.
func (s *shard) letIn() []job {
	var jobs []job
	for d := range s.barred {
		reg, ok := s.e.opt.Directory.Device(d.address)
		if ok && !reg.Disabled {
			jobs = append(jobs, &reconcileJob{d})
		}
		if ok && !reg.Disabled || d.idle() {
			delete(s.barred, d)
		}
	}
	return jobs
}
