package pipe_test

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/wilco-iot/wilco/mqtt/pipe"
)

// Both kinds of in-process connection, with the same loads.
var kinds = []struct {
	name string
	pair func() (net.Conn, net.Conn)
}{{"wilco", pipe.Pipe}, {"net.Pipe", net.Pipe}}

// BenchmarkStream: one side writes 64-byte packets, the other reads what is there.
func BenchmarkStream(b *testing.B) {
	for _, k := range kinds {
		b.Run(k.name, func(b *testing.B) {
			w, r := k.pair()
			var wg sync.WaitGroup
			wg.Go(func() { io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, make([]byte, 4096)) })
			packet := make([]byte, 64)
			b.SetBytes(int64(len(packet)))
			b.ReportAllocs()
			for b.Loop() {
				w.Write(packet)
			}
			w.Close()
			wg.Wait()
		})
	}
}

// BenchmarkPingPong: each packet waits for its answer.
func BenchmarkPingPong(b *testing.B) {
	for _, k := range kinds {
		b.Run(k.name, func(b *testing.B) {
			near, far := k.pair()
			var wg sync.WaitGroup
			wg.Go(func() {
				p := make([]byte, 64)
				for {
					if _, err := io.ReadFull(far, p); err != nil {
						return
					}
					far.Write(p)
				}
			})
			p := make([]byte, 64)
			b.ReportAllocs()
			for b.Loop() {
				near.Write(p)
				io.ReadFull(near, p)
			}
			near.Close()
			far.Close()
			wg.Wait()
		})
	}
}
