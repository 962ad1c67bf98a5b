package session

// compact closes the gaps that answers out of order leave behind an entry that
// is not answered. It costs a constant per entry, spread over many calls.
func (s *Session) compact() {
	if gone := s.fly.n - s.live; gone > roomy && gone > s.live {
		old := s.fly
		s.fly = ring[flight]{base: old.end()}
		sent := s.fly.base
		for p := old.base; p < old.end(); p++ {
			if f := old.at(p); !f.gone {
				s.ids[f.ID] = place{pos: s.fly.end()}
				s.fly.push(*f)
			}
			if p+1 == s.sent {
				sent = s.fly.end()
			}
		}
		s.sent = sent
	}
	if gone := s.rel.n - s.released; gone > roomy && gone > s.released {
		old := s.rel
		s.rel = ring[release]{base: old.end()}
		sent := s.rel.base
		for p := old.base; p < old.end(); p++ {
			if r := old.at(p); !r.gone {
				s.ids[r.id] = place{pos: s.rel.end(), rel: true}
				s.rel.push(*r)
			}
			if p+1 == s.relSent {
				sent = s.rel.end()
			}
		}
		s.relSent = sent
	}
}

// freshID returns a packet id that is not in use [MQTT-2.2.1-4].
func (s *Session) freshID() uint16 {
	for {
		s.nextID++
		if _, used := s.ids[s.nextID]; s.nextID != 0 && !used {
			return s.nextID
		}
	}
}

func (s *Session) use(id uint16, at place) {
	if s.ids == nil {
		s.ids = make(map[uint16]place)
	}
	s.ids[id] = at
}

// Trim gives back memory that grew in busier times. The shell calls it now and
// then, on idle sessions.
func (s *Session) Trim() {
	s.queue.trim()
	s.zero.trim()
	s.fly.trim()
	s.rel.trim()
	if len(s.ids) == 0 { // maps never shrink
		s.ids = nil
	}
	if len(s.received) == 0 {
		s.received = nil
	}
}
