package device_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/device"
	"github.com/wilco-iot/wilco/wire"
)

const (
	childDir    = "WILCO_TEST_DEVICE_DIR" // set: this process is the device of TestKill
	childServer = "WILCO_TEST_DEVICE_SERVER"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := child(dir, os.Getenv(childServer)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child is a device whose effect in the world is a line in a file.
func child(dir, server string) error {
	effects, err := os.OpenFile(filepath.Join(dir, "effects"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	d, err := device.New(device.Config{Address: address, Servers: []string{server}, Dir: dir, Parallel: 2})
	if err != nil {
		return err
	}
	d.Handle("x", func(_ context.Context, r *device.Request) (any, error) {
		if _, err := fmt.Fprintln(effects, r.TID); err != nil {
			return nil, err
		}
		return r.TID, effects.Sync()
	})
	return d.Run(context.Background())
}

// listen serves a device over TCP.
func (s *server) listen() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.set(func(s *server) { s.conn = conn })
			go s.serve(conn)
		}
	}()
	return "mqtt://" + l.Addr().String()
}

// TestKill kills the device with signal 9 at some moment, again and again,
// while commands come, each more than once. Nothing is ever executed twice, and
// in the end every command has exactly one outcome, which agrees with what was
// done.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("60 processes")
	}
	const rounds, perRound = 60, 4
	dir := t.TempDir()
	s := &server{t: t, heard: make(chan struct{}, 1)}
	address := s.listen()
	var tids []string
	for round := range rounds {
		for i := range perRound {
			tid := fmt.Sprintf("r%d-%d", round, i)
			tids = append(tids, tid)
			s.request(tid, "x")
			s.request(tids[rand.IntN(len(tids))], "x")
		}
		// Each new command gets a result, and an ack unless it came before the device
		// took itself for connected.
		enough, last := 1+rand.IntN(2*perRound+1), fmt.Sprintf("r%d-%d", round, perRound-1)
		runChild(t, s, dir, address, func(said int) bool { return said >= enough || s.ended(last) })
	}
	final := map[string]string{}
	runChild(t, s, dir, address, func(int) bool { return settled(t, s, tids, final) })

	done := map[string]int{}
	for _, tid := range effects(t, dir) {
		done[tid]++
	}
	interrupted := 0
	for _, tid := range tids {
		switch outcome := final[tid]; {
		case done[tid] > 1:
			t.Errorf("%s was executed %d times", tid, done[tid])
		case outcome == "result SUCCESS \""+tid+"\"" && done[tid] == 1:
		case outcome == "result FAILURE (interrupted)":
			interrupted++
		default:
			t.Errorf("%s ended as %q and was executed %d times", tid, outcome, done[tid])
		}
	}
	t.Logf("%d commands, %d of them interrupted, %d kills", len(tids), interrupted, rounds)
	if interrupted == len(tids) {
		t.Error("no command was ever executed to its end")
	}
}

// ended tells whether the device has said how a command ended, since the last log.
func (s *server) ended(tid string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.said, func(up wire.Up) bool {
		return up.Kind == wire.UpResult && up.Result.TID == tid && wire.Final(up.Result.Status)
	})
}

// runChild runs the device until enough says so of the number of documents that it
// has said, and then kills it.
func runChild(t *testing.T, s *server, dir, address string, enough func(said int) bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childServer+"="+address)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	var before int
	s.set(func(s *server) { before = s.total })
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for over := false; !over; {
		select {
		case <-s.heard:
			said := 0
			s.set(func(s *server) { said = s.total - before })
			over = enough(said)
		case <-time.After(time.Minute):
			cmd.Process.Signal(syscall.SIGQUIT) // it says where it stands
			cmd.Wait()
			t.Fatalf("the device says nothing more; its words were: %s", stderr.String())
		}
	}
	cmd.Process.Kill() // SIGKILL
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("the device ended by itself: %v: %s", err, stderr.String())
	}
}

// settled takes note of the outcomes said so far, of which there must not be
// two for one tid, and tells whether all are known.
func settled(t *testing.T, s *server, tids []string, final map[string]string) bool {
	for _, tid := range tids {
		for _, said := range s.log(tid) {
			if said == "ack "+wire.Received || strings.HasPrefix(said, "result "+wire.Running) {
				continue
			}
			if was, ok := final[tid]; ok && was != said {
				t.Errorf("%s ended as %q and as %q", tid, was, said)
			}
			final[tid] = said
		}
	}
	return !slices.ContainsFunc(tids, func(tid string) bool { return final[tid] == "" })
}

func effects(t *testing.T, dir string) []string {
	f, err := os.Open(filepath.Join(dir, "effects"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var lines []string
	for in := bufio.NewScanner(f); in.Scan(); {
		lines = append(lines, in.Text())
	}
	return lines
}
