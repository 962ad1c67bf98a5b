package wire

import (
	"encoding/json"
	"testing"
)

const benchTID = "0198c2f0-1111-7aaa-8bbb-0123456789ab"

func BenchmarkAppendCommand(b *testing.B) {
	p := NewWilco("")
	c := Command{TID: benchTID, Cmd: "valve.set", Status: Request, Params: json.RawMessage(`{"level":3,"ramp":"slow"}`),
		Seq: 42, Epoch: 1772600000, Attempt: 1, Issued: at, NotAfter: at}
	buf := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = p.AppendCommand(buf[:0], c)
	}
}

func BenchmarkAppendResult(b *testing.B) {
	p := NewWilco("")
	r := Result{TID: benchTID, Status: Success, Result: json.RawMessage(`{"level":3}`), State: json.RawMessage(`{"level":3,"temp":21.5}`)}
	buf := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = p.AppendResult(buf[:0], r)
	}
}

func BenchmarkParseUp(b *testing.B) {
	p := NewWilco("")
	for _, doc := range []struct{ name, topic, payload string }{
		{"ack", "wilco/north/pump-7/ack", `{"tid":"` + benchTID + `","status":"RECEIVED"}`},
		{"running", "wilco/north/pump-7/result", `{"tid":"` + benchTID + `","status":"RUNNING","progress":{"percent":12.5,"note":"turning"}}`},
		{"success", "wilco/north/pump-7/result", `{"tid":"` + benchTID + `","status":"SUCCESS","result":{"level":3},"state":{"level":3,"temp":21.5}}`},
		{"status", "wilco/north/pump-7/status", `{"online":true,"boot":"b1","ts":"2026-03-04T04:06:07.891Z","firmware":"1.2","inProgress":["` + benchTID + `"]}`},
	} {
		payload := []byte(doc.payload)
		b.Run(doc.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.ParseUp(doc.topic, payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseCommand(b *testing.B) {
	payload := []byte(seeds[0])
	p := NewWilco("")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.ParseCommand(payload); err != nil {
			b.Fatal(err)
		}
	}
}
