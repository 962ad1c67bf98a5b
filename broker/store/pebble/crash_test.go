package pebblestore

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker/store"
)

// childDir tells the test binary that it is a child that is to be killed, and
// which store to write to; childDurability, how.
const (
	childDir        = "WILCO_TEST_STORE"
	childDurability = "WILCO_TEST_STORE_DURABILITY"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		work(dir)
		return
	}
	os.Exit(m.Run())
}

// work queues messages for "c", from the first number that was never used, and
// removes old ones, until it is killed. It says
//
//	a N	message N is durable
//	r N	message N is about to be removed
//	R N	its removal is durable
func work(dir string) {
	d, err := ParseDurability(os.Getenv(childDurability))
	if err != nil {
		panic(err)
	}
	s, err := Open(dir, Options{Durability: d})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var mu sync.Mutex
	say := func(what string, n uint64) {
		mu.Lock()
		fmt.Printf("%s %d\n", what, n)
		mu.Unlock()
	}
	s.Commit(&store.Batch{Ops: []store.Op{putSession("c", true), putSession("d", false)}}, nil)
	for n := s.LastSeq() + 1; ; n++ {
		m := message("t", fmt.Sprint("payload ", n))
		s.Commit(&store.Batch{Ops: []store.Op{appendOp(n, m, "c", "d"), removed("d", n-min(n, 50))}}, func(err error) {
			if err != nil {
				panic(err)
			}
			say("a", n)
		})
		if old := n - min(n, 300); old > 0 && n%3 > 0 { // every third stays
			say("r", old)
			s.Commit(&store.Batch{Ops: []store.Op{removed("c", old)}}, func(err error) {
				if err != nil {
					panic(err)
				}
				say("R", old)
			})
		}
		if n%64 == 0 {
			done := make(chan struct{}) // so that groups are not all of one size
			s.Commit(&store.Batch{}, func(error) { close(done) })
			<-done
		}
	}
}

// TestKill kills a process that writes, again and again over one store, and
// looks that what it said is so.
// Shows [B4b].
func TestKill(t *testing.T) {
	for _, d := range []Durability{Fsync, OS} {
		t.Run(d.String(), func(t *testing.T) { testKill(t, d) })
	}
}

func testKill(t *testing.T, d Durability) {
	rounds := often(30)
	dir := t.TempDir()
	state := map[uint64]byte{}
	var groups int
	for round := range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir, childDurability+"="+d.String())
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		late := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
		lines := bufio.NewScanner(out)
		stopAt := 50 + rand.IntN(3000)
		for n := 0; lines.Scan(); n++ {
			var what string
			var seq uint64
			if _, err := fmt.Sscanf(lines.Text(), "%s %d", &what, &seq); err != nil {
				if strings.HasPrefix(lines.Text(), "error") {
					t.Fatal(lines.Text())
				}
				continue // cut off by the kill
			}
			if what != "a" || state[seq] == 0 { // the loop may be far ahead of what is durable
				state[seq] = what[0]
			}
			groups++
			if n == stopAt {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
		if !late.Stop() {
			t.Fatal("the child did not say enough within two minutes")
		}
		verify(t, dir, d, state, round)
	}
	t.Logf("%d statements held over %d kills", groups, rounds)
}

// verify compares the queue of "c" with what was said. Later statements about a
// number replace earlier ones.
func verify(t *testing.T, dir string, d Durability, state map[uint64]byte, round int) {
	t.Helper()
	s := mustOpen(t, dir, Options{Durability: d})
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	present := map[uint64]bool{}
	last := uint64(0)
	for {
		list, err := s.Queue(nil, "c", last, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			break
		}
		for _, d := range list {
			if d.Seq <= last || string(d.Message.Payload) != fmt.Sprint("payload ", d.Seq) {
				t.Fatalf("round %d: message %d %q after %d", round, d.Seq, d.Message.Payload, last)
			}
			last = d.Seq
			present[d.Seq] = true
			d.Message.Release()
		}
	}
	for seq, what := range state {
		switch {
		case what == 'a' && !present[seq]:
			t.Fatalf("round %d: message %d was acknowledged and is lost", round, seq)
		case what == 'R' && present[seq]:
			t.Fatalf("round %d: message %d was removed and is back", round, seq)
		}
	}
	for v, err := range s.Sessions() {
		if err != nil {
			t.Fatal(err)
		}
		if v.ClientID == "c" && v.Saved.Count != len(present) {
			t.Fatalf("round %d: count %d of a queue of %d", round, v.Saved.Count, len(present))
		}
	}
}
