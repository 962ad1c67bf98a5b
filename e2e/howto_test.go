package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestHowTos runs the marked commands of each page of docs/how-to as TestReadme
// does those of README.md.
func TestHowTos(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join("..", "docs", "how-to", "*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	for _, page := range pages {
		t.Run(strings.TrimSuffix(filepath.Base(page), ".md"), func(t *testing.T) {
			t.Parallel()
			b, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			blocks, err := tourOf(string(b))
			if err != nil {
				t.Fatal(err)
			}
			if len(blocks) == 0 {
				t.Skip("the page marks no block with <!-- tour -->")
			}
			if out, err := runTour(t, blocks); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		})
	}
}
