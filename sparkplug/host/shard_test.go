package host

import (
	"testing"
	"time"

	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/sparkplug"
)

// aShard is one of a host that is not started, and what gives it a message of a
// node, received at some time after the first.
func aShard(t *testing.T) (*shard, func(node string, kind sparkplug.MessageType, seq uint64, after time.Duration)) {
	h, err := New(Options{Role: Passive, Shards: 1, Servers: []Server{{Name: "a", Client: client.Options{Servers: []string{"mqtt://x"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	s := h.shards[0]
	began := time.Now().Add(-time.Hour)
	return s, func(node string, kind sparkplug.MessageType, seq uint64, after time.Duration) {
		p := sparkplug.Payload{Timestamp: 1 + uint64(after.Milliseconds()), HasTimestamp: true, HasSeq: true, Seq: seq}
		s.take(&item{
			link: h.links[0], at: began.Add(after), msg: &client.Delivery{Message: client.Message{Payload: p.Append(nil)}},
			topic: sparkplug.Topic{Type: kind, Group: "g", Node: node},
		})
	}
}

// A shard that never rests gives up holes all the same, at the time of the
// messages that it takes.
func TestBusyShardGivesUp(t *testing.T) {
	s, take := aShard(t)
	status := func() Status { n, _, _ := s.h.Node(NodeID{"g", "n"}); return n.Status }
	take("n", sparkplug.NBirth, 0, 0)
	take("n", sparkplug.NData, 2, time.Second)
	take("other", sparkplug.NBirth, 0, 5*time.Second)
	if status() != Online {
		t.Fatal(status())
	}
	take("other", sparkplug.NData, 1, 7*time.Second)
	if status() != Unsure {
		t.Error(status())
	}
}

// While a link waits for a shard, nobody knows when the messages behind it were
// received.
func TestBlockedLinkKeepsHoles(t *testing.T) {
	s, take := aShard(t)
	take("n", sparkplug.NBirth, 0, 0)
	take("n", sparkplug.NData, 2, time.Second)
	s.h.blocked.Add(1)
	take("other", sparkplug.NBirth, 0, time.Minute)
	s.h.blocked.Add(-1)
	s.h.unblocked.Store(time.Now().UnixNano())
	take("other", sparkplug.NData, 1, time.Minute)
	take("n", sparkplug.NData, 1, time.Minute)
	if n, _, _ := s.h.Node(NodeID{"g", "n"}); n.Status != Online {
		t.Error(n.Status)
	}
}
