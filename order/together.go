package order

import "slices"

// TotalOrder says whether several subscribers saw the same interleaving: whether
// there is one order of all messages that agrees with each log. A log lists
// what one subscriber got, by whatever identifies a message over all
// publishers; of several copies the first counts, and messages may be missing.
// The standard promises nothing of the kind across publishers.
func TotalOrder[M comparable](logs ...[]M) bool {
	follows := map[M][]M{} // a message, and those that came directly after it somewhere
	before := map[M]int{}  // how many of those edges end at a message
	for _, log := range logs {
		seen := make(map[M]bool, len(log))
		var last M
		for _, m := range log {
			if seen[m] {
				continue
			}
			if _, ok := before[m]; !ok {
				before[m] = 0
			}
			if len(seen) > 0 {
				follows[last] = append(follows[last], m)
				before[m]++
			}
			seen[m], last = true, m
		}
	}
	// One order exists exactly when the edges have no cycle: take away what
	// nothing comes before, until nothing is left (Kahn 1962).
	var free []M
	for m, n := range before {
		if n == 0 {
			free = append(free, m)
		}
	}
	taken := 0
	for ; len(free) > 0; taken++ {
		m := free[len(free)-1]
		free = free[:len(free)-1]
		for _, f := range follows[m] {
			if before[f]--; before[f] == 0 {
				free = append(free, f)
			}
		}
	}
	return taken == len(before)
}

// Shared is one message that a member of a shared subscription got.
type Shared[K comparable] struct {
	Key    K      // what must stay in order: a topic, or a publisher
	Seq    uint64 // rising within the key, as published
	Member int
}

// KeyOrderShared says whether a shared subscription kept the order per key over
// all its members together, whose arrivals are given in the order of receipt:
// per key, first copies rise. The standard does not order shared subscriptions
// [MQTT-4.6.0-6]. Where it is false, at is the first arrival that shows it.
func KeyOrderShared[K comparable](arrivals []Shared[K]) (at int, ok bool) {
	high := map[K]uint64{}
	seen := map[K]map[uint64]bool{}
	for i, a := range arrivals {
		if seen[a.Key] == nil {
			seen[a.Key] = map[uint64]bool{}
		}
		if seen[a.Key][a.Seq] {
			continue
		}
		seen[a.Key][a.Seq] = true
		if a.Seq < high[a.Key] {
			return i, false
		}
		high[a.Key] = a.Seq
	}
	return -1, true
}

// Members returns, for each key, the members that got something of it, in the
// order of their first arrival: more than one means that the key changed hands.
func Members[K comparable](arrivals []Shared[K]) map[K][]int {
	by := map[K][]int{}
	for _, a := range arrivals {
		if !slices.Contains(by[a.Key], a.Member) {
			by[a.Key] = append(by[a.Key], a.Member)
		}
	}
	return by
}
