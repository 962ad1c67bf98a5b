package plan

import "time"

// Forecast is how a roll-out goes when every command is executed at once: it cannot
// be quicker.
type Forecast struct {
	Begin time.Time
	End   time.Time
	Waves []time.Time // when each begins
	// Stopped is the state that it ends in when it does not come to its end: at a
	// deadline, say. "": it does.
	Stopped State
}

// maxSteps bounds the work of a forecast.
const maxSteps = 200_000

// Predict plays a roll-out that New has made from now on, as if it were approved at
// once. It is false when that takes more than maxSteps steps.
func Predict(r Rollout, now time.Time) (f Forecast, ok bool) {
	if r.State == AwaitingApproval {
		r.State, r.Approval = Scheduled, nil
	}
	r.Spec.Dynamic = false // those who come later are not known
	ev, wave := Event{Kind: Tick}, -1
	for range maxSteps {
		next, actions, err := Step(r, ev, now)
		if err != nil {
			return f, false
		}
		r, ev = next, Event{Kind: Tick}
		if f.Begin.IsZero() {
			f.Begin = r.Begun
		}
		for ; r.State == Running && wave < r.Wave; wave++ {
			f.Waves = append(f.Waves, now)
		}
		if r.State.Final() {
			f.End = now
			if r.State != Finished {
				f.Stopped = r.State
			}
			return f, true
		}
		for _, a := range actions {
			if a.Act != Start {
				continue
			}
			ev.Kind = Became
			for i := a.From; i < a.To; i++ {
				ev.To = append(ev.To, Change{i, Open}, Change{i, Executed})
			}
		}
		if ev.Kind == Tick {
			if r.Wake.IsZero() {
				return f, false
			}
			now = later(now, r.Wake)
		}
	}
	return f, false
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
