package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// MQTTIdleReport is what idle connections cost a broker.
type MQTTIdleReport struct {
	URL              string  `json:"url"` // without user and password
	Connections      int     `json:"connections"`
	KiBPerConnection float64 `json:"kibPerConnection"` // of resident memory; the kernel's socket buffers are not in it
	BeforeMiB        float64 `json:"beforeMiB"`
	AfterMiB         float64 `json:"afterMiB"`
	PeakMemoryMiB    float64 `json:"peakMemoryMiB"` // since it started
}

// rest is how long connections idle before the memory is read.
const rest = 2 * time.Second

// MQTTIdle makes n connections, each with a subscription of its own, lets them
// idle for two seconds, and reads from the kernel by how much the memory of the
// broker's process has grown. Afterwards each of them is asked for a sign of
// life. Of o it uses URL, ServerPID, which is required, Version and Progress.
func MQTTIdle(ctx context.Context, o MQTTOptions, n int) (MQTTIdleReport, error) {
	if o.ServerPID == 0 || n < 1 {
		return MQTTIdleReport{}, errors.New("idle connections: want the broker's process and at least one connection")
	}
	r := MQTTIdleReport{Connections: n}
	done, err := perform(ctx, o, func(l *load, ctx context.Context) error { return l.idle(ctx, &r) })
	r.URL = done.URL
	return r, err
}

func (l *load) idle(ctx context.Context, r *MQTTIdleReport) (err error) {
	if r.BeforeMiB, err = memoryMiB(l.o.ServerPID); err != nil {
		return err
	}
	l.o.Progress(fmt.Sprintf("making %d connections", r.Connections))
	l.piece = leastPiece
	links := make([]*link, r.Connections)
	err = each(len(links), func(i int) (err error) {
		if links[i], err = l.dial(ctx, fmt.Sprintf("%si%d", l.name, i), false); err != nil {
			return err
		}
		return links[i].subscribe(fmt.Sprintf("bench/%s/%d", l.name, i), mqtt.AtMostOnce)
	})
	if err != nil {
		return err
	}
	select {
	case <-time.After(rest):
	case <-ctx.Done():
		return ctx.Err()
	}
	if r.AfterMiB, err = memoryMiB(l.o.ServerPID); err != nil {
		return err
	}
	if r.PeakMemoryMiB, err = peakMiB(l.o.ServerPID); err != nil {
		return err
	}
	r.KiBPerConnection = (r.AfterMiB - r.BeforeMiB) * 1024 / float64(r.Connections)
	ping, err := (&mqtt.Pingreq{}).Append(nil, l.o.Version)
	if err != nil {
		return err
	}
	return each(len(links), func(i int) error {
		if err := links[i].ask(ping, &mqtt.Pingresp{}); err != nil {
			return fmt.Errorf("%s did not live: %w", links[i].id, err)
		}
		return nil
	})
}
