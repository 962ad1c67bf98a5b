package session_test

import (
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/mqtt"
)

// TestDoubtful has ids of the client of which the store cannot say whether their
// handshake has ended: only DUP makes a PUBLISH a repeat, on each connection.
func TestDoubtful(t *testing.T) {
	lim := &session.Limits{Inflight: 10, ReceiveMaximum: 2}
	for _, c := range []struct {
		name string
		saw  session.Saved
		dup  bool
		want session.Request
	}{
		{"known, sent again", session.Saved{Received: []uint16{7}}, true, session.Nothing},
		{"known", session.Saved{Received: []uint16{7}}, false, session.Nothing},
		{"doubtful, sent again", session.Saved{Doubtful: []uint16{7}}, true, session.Nothing},
		{"doubtful, new", session.Saved{Doubtful: []uint16{7}}, false, session.Route},
	} {
		for links := 1; links <= 2; links++ {
			s := session.Restore(lim, c.saw)
			for range links {
				s.Attach(session.Link{Version: mqtt.V5, ExpirySeconds: 60})
			}
			for range 3 { // a whole handshake leaves nothing behind that would count
				var out session.Actions
				got := s.Receive(&mqtt.Publish{Topic: []byte("t"), QoS: 2, PacketID: 7, Dup: c.dup}, time.Time{}, &out)
				if got != c.want || out.Close {
					t.Errorf("%s: %v, closed %v", c.name, got, out.Close)
				}
				if got == session.Route {
					s.Answer(2, 7, mqtt.Success, &out)
				}
				if s.Receive(&mqtt.Ack{Kind: mqtt.TypePubrel, PacketID: 7}, time.Time{}, &out); len(out.Store) == 0 {
					t.Errorf("%s: the handshake did not end", c.name)
				}
				if c.want == session.Nothing {
					break // it is new from here on
				}
			}
		}
	}
	s := session.Restore(lim, session.Saved{Doubtful: []uint16{1, 2, 3, 4, 5}})
	s.Attach(session.Link{Version: mqtt.V5, ExpirySeconds: 60})
	for id := uint16(1); id <= 5; id++ {
		var out session.Actions
		s.Receive(&mqtt.Ack{Kind: mqtt.TypePubrel, PacketID: id}, time.Time{}, &out)
	}
	for id := uint16(1); id <= 3; id++ {
		var out session.Actions
		s.Receive(&mqtt.Publish{Topic: []byte("t"), QoS: 2, PacketID: id}, time.Time{}, &out)
		if out.Close != (id == 3) { // the Receive Maximum still counts
			t.Errorf("message %d: closed %v", id, out.Close)
		}
	}
}
