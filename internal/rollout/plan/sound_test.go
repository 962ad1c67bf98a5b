package plan

import (
	"encoding/json"
	"slices"
	"testing"
	"time"
)

// FuzzSound: a record that is called sound can be given to Step, whatever it says.
func FuzzSound(f *testing.F) {
	_, all := situations(&testing.T{})
	for _, r := range all {
		body, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var r Rollout
		if json.Unmarshal(body, &r) != nil || r.Sound(4*ChunkSize) != nil {
			return
		}
		r.Cells = NewCells(r.Total)
		i := 0
		for _, w := range r.Waves {
			for c := nCells - 1; c >= Waiting && c < nCells; c-- {
				for range w.Counts[c] {
					r.Cells[i/ChunkSize][i%ChunkSize] = c
					i++
				}
			}
		}
		if r.SoundCells() != nil {
			return
		}
		for _, k := range []Kind{Tick, Restarted, Became, Found, Orphaned, Pause, Resume, Approve, Deny, BreakGlass, Abort} {
			ev := Event{Kind: k, By: "bob", Text: "x", Count: 1}
			for i := range min(r.Total, 100) {
				ev.To = append(ev.To, Change{i, Executed})
			}
			for _, after := range []time.Duration{0, time.Hour} {
				if next, _, err := Step(r, ev, t0.Add(after)); err == nil {
					if err := next.SoundCells(); err != nil {
						t.Fatalf("after %s: %v", k, err)
					}
				}
			}
		}
	})
}

func TestWhatIsNotSound(t *testing.T) {
	_, all := situations(t)
	for i, r := range all {
		if err := r.Sound(4); err != nil {
			t.Errorf("situation %d: %v", i, err)
		}
	}
	for what, spoil := range map[string]func(*Rollout){
		"a state":       func(r *Rollout) { r.State = "gone" },
		"too many":      func(r *Rollout) { r.Total = 5 },
		"less than 0":   func(r *Rollout) { r.Total = -1 },
		"started":       func(r *Rollout) { r.Next = 9 },
		"the wave":      func(r *Rollout) { r.Wave = 2 },
		"ends":          func(r *Rollout) { r.Waves[0].End = 5 },
		"counts":        func(r *Rollout) { r.Waves[1].Counts[Executed]++ },
		"negative":      func(r *Rollout) { r.Waves[1].Counts[Executed]++; r.Waves[1].Counts[Failed]-- },
		"no waves":      func(r *Rollout) { r.Waves = nil },
		"more waves":    func(r *Rollout) { r.Spec.Waves = nil; r.Waves = append(r.Waves, WaveState{End: 4}) },
		"what is asked": func(r *Rollout) { r.State, r.Approval = AwaitingApproval, nil },
		"rate":          func(r *Rollout) { r.Hold = ForRate },
		"window":        func(r *Rollout) { r.Spec.Windows = []Window{{From: "1", To: "2"}} },
	} {
		r := all[len(all)-1]
		r.Waves = slices.Clone(r.Waves)
		if spoil(&r); r.Sound(5) == nil {
			t.Errorf("%s: taken as sound", what)
		}
	}
}
