package ledger

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func open(t *testing.T, dir string, max int64) (*Ledger, []Damage) {
	t.Helper()
	l, damage, err := Open(dir, max)
	if err != nil {
		t.Fatal(err)
	}
	return l, damage
}

func change(path, value string, event int64) Entry {
	e := Entry{At: noon, Device: "plant/valve", Side: Reported, Path: path, By: "device", Event: event}
	if value != "" {
		e.Value = json.RawMessage(value)
	}
	return e
}

func fill(t *testing.T, l *Ledger, n int) {
	t.Helper()
	for i := range n {
		if err := l.Append([]Entry{change("position", fmt.Sprint(i), int64(i+1))}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFormerValuesSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir, 1<<20)
	if err := l.Append([]Entry{change("a", "1", 1), change("a", "2", 1), change("b", `"x"`, 2), change("b", "", 3)}); err != nil {
		t.Fatal(err)
	}
	l.Close()
	l, damage := open(t, dir, 1<<20)
	defer l.Close()
	if len(damage) > 0 || l.Event() != 3 {
		t.Errorf("%v, event %d", damage, l.Event())
	}
	if err := l.Append([]Entry{change("a", "3", 4), change("b", "true", 5)}); err != nil {
		t.Fatal(err)
	}
	var got []string
	r, err := Read(dir, func(e Entry) error {
		got = append(got, fmt.Sprintf("%d %s %s>%s", e.Seq, e.Path, e.Former, e.Value))
		return nil
	})
	if want := `[1 a >1 2 a 1>2 3 b >"x" 4 b "x"> 5 a 2>3 6 b >true]`; fmt.Sprint(got) != want || err != nil || len(r.Damage) > 0 {
		t.Errorf("%v %v %v\nwant %s", got, err, r.Damage, want)
	}
}

// Each single bit of a ledger is flipped: it is found, at its place, and costs one entry.
func TestAFlippedBitIsFound(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir, 1<<20)
	fill(t, l, 5)
	l.Close()
	file := filepath.Join(dir, "former-00000001.jsonl")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for at := range whole {
		bad := bytes.Clone(whole)
		bad[at] ^= 1 << (at % 8)
		if err := os.WriteFile(file, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := Verify(dir)
		line := 1 + bytes.Count(whole[:at], []byte("\n"))
		if err != nil || len(r.Damage) == 0 || r.Damage[0].Line != line || r.Entries < 3 {
			t.Fatalf("byte %d of line %d: %v, %d entries are good, %v", at, line, r.Damage, r.Entries, err)
		}
	}
}

func TestEntriesThatAreTakenOutOrMovedAreFound(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir, 1<<20)
	fill(t, l, 5)
	l.Close()
	file := filepath.Join(dir, "former-00000001.jsonl")
	b, _ := os.ReadFile(file)
	lines := bytes.SplitAfter(b, []byte("\n"))
	for name, other := range map[string][][]byte{
		"taken out": {lines[0], lines[1], lines[3], lines[4]},
		"swapped":   {lines[0], lines[2], lines[1], lines[3], lines[4]},
		"twice":     {lines[0], lines[1], lines[1], lines[2], lines[3], lines[4]},
	} {
		if err := os.WriteFile(file, bytes.Join(other, nil), 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := Verify(dir); err != nil || len(r.Damage) == 0 {
			t.Errorf("%s: nothing was found: %+v %v", name, r, err)
		}
	}
}

// A line that a crash has torn at any byte is cut off, told, and written anew.
func TestATornEndIsCutOff(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir, 1<<20)
	fill(t, l, 3)
	l.Close()
	file := filepath.Join(dir, "former-00000001.jsonl")
	whole, _ := os.ReadFile(file)
	begin := bytes.LastIndexByte(whole[:len(whole)-1], '\n') + 1
	for cut := begin + 1; cut < len(whole); cut++ {
		if err := os.WriteFile(file, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		l, damage := open(t, dir, 1<<20)
		if len(damage) != 1 || damage[0].Seq != 3 || !strings.Contains(damage[0].String(), "torn") {
			t.Fatalf("cut at %d: %v", cut, damage)
		}
		if err := l.Append([]Entry{change("position", "2", 3)}); err != nil {
			t.Fatal(err)
		}
		l.Close()
		if again, _ := os.ReadFile(file); !bytes.Equal(again, whole) {
			t.Fatalf("cut at %d: after the third entry was written anew:\n%s", cut, again)
		}
	}
}

func TestTheOldestGoesFirst(t *testing.T) {
	dir := t.TempDir()
	const bound = 16 << 10
	l, _ := open(t, dir, bound)
	fill(t, l, 500)
	l.Close()
	var size int64
	files, _, _ := list(dir)
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	r, err := Verify(dir)
	if err != nil || len(r.Damage) > 0 || size > bound || r.Seq != 500 || r.First < 2 || r.Entries < 20 {
		t.Errorf("%d bytes in %d files, entries %d to %d: %v %v", size, len(files), r.First, r.Seq, r.Damage, err)
	}
	l, damage := open(t, dir, bound)
	defer l.Close()
	if err := l.Append([]Entry{change("position", "500", 501)}); err != nil || len(damage) > 0 {
		t.Errorf("%v %v", err, damage)
	}
	if r, _ := Verify(dir); r.Seq != 501 || len(r.Damage) > 0 {
		t.Errorf("the chain does not go on: %+v", r)
	}
}

// Whoever reads while segments are written and go finds no damage, whatever he has
// read by then.
func TestReadingWhileSegmentsGo(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir, 16<<10)
	defer l.Close()
	fill(t, l, 100)
	files, _, _ := list(dir)
	if len(files) < 3 {
		t.Fatalf("%d segments", len(files))
	}
	once, last := false, int64(0)
	r, err := Read(dir, func(e Entry) error {
		if !once {
			once = true
			fill(t, l, 400) // all that was there has gone
		}
		last = e.Seq
		return nil
	})
	if _, gone := os.Stat(files[len(files)-1]); gone == nil {
		t.Fatal("nothing has gone")
	}
	if err != nil || len(r.Damage) > 0 || r.Seq != last {
		t.Errorf("%v, %+v", err, r)
	}
	if r, err := Verify(dir); err != nil || len(r.Damage) > 0 || r.Seq != 500 {
		t.Errorf("%v, %+v", err, r)
	}
}

// An entry that is being written while somebody reads is no damage.
func TestAnEntryThatIsBeingWrittenIsNoDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l, _ := open(t, dir, 1<<20)
		fill(t, l, 3)
		l.Close()
		file := filepath.Join(dir, "former-00000001.jsonl")
		whole, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		part := len(whole) - 20
		if err := os.Truncate(file, int64(part)); err != nil {
			t.Fatal(err)
		}
		go func() {
			time.Sleep(tornPause + tornPause/2)
			f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			if _, err := f.Write(whole[part:]); err != nil {
				t.Error(err)
			}
		}()
		if r, err := Verify(dir); err != nil || len(r.Damage) > 0 || r.Seq != 3 {
			t.Errorf("%v, %+v", err, r)
		}
	})
}

// A write that fails leaves the ledger as it was, and the next one goes through.
func TestAFailedWriteRefusesAndRecovers(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir, 1<<20)
	fill(t, l, 2)
	good := l.file
	broken, err := os.Open(good.Name()) // cannot be written to
	if err != nil {
		t.Fatal(err)
	}
	l.file = broken
	if err := l.Append([]Entry{change("position", "9", 9)}); err == nil {
		t.Fatal("written to a file that cannot be")
	}
	broken.Close()
	l.file = good
	if l.Event() != 2 {
		t.Errorf("event %d", l.Event())
	}
	fill(t, l, 1)
	l.Close()
	if r, err := Verify(dir); err != nil || r.Seq != 3 || len(r.Damage) > 0 {
		t.Errorf("%+v %v", r, err)
	}
}
