package sqlite

import (
	"bufio"
	"context"
	"database/sql/driver"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

var pump = wire.Address{Group: "site", Device: "pump"}

// fresh is a batch of one new command and its event.
func fresh(tb testing.TB) (store.Batch, command.TID) {
	stages, events := life(tb, pump, time.Now())
	return store.Batch{Commands: []store.CommandWrite{{Command: stages[0]}}, Events: events[:1]}, stages[0].TID
}

// exists fails the test unless every command is there and whole, as many events
// as commands, and the file sound.
func exists(t *testing.T, s *Store, tids []command.TID) {
	t.Helper()
	for _, tid := range tids {
		if _, err := s.Command(t.Context(), tid); err != nil {
			t.Errorf("acknowledged and lost: %v", err)
		}
	}
	err := s.read(t.Context(), func(c *conn) error {
		commands, err := c.number(t.Context(), "SELECT count(*) FROM commands")
		if err != nil {
			return err
		}
		events, err := c.number(t.Context(), "SELECT sum(n) FROM events")
		if err != nil {
			return err
		}
		if commands < int64(len(tids)) || commands != events {
			t.Errorf("%d commands with %d events, %d were acknowledged", commands, events, len(tids))
		}
		_, err = c.one(t.Context(), func(v []driver.Value) error {
			if v[0] != "ok" {
				t.Errorf("integrity: %v", v[0])
			}
			return nil
		}, "PRAGMA integrity_check")
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// fill commits until the store is full, from several callers at once, and gives
// what was acknowledged.
func fill(t *testing.T, s *Store) (kept []command.TID) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100000 {
				b, tid := fresh(t)
				if _, err := s.Commit(t.Context(), &b); err != nil {
					if fault.CodeOf(err) != fault.StorageFull {
						t.Errorf("got %v, want storage_full", err)
					}
					return
				}
				mu.Lock()
				kept = append(kept, tid)
				mu.Unlock()
			}
			t.Error("the store was never full")
		})
	}
	wg.Wait()
	return kept
}

// TestFull: a file that may not grow. What fits in is kept, the rest is refused as
// storage_full, and it takes more once the bound is gone.
func TestFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wilco.db")
	s, err := Open(path, Options{pragmas: []string{"max_page_count = 120"}})
	if err != nil {
		t.Fatal(err)
	}
	kept := fill(t, s)
	if len(kept) < 50 {
		t.Fatalf("only %d fitted in", len(kept))
	}
	exists(t, s, kept)
	if s.Stats().Failures == 0 {
		t.Error("no failure was counted")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path) // without the bound: there is space again
	exists(t, s, kept)
	b, tid := fresh(t)
	if _, err := s.Commit(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	exists(t, s, append(kept, tid))
}

// TestFullDisk: a real file system that is full, and then is not. The same store
// goes on without being opened again.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=6m,mode=700"); err != nil {
		t.Skipf("needs the right to mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "wilco.db")
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	kept := fill(t, s)
	exists(t, s, kept)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		b, tid := fresh(t)
		if _, err := s.Commit(t.Context(), &b); err != nil {
			t.Fatalf("there is space again: %v", err)
		}
		kept = append(kept, tid)
	}
	exists(t, s, kept)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(path, Options{}); err != nil {
		t.Fatal(err)
	}
	exists(t, s, kept)
	if err := s.Close(); err != nil { // before the file system goes
		t.Error(err)
	}
}

// TestBusy: another process holds the write lock. Commits fail as unavailable
// when their patience is over, readers go on, and so do commits afterwards.
func TestBusy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wilco.db")
	s, err := Open(path, Options{BusyTimeout: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b, first := fresh(t)
	if _, err := s.Commit(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	backup, err := dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer backup.close()
	if err := backup.once("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	b, tid := fresh(t)
	if _, err := s.Commit(t.Context(), &b); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("got %v, want unavailable", err)
	}
	exists(t, s, []command.TID{first})
	if err := backup.once("ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), &b); err != nil {
		t.Error(err)
	}
	exists(t, s, []command.TID{first, tid})
}

// TestTornWAL: a power cut may leave half a frame, or rubbish, at the end of the
// WAL. What was acknowledged before is there.
func TestTornWAL(t *testing.T) {
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "wilco.db"))
	var kept []command.TID
	for range 20 {
		b, tid := fresh(t)
		if _, err := s.Commit(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		kept = append(kept, tid)
	}
	for name, tear := range map[string]func([]byte) []byte{
		"rubbish":      func(wal []byte) []byte { return append(wal, make([]byte, 5000)...) },
		"half a frame": func(wal []byte) []byte { return append(wal, wal[32:32+pageSize/2]...) },
		"an old frame": func(wal []byte) []byte { return append(wal, wal[32:32+24+pageSize]...) },
	} {
		t.Run(name, func(t *testing.T) {
			copied := filepath.Join(t.TempDir(), "wilco.db")
			for _, suffix := range []string{"", "-wal"} {
				// Read while it is open, as a power cut finds it: nothing writes now.
				b := readShared(t, filepath.Join(dir, "wilco.db")+suffix)
				if suffix != "" {
					b = tear(b)
				}
				if err := os.WriteFile(copied+suffix, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			exists(t, open(t, copied), kept)
		})
	}
}

// readShared reads a file by another process: to close it in this one would drop
// the locks that SQLite has on it.
func readShared(t *testing.T, path string) []byte {
	t.Helper()
	b, err := exec.Command("cat", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestKill kills a process that commits, at random moments, and looks whether all
// that it has said to be committed is there.
func TestKill(t *testing.T) {
	rounds := 30
	if testing.Short() {
		rounds = 5
	}
	path := filepath.Join(t.TempDir(), "wilco.db")
	var kept []command.TID
	for range rounds {
		kept = append(kept, killed(t, path)...)
		s, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		exists(t, s, kept)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(kept) < rounds {
		t.Errorf("only %d commits were acknowledged in %d rounds", len(kept), rounds)
	}
}

const childVariable = "WILCO_TEST_COMMIT_TO"

// killed runs this test binary as a process that commits, kills it after some
// acknowledgements, and gives them.
func killed(t *testing.T, path string) (acknowledged []command.TID) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestCommitUntilKilled$")
	cmd.Env = append(os.Environ(), childVariable+"="+path)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	wanted := 1 + rand.IntN(200)
	lines := bufio.NewReader(stdout)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // a line without its end was not said
		}
		tid, err := uuid.Parse(strings.TrimSpace(line))
		if err != nil {
			t.Errorf("the child says %q", line)
			break
		}
		if acknowledged = append(acknowledged, tid); len(acknowledged) == wanted {
			// It goes on to commit while the signal is on its way.
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the child ended by itself")
	}
	return acknowledged
}

// TestCommitUntilKilled is the child of TestKill.
func TestCommitUntilKilled(t *testing.T) {
	path := os.Getenv(childVariable)
	if path == "" {
		t.Skip("runs as a child of TestKill only")
	}
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				b, tid := fresh(t)
				if _, err := s.Commit(context.Background(), &b); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				_, err := io.WriteString(os.Stdout, tid.String()+"\n")
				mu.Unlock()
				if err != nil {
					return // nobody listens any more
				}
			}
		})
	}
	wg.Wait()
}

// TestManyOpen: the open commands are read in many pages, and whoever reads them
// slowly holds up no commit. How long it takes is a benchmark.
func TestManyOpen(t *testing.T) {
	const many = 20_000
	s := open(t, filepath.Join(t.TempDir(), "wilco.db"))
	fillOpen(t, s, many)
	commits := 0
	n := 0
	for o, err := range s.OpenCommands(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n <= many && o.Wake.UnixMilli() != int64(n) {
			t.Fatalf("number %d is %+v", n, o)
		}
		if n%(many/10) == 0 {
			b, _ := fresh(t)
			if _, err := s.Commit(t.Context(), &b); err != nil {
				t.Fatal(err)
			}
			commits++
		}
	}
	if n < many || n > many+commits {
		t.Errorf("%d, want %d and at most %d that came meanwhile", n, many, commits)
	}
}

// fillOpen makes n open commands by SQL, because what is measured is reading.
func fillOpen(tb testing.TB, s *Store, n int) {
	_, err := s.submit(tb.Context(), change(func(x *tx) error {
		_, err := x.exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
			INSERT INTO commands (tid, device, name, requested_by, created, version, open, state, wake, ended, doc)
			SELECT unhex(printf('%032x', i)), 'site/d' || (i % 10000), 'x', '', 0, 1, 1, 'created', i, 0, CAST(?2 AS BLOB) FROM n`,
			int64(n), strings.Repeat("x", 700))
		return err
	}))
	if err != nil {
		tb.Fatal(err)
	}
}

func ExampleStore_Stats() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	s, err := Open(filepath.Join(dir, "wilco.db"), Options{})
	if err != nil {
		panic(err)
	}
	defer s.Close()
	if _, err := s.Commit(context.Background(), &store.Batch{Events: []store.Event{{Type: store.EventDevice}}}); err != nil {
		panic(err)
	}
	fmt.Println(s.Stats().Batches, s.Stats().Events)
	// Output: 1 1
}
