package app

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

// lookEvery is how often the files are looked at.
const lookEvery = 10 * time.Second

// watched is something that is read out of files, and read anew when they
// change.
type watched struct {
	what  string // for the log
	files []string
	// load reads the files and puts what they say in force. On an error what was
	// in force stays.
	load func() error

	marks []mark // of the files when load was last called
}

// mark tells one state of a file from another. Names that are links, as those of
// mounted secrets, are followed.
type mark struct {
	changed time.Time
	size    int64
	missing bool
}

// look calls load if the files have changed since it was called last, or if it
// must. The marks are taken before: a change in between is seen the next time.
func (w *watched) look(must bool) (loaded bool, err error) {
	marks := make([]mark, len(w.files))
	for i, f := range w.files {
		if info, err := os.Stat(f); err != nil {
			marks[i].missing = true
		} else {
			marks[i] = mark{changed: info.ModTime(), size: info.Size()}
		}
	}
	if !must && slices.Equal(marks, w.marks) {
		return false, nil
	}
	w.marks = marks
	return true, w.load()
}

// watch looks at the files every lookEvery, and reads them whatever they look like
// when reload says so, until stop is called, which waits for it. What cannot be
// used is reported once for each change of the files.
func watch(list []*watched, reload <-chan os.Signal, log *slog.Logger) (stop func()) {
	if len(list) == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(lookEvery)
		defer ticker.Stop()
		for {
			must := false
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			case <-reload:
				must = true
			}
			for _, w := range list {
				switch loaded, err := w.look(must); {
				case err != nil:
					log.Error(w.what+" cannot be used; what was in force stays", "error", err)
				case loaded:
					log.Info(w.what + " read anew")
				}
			}
		}
	})
	return func() { cancel(); running.Wait() }
}
