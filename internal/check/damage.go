package check

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/internal/fault"
)

// damaged stops the broker in good order, damages what it has on its disk, and
// starts it again: with one bit flipped in the middle of what waits for a
// subscriber, and with the last record torn.
func damaged(t *trial) {
	damageOnce(t, "flip", 60, func(b []byte, at int) []byte {
		b[at] ^= 1 << t.rng.IntN(7)
		return b
	})
	damageOnce(t, "tear", 120, func(b []byte, at int) []byte { return b[:at] })
}

// damageOnce damages the record of the n-th of 120 messages.
func damageOnce(t *trial, name string, n int, harm func(b []byte, at int) []byte) {
	if t.over() {
		return
	}
	topic := t.topic(name)
	sub := t.subscriber(topic, 1, 10)
	sub.leave()
	pub := t.publisher("p-" + name)
	// It is sent alone, so that what is damaged with it is its own fault only.
	for _, n := range []int{n - 1, 1, 120 - n} {
		pub.send(n, message{topic: topic, qos: 1, pad: 100})
	}
	pub.leave()
	if t.over() {
		return
	}
	usual := t.process.lines()
	t.process.stop()
	restore, err := setAside(t.o.Data)
	if err != nil {
		t.stop(err)
		return
	}
	defer func() {
		t.process.kill()
		if err := restore(); err != nil {
			t.stop(err)
		} else if err := t.process.start(); err != nil {
			t.stop(err)
		} else if err := t.ready(t.ctx); err != nil {
			t.stop(err)
		}
	}()
	place, err := find(t.o.Data, t.prefix, Key{pub.name, n})
	if err != nil {
		t.stop(err)
		return
	}
	if err := place.damage(harm); err != nil {
		t.stop(err)
		return
	}
	how := fmt.Sprintf("%s in %s", name, filepath.Base(place.path))
	if place.blind {
		how += ", at a place of its own choice, for the messages are not there as they were sent"
		n = 0
	}
	if err := t.process.start(); err != nil {
		t.stop(err)
		return
	}
	if err := t.ready(t.ctx); err != nil {
		t.find(NoStart, "%s; the broker says %q", how, complaint(t.process.lines(), usual))
		return
	}
	if !sub.connect() {
		return
	}
	t.whatIsLeft(sub, pub, how, n, usual)
}

// whatIsLeft judges what came of messages of which the n-th was damaged; 0 is
// for an unknown one. The broker has said so when it says what it did not say
// in its usual lines.
func (t *trial) whatIsLeft(sub, pub *client, how string, n int, usual []string) {
	for more := true; more; { // nobody knows what is owed
		had := len(sub.receipts())
		more = sub.wait(min(t.patience(), time.Second), func() bool { return len(sub.got) > had || sub.ended[sub.conn] != nil }) &&
			len(sub.receipts()) > had
	}
	sent, rule, older := pub.sentSoFar(), Rule{MayDrop: true}, 0
	have := sub.keysSeen()
	for _, s := range sent {
		if s.N < n && !have[s.Key] {
			older++
		}
	}
	line := complaint(t.process.lines(), usual)
	if line != "" {
		rule.Told = len(sent)
	}
	t.note("%s: %d of %d messages came; the broker says %q", how, sub.summary().different, len(sent), line)
	if older > 0 {
		t.find(LossAcked, "%d messages are gone that are older than the damaged one", older)
	}
	t.judged(rule, sent, sub.receipts())
}

var complains = regexp.MustCompile(`(?i)corrupt|damag|checksum|\bcrc|torn|truncat|invalid|unexpected|error|warn|lost|discard|skip|bad `)

var digits = regexp.MustCompile(`[0-9]+`)

// complaint is the first line in which a broker speaks of damage, unless it has
// said the same, but for its numbers, in its usual lines.
func complaint(lines, usual []string) string {
	said := map[string]bool{}
	for _, line := range usual {
		said[digits.ReplaceAllString(line, "0")] = true
	}
	for _, line := range lines {
		if complains.MatchString(line) && !said[digits.ReplaceAllString(line, "0")] {
			return strings.ReplaceAll(line[:min(len(line), 300)], "; ", ", ") // a semicolon parts the lines of a detail
		}
	}
	return ""
}

// spot is a place in a file.
type spot struct {
	path  string
	at    int
	blind bool // not known to be that of the message
}

// find looks for the padding of a message in the files below dir. Where the
// broker has written it several times, the file that was written last counts;
// where it is not to be found, as in what is compressed, the end of that which
// holds most messages of the run, or of the newest one.
func find(dir, run string, k Key) (spot, error) {
	mark := fmt.Appendf(nil, "%s%s %s %d ", stampStart, run, k.Pub, k.N)
	any := fmt.Appendf(nil, "%s ", run)
	var newest, busiest, hit spot
	var last, at time.Time
	most := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil || info.Size() == 0 {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		end := max(0, len(b)-10)
		if info.ModTime().After(last) {
			last, newest = info.ModTime(), spot{path, end, true}
		}
		if n := bytes.Count(b, any); n > most {
			most, busiest = n, spot{path, max(0, min(end, bytes.LastIndex(b, any))), true}
		}
		if i := bytes.LastIndex(b, mark); i >= 0 && !info.ModTime().Before(at) {
			at, hit = info.ModTime(), spot{path, i + len(mark) + 10, false}
		}
		return nil
	})
	for _, s := range []spot{hit, busiest, newest} {
		if err == nil && s.path != "" {
			return s, nil
		}
	}
	if err == nil {
		err = fault.Field("data", "%s has no files: is it the directory of the broker?", dir)
	}
	return spot{}, err
}

func (s spot) damage(harm func(b []byte, at int) []byte) error {
	b, err := os.ReadFile(s.path)
	if err != nil {
		return err
	}
	info, err := os.Stat(s.path)
	if err != nil {
		return err
	}
	return os.WriteFile(s.path, harm(b, s.at), info.Mode())
}

// setAside copies what is in dir, and gives what puts it back.
func setAside(dir string) (restore func() error, err error) {
	copied, err := os.MkdirTemp("", "wilco-check-")
	if err != nil {
		return nil, err
	}
	if err := copyTree(copied, dir); err != nil {
		_ = os.RemoveAll(copied)
		return nil, err
	}
	return func() error {
		defer func() { _ = os.RemoveAll(copied) }()
		list, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, d := range list {
			if err := os.RemoveAll(filepath.Join(dir, d.Name())); err != nil {
				return err
			}
		}
		return copyTree(dir, copied)
	}, nil
}

// copyTree copies files and directories with their modes; a broker may insist
// on them.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil || rel == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.Mkdir(target, info.Mode().Perm())
		}
		if !d.Type().IsRegular() {
			return nil // a socket or a lock that the broker makes anew
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, b, info.Mode().Perm())
	})
}
