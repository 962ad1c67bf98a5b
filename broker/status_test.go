package broker

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
)

func TestStatusTopics(t *testing.T) {
	s := store.NewMemory()
	o := Options{Status: "wilco 1.2.3", Store: s, Limits: Limits{QueueMessages: 1}, Shares: map[string]ShareRule{"g": {}}}
	virtual(t, o, func(t *testing.T, b *Broker) {
		p := join(t, b, clean("p"))
		retained := func(topic, value string) *mqtt.Publish {
			m := pub("$SYS/broker/"+topic, value, 0, 0)
			m.Retain = true
			return m
		}
		for topic, value := range map[string]string{
			"version": "wilco 1.2.3", "uptime": "0 seconds", "clients/connected": "0", "clients/total": "0",
			"messages/received": "0", "bytes/sent": "0", "retained messages/count": "0", "subscriptions/count": "0",
			"store/messages/count": "0", "dropped/queue_full": "0", "dropped/expired": "0",
			"shares/count": "0", "shares/waiting": "0",
		} {
			p.subscribe(1, "$SYS/broker/"+topic)
			p.expect(retained(topic, value))
			p.send(&mqtt.Unsubscribe{PacketID: 1, Filters: []string{"$SYS/broker/" + topic}})
			p.must()
		}
		away := join(t, b, lasting("away"))
		away.subscribe(1, "$SYS/#", "t")
		away.drop(b, "away")
		p.subscribe(0, "#", "$SYS/broker/uptime", "$SYS/broker/dropped/queue_full", "$SYS/broker/clients/+")
		for range 6 { // retained: uptime, queue_full, four of clients
			p.must()
		}
		p.publish(pub("t", "1", 1, 1))
		p.expect(pub("t", "1", 0, 0))
		p.publish(pub("t", "2", 1, 1), mqtt.QuotaExceeded)
		pass(statusEvery)
		var got []string
		for range 6 {
			got = append(got, show(p.must()))
		}
		slices.Sort(got)
		var want []string
		for _, x := range []string{"clients/connected 1", "clients/disconnected 1", "clients/maximum 1", "clients/total 2", "dropped/queue_full 1", "uptime 10"} {
			topic, value, _ := strings.Cut(x, " ")
			if topic == "uptime" {
				value += " seconds"
			}
			want = append(want, show(pub("$SYS/broker/"+topic, value, 0, 0)))
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q\nwant %q", got, want)
		}
		p.publish(pub("$SYS/broker/version", "mine", 1, 1), mqtt.TopicNameInvalid)
		if n := b.Stats().Dropped[session.DropOffline]; n != 0 {
			t.Errorf("%d were dropped of a session that is away", n)
		}
		for m := range s.Retained() {
			t.Errorf("%s is stored", m.Topic)
		}
	})
}

// logLines is a log in memory.
type logLines struct {
	slog.Handler
	mu   sync.Mutex
	list []string
}

func (l *logLines) Enabled(context.Context, slog.Level) bool { return true }

func (l *logLines) Handle(_ context.Context, r slog.Record) error {
	s := r.Message
	r.Attrs(func(a slog.Attr) bool { s += fmt.Sprintf(" %s=%v", a.Key, a.Value); return true })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, s)
	return nil
}

// What happens at the very moment of the start has its line as well, and only one.
func TestTellingAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l := &Broker{epoch: time.Now()}, new(telling)
		for i := range 3 {
			if now, soon := b.happened(l, 1); now != (i == 0) || soon != (i == 1) {
				t.Errorf("time %d: now %v, soon %v", i, now, soon)
			}
		}
	})
}

// Drops are one line a second in the log, which together count all; what comes
// last is told when the broker stops. The program is called for each.
// Shows [B5a].
func TestDropLog(t *testing.T) {
	l := &logLines{Handler: slog.DiscardHandler}
	var calls atomic.Int64
	events := Events{Dropped: func(d Drop) { calls.Add(int64(d.Count)) }}
	virtual(t, Options{Logger: slog.New(l), Events: events, Limits: Limits{QueueMessages: 1}}, func(t *testing.T, b *Broker) {
		sub, from := join(t, b, lasting("sub")), join(t, b, clean("from"))
		sub.subscribe(1, "t")
		sub.drop(b, "sub")
		from.publish(pub("t", "x", 1, 1))
		for range 2 {
			for range 50 {
				from.publish(pub("t", "x", 1, 1), mqtt.QuotaExceeded)
			}
			pass(3 * time.Second / 2)
			from.publish(pub("t", "x", 1, 1), mqtt.QuotaExceeded)
			pass(time.Minute)
		}
		for range 3 {
			from.publish(pub("t", "x", 1, 1), mqtt.QuotaExceeded)
		}
		stop(t, b)
	})
	var got []string
	for _, s := range l.list {
		if s, ok := strings.CutPrefix(s, "messages dropped reason=queue_full "); ok {
			got = append(got, s)
		}
	}
	want := []string{
		"count=1 total=1 client=sub topic=t", "count=49 total=50", "count=1 total=51",
		"count=1 total=52 client=sub topic=t", "count=49 total=101", "count=1 total=102",
		"count=1 total=103 client=sub topic=t", "count=2 total=105",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if n := calls.Load(); n != 105 {
		t.Errorf("the program was told of %d", n)
	}
}

// Who is not let in is in the log, at most one line a second, and who only knocks is not.
func TestRefusedLog(t *testing.T) {
	l := &logLines{Handler: slog.DiscardHandler}
	virtual(t, Options{Logger: slog.New(l), Authority: door{}}, func(t *testing.T, b *Broker) {
		pass(time.Second)
		for range 3 {
			refused(t, b, as("ann", clean("pump")), mqtt.BadUserNameOrPassword)
			synctest.Wait()
		}
		_ = open(t, b).nc.Close()
		pass(time.Minute)
		if s := b.Stats(); s.Refused != 4 {
			t.Errorf("%d refused, want 4", s.Refused)
		}
		stop(t, b)
	})
	want := []string{"connections refused count=1 total=1 client=pump remote=pipe error=bad user name or password: no", "connections refused count=2 total=3"}
	if !slices.Equal(l.list, want) {
		t.Errorf("got %q\nwant %q", l.list, want)
	}
}
