package check

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/wilco-iot/wilco/order"
)

const (
	// smallDisk is how much free space is filled up without asking anybody.
	smallDisk = 256 << 20
	// fileLimit is the largest file a broker may write where its disk is too
	// large to be filled.
	fileLimit = 2 << 20
)

// diskFull publishes to a broker whose disk is full: what it acknowledges
// nevertheless must be there when it has stopped in good order, the disk has
// room again, and it is started.
func diskFull(t *trial) {
	topic := t.topic("t")
	sub := t.subscriber(topic, 1, 10)
	sub.leave()
	pub := t.publisher("p")
	pub.send(20, message{topic: topic, qos: 1})
	var took bool
	free, err := freeSpace(t.o.Data)
	if err != nil {
		t.stop(err)
		return
	}
	if free <= smallDisk {
		ballast := filepath.Join(t.o.Data, "wilco-check-ballast")
		defer func() { _ = os.Remove(ballast) }()
		t.note("the file system of --data was filled up")
		fillUp(ballast)
		took = t.pressDisk(pub, topic)
		t.process.stop()
		_ = os.Remove(ballast)
	} else {
		t.note("the broker could write files of %d MiB at most (RLIMIT_FSIZE): its file system is too large to be filled", fileLimit>>20)
		pub.leave()
		t.process.stop()
		// dash counts blocks of 512 bytes, as POSIX does, and bash of 1024.
		if !t.restart("sh", "-c", fmt.Sprintf(`ulimit -f %d; exec "$@"`, fileLimit/512), "sh") || !pub.connect() {
			return
		}
		took = t.pressDisk(pub, topic)
		t.process.stop()
	}
	if !t.restart() || !sub.connect() {
		return
	}
	if j := t.check(Rule{}, sub, pub); took && j.Lost == (order.Loss{}) && !t.over() {
		t.skip("the broker took everything, and has it: its disk was not full; is its data in --data?")
	}
}

// fillUp writes until the disk takes no more.
func fillUp(path string) {
	f, err := os.Create(path)
	if err != nil {
		return // it is full already
	}
	defer func() { _ = f.Close() }()
	for chunk := make([]byte, 1<<20); len(chunk) > 512; {
		if _, err := f.Write(chunk); err != nil {
			chunk = chunk[:len(chunk)/2]
		}
	}
	_ = f.Sync()
}

// pressDisk publishes 6 MiB, or until the broker refuses, or says nothing any
// more, or ends the connection; each of them is an honest answer. It tells
// whether the broker has acknowledged everything.
func (t *trial) pressDisk(pub *client, topic string) bool {
	const messages, window = 400, 8
	refused := func() (n int) {
		for _, s := range pub.sent {
			if s.Refused {
				n++
			}
		}
		return n
	}
	for range messages {
		if t.over() || !pub.wait(t.patience(), func() bool {
			return len(pub.flights) < window || pub.ended[pub.conn] != nil
		}) {
			break
		}
		pub.mu.Lock()
		enough := pub.ended[pub.conn] != nil || refused() >= window
		pub.mu.Unlock()
		if enough || !pub.publish(message{topic: topic, qos: 1, pad: 16 << 10}) {
			break
		}
		pub.flush()
	}
	pub.wait(min(t.patience(), time.Second), func() bool { return len(pub.flights) == 0 || pub.ended[pub.conn] != nil })
	pub.mu.Lock()
	defer pub.mu.Unlock()
	acked := 0
	for _, s := range pub.sent {
		if s.Acked {
			acked++
		}
	}
	t.note("of %d messages %d were acknowledged, %d refused, %d not answered", len(pub.sent), acked, refused(), len(pub.sent)-acked-refused())
	if err := pub.ended[pub.conn]; err != nil {
		t.note("then the connection ended: %v", err)
	}
	if err := t.process.gone(); err != nil {
		t.note("and the broker: %v", err)
	}
	return acked == len(pub.sent)
}
