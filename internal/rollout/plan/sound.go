package plan

import (
	"errors"
	"fmt"
	"slices"
)

// Sound says what is wrong with a roll-out that was read: Step must not be given one
// with an error. Its Cells are another matter, see SoundCells.
func (r *Rollout) Sound(maxTargets int) error {
	switch {
	case !slices.Contains(States, r.State):
		return fmt.Errorf("%q is no state", r.State)
	case r.Total < 0 || r.Total > maxTargets:
		return fmt.Errorf("it cannot have %d targets", r.Total)
	case r.Next < 0 || r.Next > r.Total:
		return fmt.Errorf("%d of %d targets cannot be started", r.Next, r.Total)
	case r.State == AwaitingApproval && r.Approval == nil:
		return errors.New("what it waits for is not there")
	case r.Wave < 0 || r.Wave >= len(r.Waves):
		return fmt.Errorf("wave %d of %d", r.Wave, len(r.Waves))
	case r.Spec.Rate != nil && r.Spec.Rate.PerMinute < 1, r.Spec.Rate == nil && r.Hold == ForRate:
		return errors.New("the rate is none")
	case len(r.Waves) > len(r.Spec.Waves)+1:
		return fmt.Errorf("%d waves where %d were asked for", len(r.Waves), len(r.Spec.Waves))
	}
	at := 0
	for _, w := range r.Waves {
		if w.End < at {
			return errors.New("a wave ends before it begins")
		}
		if w.Counts.Sum() != w.End-at || slices.Min(w.Counts[:]) < 0 {
			return errors.New("the counts of a wave are not those of its targets")
		}
		at = w.End
	}
	if at != r.Total {
		return fmt.Errorf("the waves have %d targets of %d", at, r.Total)
	}
	for i := range r.Spec.Windows {
		w := &r.Spec.Windows[i]
		_, from := ParseClock(w.From)
		_, to := ParseClock(w.To)
		if err := errors.Join(from, to); err != nil {
			return err
		}
	}
	return nil
}

// SoundCells says what is wrong with the states of the targets of a sound roll-out.
func (r *Rollout) SoundCells() error {
	var all Counts
	for i := range r.Total {
		c := r.Cells.At(i)
		if c >= nCells || (c == Waiting) != (i >= r.Next) {
			return fmt.Errorf("target %d cannot be %s", i, c)
		}
		all[c]++
	}
	if all != r.Counts() {
		return errors.New("the counts are not those of the targets")
	}
	return nil
}
