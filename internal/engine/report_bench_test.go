package engine

import (
	"fmt"
	"sync"
	"testing"

	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// BenchmarkReports: reports of 64 devices, six values of which one is new, without
// what the disk takes.
func BenchmarkReports(b *testing.B) {
	const devices = 64
	dir := &directory{devices: map[wire.Address]store.Device{}}
	for i := range devices {
		a := wire.Address{Group: "plant", Device: fmt.Sprintf("d%d", i)}
		dir.devices[a] = store.Device{Address: a}
	}
	e := New(Options{Store: nowhere{}, Directory: dir, Link: unlinked{}, Profiles: []wire.Profile{wire.NewWilco("")}, Epoch: 1, Shards: 1})
	if err := e.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	var wg sync.WaitGroup
	n := 0
	for b.Loop() {
		if n%devices == 0 {
			wg.Wait() // a turn has one report of each device
		}
		wg.Add(1)
		e.Receive(Message{Topic: fmt.Sprintf("wilco/plant/d%d/state/update", n%devices), Ack: wg.Done,
			Payload: fmt.Appendf(nil, `{"state":{"position":%d,"mode":"auto","motor":{"on":true,"speed":1450},"temperature":21.5,"firmware":"1.4.2"}}`, n)})
		n++
	}
	wg.Wait()
	if err := e.Stop(b.Context()); err != nil {
		b.Fatal(err)
	}
}
