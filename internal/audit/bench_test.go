package audit_test

import (
	"context"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/wilco-iot/wilco/internal/audit"
	"github.com/wilco-iot/wilco/internal/store/sqlite"
)

// BenchmarkRecord is what an entry costs its caller, by how many record at a time.
func BenchmarkRecord(b *testing.B) {
	for _, callers := range []int{1, 16, 128} {
		b.Run(strconv.Itoa(callers), func(b *testing.B) {
			db, err := sqlite.Open(filepath.Join(b.TempDir(), "w.db"), sqlite.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			l, err := audit.Open(b.Context(), db, nil)
			if err != nil {
				b.Fatal(err)
			}
			b.SetParallelism(callers)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := l.Record(context.Background(), audit.Entry{Who: "ops", Role: "operator", Act: "command.create", Target: "plant/valve-1", Outcome: audit.OK, Count: 1}); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
