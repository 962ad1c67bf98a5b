package host

import (
	"time"

	"github.com/wilco-iot/wilco/sparkplug"
)

// presence is what a primary host says of itself at one server, and what it
// hears there under its own id. It is pure: time comes in, a verdict goes out.
//
// Edge nodes take a STATE only when it is not older than the last one
// [tck-id-message-flow-edge-node-birth-publish-phid-wait-timestamp]. So an
// answer to somebody else's word is of use only with a timestamp at least as new,
// and ours is that of the CONNECT
// [tck-id-host-topic-phid-birth-payload-timestamp]: a newer word of somebody
// else is answered by a new connection.
type presence struct {
	stamp   uint64 // of this connection's Will and birth, in milliseconds
	highest uint64 // that was ever seen under our id at this server
	born    bool   // the birth of this connection is published
	leaving bool

	repairs int // in a row
	last    time.Time
	due     time.Time // of the repair that is needed; zero when none is
	how     repair
}

// repair is what makes our word count again.
type repair uint8

const (
	fine repair = iota
	republish
	reconnect
)

// Between repairs the time doubles: another host under our id would answer each
// of ours with one of its own.
const (
	repairMin  = time.Second
	repairMax  = 5 * time.Minute
	repairRest = 10 * time.Minute // without any, the count begins anew
)

// connect begins a connection: its timestamp is that of now, and newer than
// all that was said before, also when the clock was set back
// [tck-id-host-topic-phid-death-payload-timestamp-connect].
func (p *presence) connect(now time.Time) uint64 {
	p.stamp = max(millis(now), p.highest+1)
	p.highest = p.stamp
	p.born, p.due, p.how = false, time.Time{}, fine
	return p.stamp
}

// death is the timestamp of the last word before leaving
// [tck-id-host-topic-phid-death-payload-timestamp-disconnect-clean].
func (p *presence) death(now time.Time) uint64 {
	p.leaving = true
	return max(millis(now), p.stamp)
}

// receive judges a STATE under our own id. foreign is true when it is not ours.
func (p *presence) receive(payload []byte, retained bool, now time.Time) (foreign bool) {
	if p.leaving {
		return false // it is our own death
	}
	s, err := sparkplug.ParseState(payload)
	switch {
	case err == nil && !s.Legacy && s.Timestamp > p.stamp:
		// Also when it says online: it may be of a life of ours before the clock
		// was set back, and would outlive us.
		p.highest = max(p.highest, s.Timestamp)
		p.need(reconnect, now)
		return true
	case err == nil && s.Online && s.Timestamp == p.stamp:
		return false
	case retained || !p.born:
		// From before our birth, which takes its place.
		return false
	}
	// [tck-id-message-flow-hid-sparkplug-state-message-delivered]
	p.need(republish, now)
	return true
}

func (p *presence) need(how repair, now time.Time) {
	p.how = max(p.how, how)
	if !p.due.IsZero() {
		return
	}
	if now.Sub(p.last) > repairRest {
		p.repairs = 0
	}
	p.due = now
	if p.repairs > 0 {
		wait := repairMax
		if p.repairs < 10 {
			wait = min(repairMin<<(p.repairs-1), repairMax)
		}
		if at := p.last.Add(wait); at.After(now) {
			p.due = at
		}
	}
}

// repair is what is to be done at now.
func (p *presence) repair(now time.Time) repair {
	if p.how == fine || now.Before(p.due) || !p.born {
		return fine
	}
	how := p.how
	p.how, p.due, p.last = fine, time.Time{}, now
	p.repairs++
	return how
}

func millis(t time.Time) uint64 { return uint64(max(t.UnixMilli(), 0)) }
