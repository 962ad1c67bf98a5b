package flow

import "time"

// KeepAlive decides when to ask for a sign of life and when to stop believing.
//
// It is looked at every half interval. A half interval without a packet sent or
// without one received asks for a PINGREQ, so that never a whole interval
// passes without one [MQTT-3.1.2-20], and a server that went silent is noticed
// even by a client that only sends.
type KeepAlive struct {
	Interval time.Duration // 0: off
	Patience time.Duration // how long an answer may take

	sent, received uint64
	asked          time.Time // zero: nothing is asked
	next           time.Time
}

// Start begins a connection and returns when to call Tick first.
func (k *KeepAlive) Start(now time.Time) (next time.Time) {
	k.sent, k.received, k.asked = 0, 0, time.Time{}
	k.next = now.Add(k.Interval / 2)
	return k.next
}

// Tick takes counters that rise with each thing sent and received, and says
// whether to send a PINGREQ, whether the server is to be given up, and when to
// call again.
func (k *KeepAlive) Tick(now time.Time, sent, received uint64) (ping, dead bool, next time.Time) {
	if received != k.received {
		k.asked = time.Time{}
	}
	if !k.asked.IsZero() && now.Sub(k.asked) >= k.Patience {
		return false, true, now
	}
	if !now.Before(k.next) {
		ping = k.asked.IsZero() && (sent == k.sent || received == k.received)
		if ping {
			k.asked = now
		}
		k.sent, k.received = sent, received
		k.next = now.Add(k.Interval / 2)
	}
	next = k.next
	if limit := k.asked.Add(k.Patience); !k.asked.IsZero() && limit.Before(next) {
		next = limit
	}
	return ping, false, next
}
