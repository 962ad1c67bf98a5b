package device

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func open(t *testing.T, dir string) *FileJournal {
	t.Helper()
	j, err := OpenJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func load(t *testing.T, j Journal) []string {
	t.Helper()
	records, err := j.Load()
	if err != nil {
		t.Fatal(err)
	}
	return toStrings(records)
}

func TestFileJournal(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	j := open(t, dir)
	if got := load(t, j); len(got) != 0 {
		t.Fatalf("a new journal holds %q", got)
	}
	var want []string
	for i := range 500 { // over the boundary of what is allocated ahead
		r := fmt.Sprintf(`{"n":%d,"x":"%s"}`, i, strings.Repeat("x", i))
		if err := j.Append([]byte(r), []byte("{}")); err != nil {
			t.Fatal(err)
		}
		want = append(want, r, "{}")
	}
	if got := load(t, j); !slices.Equal(got, want) {
		t.Fatal("what was appended is not what is there")
	}
	j.Close()
	if err := j.Append([]byte("{}")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Append after Close: %v", err)
	}
	j = open(t, dir)
	if got := load(t, j); !slices.Equal(got, want) {
		t.Fatal("what was appended is not there after opening again")
	}
	if err := j.Replace(toBytes(want[990:])); err != nil {
		t.Fatal(err)
	}
	if err := j.Append([]byte("{1}")); err != nil {
		t.Fatal(err)
	}
	want = append(want[990:], "{1}")
	j.Close()
	if got := load(t, open(t, dir)); !slices.Equal(got, want) {
		t.Fatalf("after Replace: %q", got)
	}
}

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	if _, err := OpenJournal(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("a second opening: %v, want ErrLocked", err)
	}
	j.Close()
	open(t, dir)
}

func TestDamageIsReported(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	for _, r := range []string{`{"kind":"ended","tid":"a","final":{"status":"SUCCESS"}}`, `{"kind":"received","tid":"b"}`, `{"kind":"started","tid":"b"}`,
		`{"kind":"ended","tid":"c","final":{"status":"SUCCESS"}}`} {
		if err := j.Append([]byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	j.Close()
	name := filepath.Join(dir, journalName)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(b), `"received"`)
	b[at] ^= 4
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = OpenJournal(dir)
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) || corrupt.File != name || corrupt.Offset > int64(at) || corrupt.Offset < int64(at)-20 {
		t.Fatalf("%v, want the damage of %s at %d", err, name, at)
	}
	if !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), fmt.Sprint(corrupt.Offset)) {
		t.Errorf("%q names neither file nor offset", err)
	}
	found, err := Salvage(dir)
	if err != nil || found.Kept != 3 || found.Lost != 1 || found.Damaged != name+".damaged" {
		t.Fatalf("%+v, %v", found, err)
	}
	got := strings.Join(load(t, open(t, dir)), "\n")
	for _, part := range []string{`"tid":"a"`, `"tid":"c"`, `"tid":"b"`, `interrupted`} {
		if !strings.Contains(got, part) {
			t.Errorf("%s was not salvaged: %s", part, got)
		}
	}
}

func TestSalvageLeavesAGoodJournalAlone(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	if err := j.Append([]byte(`{"kind":"received","tid":"b"}`)); err != nil {
		t.Fatal(err)
	}
	j.Close()
	if found, err := Salvage(dir); err != nil || found.Damaged != "" || found.Kept != 1 {
		t.Errorf("%+v, %v", found, err)
	}
	if got := load(t, open(t, dir)); len(got) != 1 {
		t.Errorf("%q", got)
	}
}

// faulty is a disk of which one call fails, and after a failed write holds as
// much of it as it likes. What was not synced is lost in a crash.
type faulty struct {
	files     map[string]*memFile
	calls     int
	failAt    int // the call that fails; 0: none
	partially int // bytes that a failing write leaves behind
}

type memFile struct {
	d       *faulty
	durable []byte
	bytes   []byte
}

var errFault = errors.New("injected fault")

func (d *faulty) fault() error {
	if d.calls++; d.calls == d.failAt {
		return errFault
	}
	return nil
}

func (d *faulty) Read(name string) ([]byte, error) {
	if f, ok := d.files[name]; ok {
		return slices.Clone(f.bytes), nil
	}
	return nil, fs.ErrNotExist
}

func (d *faulty) Create(name string) (file, error) {
	if err := d.fault(); err != nil {
		return nil, err
	}
	d.files[name] = &memFile{d: d}
	return d.files[name], nil
}

func (d *faulty) Open(name string) (file, error) { return d.files[name], nil }

func (d *faulty) Rename(from, to string) error {
	if err := d.fault(); err != nil {
		return err
	}
	d.files[to] = d.files[from]
	delete(d.files, from)
	return nil
}

func (d *faulty) Remove(name string) error  { delete(d.files, name); return nil }
func (d *faulty) SyncDir(name string) error { return d.fault() }

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.d.fault()
	if err != nil {
		p = p[:min(len(p), f.d.partially)]
	}
	if need := int(off) + len(p); need > len(f.bytes) {
		f.bytes = append(f.bytes, make([]byte, need-len(f.bytes))...)
	}
	copy(f.bytes[off:], p)
	return len(p), err
}

func (f *memFile) Truncate(size int64) error { f.bytes = f.bytes[:size]; return nil }

func (f *memFile) Sync() error {
	if err := f.d.fault(); err != nil {
		return err
	}
	f.durable = slices.Clone(f.bytes)
	return nil
}

func (f *memFile) Close() error { return nil }

// crash makes the disk forget what was not synced, or keep it: a crash may do
// either.
func (d *faulty) crash(keep bool) {
	d.failAt = 0
	for _, f := range d.files {
		if !keep {
			f.bytes = slices.Clone(f.durable)
		}
	}
}

// The n-th write, sync, rename or creation fails, for every n: whatever Append
// or Replace reported as done is there after a crash, what is there was
// appended, and after the fault nothing is accepted.
func TestEveryFault(t *testing.T) {
	for _, partially := range []int{0, 7, 50, 1 << 20} {
		for _, keep := range []bool{false, true} {
			for n := 1; ; n++ {
				d := &faulty{files: map[string]*memFile{}, failAt: n, partially: partially}
				done, tried, err := workload(d)
				if err == nil {
					if n < 40 {
						t.Fatalf("only %d calls could fail", n)
					}
					break
				}
				if !errors.Is(err, errFault) {
					t.Fatalf("fault %d: %v", n, err)
				}
				d.crash(keep)
				j, err := openJournal("", d)
				if err != nil {
					t.Fatalf("fault %d, partially %d, keep %v: cannot be opened: %v", n, partially, keep, err)
				}
				got := load(t, j)
				if !slices.Equal(got, done) && !slices.Equal(got, tried) {
					t.Fatalf("fault %d, partially %d, keep %v:\nfound %q\nwant  %q\nor    %q", n, partially, keep, got, done, tried)
				}
				// Life goes on behind the remains of the torn write.
				if err := j.Append([]byte("{}")); err != nil {
					t.Fatal(err)
				}
				if again := load(t, j); !slices.Equal(again, append(got, "{}")) {
					t.Fatalf("fault %d, partially %d, keep %v: after one more record %q", n, partially, keep, again)
				}
			}
		}
	}
}

// workload appends and replaces until something fails. It returns what was
// reported as done, and what was being tried.
func workload(d *faulty) (done, tried []string, err error) {
	j, err := openJournal("", d)
	if err != nil {
		return nil, nil, err
	}
	for i := range 12 {
		r := []string{fmt.Sprintf(`{"n":%d}`, i), `{"x":"` + strings.Repeat("y", 20_000) + `"}`}
		tried = append(slices.Clone(done), r...)
		if err = j.Append(toBytes(r)...); err != nil {
			break
		}
		done = tried
		if i%5 == 4 {
			tried = done[len(done)-2:]
			if err = j.Replace(toBytes(tried)); err != nil {
				break
			}
			done = tried
		}
	}
	if err != nil && j.Append([]byte("{}")) == nil {
		return nil, nil, errors.New("accepted a record after a fault")
	}
	return done, tried, err
}

func BenchmarkFileJournalAppend(b *testing.B) {
	j, err := OpenJournal(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	record := []byte(`{"kind":"received","tid":"0198c2f0-1111-7aaa-8bbb-0123456789ab","cmd":"valve.set","params":{"level":3},"epoch":1772600000,"seq":42}`)
	for _, n := range []int{1, 32} {
		batch := make([][]byte, n)
		for i := range batch {
			batch[i] = record
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if err := j.Append(batch...); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
