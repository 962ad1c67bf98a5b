package broker

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
)

var levels = rapid.SampledFrom([]string{"", "a", "b", "$x", "c"})

func drawTopic(t *rapid.T) string {
	topic := strings.Join(rapid.SliceOfN(levels, 1, 4).Draw(t, "levels"), "/")
	if topic == "" {
		return "a"
	}
	return topic
}

func drawFilter(t *rapid.T) string {
	list := rapid.SliceOfN(rapid.OneOf(levels, rapid.Just("+")), 0, 3).Draw(t, "levels")
	if len(list) == 0 || strings.Join(list, "/") == "" || rapid.IntRange(0, 2).Draw(t, "deep") == 0 {
		list = append(list, "#")
	}
	return strings.Join(list, "/")
}

// The index gives what mqtt.Match gives over a plain list, whatever was added,
// replaced and removed before; and it is empty when everything is removed.
// Shows [MQTT-4.7.2-1] [MQTT-3.3.2-3].
func TestIndexAgainstMatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var ix index
		clients := []*client{{id: "0"}, {id: "1"}, {id: "2"}}
		type key struct{ client, filter string }
		model := map[key]store.Subscription{}
		for range rapid.IntRange(0, 40).Draw(t, "changes") {
			c := clients[rapid.IntRange(0, 2).Draw(t, "client")]
			s := store.Subscription{ID: rapid.Uint32Range(0, 3).Draw(t, "id")}
			s.Filter = drawFilter(t)
			s.QoS = mqtt.QoS(rapid.IntRange(0, 2).Draw(t, "qos"))
			s.NoLocal = rapid.IntRange(0, 3).Draw(t, "no local") == 0
			if rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
				ix.remove(c, s.Filter)
				delete(model, key{c.id, s.Filter})
				continue
			}
			ix.add(c, s)
			model[key{c.id, s.Filter}] = s
		}
		if ix.size != len(model) {
			t.Fatalf("size %d, want %d", ix.size, len(model))
		}
		topic := drawTopic(t)
		want := map[string]string{}
		for _, c := range clients {
			qos, ids, any := mqtt.QoS(0), []uint32(nil), false
			for k, s := range model {
				if k.client != c.id || !mqtt.Match(k.filter, topic) || s.NoLocal && c.id == "0" {
					continue
				}
				any, qos = true, max(qos, s.QoS)
				if s.ID != 0 {
					ids = append(ids, s.ID)
				}
			}
			if any {
				slices.Sort(ids)
				want[c.id] = fmt.Sprint(qos, ids)
			}
		}
		got := map[string]string{}
		ix.match(topic, "0")
		for _, h := range ix.hits {
			if got[h.client.id] != "" {
				t.Fatalf("%s hit twice", h.client.id)
			}
			ids := slices.Clone(h.ids)
			slices.Sort(ids)
			got[h.client.id] = fmt.Sprint(h.qos, ids)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%s: got %v, want %v of %v", topic, got, want, model)
		}
		for k := range model {
			ix.remove(clients[k.client[0]-'0'], k.filter)
		}
		if ix.size != 0 || len(ix.root.children) != 0 || ix.root.plus != nil || !ix.root.deep.empty() {
			t.Fatalf("not empty: %+v", ix)
		}
	})
}

func TestRetainedAgainstMatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r retained
		model := map[string]bool{}
		for range rapid.IntRange(0, 30).Draw(t, "changes") {
			topic := drawTopic(t)
			if rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
				if r.remove(topic) != model[topic] {
					t.Fatalf("remove %q", topic)
				}
				delete(model, topic)
				continue
			}
			m := session.NewMessage(&mqtt.Publish{Payload: []byte("x")}, topic, "", "", time.Time{})
			r.put(m, new(putting))
			m.Release()
			model[topic] = true
		}
		filter := drawFilter(t)
		var got, want []string
		r.match(filter, func(n *leaf) bool {
			if n.message != nil {
				got = append(got, n.message.Topic)
			}
			return true
		})
		for topic := range model {
			if mqtt.Match(filter, topic) {
				want = append(want, topic)
			}
		}
		sort.Strings(got)
		sort.Strings(want)
		if !slices.Equal(got, want) || r.count != len(model) {
			t.Fatalf("%s: got %q, want %q", filter, got, want)
		}
		for topic := range model {
			r.remove(topic)
		}
		if r.count != 0 || r.bytes != 0 || len(r.root.children) != 0 {
			t.Fatalf("not empty: %+v", r)
		}
	})
}

func TestMatchDoesNotAllocate(t *testing.T) {
	var ix index
	for i := range 100 {
		ix.add(&client{id: fmt.Sprint(i)}, store.Subscription{Subscription: mqtt.Subscription{Filter: "a/+/c", QoS: 1}, ID: 1})
	}
	ix.match("a/b/c", "")
	if n := testing.AllocsPerRun(100, func() { ix.match("a/b/c", "") }); n != 0 || len(ix.hits) != 100 {
		t.Errorf("%v allocations, %d hits", n, len(ix.hits))
	}
}

// A client that has many filters which match costs one growing list of identifiers,
// not one for each of them.
func TestManyIdentifiersOfOneMessage(t *testing.T) {
	const depth = 10
	var ix index
	c := &client{id: "c"}
	for n := range 1 << depth {
		filter := make([]string, depth)
		for i := range filter {
			filter[i] = [2]string{"a", "+"}[n>>i&1]
		}
		ix.add(c, store.Subscription{Subscription: mqtt.Subscription{Filter: strings.Join(filter, "/")}, ID: uint32(n + 1)})
	}
	topic := strings.Repeat("a/", depth-1) + "a"
	n := testing.AllocsPerRun(10, func() { ix.match(topic, "") })
	if ids := ix.hits[0].ids; len(ix.hits) != 1 || len(ids) != 1<<depth || n > 20 {
		t.Errorf("%d hits, %d identifiers, %v allocations", len(ix.hits), len(ids), n)
	}
}
