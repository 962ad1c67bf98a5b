package rollout

import (
	"fmt"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/rollout/plan"
	"github.com/wilco-iot/wilco/internal/store"
)

// maxGroups bounds the groups of an event; who is to see one of more must see all.
const maxGroups = 64

// tells are the events of the step from was to next, which are committed with it: the
// new lines of its log, or that it is a percent further; and the alarms.
func (run *run) tells(was, next *plan.Rollout, actions []plan.Action, now time.Time) (events []store.Event) {
	from, at := was.State, now.UTC().Truncate(time.Millisecond)
	percent := next.Percent()
	event := func(e plan.Entry) {
		share := float64(percent)
		events = append(events, store.Event{Type: store.EventRollout, At: e.At.UTC().Truncate(time.Millisecond), Rollout: next.ID, Groups: placesOf(next), Name: next.Spec.Command,
			From: command.State(from), State: command.State(e.State), Reason: command.Reason(e.Reason), By: e.By, Detail: e.Detail, Percent: &share})
		from = e.State
	}
	for _, e := range next.Log[max(0, len(next.Log)-(next.Lines-was.Lines)):] {
		event(e)
	}
	if len(events) == 0 && percent != was.Percent() {
		event(plan.Entry{At: at, State: next.State})
	}
	for _, a := range actions {
		if a.Act == plan.Alarm {
			events = append(events, run.alarm(&a, at))
		}
	}
	return events
}

// givenUp is the alarm of the targets that were given up.
func (run *run) givenUp() []plan.Action {
	if len(run.given) == 0 {
		return nil
	}
	first := run.given[0]
	if more := len(run.given) - 1; more > 0 {
		first.Text += fmt.Sprintf("; and %d more", more)
	}
	return []plan.Action{first}
}

func placesOf(r *plan.Rollout) []string {
	if list := r.Places(); len(list) <= maxGroups {
		return list
	}
	return nil
}

// alarm is an event that people should look at.
func (run *run) alarm(a *plan.Action, at time.Time) store.Event {
	e := store.Event{Type: store.EventAlarm, At: at, Name: run.Spec.Command, By: KeyPrefix + run.ID, Detail: a.Text, Rollout: run.ID}
	if a.Target >= 0 {
		p, k := run.pieces[a.Target/plan.ChunkSize], a.Target%plan.ChunkSize
		e.Device = p.who[k]
		if tid := p.tids[k]; tid != (command.TID{}) {
			e.TID = &tid
		}
	} else if len(run.pieces) > 0 {
		e.Device = run.pieces[0].who[0] // who may see that one may see this
	}
	return e
}
