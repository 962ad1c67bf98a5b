package uplink

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/mqtt/client/filestore"
)

var roomy = broker.Queue{Messages: 100_000, Bytes: 1 << 30}

// The line is cut, goes dead without a word, and the gateway is killed, at random
// moments under load: each message of each lane is heard above once, in its order.
func TestOnceAndInOrder(t *testing.T) {
	seeds := []uint64{1, 2, 3}
	if s := os.Getenv("WILCO_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seeds = []uint64{n}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { onceAndInOrder(t, seed) }) })
	}
}

func onceAndInOrder(t *testing.T, seed uint64) {
	const all = 3000
	r := rand.New(rand.NewPCG(seed, 0))
	latest := fifo("l/#", roomy)
	latest.Latest = true
	w := newWorld(t, fifo("a/#", roomy), fifo("b/#", roomy), latest)
	above := listen(t, w.above, "a/#", "b/#", "l/#")
	mouth := speaker(t, w.below)
	synctest.Wait()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := range all {
			say(t, mouth, []string{"a/x", "b/y", "l/z"}[n%3], strconv.Itoa(n))
			if n%7 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	}()
	kills := 0
	for ended := false; !ended; {
		time.Sleep(time.Duration(r.IntN(40_000)) * time.Microsecond)
		switch r.IntN(4) {
		case 0:
			w.line.cut()
		case 1:
			w.line.stick()
		case 2:
			w.line.mend()
		default:
			w.kill()
			kills++
		}
		select {
		case <-done:
			ended = true
		default:
		}
	}
	w.line.mend()
	settle()
	last := map[string]int{}
	count := map[string]int{}
	for _, h := range above.heard() {
		topic, text, _ := strings.Cut(h, " ")
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		if before, ok := last[topic]; ok && (n <= before || topic != "l/z" && n != before+3) {
			t.Errorf("%s: %d came after %d", topic, n, before)
		}
		last[topic] = n
		count[topic]++
	}
	if count["a/x"] != all/3 || count["b/y"] != all/3 || last["l/z"] != all-1 {
		t.Errorf("of %d each came %v, the last %v", all/3, count, last)
	}
	t.Logf("seed %d: %d kills; of %d aggregated %d came", seed, kills, all/3, count["l/z"])
}

// While the line is cut, only the last of each topic is kept, also over a kill; what it
// stands for is told and counted.
func TestLatest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fifo("l/#", broker.Queue{Messages: 3, Bytes: 1 << 20})
		l.Latest = true
		w := newWorld(t, l)
		above := listen(t, w.above, "l/#")
		mouth := speaker(t, w.below)
		synctest.Wait()
		say(t, mouth, "l/a", "0")
		settle()
		w.line.cut()
		synctest.Wait()
		for n := 1; n <= 10; n++ {
			say(t, mouth, "l/a", strconv.Itoa(n))
			say(t, mouth, "l/b", strconv.Itoa(n))
			if n == 5 {
				synctest.Wait()
				w.kill()
			}
		}
		say(t, mouth, "l/c", "1")
		synctest.Wait()
		w.line.mend()
		settle()
		if got, want := above.heard(), []string{"l/a 0", "l/a 10", "l/b 10", "l/c 1"}; !slices.Equal(got, want) {
			t.Errorf("heard %q, want %q", got, want)
		}
		if got := gaps(above.said[1]); !slices.Equal(got, []string{"9 aggregated"}) {
			t.Errorf("the first tells of %q", got)
		}
		w.line.cut()
		synctest.Wait()
		for _, topic := range []string{"l/p", "l/q", "l/r", "l/s", "l/t"} {
			say(t, mouth, topic, "x")
		}
		synctest.Wait()
		w.line.mend()
		settle()
		if got, want := above.heard()[4:], []string{"l/r x", "l/s x", "l/t x"}; !slices.Equal(got, want) {
			t.Errorf("heard %q, want %q", got, want)
		}
		if got := gaps(above.said[4]); !slices.Equal(got, []string{"2 queue_full"}) {
			t.Errorf("the first tells of %q", got)
		}
		if counts := w.u.Counts(); !slices.Contains(counts, Count{"l/#", "queue_full", 2}) {
			t.Errorf("%v", counts)
		}
	})
}

func gaps(m client.Message) (list []string) {
	for _, p := range gapsOf(&m) {
		list = append(list, p.Value)
	}
	return list
}

// Each lane has its own bounds and its own policy: one that is full neither takes room
// from another nor makes it wait, and what it culls is told and counted.
func TestBoundsAreOfTheLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fifo("small/#", broker.Queue{Messages: Window + 10, Bytes: 1 << 20, Overflow: broker.DropOldest}),
			fifo("full/#", broker.Queue{Messages: Window + 5, Bytes: 1 << 20}), fifo("large/#", roomy))
		above := listen(t, w.above, "#")
		mouth := speaker(t, w.below)
		synctest.Wait()
		w.line.cut()
		synctest.Wait()
		const most = 2000
		for n := range most {
			say(t, mouth, "large/x", strconv.Itoa(n)) // takes the whole outbox
		}
		for n := range 100 {
			say(t, mouth, "small/x", strconv.Itoa(n))
		}
		refused := 0
		for n := range 100 {
			err := mouth.Publish(t.Context(), client.Message{Topic: "full/x", Payload: []byte(strconv.Itoa(n)), QoS: mqtt.AtLeastOnce})
			if err != nil {
				refused++
			}
		}
		w.line.mend()
		settle()
		by := map[string][]string{}
		var first client.Message
		for _, m := range above.said {
			by[m.Topic] = append(by[m.Topic], string(m.Payload))
			if len(gapsOf(&m)) > 0 && first.Topic == "" {
				first = m
			}
		}
		if n := len(by["large/x"]); n != most {
			t.Errorf("%d of the large lane", n)
		}
		// The first is with the lane's client, where it waits for the outbox.
		if got, want := strings.Join(by["small/x"], " "), "0 91 92 93 94 95 96 97 98 99"; got != want {
			t.Errorf("of the small lane %q, want %q", got, want)
		}
		if got := gaps(first); !slices.Equal(got, []string{"90 queue_full"}) || !slices.Contains(w.u.Counts(), Count{"small/#", "queue_full", 90}) {
			t.Errorf("told %q, counted %v", got, w.u.Counts())
		}
		if n := len(by["full/x"]); n != 5 || refused != 95 {
			t.Errorf("%d of the full lane came, and %d were refused", n, refused)
		}
	})
}

// A lane that is not named any more leaves no session that fills.
func TestALaneThatIsNotNamedEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fifo("a/#", roomy), fifo("b/#", broker.Queue{Messages: 3 * Window, Bytes: 1 << 20}))
		mouth := speaker(t, w.below)
		synctest.Wait()
		w.line.cut()
		for range 2 * Window {
			say(t, mouth, "b/x", "1")
		}
		synctest.Wait()
		if n := w.below.Queued("up/b/#"); n != Window {
			t.Errorf("%d wait", n)
		}
		w.stop()
		w.lanes = w.lanes[:1]
		w.start()
		settle()
		for range 4 * Window {
			say(t, mouth, "b/x", "1")
		}
		if n := w.below.Queued("up/b/#"); n != 0 {
			t.Errorf("%d wait for nobody", n)
		}
		w.line.mend()
		settle()
	})
}

// A broker that has lost its store would give numbers anew: what is new is no repeat.
func TestABrokerThatHasLostItsStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fifo("a/#", roomy))
		above := listen(t, w.above, "#")
		for _, text := range []string{"1", "2"} {
			mouth := speaker(t, w.below)
			synctest.Wait()
			say(t, mouth, "a/x", text)
			settle()
			w.stop()
			w.below = startBroker(t)
			w.start()
		}
		if got, want := above.heard(), []string{"a/x 1", "a/x 2"}; !slices.Equal(got, want) {
			t.Errorf("heard %q, want %q", got, want)
		}
	})
}

// A repeat may be of what is not durable yet: it is not acknowledged before that is.
func TestARepeatIsAcknowledgedInTurn(t *testing.T) {
	below := startBroker(t)
	u, err := New(Options{Dir: t.TempDir(), Lanes: []Lane{fifo("a/#", roomy)}, Dial: below.DialQueue, NumberAbove: below.NumberAbove,
		Upstream: client.Options{ClientID: "gw", Dial: below.Dial}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		u.lanes[0].take(&client.Delivery{Message: client.Message{Topic: "a/x", QoS: mqtt.AtLeastOnce,
			User: []mqtt.UserProperty{{Key: broker.NumberProperty, Value: "7"}}}})
	}
	if len(u.acks) != 2 || len(u.box.kept) != 1 {
		t.Errorf("%d wait to be acknowledged, %d are in the outbox", len(u.acks), len(u.box.kept))
	}
	if err := u.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// A crash between the younger of a topic and the end of the older leaves both in the file.
func TestLatestAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fifo("l/#", roomy)
		l.Latest = true
		w := newWorld(t, l)
		above := listen(t, w.above, "#")
		w.line.cut()
		w.stop()
		file, err := filestore.Open(w.u.latestPath(l.Client), filestore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for n := range uint64(2) {
			m := client.Message{Topic: "l/a", Payload: []byte(strconv.Itoa(int(n))), QoS: mqtt.AtLeastOnce}
			if err := file.AddFrom(client.Record{Seq: n + 1, Message: m}, l.Client, n+1); err != nil {
				t.Fatal(err)
			}
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		w.start()
		mouth := speaker(t, w.below)
		synctest.Wait()
		say(t, mouth, "l/b", "x")
		synctest.Wait()
		w.line.mend()
		settle()
		if got, want := above.heard(), []string{"l/a 1", "l/b x"}; !slices.Equal(got, want) {
			t.Errorf("heard %q, want %q", got, want)
		}
	})
}

// What a publisher adds as properties takes room too.
func TestLatestCountsProperties(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fifo("l/#", broker.Queue{Messages: 10, Bytes: 3000})
		l.Latest = true
		w := newWorld(t, l)
		mouth := speaker(t, w.below)
		synctest.Wait()
		w.line.cut()
		synctest.Wait()
		for n := range 4 {
			m := client.Message{Topic: fmt.Sprint("l/", n), QoS: mqtt.AtLeastOnce,
				User: []mqtt.UserProperty{{Key: "k", Value: strings.Repeat("x", 1000)}}}
			if err := mouth.Publish(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if got := w.u.Counts(); !slices.Equal(got, []Count{{"l/#", "queue_full", 2}}) {
			t.Errorf("%v", got)
		}
		w.line.mend()
		settle()
	})
}

// A session is noted before it is there, and until it has ended; its file goes with it.
func TestSessionsAreNotedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fifo("l/#", roomy)
		l.Latest = true
		w := newWorld(t, fifo("a/#", roomy), l)
		synctest.Wait()
		w.stop()
		w.lanes = []Lane{fifo("b/#", roomy)}
		for _, want := range []string{`["up/a/#","up/l/#","up/b/#"]`, `["up/b/#"]`} {
			u, err := New(Options{Dir: w.dir, Lanes: w.lanes, NumberAbove: w.below.NumberAbove, Dial: w.below.DialQueue,
				Upstream: client.Options{ClientID: "gw", Dial: w.above.Dial}})
			if err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(filepath.Join(w.dir, lanesFile)); string(b) != want {
				t.Errorf("noted: %s, %v; want %s", b, err, want)
			}
			if err := u.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			w.start()
			settle()
			w.stop()
		}
		w.start()
		if _, err := os.Stat(w.u.latestPath(l.Client)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the file of a lane that has ended: %v", err)
		}
	})
}

// Losses are told ever more seldom, whatever comes at once.
func TestLossesAreToldEverMoreSeldom(t *testing.T) {
	var c counts
	var told []uint64
	for _, n := range []uint64{1, 1, 1, 1, 1, 10, 1, 1, 1} {
		if all, tell := c.add("l", "r", n); tell {
			told = append(told, all)
		}
	}
	if !slices.Equal(told, []uint64{1, 2, 4, 15, 16}) {
		t.Errorf("%v", told)
	}
}

// Files that are damaged are put aside, and what is said from then on goes up.
func TestDamagedFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fifo("l/#", roomy)
		l.Latest = true
		w := newWorld(t, fifo("a/#", roomy), l)
		above := listen(t, w.above, "#")
		mouth := speaker(t, w.below)
		synctest.Wait()
		w.line.cut()
		synctest.Wait()
		for n := range 3 {
			say(t, mouth, "a/x", strconv.Itoa(n))
			say(t, mouth, "l/x", strconv.Itoa(n))
		}
		synctest.Wait()
		w.stop()
		files := []string{filepath.Join(w.dir, "outbox"), w.u.latestPath(l.Client)}
		for _, path := range files {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			b[30] ^= 1
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		w.start()
		synctest.Wait()
		w.line.mend()
		settle()
		say(t, mouth, "a/x", "new")
		say(t, mouth, "l/x", "new")
		settle()
		heard := above.heard()
		for _, want := range []string{"a/x new", "l/x new"} {
			if !slices.Contains(heard, want) {
				t.Errorf("heard %q without %q", heard, want)
			}
		}
		for _, path := range files {
			if _, err := os.Stat(path + ".damaged"); err != nil {
				t.Error(err)
			}
		}
	})
}
