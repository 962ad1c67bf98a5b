package broker

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
)

// unhex reads bytes written as hex, with 'text' in between.
func unhex(t *testing.T, s string) []byte {
	t.Helper()
	var b []byte
	for i, part := range strings.Split(s, "'") {
		if i%2 == 1 {
			b = append(b, part...)
			continue
		}
		x, err := hex.DecodeString(strings.ReplaceAll(part, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, x...)
	}
	return b
}

// Bytes in, bytes out, and then the connection is closed.
// Shows [MQTT-3.1.0-1] [MQTT-3.1.2-1] [MQTT-3.1.2-2] [MQTT-3.1.2-3] [MQTT-3.1.4-1]
// [MQTT-3.2.2-7] [MQTT-4.12.0-1] [MQTT-3.1.3-8 v3.1.1] [MQTT-3.1.3-9 v3.1.1]
// [MQTT-3.2.2-6 v3.1.1].
func TestConnectRefused(t *testing.T) {
	cases := []struct{ name, in, out string }{
		{"not CONNECT", "c0 00", ""},
		{"nothing MQTT", "'GET / HTTP/1.1'", ""},
		{"type 0", "00 00", ""},
		{"length of five bytes", "10 80 80 80 80 01", ""},
		{"larger than allowed before authentication", "10 ff ff ff 7f", ""},
		{"level 3, as MQTT 3.1 has it", "10 0d 0006'MQIsdp'03 02 003c 0000", "20 02 00 01"},
		{"level 6", "10 0d 0004'MQTT'06 02 003c 00 0000", "20 03 00 84 00"},
		{"reserved flag, MQTT 5", "10 0d 0004'MQTT'05 03 003c 00 0000", "20 03 00 81 00"},
		{"reserved flag, 3.1.1", "10 0c 0004'MQTT'04 03 003c 0000", ""},
		{"will QoS 3", "10 0d 0004'MQTT'05 1e 003c 00 0000", "20 03 00 81 00"},
		{"3.1.1: empty id, session kept", "10 0c 0004'MQTT'04 00 003c 0000", "20 02 00 02"},
		{"3.1.1: password without user", "10 0f 0004'MQTT'04 42 003c 0001'x'0000", ""},
		{"authentication method", "10 13 0004'MQTT'05 02 003c 06 15 0003'abc' 0000", "20 03 00 8c 00"},
		{"Receive Maximum 0", "10 10 0004'MQTT'05 02 003c 03 21 0000 0000", "20 03 00 82 00"},
		{"ill-formed id", "10 0f 0004'MQTT'05 02 003c 00 0002 c3 28", "20 03 00 81 00"},
		{"will to $SYS", "10 17 0004'MQTT'05 06 003c 00 0001'x' 00 0004'$SYS' 0000", "20 03 00 90 00"},
		{"bytes after the end", "10 0e 0004'MQTT'05 02 003c 00 0000 00", "20 03 00 81 00"},
	}
	b := start(t, Options{Limits: Limits{ConnectTimeout: time.Minute}})
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := open(t, b)
			in := unhex(t, c.in)
			for _, x := range in { // a byte at a time: cutting must not matter
				if _, err := p.nc.Write([]byte{x}); err != nil {
					break // it was refused before its end
				}
			}
			_ = p.nc.SetReadDeadline(time.Now().Add(patience))
			out, err := io.ReadAll(p.nc)
			if err != nil {
				t.Fatal(err)
			}
			if want := unhex(t, c.out); !bytes.Equal(out, want) {
				t.Errorf("got %x, want %x", out, want)
			}
		})
	}
	if n := b.Stats().Sessions; n != 0 {
		t.Errorf("%d sessions were made", n)
	}
}

// After CONNECT, bytes that no client may send get their DISCONNECT.
// Shows [MQTT-3.1.0-2] [MQTT-3.6.1-1] [MQTT-3.8.3-5] [MQTT-3.8.3-4] [MQTT-3.3.4-6]
// [MQTT-4.12.0-7] [MQTT-4.13.1-1] [MQTT-3.14.2-2] [MQTT-4.13.2-1] [MQTT-3.14.4-1] [MQTT-3.14.4-2]
// [MQTT-3.2.0-2].
func TestConnectedErrors(t *testing.T) {
	cases := []struct{ name, in, out string }{
		{"second CONNECT", "10 0e 0004'MQTT'05 02 003c 00 0001'a'", "e0 01 82"},
		{"CONNACK", "20 03 00 00 00", "e0 01 82"},
		{"SUBACK", "90 04 0001 00 00", "e0 01 82"},
		{"PINGRESP", "d0 00", "e0 01 82"},
		{"AUTH", "f0 00", "e0 01 82"},
		{"length of five bytes", "30 80 80 80 80 01", "e0 01 81"},
		{"length not in its shortest form", "c0 80 00", "e0 01 81"},
		{"larger than allowed", "30 ff ff 7f", "e0 01 95"},
		{"QoS 3", "36 06 0001'a' 0001 00", "e0 01 81"},
		{"DUP with QoS 0", "38 04 0001'a' 00", "e0 01 81"},
		{"packet id 0", "32 06 0001'a' 0000 00", "e0 01 82"},
		{"wildcard in topic", "30 04 0001'#' 00", "e0 01 90"},
		{"subscription identifier", "30 06 0001'a' 02 0b01", "e0 01 82"},
		{"alias 0", "30 07 0001'a' 03 23 0000", "e0 01 94"},
		{"alias above the maximum", "30 07 0001'a' 03 23 0011", "e0 01 94"},
		{"alias never set", "30 06 0000 03 23 0001", "e0 01 94"},
		{"PUBREL flags", "60 02 0001", "e0 01 81"},
		{"SUBSCRIBE without filters", "82 03 0001 00", "e0 01 82"},
		{"SUBSCRIBE reserved options", "82 07 0001 00 0001'a' c0", "e0 01 81"},
		{"SUBSCRIBE cut after the filter", "82 06 0001 00 0001'a'", "e0 01 81"},
		{"No Local on a share", "82 10 0001 00 000a'$share/g/t' 04", "e0 01 82"},
		{"raising the session expiry", "e0 07 00 05 11 0000003c", "e0 01 82"},
	}
	b := start(t, Options{})
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := join(t, b, clean("a"))
			p.write(unhex(t, c.in))
			_ = p.nc.SetReadDeadline(time.Now().Add(patience))
			out, err := io.ReadAll(p.nc)
			if err != nil {
				t.Fatal(err)
			}
			if want := unhex(t, c.out); !bytes.Equal(out, want) {
				t.Errorf("got %x, want %x", out, want)
			}
		})
	}
}

// Shows [MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16].
func TestConnack(t *testing.T) {
	b := start(t, Options{Limits: Limits{SessionExpiry: time.Minute, KeepAlive: 10 * time.Second}})
	p := open(t, b)
	a := p.connect(mqtt.Connect{KeepAlive: 0, SessionExpirySeconds: 3600, CleanStart: true})
	if len(a.AssignedClientID) < 20 || !a.HasServerKeepAlive || a.ServerKeepAlive != 10 ||
		!a.HasSessionExpiry || a.SessionExpirySeconds != 60 || a.ReceiveMaximum != 1024 || a.TopicAliasMaximum != 16 {
		t.Errorf("%+v", a)
	}
	q := open(t, b)
	if c := q.connect(mqtt.Connect{CleanStart: true}); c.AssignedClientID == a.AssignedClientID {
		t.Error("the same id twice")
	}
	r := open(t, b)
	r.connect(mqtt.Connect{Version: mqtt.V311, ClientID: "old", CleanStart: true})
}

// door knows users by name and password; each user may do what its rights say.
type door map[string]*user

type user struct {
	name, password        string
	publish, subscribe    string // filters
	receive               string
	noPublish, noDelivery func() bool
}

func (d door) Authenticate(_ context.Context, c Credentials) (Identity, error) {
	u := d[c.Username]
	if u == nil || u.password != string(c.Password) {
		return nil, &mqtt.Error{Code: mqtt.BadUserNameOrPassword, Text: "no"}
	}
	return u, nil
}

func (u *user) Name() string { return u.name }
func (u *user) MayPublish(topic string) bool {
	return mqtt.Match(u.publish, topic) && (u.noPublish == nil || !u.noPublish())
}
func (u *user) MaySubscribe(filter string) bool { return u.subscribe == "#" || u.subscribe == filter }
func (u *user) MayReceive(topic string) bool {
	return mqtt.Match(u.receive, topic) && (u.noDelivery == nil || !u.noDelivery())
}

func as(name string, c mqtt.Connect) mqtt.Connect {
	c.HasUsername, c.Username, c.HasPassword, c.Password = true, name, true, []byte(name)
	return c
}

func trusted(name string) *user {
	return &user{name: name, password: name, publish: "#", subscribe: "#", receive: "#"}
}

// Another identity, or nobody, cannot touch a client's session by its id.
// Shows [MQTT-3.1.3-8] [MQTT-3.1.4-2] [B10b].
func TestForeignClientID(t *testing.T) {
	b := start(t, Options{Authority: door{"alice": trusted("alice"), "mallory": trusted("mallory")}})
	alice := join(t, b, as("alice", lasting("a")))
	alice.subscribe(1, "t")
	for _, c := range []struct {
		connect mqtt.Connect
		code    mqtt.ReasonCode
	}{
		{as("mallory", lasting("a")), mqtt.NotAuthorized},
		{as("mallory", clean("a")), mqtt.NotAuthorized},
		{func() mqtt.Connect {
			c := as("alice", clean("a"))
			c.Password = []byte("wrong")
			c.Will = &mqtt.Will{Topic: "t", Payload: []byte("will")}
			return c
		}(), mqtt.BadUserNameOrPassword},
	} {
		p := open(t, b)
		p.sendConnect(c.connect)
		p.expect(&mqtt.Connack{Reason: c.code})
		p.closed()
	}
	alice.quiet()
	alice.drop(b, "a")
	alice = open(t, b)
	if a := alice.connect(as("alice", lasting("a"))); !a.SessionPresent {
		t.Error("session lost")
	}
	alice.quiet()
}

func TestAuthorityDecidesTheCode(t *testing.T) {
	var fail error
	b := start(t, Options{Authority: authorityFunc(func() (Identity, error) { return nil, fail })})
	for _, c := range []struct {
		err  error
		code mqtt.ReasonCode
	}{
		{errors.New("database down"), mqtt.NotAuthorized},
		{&mqtt.Error{Code: mqtt.Banned}, mqtt.Banned},
		{&mqtt.Error{Code: mqtt.TopicFilterInvalid}, mqtt.NotAuthorized}, // not a code of CONNACK
		{nil, mqtt.NotAuthorized},                                        // no identity
	} {
		fail = c.err
		p := open(t, b)
		p.sendConnect(clean("x"))
		p.expect(&mqtt.Connack{Reason: c.code})
	}
}

type authorityFunc func() (Identity, error)

func (f authorityFunc) Authenticate(context.Context, Credentials) (Identity, error) { return f() }

func TestTakeoverLoop(t *testing.T) {
	b := start(t, Options{Limits: Limits{Takeovers: 1000}})
	from := join(t, b, clean("from"))
	p := join(t, b, lasting("x"))
	p.subscribe(1, "t")
	next := uint16(1)
	for i := range 100 {
		from.send(pub("t", string(rune('A'+i)), 1, next))
		from.expect(ack(mqtt.TypePuback, next))
		next++
		q := open(t, b)
		q.connect(lasting("x"))
		p = q
	}
	seen := 0
	for range 100 { // all of them, in order, none having been acknowledged
		m, ok := p.must().(*mqtt.Publish)
		if !ok || string(m.Payload) != string(rune('A'+seen)) {
			t.Fatalf("message %d: %s", seen, show(m))
		}
		seen++
	}
	if n := b.Stats().Sessions; n != 2 {
		t.Errorf("%d sessions", n)
	}
}

// Who is refused has changed nothing, and who had a session may begin it anew also
// where there are more than a later setting allows.
func TestMoreSessionsThanAllowed(t *testing.T) {
	s := store.NewMemory()
	first := start(t, Options{Store: s})
	for _, id := range []string{"a", "b"} {
		join(t, first, lasting(id)).subscribe(1, id)
	}
	stop(t, first)
	b := start(t, Options{Store: s, Limits: Limits{Sessions: 1}})
	again := lasting("a")
	again.CleanStart = true
	if a := open(t, b).connect(again); a.SessionPresent {
		t.Error("not a new session")
	}
	refused(t, b, clean("c"), mqtt.QuotaExceeded)
	stop(t, b)
	left := map[string]int{}
	for x := range s.Sessions() {
		left[x.ClientID] = len(x.Subscriptions)
	}
	if len(left) != 2 || left["a"] != 0 || left["b"] != 1 {
		t.Errorf("the store has %v", left)
	}
}
