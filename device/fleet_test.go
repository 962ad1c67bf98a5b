package device_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/wilco-iot/wilco/device"
	"github.com/wilco-iot/wilco/wire"
)

// A thousand devices fit into a process: what one costs is bounded.
func TestThousandDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, goroutines, kilobytes = 1000, 9, 150 // each with its server, and one more for Run
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		already := runtime.NumGoroutine()
		fleet := make([]*bench, n)
		for i := range fleet {
			fleet[i] = start(t, &server{t: t}, new(device.MemoryJournal), nil, func(d *device.Device) { d.Handle("x", ok) })
		}
		for _, b := range fleet {
			b.request("a", "x")
		}
		for _, b := range fleet {
			b.expect("a", "ack RECEIVED", "result SUCCESS 1")
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		each := float64(runtime.NumGoroutine()-already) / n
		size := float64(after.HeapAlloc+after.StackInuse-before.HeapAlloc-before.StackInuse) / n / 1024
		t.Logf("a device and its server: %.1f goroutines, %.0f KiB", each, size)
		if each > goroutines || size > kilobytes {
			t.Errorf("a device costs %.1f goroutines and %.0f KiB, more than %d and %d", each, size, goroutines, kilobytes)
		}
		for _, b := range fleet {
			b.end(device.ErrPowerLoss, device.ErrPowerLoss)
		}
	})
}

// BenchmarkCommand is a whole command: arrival, journal, handler, answer, and
// the server's PUBACK, with as many under way as a batch can hold.
func BenchmarkCommand(b *testing.B) {
	for _, kind := range []string{"memory", "file"} {
		b.Run(kind, func(b *testing.B) {
			answered := make(chan struct{}, 64)
			s := &server{t: new(testing.T)}
			cfg := device.Config{Address: address, Dial: s.dial, Parallel: 32,
				Observer: device.Observer{Answered: func(wire.Result) { answered <- struct{}{} }}}
			if kind == "file" {
				cfg.Dir = b.TempDir()
			} else {
				cfg.Journal = new(device.MemoryJournal)
			}
			d, err := device.New(cfg)
			if err != nil {
				b.Fatal(err)
			}
			d.Handle("x", func(context.Context, *device.Request) (any, error) { return nil, nil })
			ctx, cancel := context.WithCancel(context.Background())
			result := make(chan error, 1)
			go func() { result <- d.Run(ctx) }()
			tid := 0
			send := func() {
				tid++
				s.request(fmt.Sprint("t", tid), "x")
			}
			for range 32 {
				send()
			}
			for range 32 {
				<-answered
			}
			under := 0
			b.ReportAllocs()
			for b.Loop() {
				send()
				if under++; under > 32 {
					<-answered
					under--
				}
			}
			for ; under > 0; under-- {
				<-answered
			}
			cancel()
			if err := <-result; err != nil {
				b.Error(err)
			}
		})
	}
}
