package broker

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/mqtt"
)

// statusEvery is how often the $SYS topics are brought up to date.
const statusEvery = 10 * time.Second

// statusRoot is where they are. What is retained below it is never stored: it
// says nothing after a restart.
const statusRoot = "$SYS/"

// status is what the $SYS topics said last. The hub's mutex guards it.
type status struct {
	timer   *time.Timer
	said    map[string]string
	maximum int // of clients connected, as seen here
}

// publishStatus publishes what has changed of the $SYS topics, at QoS 0 and
// retained, as the system identity, and sets the timer for the next time. Names
// and meanings are those of Mosquitto where it has the same; what it has not is
// dropped/{reason}, shares/{what} and shares/{name}/{what}.
func (b *Broker) publishStatus() {
	if !b.begin() {
		return
	}
	defer b.running.Done()
	stats := b.Stats()
	waiting, bytes := b.Waiting()
	now := time.Now()
	t := b.newTurn(nil)
	h := &b.hub
	h.mu.Lock()
	if !b.stopping.Load() {
		t.sayAll(&stats, waiting, bytes, now)
		t.commit()
		h.status.timer = time.AfterFunc(statusEvery, b.publishStatus)
	}
	h.mu.Unlock()
	t.finish()
}

func (t *turn) sayAll(s *Stats, waiting, bytes int, now time.Time) {
	b := t.b
	h := &b.hub
	if h.status.said == nil {
		h.status.said = make(map[string]string)
	}
	h.status.maximum = max(h.status.maximum, s.Connections)
	dropped := uint64(0)
	for r := range session.DropReasons {
		dropped += s.Dropped[r]
	}
	t.say(now, "version", b.options.Status)
	t.say(now, "uptime", fmt.Sprintf("%d seconds", int(now.Sub(b.epoch)/time.Second)))
	for _, x := range []struct {
		topic string
		value int
	}{
		{"clients/connected", s.Connections}, {"clients/disconnected", max(0, s.Sessions-s.Connections)},
		{"clients/total", s.Sessions}, {"clients/maximum", h.status.maximum},
		{"retained messages/count", s.Retained}, {"subscriptions/count", s.Subscriptions},
		{"store/messages/count", waiting + s.Retained}, {"store/messages/bytes", bytes + s.RetainedBytes},
	} {
		t.say(now, x.topic, strconv.Itoa(x.value))
	}
	for _, x := range []struct {
		topic string
		value uint64
	}{
		{"messages/received", s.PacketsIn}, {"messages/sent", s.PacketsOut},
		{"bytes/received", s.BytesIn}, {"bytes/sent", s.BytesOut},
		{"publish/messages/received", s.PublishIn}, {"publish/messages/sent", s.PublishOut},
		{"publish/messages/dropped", dropped},
	} {
		t.say(now, x.topic, strconv.FormatUint(x.value, 10))
	}
	t.sayShares(now)
	for r := range session.DropReasons {
		t.say(now, "dropped/"+r.String(), strconv.FormatUint(s.Dropped[r], 10))
	}
}

// sayShares says what all shares have, and those of the names that Options.Shares has.
func (t *turn) sayShares(now time.Time) {
	var all ShareStats
	for name, s := range t.b.hub.index.counts {
		all.add(s)
		if name != "" {
			t.sayShare(now, "shares/"+name, s)
		}
	}
	t.sayShare(now, "shares", &all)
}

func (t *turn) sayShare(now time.Time, topic string, s *ShareStats) {
	for _, x := range []struct {
		name  string
		value int
	}{{"count", s.Shares}, {"waiting", s.Waiting}, {"draining", s.Draining}, {"lent", s.Lent}} {
		t.say(now, topic+"/"+x.name, strconv.Itoa(x.value))
	}
}

// say publishes one value, if it is new.
func (t *turn) say(now time.Time, topic, value string) {
	said := t.b.hub.status.said
	topic = statusRoot + "broker/" + topic
	if old, ok := said[topic]; ok && old == value {
		return
	}
	said[topic] = value
	m := session.NewMessage(&mqtt.Publish{Payload: []byte(value), Retain: true}, topic, "", system.Name(), now)
	t.route(m)
	m.Release()
}

// isStatus tells the topics that are about the broker itself.
func isStatus(topic string) bool { return strings.HasPrefix(topic, statusRoot) }
