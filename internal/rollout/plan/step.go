package plan

import (
	"fmt"
	"slices"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
)

// atOnce bounds the targets that are being started: the commands of one turn.
const atOnce = 1000

// New makes a roll-out to total targets, held when approval is not nil.
func New(r Rollout, total int, approval *command.Approval, now time.Time) Rollout {
	r.Created, r.State, r.Reason, r.Total = now, Scheduled, Requested, total
	r.Cells = NewCells(total)
	at := 0
	for _, end := range r.Spec.Cut(total) {
		w := WaveState{End: end}
		w.Counts[Waiting] = end - at
		r.Waves = append(r.Waves, w)
		at = end
	}
	if approval != nil {
		a := *approval
		a.Quorum = max(a.Quorum, 1)
		a.Digest = r.Digest
		r.State, r.Approval = AwaitingApproval, &a
	}
	m := step{r: r, now: now}
	m.line(Requested, r.By, "")
	m.setWake()
	return m.r
}

// Step moves r by ev. It is pure: the same arguments give the same answer, and on an
// error, a *NotAllowedError, the roll-out is r.
func Step(r Rollout, ev Event, now time.Time) (Rollout, []Action, error) {
	m := step{r: r, now: now}
	m.r.Waves = slices.Clone(r.Waves)
	m.r.Log = slices.Clip(r.Log)
	if err := m.take(&ev); err != nil {
		return r, nil, err
	}
	m.advance()
	m.setWake()
	return m.r, m.actions, nil
}

// step is one call of Step.
type step struct {
	r       Rollout
	now     time.Time
	actions []Action
	owned   map[int]bool // pieces of Cells that are copies already
	last    int          // target whose end was taken last, or -1
}

func (m *step) take(ev *Event) error {
	m.last = -1
	switch ev.Kind {
	case Tick:
	case Restarted:
		m.inDoubt()
	case Became:
		m.change(ev.To)
	case Found:
		m.found(ev.Count)
	case Settled:
		m.r.Settled = m.r.State.Final()
	case Orphaned:
		m.orphaned(ev.Text)
	default:
		return m.person(ev)
	}
	return nil
}

func (m *step) to(s State, why Reason, by, detail string) {
	r := &m.r
	r.State, r.Reason, r.Detail, r.Hold = s, why, detail, NoHold
	if s.Final() {
		r.Ended = m.now
	}
	m.line(why, by, detail)
}

func (m *step) line(why Reason, by, detail string) {
	log := append(m.r.Log, Entry{At: m.now, State: m.r.State, Reason: why, By: by, Detail: detail})
	m.r.Log = log[max(0, len(log)-maxLog):]
	m.r.Lines++
}

func (m *step) do(a Action) { m.actions = append(m.actions, a) }

// set gives target i another state.
func (m *step) set(i int, c Cell) {
	piece := i / ChunkSize
	if !m.owned[piece] {
		if m.owned == nil {
			m.owned = map[int]bool{}
			m.r.Cells = slices.Clone(m.r.Cells)
		}
		m.owned[piece] = true
		own := *m.r.Cells[piece]
		m.r.Cells[piece] = &own
	}
	was := m.r.Cells[piece][i%ChunkSize]
	m.r.Cells[piece][i%ChunkSize] = c
	w := &m.r.Waves[m.waveOf(i)]
	w.Counts[was]--
	w.Counts[c]++
}

func (m *step) waveOf(i int) int {
	n, _ := slices.BinarySearchFunc(m.r.Waves, i, func(w WaveState, i int) int {
		if w.End <= i {
			return -1
		}
		return 1
	})
	return n
}

// change takes what became of targets. What is told again, or late, changes nothing.
func (m *step) change(to []Change) {
	cancel := false
	for _, c := range to {
		if c.Target < 0 || c.Target >= m.r.Next {
			continue
		}
		was := m.r.Cells.At(c.Target)
		switch {
		case was == Starting && c.Cell > Starting, was == Open && c.Cell.ended(),
			was == TimedOut && c.Cell.ended() && c.Cell != TimedOut:
			m.set(c.Target, c.Cell)
			cancel = cancel || c.Cell == Open
			if c.Cell.ended() {
				m.last = c.Target
				m.judge()
			}
		}
	}
	if cancel && m.r.State == Aborting {
		m.do(Action{Act: Cancel})
	}
}

// judge aborts when too many have ended badly. It is asked after each end, so that
// the targets of one event cannot hide each other.
func (m *step) judge() {
	a := m.r.Spec.Abort
	if a == nil || m.r.State != Running && m.r.State != Paused {
		return
	}
	all := m.r.Counts()
	bad := all.Bad()
	known := all[Executed] + bad
	if known >= max(a.Minimum, 1) && float64(bad) > a.Share*float64(known)+1e-9 {
		m.abort(TooManyBad, "", fmt.Sprintf("%d of %d have failed, rejected it or not answered; more than %g%%", bad, known, 100*a.Share))
		m.do(Action{Act: Alarm, Target: m.last, Text: "the roll-out " + m.r.ID + " is aborted: " + m.r.Detail})
	}
}

func (m *step) abort(why Reason, by, detail string) {
	m.to(Aborting, why, by, detail)
	m.do(Action{Act: Cancel})
	m.starting(Find)
}

// starting asks for all targets whose commands are to be made.
func (m *step) starting(act Act) {
	for i := 0; i < m.r.Next; i++ {
		if m.r.Cells.At(i) != Starting {
			continue
		}
		from := i
		for i < m.r.Next && m.r.Cells.At(i) == Starting {
			i++
		}
		m.do(Action{Act: act, From: from, To: i})
	}
}

// inDoubt takes up what a run before had in hand.
func (m *step) inDoubt() {
	switch m.r.State {
	case Running:
		m.starting(Start)
	case Paused:
		m.starting(Find)
	case Aborting:
		m.do(Action{Act: Cancel})
		m.starting(Find)
	}
}

// found takes more targets into the last wave.
func (m *step) found(n int) {
	if n <= 0 || m.r.State.Final() || m.r.State == Aborting {
		return
	}
	m.r.Total += n
	if more := (m.r.Total+ChunkSize-1)/ChunkSize - len(m.r.Cells); more > 0 {
		m.r.Cells = append(slices.Clip(m.r.Cells), NewCells(more*ChunkSize)...)
	}
	w := &m.r.Waves[len(m.r.Waves)-1]
	w.End += n
	w.Counts[Waiting] += n
	m.line(TargetsFound, "", fmt.Sprintf("%d more devices match", n))
}

// orphaned lets it start nothing more until somebody else answers for it.
func (m *step) orphaned(why string) {
	if m.r.State != Running && m.r.State != Scheduled {
		return
	}
	m.to(Paused, NobodyAnswers, "", why)
	m.do(Action{Act: Alarm, Target: -1, Text: "the roll-out " + m.r.ID + " is paused: " + why})
}

// person takes what somebody asks for.
func (m *step) person(ev *Event) error {
	r := &m.r
	refuse := func(why string) error { return &NotAllowedError{r.State, ev.Kind, why} }
	switch {
	case (ev.Kind == Approve || ev.Kind == Deny || ev.Kind == BreakGlass) && r.State == AwaitingApproval:
		return m.vote(ev)
	case ev.Kind == Pause && (r.State == Running || r.State == Scheduled):
		m.to(Paused, ByPerson, ev.By, ev.Text)
	case ev.Kind == Resume && r.State == Paused:
		if r.Reason == GateMissed {
			r.Waived = true
		}
		r.Answers = Party{ev.By, ev.User}
		if r.Begun.IsZero() {
			m.to(Scheduled, ByPerson, ev.By, ev.Text)
			return nil
		}
		m.to(Running, ByPerson, ev.By, ev.Text)
		m.starting(Start)
	case ev.Kind == Abort && r.State == AwaitingApproval:
		m.to(Denied, ByPerson, ev.By, ev.Text)
	case ev.Kind == Abort && (r.State == Scheduled || r.State == Running || r.State == Paused):
		m.abort(ByPerson, ev.By, ev.Text)
	case r.State.Final():
		return refuse("which is its end")
	default:
		return refuse("")
	}
	return nil
}

// vote gives the machine of package command what somebody says about a roll-out that
// is held, so that there is one set of rules for votes.
func (m *step) vote(ev *Event) error {
	kind := map[Kind]command.Kind{Approve: command.Approve, Deny: command.Deny, BreakGlass: command.BreakGlass}[ev.Kind]
	held := command.Command{State: command.AwaitingApproval, Approval: m.r.Approval, RequestedBy: m.r.By,
		NotAfter: later(m.r.Spec.Deadline, m.now.Add(time.Second)), Policy: m.r.Policy} // advance is who says that it is too late
	after, _, err := command.Apply(held, command.Event{Kind: kind, By: ev.By, Text: ev.Text, Digest: ev.Digest}, m.now)
	if err != nil {
		if not, ok := err.(*command.NotAllowedError); ok {
			return &NotAllowedError{m.r.State, ev.Kind, not.Why}
		}
		return err
	}
	m.r.Approval = after.Approval
	switch {
	case after.State == command.Denied:
		m.to(Denied, NotApproved, ev.By, ev.Text)
	case after.State == command.Created:
		m.to(Scheduled, map[Kind]Reason{Approve: Approved, BreakGlass: GlassBroken}[ev.Kind], ev.By, ev.Text)
		if ev.Kind == BreakGlass {
			m.do(Action{Act: Alarm, Target: -1, Text: ev.By + " has let the roll-out " + m.r.ID + " go without the approval that it needs: " + ev.Text})
		}
	case after.Version != held.Version:
		m.line(VoteCounted, ev.By, ev.Text)
	}
	return nil
}

// advance does what the time and the counts now call for.
func (m *step) advance() {
	r := &m.r
	if r.State == AwaitingApproval {
		if !r.Approval.Expires.IsZero() && !m.now.Before(r.Approval.Expires) || m.over() {
			m.to(Denied, ApprovalExpired, "", "")
		}
		return
	}
	if (r.State == Scheduled || r.State == Running || r.State == Paused) && m.over() {
		m.endOfTime()
	}
	if r.State == Scheduled && !m.now.Before(r.Spec.StartAt) {
		r.Begun = m.now
		m.to(Running, Begun, "", "")
	}
	for r.State == Running && m.nextWave() {
	}
	if r.State == Running {
		m.start()
	}
	all := r.Counts()
	switch {
	case all.Open() > 0:
	case r.State == Aborting:
		m.to(Aborted, r.Reason, "", r.Detail)
	case (r.State == Running || r.State == Paused) && r.Next == r.Total && !r.Spec.Dynamic:
		m.to(Finished, AllEnded, "", "")
	}
}

func (m *step) over() bool { return !m.r.Spec.Deadline.IsZero() && !m.now.Before(m.r.Spec.Deadline) }

// endOfTime ends it at its deadline: well when everything has ended, which is how
// one that takes in new devices ends.
func (m *step) endOfTime() {
	all := m.r.Counts()
	if m.r.Next == m.r.Total && all.Open() == 0 {
		m.to(Finished, DeadlineReached, "", "")
		return
	}
	m.abort(DeadlineReached, "", fmt.Sprintf("%d targets were not begun", all[Waiting]))
	m.do(Action{Act: Alarm, Target: -1, Text: "the roll-out " + m.r.ID + " has come to its deadline: " + m.r.Detail})
}

// nextWave goes on to the next wave if this one allows it; false: it stays.
func (m *step) nextWave() bool {
	r := &m.r
	if r.Wave+1 >= len(r.Waves) || r.Next < r.Waves[r.Wave].End {
		return false
	}
	if r.SoakUntil.IsZero() {
		if !m.passed() {
			return false
		}
		r.SoakUntil = m.now.Add(r.Spec.Waves[r.Wave].Soak.D())
	}
	if m.now.Before(r.SoakUntil) {
		r.Hold = ForSoak
		return false
	}
	m.line(WavePassed, "", fmt.Sprintf("wave %d of %d", r.Wave+1, len(r.Waves)))
	r.Wave++
	r.SoakUntil, r.Waived, r.Hold = time.Time{}, false, NoHold
	return true
}

// passed says whether the wave, all of which was started, lets the next one begin.
// When it never can, the roll-out is paused.
func (m *step) passed() bool {
	r := &m.r
	n := &r.Waves[r.Wave].Counts
	if r.Waived {
		return true
	}
	gate := r.Spec.Waves[r.Wave].Success
	need := ceil(gate, n.Sum()-n[Skipped])
	switch {
	case gate == 0 && n.Open() == 0, gate > 0 && n[Executed] >= need:
		return true
	case gate > 0 && n[Executed]+n.Open() < need:
		m.to(Paused, GateMissed, "", fmt.Sprintf("wave %d of %d: %d of %d executed, %d are asked for", r.Wave+1, len(r.Waves), n[Executed], n.Sum()-n[Skipped], need))
		m.do(Action{Act: Alarm, Target: m.last, Text: "the roll-out " + r.ID + " is paused: " + r.Detail})
		return false
	}
	r.Hold = ForEnds
	return false
}

// start starts as many targets of the wave as may be now.
func (m *step) start() {
	r := &m.r
	n := r.Waves[r.Wave].End - r.Next
	all := r.Counts()
	if n == 0 {
		if r.Hold != ForSoak {
			r.Hold = ForEnds
			if r.Spec.Dynamic && all.Open() == 0 && r.Next == r.Total {
				r.Hold = ForNewDevices
			}
		}
		return
	}
	r.Hold = NoHold
	if !r.InWindow(m.now) {
		r.Hold = ForWindow
		return
	}
	if c := r.Spec.Concurrency; c > 0 && c-all.Open() < n {
		n, r.Hold = c-all.Open(), ForPlaces
	}
	n = min(n, atOnce-all[Starting])
	rate := r.Spec.Rate.PerMinuteAfter(all[Executed])
	if rate > 0 {
		m.refill(rate)
		if credits := int(r.Credit / one); credits < n {
			n, r.Hold = credits, ForRate
		}
	}
	if n <= 0 {
		return
	}
	if rate > 0 {
		r.Credit -= int64(n) * one
	}
	for i := range n {
		m.set(r.Next+i, Starting)
	}
	m.do(Action{Act: Start, From: r.Next, To: r.Next + n})
	r.Next += n
}

// setWake says when the time alone changes something.
func (m *step) setWake() {
	r := &m.r
	r.Wake = time.Time{}
	wake := func(t time.Time) {
		if !t.IsZero() && (r.Wake.IsZero() || t.Before(r.Wake)) {
			r.Wake = t
		}
	}
	switch r.State {
	case AwaitingApproval:
		wake(r.Approval.Expires)
		wake(r.Spec.Deadline)
	case Scheduled:
		wake(r.Spec.StartAt)
		if r.Spec.StartAt.IsZero() {
			wake(m.now)
		}
		wake(r.Spec.Deadline)
	case Paused:
		wake(r.Spec.Deadline)
	case Running:
		wake(r.Spec.Deadline)
		switch r.Hold {
		case ForSoak:
			wake(r.SoakUntil)
		case ForWindow:
			wake(r.WindowTurns(m.now))
		case ForRate:
			wake(m.nextCredit(r.Spec.Rate.PerMinuteAfter(r.executed())))
		}
	}
}

func (r *Rollout) executed() (n int) {
	for i := range r.Waves {
		n += r.Waves[i].Counts[Executed]
	}
	return n
}
