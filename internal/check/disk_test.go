package check

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker"
	pebblestore "github.com/wilco-iot/wilco/broker/store/pebble"
	"github.com/wilco-iot/wilco/internal/testkit"
)

// asBroker names the variable that makes the test binary our broker, with an
// address and a directory.
const asBroker = "WILCO_CHECK_AS_BROKER"

// beBroker is our broker with a disk, in a process that can be killed.
func beBroker(address, dir string) error {
	store, err := pebblestore.Open(dir, pebblestore.Options{Reserve: -1, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	b, err := broker.New(broker.Options{Authority: broker.AllowAnonymous(), Store: store,
		Listeners: []broker.Listener{{Name: "tcp", Network: "tcp", Address: address}}})
	if err != nil {
		return err
	}
	if err := b.Start(); err != nil {
		return err
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	<-ctx.Done()
	if err := b.Stop(context.Background()); err != nil {
		return err
	}
	return store.Close()
}

// Patience with processes and disks that may be slow: for what comes, and for what is
// lost, which is waited for in vain.
const (
	diskPatience = time.Minute
	lossPatience = 7500 * time.Millisecond
)

// durableBroker gives the options of a run against our broker with a disk.
func durableBroker(t *testing.T) Options {
	t.Helper()
	address, dir := testkit.FreeAddress(t), t.TempDir()
	return Options{URL: "mqtt://" + address, Data: dir, Patience: diskPatience,
		Start: []string{"env", asBroker + "=" + address + " " + dir, os.Args[0]}}
}

// durableMosquitto is the same for Mosquitto, as Debian configures it.
func durableMosquitto(t *testing.T) Options {
	t.Helper()
	program, address, dir := testkit.MosquittoPath(t), testkit.FreeAddress(t), t.TempDir()
	conf := testkit.MosquittoConfig(t, testkit.MosquittoListener(address), "log_dest stderr",
		"persistence true", "persistence_location "+dir+"/")
	return Options{URL: "mqtt://" + address, Data: dir, Patience: diskPatience, Start: []string{program, "-c", conf}}
}

func needStrace(t *testing.T) {
	t.Helper()
	if why := (&run{url: mustURL(t, "mqtt://localhost")}).syncCannotBeSeen(); why != "" {
		t.Skip(why)
	}
}

func TestDisk(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		id       string
		broker   func(*testing.T) Options
		violated bool
		want     []Verdict
	}{
		{"O25", durableBroker, false, []Verdict{Strict}},
		{"O25", durableMosquitto, true, []Verdict{LossAcked}},
		{"O26", durableBroker, false, []Verdict{Strict}},
		{"O26", durableMosquitto, false, []Verdict{Strict, UnsyncedAck}},
		{"O27", durableBroker, false, []Verdict{Strict}},
		{"O27", durableMosquitto, true, []Verdict{LossAcked}},
		{"O28", durableBroker, false, []Verdict{Strict, GapTold}},
		{"O28", durableMosquitto, true, []Verdict{GapSilent, NoStart, Corrupt}},
	} {
		o := x.broker
		t.Run(fmt.Sprintf("%s/violated %v", x.id, x.violated), func(t *testing.T) {
			t.Parallel()
			if x.id == "O26" {
				needStrace(t)
			}
			o := o(t)
			o.Cases = []string{x.id}
			if x.violated {
				o.Patience = lossPatience
			}
			r := mustRun(t, o)
			if c := r.Cases[0]; c.Violated != x.violated || !slices.Equal(c.Verdicts, x.want) {
				t.Errorf("%s, not %v: %s", c.Line(), x.want, c.Detail)
			}
		})
	}
}

// TestClockStep has a faketime that does nothing but start the broker: what is
// shown is that the case runs, and that it sees a session through restarts.
func TestClockStep(t *testing.T) {
	o := durableMosquitto(t)
	o.Cases = []string{"O15"}
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "faketime"), []byte("#!/bin/sh\nshift 2\nexec \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	if c := mustRun(t, o).Cases[0]; c.Violated || !slices.Equal(c.Verdicts, []Verdict{Strict}) {
		t.Errorf("%s: %s", c.Line(), c.Detail)
	}
}

func TestReadSyncs(t *testing.T) {
	for name, x := range map[string]struct {
		trace string
		want  syncs
	}{
		"a sync each": {`
7 write(4, "\x00\x01"..., 90 <unfinished ...>
8 sendto(9, "\x40\x02\x00\x01", 4, 0, NULL, 0) = 4
7 <... write resumed>) = 90
7 fdatasync(4 <unfinished ...>
8 read(9, "\x32", 1) = 1
7 <... fdatasync resumed>) = 0
8 write(9, "\x40\x02\x00\x02", 4) = 4
7 fsync(4) = 0
8 writev(9, [{iov_base="\x40\x03\x00\x03\x10", iov_len=5}], 1) = 5`, syncs{acks: 3}},
		"none": {`
8 write(9, "\x40\x02\x00\x01", 4) = 4
8 write(9, "\x40\x02\x00\x02", 4) = 4
7 fsync(4) = -1 EIO (Input/output error)
8 write(9, "\x40\x02\x00\x03", 4) = 4`, syncs{acks: 3, early: 2}},
		"begun is not done": {`
8 write(9, "\x40\x02\x00\x01", 4) = 4
7 fsync(4 <unfinished ...>
8 write(9, "\x40\x02\x00\x02", 4) = 4
7 <... fsync resumed>) = 0`, syncs{acks: 2, early: 1}},
		"synchronous writes": {`
7 openat(AT_FDCWD, "\x61", O_RDWR|O_CREAT|O_DSYNC, 0600) = 4
8 write(9, "\x40\x02\x00\x01", 4) = 4`, syncs{acks: 1, other: "O_DSYNC"}},
		"another identifier": {`8 write(9, "\x40\x02\x00\x09", 4) = 4`, syncs{}},
	} {
		if got := readSyncs(bufio.NewScanner(strings.NewReader(x.trace)), 3); got != x.want {
			t.Errorf("%s: %+v, not %+v", name, got, x.want)
		}
	}
}

func TestComplaint(t *testing.T) {
	usual := []string{"12: Warning: runs as root", "ready"}
	for line, want := range map[string]string{
		"13: Warning: runs as root": "", "ready": "", "13: Error: checksum of 5": "13: Error: checksum of 5", "loaded 12": "",
	} {
		if got := complaint([]string{line}, usual); got != want {
			t.Errorf("%q: %q", line, got)
		}
	}
}

// TestDamageHitsItsMessage looks for messages in files, and puts a directory
// back as it was.
func TestDamageHitsItsMessage(t *testing.T) {
	dir := t.TempDir()
	k := Key{"p", 7}
	var log []byte
	for n := range 9 {
		log = appendStamp(log, "run", Key{"p", n + 1}, "t", 100)
	}
	write := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("log", log)
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	write("sub/other", []byte("something else"))
	restore, err := setAside(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := find(dir, "run", k)
	if err != nil || s.blind || filepath.Base(s.path) != "log" {
		t.Fatalf("%+v, %v", s, err)
	}
	if err := s.damage(func(b []byte, at int) []byte { b[at] ^= 4; return b }); err != nil {
		t.Fatal(err)
	}
	harmed, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	each := len(log) / 9
	if s.at/each != 6 || harmed[s.at] == log[s.at] || len(harmed) != len(log) {
		t.Errorf("the damage is at %d of messages of %d bytes", s.at, each)
	}
	write("new", nil)
	if err := restore(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(s.path); err != nil || string(b) != string(log) {
		t.Errorf("not restored: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "new")); err == nil {
		t.Error("what was new is still there")
	}
	if _, err := os.Stat(filepath.Join(dir, "sub/other")); err != nil {
		t.Error(err)
	}
	if s, err := find(dir, "another", k); err != nil || !s.blind {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := find(t.TempDir(), "run", k); err == nil {
		t.Error("a directory without files will do")
	}
}
