package command

import (
	"slices"
	"time"
)

// step is one cell of the machine: what is done, and the states that it may
// lead to: exactly these, as the tests check. A step that may leave the state
// alone names it among them.
type step struct {
	do func(*move) error
	to []State
}

// table is the whole machine: state, event, step. An event without a cell is
// refused with NotAllowedError.
var table = map[State]map[Kind]step{
	AwaitingApproval: unsent(AwaitingApproval, map[Kind]step{
		Approve:    {approve, []State{AwaitingApproval, Created}},
		BreakGlass: {breakGlass, []State{Created}},
		Deny:       {deny, []State{Denied}},
	}),
	Created: unsent(Created, map[Kind]step{
		Dispatch: {dispatch, []State{Sent, Expired}},
		UnmetNow: {unmet, []State{Created, Denied}},
	}),
	Sent: outstanding(Sent, map[Kind]step{
		Retry:         {retry, []State{Sent}},
		Cancel:        {cancel, []State{Cancelling}},
		BrokerRefused: {brokerRefused, []State{Sent}},
		Tick:          {tickSent, []State{Sent, TimedOut, Expired}},
		Online:        {onlineSent, []State{Sent, TimedOut, Expired}},
		Received:      {received, []State{Acknowledged}},
		SaidRunning:   {running, []State{Running}},
		CancelRefused: {wontCancel, []State{Running}},
	}),
	Acknowledged: outstanding(Acknowledged, map[Kind]step{
		Cancel:        {cancel, []State{Cancelling}},
		Tick:          {tickAtWork, []State{Acknowledged, TimedOut}},
		Online:        {onlineAtWork, []State{Acknowledged}},
		Received:      {ignore, []State{Acknowledged}},
		SaidRunning:   {running, []State{Running}},
		CancelRefused: {wontCancel, []State{Running}},
	}),
	Running: unlessDone(outstanding(Running, map[Kind]step{
		Cancel:        {cancelRunning, []State{Cancelling}},
		Tick:          {tickRunning, []State{Running, TimedOut, Failed}},
		Online:        {onlineAtWork, []State{Running}},
		Received:      {ignore, []State{Running}},
		SaidRunning:   {running, []State{Running}},
		CancelRefused: {ignore, []State{Running}},
	})),
	Cancelling: outstanding(Cancelling, map[Kind]step{
		Cancel:        {ignore, []State{Cancelling}},
		Tick:          {tickCancelling, []State{Cancelling, TimedOut}},
		Online:        {onlineCancelling, []State{Cancelling}},
		Received:      {receivedCancelling, []State{Cancelling}},
		SaidRunning:   {runningCancelling, []State{Cancelling}},
		CancelRefused: {wontCancel, []State{Running}},
	}),
	TimedOut: unlessClosed(outstanding(TimedOut, map[Kind]step{
		Retry:         {retry, []State{Sent}},
		Cancel:        {cancel, []State{Cancelling}},
		Tick:          {tickTimedOut, []State{TimedOut}},
		Online:        {onlineTimedOut, []State{TimedOut}},
		Received:      {heardTimedOut, []State{Acknowledged, TimedOut}},
		SaidRunning:   {heardTimedOut, []State{Running, TimedOut}},
		CancelRefused: {heardTimedOut, []State{Running, TimedOut}},
		Undo:          {undone, []State{TimedOut}},
	})),
	Executed:  ended(Executed),
	Failed:    ended(Failed),
	Rejected:  ended(Rejected),
	Cancelled: ended(Cancelled),
	Expired:   ended(Expired),
	Denied:    ended(Denied),
}

// unsent completes the row of a state in which nothing has been published: it
// ends without the device, and whatever a device says of it is an anomaly.
func unsent(s State, row map[Kind]step) map[Kind]step {
	stay := []State{s}
	row[Cancel] = step{cancelUnsent, []State{Cancelled}}
	row[Supersede] = step{supersede, []State{Cancelled}}
	row[Tick] = step{tickUnsent, []State{s, Expired}}
	row[Online] = step{ignore, stay}
	row[BrokerRefused] = step{ignore, stay}
	row[Overtaken] = step{overtaken, stay}
	for _, k := range Kinds {
		if k.FromDevice() {
			row[k] = step{unexpected, stay}
		}
	}
	return row
}

// outstanding completes the row of a state in which the device has the word.
func outstanding(s State, row map[Kind]step) map[Kind]step {
	if _, ok := row[BrokerRefused]; !ok {
		row[BrokerRefused] = step{ignore, []State{s}}
	}
	row[Overtaken] = step{overtaken, []State{s}}
	row[AckRejected] = step{end, []State{Rejected}}
	row[Succeeded] = step{succeed, []State{Executed, Running}}
	row[SaidFailed] = step{end, []State{Failed}}
	row[SaidRejected] = step{end, []State{Rejected}}
	row[SaidCancelled] = step{end, []State{Cancelled}}
	return row
}

// unlessDone passes over what says less than that the device is done, once it has
// said so; another final word contradicts it.
func unlessDone(row map[Kind]step) map[Kind]step {
	for k, s := range row {
		before := s.do
		switch {
		case k == Succeeded || !k.FromDevice() && k != Online:
			continue
		case k == Received || k == SaidRunning || k == CancelRefused || k == Online:
			s.do = func(m *move) error {
				if m.c.Converging {
					return nil
				}
				return before(m)
			}
		default:
			s.do = func(m *move) error {
				if m.c.Converging {
					m.anomaly(Contradiction)
					return nil
				}
				return before(m)
			}
			s.to = append(slices.Clip(s.to), Running)
		}
		row[k] = s
	}
	return row
}

// ended is the row of an end: only anomalies can follow.
func ended(s State) map[Kind]step {
	stay := []State{s}
	row := map[Kind]step{Tick: {ignore, stay}, Online: {ignore, stay}, BrokerRefused: {ignore, stay}}
	for _, k := range Kinds {
		if k.FromDevice() {
			row[k] = step{afterEnd, stay}
		}
	}
	if s != Expired && s != Denied {
		row[Undo] = step{undone, stay}
	}
	if s == Executed {
		row[Misfit] = step{misfit, stay}
	}
	if s == Cancelled {
		row[Cancel] = step{ignore, stay}
	}
	return row
}

// unlessClosed makes every message of the device an anomaly once the settle
// window is over, and refuses what people ask for then.
func unlessClosed(row map[Kind]step) map[Kind]step {
	for k, s := range row {
		open := s.do
		s.do = func(m *move) error {
			switch {
			case !m.c.Closed || k == Undo:
				return open(m)
			case k.FromDevice():
				m.anomaly(AfterClose)
				return nil
			case k == Retry || k == Cancel:
				return &NotAllowedError{m.c.State, k, "and its settle window is over"}
			}
			return nil
		}
		if k.FromDevice() && !slices.Contains(s.to, TimedOut) {
			s.to = append(slices.Clip(s.to), TimedOut)
		}
		row[k] = s
	}
	return row
}

// move is one application of the machine: c is the command as it becomes.
type move struct {
	c       Command
	ev      Event
	now     time.Time
	effects []Effect
	changed bool
}

// Apply moves c by ev. It is pure: the same arguments give the same answer, and
// on error the returned command equals c. An event that tells nothing new
// leaves Version as it is; the caller then has nothing to store. The error is
// a *NotAllowedError.
//
// The caller stores the returned command first and carries out the effects
// after, in their order.
func Apply(c Command, ev Event, now time.Time) (Command, []Effect, error) {
	s, ok := table[c.State][ev.Kind]
	if !ok {
		return c, nil, &NotAllowedError{State: c.State, Kind: ev.Kind}
	}
	m := &move{c: c, ev: ev, now: stamp(now)}
	if err := s.do(m); err != nil {
		return c, nil, err
	}
	if wake := m.c.wake(); !wake.Equal(m.c.Wake) {
		m.c.Wake, m.changed = wake, true
	}
	if !m.changed {
		return c, nil, nil
	}
	m.c.Version++
	return m.c, m.effects, nil
}
