package edge

import (
	"os"
	"path/filepath"
	"testing"
)

// The number is on disk before it is used, and goes on from there; 0 is only for
// the very first CONNECT and the one after 255.
func TestCounter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bdseq")
	take := func(c *counter, want uint8, text string) {
		t.Helper()
		n, err := c.take()
		if err != nil || n != want {
			t.Fatalf("took %d, %v; want %d", n, err, want)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != text {
			t.Fatalf("the file holds %q, %v", b, err)
		}
	}
	open := func() *counter {
		t.Helper()
		c, err := openCounter(path)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := open()
	take(c, 0, "0\n")
	take(c, 1, "1\n")
	take(open(), 2, "2\n")
	if err := os.WriteFile(path, []byte("255"), 0o600); err != nil {
		t.Fatal(err)
	}
	take(open(), 0, "0\n")

	for _, text := range []string{"", "\n", "256\n", "-1\n", "x", "1 2"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openCounter(path); err == nil {
			t.Errorf("%q is taken for a number", text)
		}
	}
}

// A number that cannot be written down is not used: not now, and not later for
// two CONNECTs.
func TestCounterWithoutDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there")
	c, err := openCounter(filepath.Join(dir, "bdseq"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if n, err := c.take(); err == nil {
			t.Fatalf("took %d, which is on no disk", n)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if n, err := c.take(); n != 0 || err != nil {
		t.Fatalf("then took %d, %v", n, err)
	}
}
