package engine

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/wire"
)

// places counts the commands that must not run beside too many others, over all
// devices. It is pure. Its rules:
//
//   - a claim has all the places that it needs, or none: so nobody waits for
//     somebody who waits;
//   - who waits stands in the line of each room that it needs, the highest priority
//     first and then the lowest TID, and gets its places as soon as it is the first
//     in all of them and all have one left: nobody overtakes, so nobody starves;
//   - while shut says why, nobody gets a place that he has not got;
//   - a place that becomes free is given before the call that frees it returns, and
//     whoever has got one is named by it: the caller tells them.
type places struct {
	rooms  map[roomName]*room
	claims map[command.TID]*claim
	shut   string
}

// roomName is what is counted: the commands of one name or with one exclusive word,
// in one scope.
type roomName struct {
	word      string
	exclusive bool
	scope     string // "group plant", "all devices", "devices tagged hot"
}

// room has those who have a place in it, in the order in which they got it, and
// those who wait for one.
type room struct {
	has, line []*claim
}

// need is one place that a command must have, in a room that by the command's own
// terms has so many.
type need struct {
	room   roomName
	places int
}

// claim is one command in its rooms.
type claim struct {
	tid      command.TID
	device   wire.Address
	priority int
	needs    []need
	has      bool // its places; else it waits
}

// needsOf are the places that c must have on a device with these tags.
func needsOf(c *command.Command, tags []string) (list []need) {
	group := "group " + c.Device.Group
	if word := c.Terms.Exclusive; word != "" {
		list = append(list, need{roomName{word: word, exclusive: true, scope: group}, 1})
	}
	most := c.Terms.AtMost
	if most == nil {
		return list
	}
	scope := group
	if tag, ok := strings.CutPrefix(most.Of, "tag:"); ok {
		if !slices.Contains(tags, tag) {
			return list
		}
		scope = "devices tagged " + tag
	} else if most.Of == "all" {
		scope = "all devices"
	}
	return append(list, need{roomName{word: c.Name, scope: scope}, most.Count})
}

func newPlaces() *places {
	return &places{rooms: make(map[roomName]*room), claims: make(map[command.TID]*claim)}
}

// take puts in a claim whose command is in flight already, whatever room there is.
func (p *places) take(c claim) {
	c.has = true
	p.claims[c.tid] = &c
	for _, n := range c.needs {
		r := p.room(n.room)
		r.has = append(r.has, &c)
	}
}

// ask gives c its places, if it has not got them before, or says why not; it then
// stands in line if wait is true. The places of those who are leaving count as free.
// What it needs may be other than before: a device gets tags and loses them. Who
// stood behind c in a line may be given places by it.
func (p *places) ask(c claim, wait bool, leaving []command.TID) (why string, given []*claim) {
	known := p.claims[c.tid]
	same := known != nil && slices.Equal(known.needs, c.needs)
	if same && known.has {
		return "", nil
	}
	var left []need
	if !same {
		left = p.drop(c.tid)
	}
	why = p.hinders(&c, leaving)
	switch {
	case why == "":
		left = slices.Concat(left, p.drop(c.tid))
		p.take(c)
	case wait && !same:
		p.wait(&c)
	}
	return why, p.give(left)
}

// leave takes out a claim, if it is there, and returns those who now have places.
func (p *places) leave(tid command.TID) (given []*claim) {
	return p.give(p.drop(tid))
}

// back makes a claim that has places wait for them again, and returns those who now
// have places; it may be among them.
func (p *places) back(tid command.TID) (given []*claim) {
	c := p.claims[tid]
	if c == nil || !c.has {
		return nil
	}
	needs := p.drop(tid)
	c.has = false
	p.wait(c)
	return p.give(needs)
}

// open lets places be given, and returns those who now have some.
func (p *places) open() (given []*claim) {
	p.shut = ""
	var waiting []*claim
	for _, c := range p.claims {
		if !c.has {
			waiting = append(waiting, c)
		}
	}
	slices.SortFunc(waiting, compareClaims)
	for _, c := range waiting {
		given = append(given, p.give(c.needs)...)
	}
	return given
}

// hinders says who hinders c, "" when nobody does.
func (p *places) hinders(c *claim, leaving []command.TID) string {
	if p.shut != "" {
		return p.shut
	}
	for _, n := range c.needs {
		r := p.rooms[n.room]
		if r == nil {
			continue
		}
		taken := len(r.has)
		if len(leaving) > 0 {
			for _, h := range r.has {
				if slices.Contains(leaving, h.tid) {
					taken--
				}
			}
		}
		switch {
		case taken >= n.places:
			return n.taken(r.has)
		case len(r.line) > 0 && before(r.line[0], c):
			return fmt.Sprintf("%s: %s waits for it and comes before", n.room, r.line[0])
		}
	}
	return ""
}

// give hands out the places of these rooms to those who wait.
func (p *places) give(needs []need) (given []*claim) {
	for len(needs) > 0 {
		r := p.rooms[needs[0].room]
		if r == nil || len(r.line) == 0 || p.hinders(r.line[0], nil) != "" {
			needs = needs[1:]
			continue
		}
		c := r.line[0]
		p.drop(c.tid)
		p.take(*c)
		given = append(given, c)
		needs = append(needs, c.needs...) // others are the first there now
	}
	return given
}

// wait puts c into its lines.
func (p *places) wait(c *claim) {
	p.claims[c.tid] = c
	for _, n := range c.needs {
		r := p.room(n.room)
		i, _ := slices.BinarySearchFunc(r.line, c, compareClaims)
		r.line = slices.Insert(r.line, i, c)
	}
}

// drop takes a claim out and returns what it needed.
func (p *places) drop(tid command.TID) []need {
	c := p.claims[tid]
	if c == nil {
		return nil
	}
	delete(p.claims, tid)
	for _, n := range c.needs {
		r := p.rooms[n.room]
		if c.has {
			r.has = slices.DeleteFunc(r.has, func(x *claim) bool { return x.tid == tid })
		} else if i, found := slices.BinarySearchFunc(r.line, c, compareClaims); found {
			r.line = slices.Delete(r.line, i, i+1)
		}
		if len(r.has)+len(r.line) == 0 {
			delete(p.rooms, n.room)
		}
	}
	return c.needs
}

func (p *places) room(name roomName) *room {
	r := p.rooms[name]
	if r == nil {
		r = &room{}
		p.rooms[name] = r
	}
	return r
}

// compareClaims is the order in which places are given.
func compareClaims(a, b *claim) int {
	if a.priority != b.priority {
		return b.priority - a.priority
	}
	return bytes.Compare(a.tid[:], b.tid[:])
}

func before(a, b *claim) bool { return compareClaims(a, b) < 0 }

func (n roomName) String() string {
	if n.exclusive {
		return "exclusive " + n.word + ", " + n.scope
	}
	return n.word + ", " + n.scope
}

func (c *claim) String() string { return fmt.Sprintf("%s (%s)", c.device, c.tid) }

// taken is the sentence that names those who have the places.
func (n *need) taken(has []*claim) string {
	const named = 3
	text := n.room.String() + ": taken by "
	if !n.room.exclusive {
		text = fmt.Sprintf("at most %d of %s: taken by ", n.places, n.room)
	}
	for i, c := range has[:min(len(has), named)] {
		if i > 0 {
			text += ", "
		}
		text += c.String()
	}
	if more := len(has) - named; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
