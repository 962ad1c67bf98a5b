package hook

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/internal/store/sqlite"
	"github.com/wilco-iot/wilco/wire"
)

// BenchmarkDeliver is one end of a command, from its event to the removal of its
// delivery: 100 devices, a receiver on this machine that says yes at once.
func BenchmarkDeliver(b *testing.B) {
	db, err := sqlite.Open(filepath.Join(b.TempDir(), "w.db"), sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	var told sync.WaitGroup
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		told.Done()
	}))
	defer s.Close()
	r := New(Options{Store: db, Logger: slog.New(slog.DiscardHandler)})
	_, _, w, err := r.Make(b.Context(), webhook("h", s.URL, On{}))
	if err == nil {
		_, err = db.Commit(b.Context(), &store.Batch{Documents: []store.DocumentWrite{w}})
	}
	if err == nil {
		err = r.Start(b.Context())
	}
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := r.Stop(b.Context()); err != nil {
			b.Error(err)
		}
	}()
	b.ResetTimer()
	told.Add(b.N)
	for i := range b.N {
		tid := uuid.New()
		_, err := db.Commit(b.Context(), &store.Batch{Events: []store.Event{{Type: store.EventCommand, At: time.Now(), TID: &tid, Name: "x",
			Device: wire.Address{Group: "g", Device: strconv.Itoa(i % 100)}, From: command.Sent, State: command.Executed}}})
		if err != nil {
			b.Fatal(err)
		}
	}
	told.Wait()
}
