package cli

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write the generated pages of docs/reference")

// TestReferenceIsCommitted compares the generated pages with docs/reference.
func TestReferenceIsCommitted(t *testing.T) {
	for name, page := range Reference() {
		path := filepath.Join("../../docs/reference", name)
		if *update {
			if err := os.WriteFile(path, page, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, page) {
			t.Errorf("%s is out of date: run wilco docs (%v)", path, err)
		}
	}
}
