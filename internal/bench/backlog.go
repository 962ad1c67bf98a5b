package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/sim"
)

// backlog creates commands for devices that never come, and restarts the server
// with them.
func (b *commands) backlog(ctx context.Context) error {
	if err := b.register(ctx); err != nil {
		return err
	}
	n := b.o.Backlog
	r := &BacklogReport{Commands: n}
	b.report.Backlog = r
	begin := time.Now()
	for done, at, shown := 0, 0, time.Now(); done < n; {
		size := min(1000, n-done)
		orders := make([]client.BulkOrder, size)
		for i, m := range b.next(&at, size) {
			orders[i] = client.BulkOrder{Device: m.Address.String(), Name: sim.Set, Params: []byte(`{"valve":"open","percent":40}`)}
		}
		results, err := b.server.api.SendBulk(ctx, orders)
		if err != nil {
			return err
		}
		for _, res := range results {
			if res.Error != nil {
				return res.Error
			}
		}
		done += size
		if time.Since(shown) > 2*time.Second {
			b.o.Progress(fmt.Sprintf("%d of %d commands wait", done, n))
			shown = time.Now()
		}
	}
	r.CreatedPerSecond = float64(n) / time.Since(begin).Seconds()
	var err error
	if r.MemoryMiB, err = memoryMiB(b.server.cmd.Process.Pid); err != nil {
		return err
	}
	b.o.Progress("restarting")
	if err := b.server.stop(); err != nil {
		return err
	}
	begin = time.Now()
	again, err := startServer(ctx, b.o.Binary, b.o.Data)
	if err != nil {
		return err
	}
	b.server = again
	r.RestartSeconds = time.Since(begin).Seconds()
	if r.MemoryAfterMiB, err = memoryMiB(again.cmd.Process.Pid); err != nil {
		return err
	}
	open, err := b.open(ctx)
	if err != nil {
		return err
	}
	b.report.Commands, b.report.Lost = n, n-int(open)
	return nil
}
