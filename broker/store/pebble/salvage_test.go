package pebblestore

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wilco-iot/wilco/broker/session"
)

// liveCopy is what is on the disk of a store that was not closed.
func liveCopy(t *testing.T, live string) (copied string) {
	t.Helper()
	copied = filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(copied, os.DirFS(live)); err != nil {
		t.Fatal(err)
	}
	return copied
}

func newest(t *testing.T, dir string) string {
	t.Helper()
	logs := glob(t, dir, "*.log")
	return logs[len(logs)-1]
}

func logTo(b *bytes.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(b, nil))
}

// TestDamagedLog flips a bit in what a crash left as log: it costs the record
// that it is in, and that is told, counted and kept aside.
func TestDamagedLog(t *testing.T) {
	const n = 500
	live := t.TempDir()
	s := mustOpen(t, live, Options{})
	commit(t, s, putSession("a", true))
	for i := range uint64(n) {
		commit(t, s, appendOp(i+1, message("t", "x"), "a"))
	}
	for _, at := range []float64{0.2, 0.5, 0.8} {
		copied := liveCopy(t, live)
		file := newest(t, copied)
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b[int(float64(len(bytes.TrimRight(b, "\x00")))*at)] ^= 0x10
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		again := mustOpen(t, copied, Options{Logger: logTo(&said)})
		got := queueOf(t, again, "a", 0, n)
		if len(got) != n-1 || !strings.Contains(got[0], "000000001") || !strings.Contains(got[n-2], fmt.Sprint(n)) {
			t.Errorf("at %v: %d messages are left", at, len(got))
		}
		if again.Stats().Damaged != 1 || !strings.Contains(said.String(), file) || !strings.Contains(said.String(), "messages_missing=1") {
			t.Errorf("at %v: %d, %s", at, again.Stats().Damaged, said.String())
		}
		for v := range again.Sessions() {
			if v.Saved.Lost[session.DropDamaged] != 1 || v.Saved.Count != n-1 {
				t.Errorf("at %v: %+v", at, v.Saved)
			}
		}
		if aside, err := os.ReadFile(file + damagedSuffix); err != nil || !bytes.Equal(aside, b) {
			t.Error("the damaged file is not kept", err)
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
		said.Reset()
		again = mustOpen(t, copied, Options{Logger: logTo(&said)})
		if again.Stats().Damaged != 0 || said.Len() > 0 {
			t.Error("told twice: ", said.String())
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

var _ = rand.New
