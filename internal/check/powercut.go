package check

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/wilco-iot/wilco/internal/fault"
)

// syncCannotBeSeen tells why the order of syncs and acknowledgements is not to
// be had.
func (r *run) syncCannotBeSeen() string {
	switch r.url.Scheme {
	case "mqtt", "tcp":
	default:
		return "acknowledgements cannot be seen through " + r.url.Scheme
	}
	if _, err := exec.LookPath("strace"); err != nil {
		return "needs strace, to see whether an acknowledgement leaves before the disk has the message"
	}
	if exec.Command("strace", "-qq", "-o", os.DevNull, "true").Run() != nil {
		return "strace may not trace here"
	}
	return ""
}

// traced are the system calls that show when data is on the disk, and those
// that write to a socket. A question mark is for machines that lack one.
const traced = "trace=?fsync,?fdatasync,?msync,?sync,?syncfs,?openat,?io_uring_enter,?write,?writev,?pwritev2,?sendto,?sendmsg"

// powerCut looks whether a power cut could lose what was acknowledged. It cuts
// nothing: messages are published one at a time to a broker under strace, and
// each acknowledgement must have a completed sync between itself and the one
// before. So it proves a broker wrong, never right: a disk may lie, and the sync
// may have been another file's.
func powerCut(t *trial) {
	dir, err := os.MkdirTemp("", "wilco-check-")
	if err != nil {
		t.stop(fault.Wrap(err, fault.Internal, "make a directory: %v", err))
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	trace := filepath.Join(dir, "trace")
	t.process.stop()
	if !t.restart("strace", "-f", "-qq", "-xx", "-s", "16", "-e", traced, "-o", trace) {
		return
	}
	topic := t.topic("t")
	sub := t.subscriber(topic, 1, 10)
	sub.leave()
	pub := t.publisher("p")
	const messages = 21
	for range messages {
		pub.send(1, message{topic: topic, qos: 1})
	}
	pub.leave()
	t.process.stop()
	if !t.restart() {
		return
	}
	f, err := os.Open(trace)
	if err != nil {
		t.stop(err)
		return
	}
	defer func() { _ = f.Close() }()
	s := readSyncs(bufio.NewScanner(f), messages)
	switch {
	case t.over():
	case s.acks < messages:
		t.skip("strace did not show the acknowledgements")
		return
	case s.other != "":
		t.skip("the broker uses " + s.other + ", of which strace does not tell when the disk has it")
		return
	case s.early > 0:
		t.find(UnsyncedAck, "%d of %d acknowledgements left before a sync", s.early, messages-1)
	default:
		t.note("all of %d acknowledgements left after a sync", messages-1)
	}
	if sub.connect() && sub.connack.SessionPresent {
		t.check(Rule{}, sub, pub)
	}
}

// syncs is what a trace shows.
type syncs struct {
	acks, early int    // PUBACK seen; and without a sync since the one before
	other       string // a way to write that the trace cannot judge
}

var (
	syncDone = regexp.MustCompile(`\b(fsync|fdatasync|msync|sync|syncfs)(\(| resumed).*= 0$`)
	pubackTo = regexp.MustCompile(`\b(write|writev|sendto|sendmsg)\(\d+, [^"]*"\\x40\\x0[2-4]\\x([0-9a-f]{2})\\x([0-9a-f]{2})`)
	selfSync = regexp.MustCompile(`\bopenat\(.*\b(O_D?SYNC)\b|\b(io_uring)_enter\(`)
)

// readSyncs reads the trace of a broker that acknowledges the packet identifiers
// 1 to n, one after another.
func readSyncs(lines *bufio.Scanner, n int) (s syncs) {
	synced := true // nothing is said about the first
	for lines.Scan() {
		line := lines.Text()
		if syncDone.MatchString(line) {
			synced = true
			continue
		}
		if m := selfSync.FindStringSubmatch(line); m != nil {
			s.other = m[1] + m[2]
		}
		m := pubackTo.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if id, err := strconv.ParseUint(m[2]+m[3], 16, 16); err != nil || int(id) != s.acks+1 || s.acks == n {
			continue
		}
		s.acks++
		if !synced {
			s.early++
		}
		synced = false
	}
	return s
}
