package edgelink

import (
	"strconv"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/internal/spcommand"
	"github.com/wilco-iot/wilco/sparkplug/host"
	"github.com/wilco-iot/wilco/sparkplug/session"
	"github.com/wilco-iot/wilco/wire"
)

// Event is for host.Options.OnEvent.
func (l *Link) Event(ev *host.Event) {
	n := l.node(ev.Node)
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if ev.Kind != session.NodeBirth && ev.Server != n.server {
		return // by way of a server that the node has left
	}
	switch ev.Kind {
	case session.NodeBirth:
		n.born(ev)
	case session.NodeDeath:
		n.died = true
		n.all(false)
		n.tell(n.book.Death(""), "")
	case session.Stale:
		n.all(false)
	case session.DeviceBirth:
		n.say(ev.Device, true)
		n.collect(ev)
		n.tell(n.book.Birth(ev.Device, true, n.values(ev)), byBirth)
	case session.DeviceDeath:
		n.say(ev.Device, false)
		n.tell(n.book.Death(ev.Device), "")
	case session.Data:
		n.data(ev)
	}
}

func (n *node) born(ev *host.Event) {
	was := n.boot
	if was == "" {
		was = n.remembered()
	}
	h, _, _ := n.l.opt.Host.Node(n.id)
	n.server, n.boot = ev.Server, bootOf(was, h.BdSeq, n.died, ev.At)
	n.died, n.reborn = false, ev.At
	same := n.boot == was
	if !same {
		n.all(false) // devices are born after their node
	}
	n.say("", true)
	n.collect(ev)
	n.tell(n.book.Birth("", same, n.values(ev)), byBirth)
}

// remembered is the boot that the store has of the node, from before this process.
func (n *node) remembered() string {
	for _, u := range n.units {
		if boot := n.l.opt.Engine.Presence(u.address).Boot; boot != "" {
			return boot
		}
	}
	return ""
}

func (n *node) data(ev *host.Event) {
	n.collect(ev)
	if n.book.Open() > 0 {
		for i := range ev.Values {
			if v := &ev.Values[i]; !v.Raw.Historical {
				n.tell(n.book.Data(ev.Device, v.Metric.Name, readingOf(*v, &ev.Event)), byData)
			}
		}
	}
}

// values gives the values of a birth to a Book.
func (n *node) values(ev *host.Event) func(string) (spcommand.Reading, bool) {
	return func(metric string) (spcommand.Reading, bool) {
		for _, v := range ev.Values {
			if v.Metric.Name == metric && !v.Raw.Historical {
				return readingOf(v, &ev.Event), true
			}
		}
		return spcommand.Reading{}, false
	}
}

func readingOf(v session.Value, ev *session.Event) spcommand.Reading {
	r := spcommand.Reading{Metric: v.Raw, Good: host.QualityOf(v.Raw) == host.Good, Time: v.Raw.Timestamp}
	if !v.Raw.HasTimestamp {
		r.Time = ev.Timestamp
	}
	return r
}

// all says of all devices whether they are online.
func (n *node) all(online bool) {
	for device := range n.units {
		n.say(device, online)
	}
}

// follow says of a device what the host knows now.
func (n *node) follow(device string, u *unit) {
	if _, online := n.l.opt.Host.Unit(n.id, device); online != u.online {
		n.say(device, online)
	}
}

// say tells the engine whether a device is online, if that is news.
func (n *node) say(device string, online bool) {
	u := n.units[device]
	if u == nil || online == u.online && (!online || u.boot == n.boot) {
		return
	}
	// Without a boot a death is that of the present one.
	st := wire.Status{Online: online, TS: time.Now()}
	if u.online = online; online {
		st.Boot, u.boot, st.Commands = n.boot, n.boot, commands(device)
	}
	doc, err := documents.AppendStatus(nil, st)
	n.send(documents.StatusTopic(u.address), doc, err)
}

// bootOf names the session of an edge node, which is to the engine what a boot is to
// other devices. The one before goes on when the birth has its bdSeq and nobody has
// seen a death: then it is a rebirth, or this process is new. bdSeq alone is no name,
// because it wraps, and some nodes always use 0.
func bootOf(was string, bdSeq int, died bool, at time.Time) string {
	prefix := strconv.Itoa(bdSeq) + "-"
	if !died && strings.HasPrefix(was, prefix) {
		return was
	}
	return prefix + strconv.FormatInt(at.UnixMilli(), 36)
}
