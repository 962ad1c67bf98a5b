package flow

// noMessage marks a packet identifier that SUBSCRIBE or UNSUBSCRIBE holds.
const noMessage = ^uint64(0)

// maxBusy is how many identifiers messages may hold, whatever the server allows.
// The rest is for SUBSCRIBE and UNSUBSCRIBE: a session whose messages had all of
// them could not be given its subscriptions, and what begins with these would
// never send one of those.
const maxBusy = 65535 - 1024

// ids hands out packet identifiers, which all of a client's packets share
// [MQTT-2.2.1-3]. It goes round the whole range before it uses one again, so
// that a late acknowledgement finds nobody rather than the wrong one.
type ids struct {
	last  uint16
	owner map[uint16]uint64
}

// take returns a free identifier, or 0 when all 65,535 are in use.
func (p *ids) take(owner uint64) uint16 {
	if p.owner == nil {
		p.owner = make(map[uint16]uint64)
	}
	if len(p.owner) == 65535 {
		return 0
	}
	for {
		p.last++
		if p.last == 0 { // 0 is no identifier [MQTT-2.2.1-3]
			continue
		}
		if _, used := p.owner[p.last]; !used {
			p.owner[p.last] = owner
			return p.last
		}
	}
}

// keep notes an identifier that a former process chose.
func (p *ids) keep(id uint16, owner uint64) {
	if p.owner == nil {
		p.owner = make(map[uint16]uint64)
	}
	p.owner[id] = owner
}

func (p *ids) free(id uint16) { delete(p.owner, id) }
