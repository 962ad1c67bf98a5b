package uplink

import (
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/mqtt/client/filestore"
)

// latest keeps the last message of each topic of a lane, in a file, while it cannot go
// up. Those that may are handed to the outbox in the order of their numbers.
type latest struct {
	l    *lane
	file *filestore.Store
	wake chan struct{}

	mu    sync.Mutex
	topic map[string]*waiting
	queue []*waiting // in rising order of number; some may be gone
	bytes int
	lost  int    // dropped for want of room, and not told above
	once  uint64 // aggregated since the queue was empty
}

// waiting is one message that waits.
type waiting struct {
	number  uint64
	m       client.Message // without the note of what it stands for
	expires time.Time
	stands  int  // for how many before it
	handed  bool // to the outbox, as yet not durable there
	gone    bool
}

// aggregated is the reason of a gap that a younger message of the topic fills.
const aggregated = "aggregated"

// latestPath is the file of what waits of a lane, by the client identifier of its session.
func (u *Uplink) latestPath(name string) string {
	return filepath.Join(u.opt.Dir, fmt.Sprintf("latest-%x", crc32.ChecksumIEEE([]byte(name))))
}

func (l *lane) openLatest() error {
	file, err := openFile(l.u.latestPath(l.Client), l.u.log)
	if err != nil {
		return err
	}
	k := &latest{l: l, file: file, wake: make(chan struct{}, 1), topic: map[string]*waiting{}}
	records, err := file.Load()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	for _, r := range records {
		if r.Seq <= l.place { // the outbox has had it
			_ = file.Remove(r.Seq)
			continue
		}
		if old := k.topic[r.Message.Topic]; old != nil {
			k.drop(old) // a crash came before the file had its end
		}
		w := &waiting{number: r.Seq, m: r.Message, expires: r.Expires}
		if i := len(w.m.User) - 1; i >= 0 && w.m.User[i].Key == broker.GapProperty {
			if n, ok := strings.CutSuffix(w.m.User[i].Value, " "+aggregated); ok {
				w.stands, _ = strconv.Atoi(n)
				w.m.User = w.m.User[:i]
			}
		}
		k.add(w)
	}
	l.place = max(l.place, file.Place(l.Client))
	l.latest = k
	return nil
}

// size is what a message counts for, in bytes.
func (w *waiting) size() int { return Size(&w.m) + 64 }

// Size is the bytes of a message that its publisher decides about.
func Size(m *client.Message) int {
	n := len(m.Topic) + len(m.Payload) + len(m.ContentType) + len(m.ResponseTopic) + len(m.CorrelationData)
	for _, p := range m.User {
		n += len(p.Key) + len(p.Value)
	}
	return n
}

func (k *latest) add(w *waiting) {
	k.topic[w.m.Topic] = w
	k.queue = append(k.queue, w)
	k.bytes += w.size()
}

// drop takes w out, also out of the file.
func (k *latest) drop(w *waiting) {
	w.gone = true
	k.bytes -= w.size()
	delete(k.topic, w.m.Topic)
	_ = k.file.Remove(w.number) // what a crash brings back was sent, or is older than what is there
	for len(k.queue) > 0 && k.queue[0].gone {
		k.queue = k.queue[1:]
	}
	if len(k.queue) > 2*len(k.topic)+64 {
		var alive []*waiting
		for _, x := range k.queue {
			if !x.gone {
				alive = append(alive, x)
			}
		}
		k.queue = alive
	}
}

// put hands a message to the outbox if nothing waits and it may go up, and keeps it
// otherwise. It says in which file it is.
func (k *latest) put(number uint64, m client.Message) (*filestore.Store, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.queue) == 0 && k.l.u.reach.Load() {
		if err := k.l.u.hand(k.l.Client, number, m); !errors.Is(err, client.ErrFull) {
			return k.l.u.box.Store, err
		}
	}
	w := &waiting{number: number, m: m, expires: expiry(&m)}
	old := k.topic[m.Topic]
	if old != nil && !old.handed {
		w.stands = old.stands + 1
	}
	stored := m
	stored.User = w.told()
	if err := k.file.AddFrom(client.Record{Seq: number, Message: stored, Expires: w.expires}, k.l.Client, number); err != nil {
		return nil, err
	}
	if w.stands > 0 {
		k.once++
		k.l.u.count.add(k.l.Name, aggregated, 1)
	}
	if old != nil {
		k.drop(old)
	}
	k.add(w)
	for q := k.l.Queue; len(k.topic) > 1 && (len(k.topic) > q.Messages || k.bytes > q.Bytes); {
		k.cull()
	}
	select {
	case k.wake <- struct{}{}:
	default:
	}
	return k.file, nil
}

// cull drops the oldest.
func (k *latest) cull() {
	if k.queue[0].handed {
		k.drop(k.queue[0])
		return
	}
	k.l.u.lost(k.l.Name, "queue_full", 1)
	k.lost += 1 + k.queue[0].stands
	k.drop(k.queue[0])
}

// told is the user properties of w, with the note of what it stands for.
func (w *waiting) told() []mqtt.UserProperty {
	if w.stands == 0 {
		return w.m.User
	}
	return append(w.m.User[:len(w.m.User):len(w.m.User)], mqtt.UserProperty{Key: broker.GapProperty, Value: fmt.Sprint(w.stands, " ", aggregated)})
}

// run hands on what waits, whenever it may.
func (k *latest) run() {
	for {
		room := k.l.u.box.room()
		k.send()
		select {
		case <-k.l.u.ctx.Done():
			return
		case <-k.wake:
		case <-room:
		}
	}
}

// send hands on as much as may go up.
func (k *latest) send() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, w := range k.queue {
		if w.gone || w.handed {
			continue
		}
		if !k.l.u.reach.Load() {
			break
		}
		m := w.m
		m.User = w.told()
		if k.lost > 0 {
			m.User = append(m.User[:len(m.User):len(m.User)], mqtt.UserProperty{Key: broker.GapProperty, Value: fmt.Sprint(k.lost, " queue_full")})
		}
		if !w.expires.IsZero() {
			if m.Expiry = time.Until(w.expires); m.Expiry <= 0 {
				k.l.u.count.add(k.l.Name, "expired", 1)
				w.handed = true
				continue
			}
		}
		if err := k.l.u.hand(k.l.Client, w.number, m); err != nil {
			break // run looks again when there is room
		}
		k.lost, w.handed = 0, true
	}
	if len(k.queue) == 0 || !k.queue[0].handed || k.l.u.box.Sync() != nil {
		return
	}
	for len(k.queue) > 0 && k.queue[0].handed {
		k.drop(k.queue[0])
	}
	if len(k.queue) == 0 && k.once > 0 {
		k.l.u.log.Info("messages were aggregated while they could not go up", "filter", k.l.Name, "count", k.once)
		k.once = 0
	}
}
