package bench

import "slices"

// checker follows the numbers of each publisher's messages at one subscriber.
// It is exact, and needs memory only for what is missing.
type checker struct {
	streams    []stream // by publisher
	duplicates int64    // seen before
	late       int64    // after a later one
	missing    int64    // not there yet, although a later one is
}

// stream is what one publisher has sent: everything below next has arrived,
// except for the gaps.
type stream struct {
	next uint64
	gaps []gap // ascending
}

type gap struct{ from, to uint64 } // to is outside

func newChecker(publishers int) checker { return checker{streams: make([]stream, publishers)} }

// see takes notice of a message. It says false when there is no such publisher.
func (c *checker) see(from, number uint64) bool {
	if from >= uint64(len(c.streams)) {
		return false
	}
	s := &c.streams[from]
	switch {
	case number == s.next:
		s.next++
	case number > s.next:
		s.gaps = append(s.gaps, gap{s.next, number})
		c.missing += int64(number - s.next)
		s.next = number + 1
	case s.fill(number):
		c.late++
		c.missing--
	default:
		c.duplicates++
	}
	return true
}

// fill takes number out of the gaps, if it is in one.
func (s *stream) fill(number uint64) bool {
	i, found := slices.BinarySearchFunc(s.gaps, number, func(g gap, n uint64) int {
		switch {
		case g.to <= n:
			return -1
		case g.from > n:
			return 1
		}
		return 0
	})
	if !found {
		return false
	}
	g := &s.gaps[i]
	switch {
	case g.from == number && g.to == number+1:
		s.gaps = slices.Delete(s.gaps, i, i+1)
	case g.from == number:
		g.from++
	case g.to == number+1:
		g.to--
	default:
		rest := gap{number + 1, g.to}
		g.to = number
		s.gaps = slices.Insert(s.gaps, i+1, rest)
	}
	return true
}
