package command

import "time"

// wake is when the command wants its next Tick; zero: never.
func (c *Command) wake() time.Time {
	switch c.State {
	case AwaitingApproval:
		return c.approvalDue()
	case Created:
		return c.NotAfter
	case Sent:
		if c.Parked {
			return earlier(c.NotAfter, c.FinishDue)
		}
		return earlier(c.answerDue(), c.FinishDue)
	case Acknowledged, Running:
		if c.Policy.Heartbeat > 0 && !c.Parked && !c.Converging {
			return earlier(c.heartbeatDue(), c.FinishDue)
		}
		return c.FinishDue
	case Cancelling:
		if c.Parked {
			return c.FinishDue
		}
		return earlier(c.answerDue(), c.FinishDue)
	case TimedOut:
		if c.Closed {
			return time.Time{}
		}
		settle := c.TimedOutAt.Add(c.Policy.Settle.D())
		if c.Parked || c.Tries >= c.Policy.attempts() {
			return settle
		}
		return earlier(c.answerDue(), settle)
	}
	return time.Time{}
}

// answerDue is when the last publication should have been answered.
func (c *Command) answerDue() time.Time {
	return c.LastSent.Add(c.Policy.wait(c.TID, c.Tries))
}

// heartbeatDue allows half an interval more than promised, as MQTT's keep alive
// does, for a network that is late.
func (c *Command) heartbeatDue() time.Time {
	h := c.Policy.Heartbeat.D()
	return c.LastHeard.Add((h + h/2).Truncate(time.Millisecond))
}

// overdue moves the command to TimedOut and asks the device what became of it.
func (m *move) overdue(r Reason) error {
	m.c.TimedOutAt = m.now
	m.c.Tries = 0
	m.to(TimedOut, r)
	m.publishIfOnline(m.inquiry())
	return nil
}

func (m *move) reached(t time.Time) bool { return !m.now.Before(t) }

func tickUnsent(m *move) error {
	switch {
	case m.c.State == AwaitingApproval && m.reached(m.c.approvalDue()):
		m.to(Expired, ApprovalExpired)
	case m.c.State == Created && m.reached(m.c.NotAfter):
		m.to(Expired, DeliverByPassed)
	}
	return nil
}

// tickSent: ack-by has run out, or the time to finish. An offline device costs
// no attempt; what was sent waits for it until notAfter.
func tickSent(m *move) error {
	switch {
	case m.reached(m.c.FinishDue):
		return m.gaveUp(FinishByPassed)
	case !m.ev.DeviceOnline:
		if m.reached(m.c.NotAfter) {
			return m.gaveUp(NoAck)
		}
		m.park()
	case !m.c.Parked && !m.reached(m.c.answerDue()):
	case m.c.Tries < m.c.Policy.attempts() && !m.reached(m.c.NotAfter):
		m.publish(SendRequest)
		m.to(Sent, NoAckYet)
	default:
		return m.gaveUp(NoAck)
	}
	return nil
}

// gaveUp ends the attempts. Where the broker took none of them the device
// cannot have one: that is certain, and no unknown outcome.
func (m *move) gaveUp(r Reason) error {
	if m.c.Refused >= m.c.Attempt {
		m.to(Expired, BrokerWouldNot)
		return nil
	}
	return m.overdue(r)
}

// tickAtWork: RUNNING stayed away, or the time to finish is over. While the
// device is offline its silence is explained; the reconciliation comes when it
// is back.
func tickAtWork(m *move) error {
	switch {
	case m.reached(m.c.FinishDue):
		return m.overdue(FinishByPassed)
	case m.c.Policy.Heartbeat == 0 || !m.reached(m.c.heartbeatDue()):
	case !m.ev.DeviceOnline:
		m.park()
	default:
		return m.overdue(HeartbeatMissed)
	}
	return nil
}

// tickRunning: a device that says that it is done, and whose report does not show
// it in time, has failed.
func tickRunning(m *move) error {
	if !m.c.Converging {
		return tickAtWork(m)
	}
	if m.reached(m.c.FinishDue) {
		m.to(Failed, NotConverged)
	}
	return nil
}

func tickCancelling(m *move) error {
	switch {
	case m.reached(m.c.FinishDue):
		return m.overdue(CancelUnconfirmed)
	case !m.ev.DeviceOnline:
		m.park()
	case !m.c.Parked && !m.reached(m.c.answerDue()):
	case m.c.Tries < m.c.Policy.attempts():
		m.publish(SendCancel)
		m.note(Cancelling, NoAckYet, false)
	default:
		return m.overdue(CancelUnconfirmed)
	}
	return nil
}

// tickTimedOut asks again while there is hope, and closes after the settle window.
func tickTimedOut(m *move) error {
	switch {
	case m.reached(m.c.TimedOutAt.Add(m.c.Policy.Settle.D())):
		m.c.Closed = true
		m.to(TimedOut, NeverSettled)
	case m.c.Tries >= m.c.Policy.attempts():
	case !m.ev.DeviceOnline:
		m.park()
	case m.c.Parked || m.reached(m.c.answerDue()):
		m.publish(m.inquiry())
		m.note(TimedOut, OutcomeAsked, false)
	}
	return nil
}

// onlineSent publishes again: the device may or may not have got it, and a
// device that knows the tid answers with what it knows.
func onlineSent(m *move) error {
	m.c.Tries = 0
	if m.reached(m.c.NotAfter) {
		return m.gaveUp(NoAck)
	}
	m.publish(SendRequest)
	m.to(Sent, CameOnline)
	return nil
}

// onlineAtWork asks what became of it, unless the device lists it as in progress,
// or has restarted and is expected to: then it goes on and says so, or its clocks
// run out.
func onlineAtWork(m *move) error {
	why := CameOnline
	if m.rebooted() {
		why = DeviceRebooted
		if m.c.terms().RebootExpected {
			why = RebootExpected
		}
	}
	if m.ev.InProgress {
		m.heard()
		if why != CameOnline {
			m.note(m.c.State, why, false)
		}
		return nil
	}
	m.c.LastHeard = m.now // the heartbeat clock starts anew
	m.c.Tries = 0
	if why == RebootExpected {
		m.c.Parked = false
		m.c.Boot = m.ev.Boot // the next time it is asked
	} else {
		m.publish(SendQuery)
	}
	m.note(m.c.State, why, false)
	return nil
}

// rebooted says whether the device has restarted since it was last heard about the
// command.
func (m *move) rebooted() bool {
	return m.c.Boot != "" && m.ev.Boot != "" && m.ev.Boot != m.c.Boot
}

func onlineCancelling(m *move) error {
	m.c.Tries = 0
	m.publish(SendCancel)
	m.note(Cancelling, CameOnline, false)
	return nil
}

func onlineTimedOut(m *move) error {
	m.c.Tries = 0
	m.publish(m.inquiry())
	m.note(TimedOut, CameOnline, false)
	return nil
}

// earlier of two times, where zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
