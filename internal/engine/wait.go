package engine

import "github.com/wilco-iot/wilco/internal/command"

type waiter struct {
	tid   command.TID
	until func(*command.Command) bool
	reply chan answer
}

func (s *shard) tell(c *command.Command) {
	ws := s.waiters[c.TID]
	if len(ws) == 0 {
		return
	}
	rest := ws[:0]
	for _, w := range ws {
		if w.until(c) {
			w.reply <- answer{c: *c}
		} else {
			rest = append(rest, w)
		}
	}
	if len(rest) == 0 {
		delete(s.waiters, c.TID)
		return
	}
	s.waiters[c.TID] = rest
}
