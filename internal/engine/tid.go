package engine

import (
	"encoding/binary"

	"github.com/google/uuid"

	"github.com/wilco-iot/wilco/internal/command"
)

// newTID gives an id above every one that this engine has given or has taken up,
// because lanes are sorted by them. Within a process UUIDv7 rises by itself; a
// clock that was put back before the start is made good for by tidShift.
func (e *Engine) newTID() (command.TID, error) {
	tid, err := uuid.NewV7()
	if err != nil || e.tidShift == 0 {
		return tid, err
	}
	setStamp(&tid, stamp(tid)+e.tidShift)
	return tid, nil
}

// riseAbove makes the ids to come larger than last, if it is one of ours.
func (e *Engine) riseAbove(last command.TID) error {
	first, err := uuid.NewV7()
	if err == nil && last.Version() == 7 && stamp(last) >= stamp(first) {
		e.tidShift = stamp(last) - stamp(first) + 1
	}
	return err
}

// stamp is the part of a UUIDv7 that rises: 48 bits of milliseconds and, behind
// the version, 12 bits of their fractions.
func stamp(tid command.TID) uint64 {
	high := binary.BigEndian.Uint64(tid[:8])
	return high>>16<<12 | high&0xfff
}

func setStamp(tid *command.TID, s uint64) {
	binary.BigEndian.PutUint64(tid[:8], s>>12<<16|7<<12|s&0xfff)
}
