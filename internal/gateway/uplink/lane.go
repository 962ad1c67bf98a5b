package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/mqtt/client/filestore"
)

// lane is one of the lanes, with its session's client.
type lane struct {
	Lane
	u      *Uplink
	client *client.Client
	latest *latest // nil: all goes up

	// Only the goroutine of OnMessage touches these.
	place uint64              // the number of the last message that a file has had
	owed  []mqtt.UserProperty // gap notes of messages that did not go up
}

// openLanes makes the lanes.
func (u *Uplink) openLanes() error {
	for i, x := range u.opt.Lanes {
		l := &lane{Lane: x, u: u, place: u.box.Place(x.Client)}
		if x.Latest {
			if err := l.openLatest(); err != nil {
				return err
			}
		}
		u.opt.NumberAbove(l.place)
		var err error
		l.client, err = client.New(client.Options{Dial: l.dial, ClientID: x.Client, SessionExpiry: forEver, ReceiveMaximum: l.window(),
			MaximumPacketSize: mostPacket, Subscriptions: x.Subscriptions, OnMessage: l.take, Logger: u.log})
		if err != nil {
			return fmt.Errorf("lane %d, %s: %w", i, x.Name, err)
		}
		u.lanes = append(u.lanes, l)
	}
	return nil
}

// mostPacket is above what the gateway's broker takes, so that notes have room.
const mostPacket = 2 << 20

// session is the queue of the lane's session. Of what waits the outbox may have a
// Window. What is to be kept as the latest passes through, and must only have room.
func (l *lane) session() broker.Queue {
	q := l.Queue
	q.Numbered = true
	if l.Latest {
		q.Messages, q.Bytes = max(q.Messages, 2*Window), max(q.Bytes, 16<<20)
	} else if q.Messages > Window {
		q.Messages -= Window
	}
	return q
}

// window is how much of the session its client has at a time: what it has, the policy
// cannot drop any more.
func (l *lane) window() uint16 { return uint16(min(Window, max(1, l.session().Messages/8))) }

func (l *lane) dial(ctx context.Context) (net.Conn, error) { return l.u.opt.Dial(ctx, l.session()) }

// taken is a delivery that a file has, as yet not durable.
type taken struct {
	*client.Delivery
	file *filestore.Store // nil: one that was taken before it has it
}

// take passes a message up, or keeps it. It blocks while neither can be done; what
// comes then waits in the session, under its bounds.
func (l *lane) take(d *client.Delivery) {
	number := l.strip(&d.Message)
	if l.Skip != nil && l.Skip(d) || l.u.ctx.Err() != nil {
		if l.u.ctx.Err() == nil {
			l.owed = append(l.owed, gapsOf(&d.Message)...)
			d.Ack()
		}
		return
	}
	if d.QoS == mqtt.AtMostOnce { // nobody has asked for it to be kept
		if l.u.PublishAsync(d.Message, nil) != nil {
			l.u.count.add(l.Name, "offline", 1)
		}
		return
	}
	if number != 0 && number <= l.place {
		l.acknowledge(d, nil) // a kill came between the file and the session, or a cut before the file was durable
		return
	}
	m := d.Message
	m.User = append(slices.Clone(m.User), l.owed...)
	file, ok := l.keep(number, m)
	if !ok {
		return // not acknowledged: it comes again
	}
	l.place, l.owed = max(l.place, number), nil
	l.acknowledge(d, file)
}

// acknowledge does so when file is durable, and what was handed to it before.
func (l *lane) acknowledge(d *client.Delivery, file *filestore.Store) {
	select {
	case l.u.acks <- taken{d, file}:
	case <-l.u.ctx.Done():
	}
}

// keep puts a message into a file, and says which; false when the uplink stops. A
// message that cannot be published is in none, and may be acknowledged.
func (l *lane) keep(number uint64, m client.Message) (*filestore.Store, bool) {
	failing := false
	for l.u.ctx.Err() == nil {
		room := l.u.box.room()
		file, err := l.put(number, m)
		switch {
		case err == nil:
			return file, true
		case errors.Is(err, client.ErrStopped):
			return nil, false
		case errors.Is(err, client.ErrFull):
			select {
			case <-room:
			case <-l.u.ctx.Done():
			}
			continue
		}
		var bad *mqtt.Error
		if errors.As(err, &bad) {
			l.u.log.Error("a message cannot go up, and is dropped", "topic", m.Topic, "error", err)
			l.u.count.add(l.Name, "refused", 1)
			return nil, true
		}
		if !failing {
			l.u.log.Error("what goes up cannot be kept; it waits", "filter", l.Name, "error", err)
		}
		failing = true
		l.u.wait(pause)
	}
	return nil, false
}

func (l *lane) put(number uint64, m client.Message) (*filestore.Store, error) {
	if l.latest != nil {
		return l.latest.put(number, m)
	}
	return l.u.box.Store, l.u.hand(l.Client, number, m)
}

// strip takes the number out of a message, and notes what gaps it tells of.
func (l *lane) strip(m *client.Message) (number uint64) {
	for _, p := range gapsOf(m) {
		count, reason, _ := strings.Cut(p.Value, " ")
		if n, err := strconv.ParseUint(count, 10, 32); err == nil {
			l.u.lost(l.Name, known(reason), n)
		}
	}
	if i := len(m.User) - 1; i >= 0 && m.User[i].Key == broker.NumberProperty {
		number, _ = strconv.ParseUint(m.User[i].Value, 10, 64)
		m.User = m.User[:i]
	}
	return number
}

// gapsOf are the gap notes of a message.
func gapsOf(m *client.Message) (list []mqtt.UserProperty) {
	for _, p := range m.User {
		if p.Key == broker.GapProperty {
			list = append(list, p)
		}
	}
	return list
}

// runAcks acknowledges to the sessions what is durable.
func (u *Uplink) runAcks() {
	var batch []taken
	for {
		select {
		case <-u.ctx.Done():
			return
		case d := <-u.acks:
			batch = append(batch[:0], d)
		}
		for more := true; more; {
			select {
			case d := <-u.acks:
				batch = append(batch, d)
			default:
				more = false
			}
		}
		if !u.sync(batch) {
			return
		}
		for i := range batch {
			batch[i].Ack()
		}
	}
}

// sync makes durable what batch is in; false when the uplink stops before.
func (u *Uplink) sync(batch []taken) bool {
	done := map[*filestore.Store]bool{nil: true}
	for failing := false; ; failing = true {
		var err error
		for _, d := range batch {
			if err == nil && !done[d.file] {
				err = d.file.Sync()
				done[d.file] = err == nil
			}
		}
		if err == nil {
			return true
		}
		if !failing {
			u.log.Error("what goes up cannot be made durable; it waits", "error", err)
		}
		if u.wait(pause); u.ctx.Err() != nil {
			return false
		}
	}
}

// lanesFile has the client identifiers of all lanes that may have a session, as JSON.
const lanesFile = "lanes.json"

// noteLanes notes the sessions that there will be, before there are any, and gives those
// that there were and that no lane has any more.
func (u *Uplink) noteLanes() (stale []string, err error) {
	var was []string
	b, err := os.ReadFile(filepath.Join(u.opt.Dir, lanesFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("uplink: %w", err)
	}
	if err == nil && json.Unmarshal(b, &was) != nil {
		u.log.Error("the list of lanes is damaged; if one is not mirrored any more, its session stays and fills", "file", lanesFile)
	}
	for _, name := range was {
		if !slices.ContainsFunc(u.lanes, func(l *lane) bool { return l.Client == name }) {
			stale = append(stale, name)
		}
	}
	u.noted = was
	return stale, u.writeLanes(stale)
}

// writeLanes makes the list durable: those of all lanes, and more.
func (u *Uplink) writeLanes(more []string) error {
	list := slices.Clone(more)
	for _, l := range u.lanes {
		list = append(list, l.Client)
	}
	if slices.Equal(list, u.noted) {
		return nil
	}
	b, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("uplink: %w", err)
	}
	path := filepath.Join(u.opt.Dir, lanesFile)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("uplink: %w", err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("uplink: %w", err)
	}
	u.noted = list
	return nil
}

// endStale ends the sessions of lanes that the file does not name any more: they would
// fill, and then refuse what is published.
func (u *Uplink) endStale() {
	left := slices.DeleteFunc(u.stale, u.end) // the rest with the next start
	if err := u.writeLanes(left); err != nil {
		u.log.Error("the lanes that go up cannot be noted", "error", err)
	}
}

// end ends the session of a client at the gateway's broker.
func (u *Uplink) end(name string) bool {
	c, err := client.New(client.Options{Dial: func(ctx context.Context) (net.Conn, error) { return u.opt.Dial(ctx, broker.Queue{}) },
		ClientID: name, CleanStart: true, Once: true})
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(u.ctx, 10*time.Second)
	defer cancel()
	c.Start()
	err = errors.Join(c.AwaitUp(ctx), c.Stop(ctx))
	if err != nil {
		u.log.Error("a lane that is not mirrored any more is still there", "session", name, "error", err)
		return false
	}
	_ = os.Remove(u.latestPath(name)) // there is none if the lane kept all
	u.log.Warn("what waited of a filter that is not mirrored any more is gone", "session", name)
	return true
}
