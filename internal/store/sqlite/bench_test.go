package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// life is a command at each stage of an ordinary life, with the events of it.
func life(tb testing.TB, device wire.Address, now time.Time) (stages []command.Command, events []store.Event) {
	tid, err := uuid.NewV7()
	if err != nil {
		tb.Fatal(err)
	}
	c, err := command.New(tid, device, "valve.set", json.RawMessage(`{"position":42,"rampSeconds":5}`), command.Defaults, "token:ops", nil, now)
	if err != nil {
		tb.Fatal(err)
	}
	stages = append(stages, c)
	for _, ev := range []command.Event{
		{Kind: command.Dispatch, DeviceOnline: true, Boot: "b1", Epoch: 1700000000, Seq: 7},
		{Kind: command.Received, DeviceOnline: true, Boot: "b1"},
		{Kind: command.Succeeded, DeviceOnline: true, Boot: "b1", Result: json.RawMessage(`{"position":42}`)},
	} {
		now = now.Add(50 * time.Millisecond)
		if c, _, err = command.Apply(c, ev, now); err != nil {
			tb.Fatal(err)
		}
		stages = append(stages, c)
	}
	from := command.State("")
	for i := range stages {
		e := stages[i].Timeline[i]
		events = append(events, store.Event{Type: store.EventCommand, At: e.At, Device: device, TID: &tid, Name: c.Name,
			Kind: e.Kind, From: from, State: e.State, Reason: e.Reason, By: e.By, Attempt: e.Attempt})
		from = e.State
	}
	return stages, events
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkLife is one insert and three updates a command, with an event each,
// in batches of some commands by 1 or 8 callers.
func BenchmarkLife(b *testing.B) {
	for _, size := range []int{1, 16, 64, 256} {
		for _, callers := range []int{1, 8} {
			b.Run(fmt.Sprintf("batch=%d/callers=%d", size, callers), func(b *testing.B) { benchmarkLife(b, size, callers) })
		}
	}
}

func benchmarkLife(b *testing.B, size, callers int) {
	s := open(b, filepath.Join(b.TempDir(), "wilco.db"))
	const devices = 1000
	ctx := context.Background()
	batches := make([][]store.Batch, (b.N+size-1)/size)
	for i := range batches {
		batches[i] = make([]store.Batch, 4)
		for j := range size {
			stages, events := life(b, wire.Address{Group: "site1", Device: fmt.Sprintf("pump-%d", (i*size+j)%devices)}, time.Now())
			for k := range stages {
				w := store.CommandWrite{Command: stages[k], Was: int64(k)}
				batches[i][k].Commands = append(batches[i][k].Commands, w)
				batches[i][k].Events = append(batches[i][k].Events, events[k])
			}
		}
	}
	work := make(chan []store.Batch, len(batches))
	for _, x := range batches {
		work <- x
	}
	close(work)
	b.ResetTimer()
	before := cpu()
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for x := range work {
				for k := range x {
					if _, err := s.Commit(ctx, &x[k]); err != nil {
						b.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	n := float64(len(batches) * size)
	b.ReportMetric(float64((cpu()-before).Microseconds())/n, "cpu-us/command")
	b.ReportMetric(4*n/b.Elapsed().Seconds(), "rows/s")
	st := s.Stats()
	b.ReportMetric(float64(st.Rows)/float64(st.Transactions), "rows/tx")
	b.ReportMetric(float64(st.FileBytes+st.WALBytes)/n, "bytes/command")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkOpenCommands reads a million open commands, as a start does.
func BenchmarkOpenCommands(b *testing.B) {
	const many = 1_000_000
	s := open(b, filepath.Join(b.TempDir(), "wilco.db"))
	fillOpen(b, s, many)
	for b.Loop() {
		n := 0
		for _, err := range s.OpenCommands(b.Context()) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != many {
			b.Fatal(n)
		}
	}
}

// BenchmarkRead is one command by its tid, and its document.
func BenchmarkRead(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "wilco.db"))
	stages, _ := life(b, pump, time.Now())
	if _, err := s.Commit(b.Context(), &store.Batch{Commands: []store.CommandWrite{{Command: stages[3]}}}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Command(b.Context(), stages[3].TID); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDoc is the writing of a command's document alone, by us and by
// encoding/json.
func BenchmarkDoc(b *testing.B) {
	stages, _ := life(b, pump, time.Now())
	b.Run("ours", func(b *testing.B) {
		var dst []byte
		for b.Loop() {
			var err error
			if dst, err = packCommand(dst[:0], &stages[3]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("json", func(b *testing.B) {
		for b.Loop() {
			if _, err := json.Marshal(&stages[3]); err != nil {
				b.Fatal(err)
			}
		}
	})
}
