package session_test

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/mqtt"
)

var rewrite = flag.Bool("rewrite", false, "write what came out into the scripts and goldens")

// TestScripts runs testdata/*.txt. Lines that begin with ">" are steps, the
// lines after each are everything that came out of it; other lines that begin
// with "#" are comments. -rewrite puts in what comes out now.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(t, want)
			if *rewrite {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s", difference(want, got))
			}
		})
	}
}

// difference shows the first line in which two texts differ.
func difference(want, got []byte) string {
	w, g := strings.Split(string(want), "\n"), strings.Split(string(got), "\n")
	for i := range max(len(w), len(g)) {
		if i >= len(w) || i >= len(g) || w[i] != g[i] {
			return fmt.Sprintf("line %d\ngot  %q\nwant %q", i+1, at(g, i), at(w, i))
		}
	}
	return "same"
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return "(end)"
}

func runScript(t *testing.T, text []byte) []byte {
	var out bytes.Buffer
	s := newStage()
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, ">"):
			fmt.Fprintln(&out, line)
			s.step(t, strings.Fields(line[1:]))
			for _, l := range s.lines {
				fmt.Fprintln(&out, l)
			}
			s.lines = nil
		case strings.HasPrefix(line, "#"), line == "":
			fmt.Fprintln(&out, line)
		}
	}
	return out.Bytes()
}

// stage is a session with what stands around it.
type stage struct {
	lim     session.Limits
	s       *session.Session
	version mqtt.Version
	now     time.Time
	seq     uint64
	durable uint64
	denied  map[string]bool
	queue   []session.Delivery // the store's
	lines   []string
}

func limits() session.Limits {
	return session.Limits{
		ReceiveMaximum: 3, Inflight: 10, InflightBytes: 10_000, TopicAliases: 2,
		QueueMessages: 20, QueueBytes: 10_000, QoS0Messages: 3, QoS0Bytes: 1000, Window: 4,
	}
}

func newStage() *stage {
	st := &stage{lim: limits(), now: time.Unix(1_000_000, 0), denied: map[string]bool{}, version: mqtt.V5}
	st.s = session.New(&st.lim)
	return st
}

// MayReceive makes a stage the gate.
func (st *stage) MayReceive(topic string) bool { return !st.denied[topic] }

// args are the key=value words of a step; words without "=" have value "true".
type args map[string]string

func parse(words []string) (plain []string, a args) {
	a = args{}
	for _, w := range words {
		if k, v, ok := strings.Cut(w, "="); ok {
			a[k] = v
		} else {
			plain = append(plain, w)
		}
	}
	return plain, a
}

func (a args) num(key string) int {
	n, _ := strconv.ParseInt(a[key], 0, 64)
	return int(n)
}

func (st *stage) step(t *testing.T, words []string) {
	plain, a := parse(words[1:])
	var acts session.Actions
	switch words[0] {
	case "attach":
		st.attach(a)
	case "detach":
		st.s.Detach(st.now, &acts)
	case "due":
		st.due()
	case "wait":
		d, err := time.ParseDuration(plain[0])
		if err != nil {
			t.Fatal(err)
		}
		st.now = st.now.Add(d)
	case "deny":
		st.denied[plain[0]] = true
	case "durable":
		st.durable = uint64(a.num("seq"))
	case "confirm":
		st.s.Confirm(uint64(a.num("seq")))
	case "feed":
		st.feed()
	case "message":
		st.message(plain, a, &acts)
	case "scout":
		st.scout()
	case "next":
		st.next(a, &acts)
	case "answer":
		st.s.Answer(mqtt.QoS(a.num("qos")), uint16(a.num("id")), mqtt.ReasonCode(a.num("code")), &acts)
	default:
		p, err := packet(words[0], plain, a)
		if err != nil {
			t.Fatalf("%v: %v", words, err)
		}
		if r := st.s.Receive(p, st.now, &acts); r != session.Nothing {
			st.say("ask %s %s", [...]string{"", "route", "subscribe", "unsubscribe"}[r], acts.Aliased)
		}
	}
	st.report(&acts)
}

func (st *stage) say(format string, args ...any) {
	st.lines = append(st.lines, strings.TrimRight("    "+fmt.Sprintf(format, args...), " "))
}

func (st *stage) attach(a args) {
	st.version = mqtt.V5
	if a["v"] == "3" {
		st.version = mqtt.V311
	}
	l := session.Link{
		Version: st.version, ReceiveMaximum: uint16(a.num("receive")), MaximumPacketSize: uint32(a.num("size")),
		TopicAliasMaximum: uint16(a.num("alias")), ExpirySeconds: uint32(a.num("expiry")),
	}
	var err error
	if l.Overflow, err = session.ParseOverflow(a["overflow"]); err != nil {
		panic(err)
	}
	if a["will"] != "" {
		l.Will = &mqtt.Will{Topic: a["will"], DelaySeconds: uint32(a.num("delay"))}
	}
	st.s.Attach(l)
}

func (st *stage) due() {
	will, over, next := st.s.Due(st.now)
	if will != nil {
		st.say("will %s", will.Topic)
	}
	if over {
		st.say("over")
	}
	if !next.IsZero() {
		st.say("again in %v", next.Sub(st.now))
	}
}

func (st *stage) feed() {
	after, limit, ok := st.s.Missing()
	if !ok {
		st.say("nothing missing")
		return
	}
	list := st.after(after, limit)
	st.say("feed %d after %d: %v", len(list), after, st.s.Feed(list, st.durable))
}

// scout reads what the session does not know of its queue.
func (st *stage) scout() {
	after, limit, ok := st.s.Unread()
	if !ok {
		st.say("nothing unread")
		return
	}
	list := st.after(after, limit)
	st.say("scout %d after %d", len(list), after)
	st.s.Scout(after, st.durable, list)
}

func (st *stage) after(after uint64, limit int) []session.Delivery {
	var list []session.Delivery
	for _, d := range st.queue {
		if d.Seq > after && len(list) < limit {
			list = append(list, d)
		}
	}
	return list
}

func (st *stage) message(plain []string, a args, acts *session.Actions) {
	p := mqtt.Publish{Payload: []byte(plain[1]), QoS: mqtt.QoS(a.num("qos"))}
	if a["expiry"] != "" {
		p.HasExpiry, p.ExpirySeconds = true, uint32(a.num("expiry"))
	}
	if a["user"] != "" {
		p.User = []mqtt.BorrowedProperty{{Key: []byte("user"), Value: []byte(a["user"])}}
	}
	if a["pad"] != "" {
		p.Payload = bytes.Repeat(p.Payload, a.num("pad"))
	}
	m := session.NewMessage(&p, plain[0], "pub", "owner", st.now)
	st.seq++
	d := session.Delivery{Message: m, Seq: st.seq, QoS: p.QoS, Retain: a["retain"] != "", Stored: st.s.Stored() && p.QoS > 0}
	if id := a.num("sub"); id != 0 {
		d.SubscriptionIDs = []uint32{uint32(id)}
	}
	if d.QoS > 0 {
		switch st.s.Offer(m.Size()) {
		case session.NoRoom:
			st.say("no room")
			return
		case session.Unknown:
			st.say("unknown what makes room")
			return
		}
	}
	if !st.s.Enqueue(d, acts) {
		st.say("not taken")
		return
	}
	if d.Stored {
		st.queue = append(st.queue, d)
		if a["durable"] != "no" {
			st.durable = st.seq
		}
	}
}

func (st *stage) next(a args, acts *session.Actions) {
	limit := 1 << 20
	if a["limit"] != "" {
		limit = a.num("limit")
	}
	b, big := st.s.Next(nil, limit, st.now, st.durable, st, acts)
	if big != nil {
		b = append(b, big.Payload...)
		big.Release()
	}
	acts.Send = b
}

func (st *stage) report(acts *session.Actions) {
	for _, c := range acts.Store {
		st.say("store %s id=%d seq=%d", [...]string{"received", "forgotten", "reserved", "released", "removed", "lost"}[c.Kind], c.ID, c.Seq)
		if c.Kind == session.Removed || c.Kind == session.Released {
			st.queue = slices.DeleteFunc(st.queue, func(d session.Delivery) bool { return d.Seq == c.Seq })
		}
	}
	list, err := decode(acts.Send, st.version)
	if err != nil {
		st.say("UNREADABLE %v", err)
	}
	for _, p := range list {
		st.say("send %s", show(p))
	}
	for _, d := range acts.Drops {
		st.say("drop %s %s qos=%d count=%d", d.Reason, d.Topic, d.QoS, d.Count)
	}
	if acts.Close {
		st.say("close 0x%02X tell=%v", byte(acts.Code), acts.Tell)
	}
}

func decode(b []byte, v mqtt.Version) (list []mqtt.Packet, err error) {
	for len(b) > 0 {
		h, n, err := mqtt.ParseHeader(b, 0)
		if err != nil {
			return list, err
		}
		if n == 0 || len(b) < n+h.Length {
			return list, errors.New("cut short")
		}
		p, err := mqtt.DecodePacket(h, b[n:n+h.Length], v)
		if err != nil {
			return list, err
		}
		list = append(list, p)
		b = b[n+h.Length:]
	}
	return list, nil
}

func show(p mqtt.Packet) string {
	switch p := p.(type) {
	case *mqtt.Publish:
		payload := string(p.Payload)
		if len(payload) > 20 {
			payload = fmt.Sprintf("%s...(%d)", payload[:1], len(payload))
		}
		s := fmt.Sprintf("PUBLISH %s %s qos=%d id=%d", p.Topic, payload, p.QoS, p.PacketID)
		if p.Dup {
			s += " dup"
		}
		if p.Retain {
			s += " retain"
		}
		if p.HasExpiry {
			s += fmt.Sprintf(" expiry=%d", p.ExpirySeconds)
		}
		if p.TopicAlias != 0 {
			s += fmt.Sprintf(" alias=%d", p.TopicAlias)
		}
		if len(p.SubscriptionIDs) > 0 {
			s += fmt.Sprintf(" sub=%v", p.SubscriptionIDs)
		}
		for _, u := range p.User {
			s += fmt.Sprintf(" %s=%q", u.Key, u.Value)
		}
		return s
	case *mqtt.Ack:
		return fmt.Sprintf("%s id=%d code=0x%02X", p.Kind, p.PacketID, byte(p.Reason))
	}
	return p.Type().String()
}

// packet makes what a client sends.
func packet(name string, plain []string, a args) (mqtt.Packet, error) {
	id, code := uint16(a.num("id")), mqtt.ReasonCode(a.num("code"))
	switch name {
	case "connect":
		return &mqtt.Connect{}, nil
	case "connack":
		return &mqtt.Connack{}, nil
	case "publish":
		p := &mqtt.Publish{QoS: mqtt.QoS(a.num("qos")), PacketID: id, TopicAlias: uint16(a.num("alias")), Dup: a["dup"] != ""}
		if len(plain) > 0 {
			p.Topic = []byte(plain[0])
		}
		if n := a.num("sub"); n != 0 {
			p.SubscriptionIDs = []uint32{uint32(n)}
		}
		return p, nil
	case "puback":
		return &mqtt.Ack{Kind: mqtt.TypePuback, PacketID: id, Reason: code}, nil
	case "pubrec":
		return &mqtt.Ack{Kind: mqtt.TypePubrec, PacketID: id, Reason: code}, nil
	case "pubrel":
		return &mqtt.Ack{Kind: mqtt.TypePubrel, PacketID: id, Reason: code}, nil
	case "pubcomp":
		return &mqtt.Ack{Kind: mqtt.TypePubcomp, PacketID: id, Reason: code}, nil
	case "subscribe":
		s := mqtt.Subscription{NoLocal: a["nolocal"] != ""}
		if len(plain) > 0 {
			s.Filter = plain[0]
		}
		return &mqtt.Subscribe{PacketID: id, Subscriptions: []mqtt.Subscription{s}}, nil
	case "suback":
		return &mqtt.Suback{PacketID: id}, nil
	case "unsubscribe":
		return &mqtt.Unsubscribe{PacketID: id, Filters: plain}, nil
	case "unsuback":
		return &mqtt.Unsuback{PacketID: id}, nil
	case "pingreq":
		return &mqtt.Pingreq{}, nil
	case "pingresp":
		return &mqtt.Pingresp{}, nil
	case "disconnect":
		p := &mqtt.Disconnect{Reason: code}
		if a["expiry"] != "" {
			p.HasSessionExpiry, p.SessionExpirySeconds = true, uint32(a.num("expiry"))
		}
		return p, nil
	case "auth":
		return &mqtt.Auth{Reason: code}, nil
	}
	return nil, errors.New("no such step")
}
