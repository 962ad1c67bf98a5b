package session

import "github.com/wilco-iot/wilco/mqtt"

// Recall takes back lent messages that were never sent and, with sent, also
// those of QoS 1 that were and are not acknowledged; that takes a session
// without connection. QoS 2 that may have reached the client stays
// [MQTT-4.8.2-5]. It takes those for which want says so, and appends their Seqs
// to dst, in order.
func (s *Session) Recall(dst []uint64, sent bool, want func(seq uint64) bool) []uint64 {
	for p := s.fly.base; p < s.fly.end(); p = max(p+1, s.fly.base) {
		f := s.fly.at(p)
		kept := f.dup && (!sent || f.QoS == mqtt.ExactlyOnce)
		if f.gone || !f.Lent || kept || !want(f.Seq) {
			continue
		}
		dst = append(dst, f.Seq)
		if f.note != nil {
			s.untell(f)
		}
		delete(s.ids, f.ID)
		s.land(f)
	}
	for p := s.queue.base; p < s.queue.end(); p++ {
		d := s.queue.at(p)
		if !d.Lent || d.QoS >= recalled || !want(d.Seq) {
			continue
		}
		dst = append(dst, d.Seq)
		d.QoS = recalled
		s.count--
		s.bytes -= d.Size()
	}
	s.tidy()
	return dst
}

// Unsent tells whether the stored message seq, which is not acknowledged, was
// never sent since the session began or was restored.
func (s *Session) Unsent(seq uint64) bool {
	if seq > s.admitted {
		return true
	}
	for p := s.fly.base; p < s.fly.end(); p++ {
		if f := s.fly.at(p); !f.gone && f.Seq == seq && !f.Lent {
			return !f.dup
		}
	}
	return false
}

// Lose discards the lent message seq, if it was not sent: the store could not
// keep it.
func (s *Session) Lose(seq uint64) {
	for p := s.queue.base; p < s.queue.end(); p++ {
		if d := s.queue.at(p); d.Lent && d.Seq == seq && d.QoS < recalled {
			d.QoS = discarded
			s.count--
			s.bytes -= d.Size()
		}
	}
}
