package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
)

// killRounds is the environment variable for how often the tests that ask roundsOf
// kill what they test; scripts/soak.sh sets it.
const killRounds = "WILCO_KILL_ROUNDS"

func roundsOf(t *testing.T, small int) int {
	t.Helper()
	s := os.Getenv(killRounds)
	if s == "" {
		return small
	}
	rounds, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", killRounds, err)
	}
	return rounds
}

// TestBrokerKillNine kills a broker that keeps its queues on disk again and again,
// while publishers and subscribers of QoS 1 and 2 are at work over both versions.
// Nothing that was acknowledged is lost, QoS 2 comes once, and each publisher's
// messages come in order: to each subscriber, and to the two together that share
// a subscription by topic.
// Shows [B4b].
func TestBrokerKillNine(t *testing.T) {
	t.Parallel()
	for _, durability := range []string{"fsync", "os"} { // a killed process costs neither of them anything
		t.Run(durability, func(t *testing.T) { brokerKillNine(t, durability) })
	}
}

func brokerKillNine(t *testing.T, durability string) {
	rounds := roundsOf(t, 10)
	seed := seedOf(t)
	rnd := rand.New(rand.NewPCG(seed, 19))
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	start := func() *process {
		p, err := startBroker(address, data, durability)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	broker := start()
	t.Cleanup(func() { broker.kill() })
	var hears []*hearer
	var speaks []*speaker
	versions := []mqtt.Version{mqtt.V5, mqtt.V311}
	for i, v := range versions {
		hears = append(hears, newHearer(t, address, fmt.Sprint("hears-", i), v))
	}
	hears = append(hears, newTeam(t, address))
	for i, v := range append(versions, versions...) {
		speaks = append(speaks, newSpeaker(t, address, fmt.Sprint("speaks-", i), v, mqtt.QoS(1+i/2)))
	}
	var starting time.Duration
	for range rounds {
		<-time.After(time.Duration(100+rnd.IntN(400)) * time.Millisecond)
		if !broker.running() {
			t.Fatalf("the broker has ended by itself: %v\n%s", broker.err, broker.out.String())
		}
		broker.kill()
		began := time.Now()
		broker = start()
		starting += time.Since(began)
	}
	total := 0
	for _, s := range speaks {
		s.finish()
		total += int(s.acked.Load())
	}
	for _, h := range hears {
		h.check(speaks)
	}
	t.Logf("%d kills, %s to be ready again; %d messages acknowledged, each for %d subscribers",
		rounds, (starting / time.Duration(rounds)).Round(time.Millisecond), total, len(hears))
	if err := broker.stop(); err != nil {
		t.Error(err)
	}
}

// startBroker starts wilco broker and returns when it is ready.
func startBroker(address, data, durability string) (*process, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p, err := spawn("wilco broker", w, nil, program("wilco"), "broker", "--tcp", address, "--anonymous", "--data", data, "--durability", durability, "--share", "key:topic")
	w.Close()
	if err != nil {
		r.Close()
		return nil, err
	}
	timer := time.AfterFunc(patience, p.kill)
	defer timer.Stop()
	line, err := bufio.NewReader(r).ReadString('\n')
	go func() { _, _ = io.Copy(io.Discard, r); r.Close() }()
	if err != nil || !strings.HasPrefix(line, "ready") {
		p.kill()
		return nil, fmt.Errorf("wilco broker is not ready: %q %v\n%s", line, err, p.out.String())
	}
	return p, nil
}

var hasty = client.Backoff{Min: 10 * time.Millisecond, Max: 50 * time.Millisecond}

// speaker publishes numbers, so many under way at a time, until told to stop.
type speaker struct {
	t     *testing.T
	id    string
	qos   mqtt.QoS
	c     *client.Client
	acked atomic.Int64 // all up to this one, since they come in order
	stop  chan struct{}
	done  chan struct{}
}

func newSpeaker(t *testing.T, address, id string, v mqtt.Version, qos mqtt.QoS) *speaker {
	t.Helper()
	s := &speaker{t: t, id: id, qos: qos, stop: make(chan struct{}), done: make(chan struct{})}
	s.c = dialBroker(t, client.Options{Servers: []string{"mqtt://" + address}, ClientID: id, Version: v})
	go s.run()
	return s
}

func (s *speaker) run() {
	defer close(s.done)
	window := make(chan struct{}, 50)
	var wg sync.WaitGroup
	defer wg.Wait()
	for n := int64(1); ; n++ {
		select {
		case <-s.stop:
			return
		case window <- struct{}{}:
		}
		wg.Add(1)
		err := s.c.PublishAsync(client.Message{Topic: "kill/" + s.id, QoS: s.qos, Payload: strconv.AppendInt(nil, n, 10)}, func(r client.Result) {
			if r.Err != nil || r.Reason.Failed() || !s.acked.CompareAndSwap(n-1, n) {
				s.t.Errorf("%s: message %d: %+v after %d", s.id, n, r, s.acked.Load())
			}
			<-window
			wg.Done()
		})
		if err != nil {
			s.t.Error(err)
			wg.Done()
			return
		}
	}
}

// finish stops when all that was published is acknowledged.
func (s *speaker) finish() {
	s.t.Helper()
	close(s.stop)
	select {
	case <-s.done:
	case <-time.After(patience):
		s.t.Fatalf("%s: acknowledged up to %d only", s.id, s.acked.Load())
	}
}

// hearer is a lasting session, or those of a team that shares what comes, and
// writes down what it gets, by topic.
type hearer struct {
	t    *testing.T
	id   string
	mu   sync.Mutex
	got  map[string][]int64
	more chan struct{}
}

func newHearer(t *testing.T, address, id string, v mqtt.Version) *hearer {
	t.Helper()
	h := &hearer{t: t, id: id, got: map[string][]int64{}, more: make(chan struct{}, 1)}
	h.join(address, id, v, "kill/#")
	return h
}

// newTeam makes a hearer of two sessions that share a subscription.
func newTeam(t *testing.T, address string) *hearer {
	t.Helper()
	h := &hearer{t: t, id: "team", got: map[string][]int64{}, more: make(chan struct{}, 1)}
	h.join(address, "team-0", mqtt.V5, "$share/team/kill/#")
	h.join(address, "team-1", mqtt.V311, "$share/team/kill/#")
	return h
}

func (h *hearer) join(address, id string, v mqtt.Version, filter string) {
	h.t.Helper()
	dialBroker(h.t, client.Options{Servers: []string{"mqtt://" + address}, ClientID: id, Version: v,
		Subscriptions: []mqtt.Subscription{{Filter: filter, QoS: mqtt.ExactlyOnce}}, OnMessage: h.hear})
}

func (h *hearer) hear(d *client.Delivery) {
	n, err := strconv.ParseInt(string(d.Payload), 10, 64)
	if err != nil {
		h.t.Error(err)
	}
	h.mu.Lock()
	h.got[d.Topic] = append(h.got[d.Topic], n)
	h.mu.Unlock()
	d.Ack()
	select {
	case h.more <- struct{}{}:
	default:
	}
}

// check waits for the last message of each speaker, and looks at all of them.
func (h *hearer) check(speaks []*speaker) {
	h.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for _, s := range speaks {
		topic, last := "kill/"+s.id, s.acked.Load()
		for !h.has(topic, last) {
			select {
			case <-h.more:
			case <-timer.C:
				h.t.Fatalf("%s: message %d of %s is lost", h.id, last, s.id)
			}
		}
		h.mu.Lock()
		high := int64(0)
		for _, n := range h.got[topic] {
			switch {
			case n > high+1:
				h.t.Fatalf("%s: %d of %s after %d", h.id, n, s.id, high)
			case n <= high && s.qos == mqtt.ExactlyOnce:
				h.t.Fatalf("%s: %d of %s came again at QoS 2", h.id, n, s.id)
			}
			high = max(high, n)
		}
		h.mu.Unlock()
	}
}

func (h *hearer) has(topic string, n int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Contains(h.got[topic], n)
}

// dialBroker connects a client that stays for the test.
func dialBroker(t *testing.T, o client.Options) *client.Client {
	t.Helper()
	o.SessionExpiry, o.Backoff = time.Hour, hasty
	c, err := client.New(o)
	if err != nil {
		t.Fatal(err)
	}
	c.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = c.Stop(ctx) // the broker may be gone
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.AwaitUp(ctx); err != nil {
		t.Fatal(err)
	}
	return c
}
