package engine

import (
	"context"
	"slices"

	"github.com/wilco-iot/wilco/internal/command"
)

// supersede ends the commands of the same name that still wait for d.
func (t *turn) supersede(d *device, by *command.Command) {
	if d.named == nil && !t.index(d) {
		return
	}
	for _, tid := range d.named[by.Name] {
		c, err := t.command(tid)
		if err == nil && c.State == command.Created {
			_, err = t.apply(d, c, command.Event{Kind: command.Supersede, By: by.RequestedBy, SupersededBy: &by.TID})
		}
		if err != nil {
			t.s.e.log.Error("a waiting command cannot be superseded", "tid", tid, "error", err)
		}
	}
	d.indexed -= len(d.named[by.Name])
	delete(d.named, by.Name)
}

// index makes d.named out of the commands that wait for d. The lane knows no
// names: without this every superseding command would have to look at all that
// wait, and most of a long queue is not in memory.
func (t *turn) index(d *device) bool {
	d.named, d.indexed = make(map[string][]command.TID), 0
	var missing []command.TID
	for _, tid := range d.lane.Queued() {
		if ch, ok := t.dirty[tid]; ok {
			d.remember(tid, ch.is.Name)
		} else if c, ok := t.s.cache[tid]; ok {
			d.remember(tid, c.Name)
		} else {
			missing = append(missing, tid)
		}
	}
	for some := range slices.Chunk(missing, maxTurn) {
		found, err := t.s.e.opt.Store.Commands(context.Background(), some)
		if err != nil {
			d.named = nil
			t.s.e.log.Error("waiting commands cannot be read, and so not superseded", "device", d.address, "error", err)
			return false
		}
		for i := range found {
			d.remember(found[i].TID, found[i].Name)
		}
	}
	return true
}

// remember puts a command that waits into the index, if there is one. One that
// has grown far beyond what waits is given up; the next to ask makes it anew.
func (d *device) remember(tid command.TID, name string) {
	if d.named == nil {
		return
	}
	d.named[name] = append(d.named[name], tid)
	if d.indexed++; d.indexed > 2*d.lane.Waiting()+64 {
		d.named = nil
	}
}
