package command

import (
	"encoding/json"
	"testing"

	"github.com/wilco-iot/wilco/wire"
)

// BenchmarkApply is the life of a command as nearly all are: dispatch, ack,
// RUNNING, SUCCESS. One op is the whole life.
func BenchmarkApply(b *testing.B) {
	c := newHistory(b, matrixPolicy, nil).c
	life := []Event{
		{Kind: Dispatch, DeviceOnline: true, Epoch: 7, Seq: 1},
		{Kind: Received, DeviceOnline: true, Boot: "b1"},
		{Kind: SaidRunning, DeviceOnline: true, Boot: "b1", Progress: &wire.Progress{Note: "half way"}},
		{Kind: Succeeded, DeviceOnline: true, Boot: "b1", Result: []byte(`{"position":50}`)},
	}
	b.ReportAllocs()
	for b.Loop() {
		c := c
		for i, ev := range life {
			var err error
			if c, _, err = Apply(c, ev, after(float64(i+1))); err != nil {
				b.Fatal(err)
			}
		}
		if c.State != Executed {
			b.Fatal(c.State)
		}
	}
}

// BenchmarkApplyDuplicate is a message that changes nothing.
func BenchmarkApplyDuplicate(b *testing.B) {
	c := newHistory(b, matrixPolicy, nil).kind(1, Dispatch).at(2, Event{Kind: Succeeded, Result: []byte(`1`)}).c
	ev, now := Event{Kind: Received, DeviceOnline: true}, after(3)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Apply(c, ev, now); err != nil {
			b.Fatal(err)
		}
	}
}

func endedCommand(b *testing.B) Command {
	return newHistory(b, matrixPolicy, nil).kind(1, Dispatch).kind(2, Received).kind(3, SaidRunning).
		at(4, Event{Kind: Succeeded, Result: []byte(`{"position":50}`)}).c
}

// BenchmarkEncode is what a store writes for a command that has ended.
func BenchmarkEncode(b *testing.B) {
	c := endedCommand(b)
	b.ReportAllocs()
	for b.Loop() {
		buf, err := json.Marshal(&c)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(buf)))
	}
}

func BenchmarkDecode(b *testing.B) {
	c := endedCommand(b)
	buf, err := json.Marshal(&c)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		var c Command
		if err := json.Unmarshal(buf, &c); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLane is a command through a lane in which a thousand wait.
func BenchmarkLane(b *testing.B) {
	lane := NewLane(1)
	n := 0
	for ; n < 1000; n++ {
		lane.Track(&Command{TID: tid(n), State: Created})
	}
	b.ReportAllocs()
	for b.Loop() {
		n++
		lane.Track(&Command{TID: tid(n), State: Created})
		id, ok := lane.Next()
		if !ok {
			b.Fatal("nothing to send")
		}
		lane.Track(&Command{TID: id, State: Sent})
		lane.Track(&Command{TID: id, State: Executed})
	}
}
