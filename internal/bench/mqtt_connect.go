package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// MQTTConnectReport is how fast a broker takes clients in.
type MQTTConnectReport struct {
	URL       string  `json:"url"` // without user and password
	Seconds   float64 `json:"seconds"`
	Connected int64   `json:"connected"` // and subscribed
	PerSecond float64 `json:"perSecond"`
	P50Ms     float64 `json:"p50Ms,omitempty"` // from opening the connection to SUBACK
	P99Ms     float64 `json:"p99Ms,omitempty"`

	CPUSecondsPerMillion     float64 `json:"cpuSecondsPerMillion,omitempty"`     // of clients that came and went
	LoadCPUSecondsPerMillion float64 `json:"loadCpuSecondsPerMillion,omitempty"` // of this process
	PeakMemoryMiB            float64 `json:"peakMemoryMiB,omitempty"`            // the broker's, since it started
}

// MQTTConnect has clients come and go for o.For, 32 at a time and so many at least:
// each connects with a clean session, subscribes to a topic of its own, and disconnects. Of o
// it uses URL, whose user and password are given, For, ServerPID, Version and
// Progress.
func MQTTConnect(ctx context.Context, o MQTTOptions) (MQTTConnectReport, error) {
	o.Subscribers = 1
	var r MQTTConnectReport
	done, err := perform(ctx, o, func(l *load, ctx context.Context) error { return l.visit(ctx, &r) })
	r.URL = done.URL
	r.CPUSecondsPerMillion, r.LoadCPUSecondsPerMillion = done.CPUSecondsPerMillion, done.LoadCPUSecondsPerMillion
	r.P50Ms, r.P99Ms, r.PeakMemoryMiB = done.P50Ms, done.P99Ms, done.PeakMemoryMiB
	return r, err
}

func (l *load) visit(ctx context.Context, r *MQTTConnectReport) error {
	l.piece = leastPiece
	l.o.Progress(fmt.Sprintf("connecting for %s", l.o.For))
	used, err := l.meter()
	if err != nil {
		return err
	}
	begin := l.since()
	timer := time.AfterFunc(l.o.For, func() { close(l.over) })
	defer timer.Stop()
	var visits atomic.Int64
	var visiting sync.WaitGroup
	for range connecting {
		visiting.Go(func() {
			for again := true; again; again = !isClosed(l.over) && ctx.Err() == nil {
				l.check(l.visitOnce(ctx, visits.Add(1)))
			}
		})
	}
	visiting.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	r.Seconds = float64(l.since()-begin) / 1e9
	r.Connected = visits.Load()
	r.PerSecond = float64(r.Connected) / r.Seconds
	l.report.Delivered = r.Connected // what the CPU time is shared by
	l.percentiles()
	return used()
}

func (l *load) visitOnce(ctx context.Context, number int64) error {
	begin := l.since()
	c, err := l.dial(ctx, fmt.Sprintf("%sc%d", l.name, number), false)
	if err != nil {
		return err
	}
	if err := c.subscribe(fmt.Sprintf("bench/%s/%d", l.name, number), mqtt.AtMostOnce); err != nil {
		return err
	}
	l.latency.add(l.since() - begin)
	l.mu.Lock()
	delete(l.links, c)
	l.mu.Unlock()
	return c.leave()
}
