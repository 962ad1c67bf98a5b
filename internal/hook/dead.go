package hook

import (
	"context"
	"fmt"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
)

// MaxRedrive is how many dead deliveries one call of Redrive takes.
const MaxRedrive = 200

// Dead lists deliveries that were given up, the oldest first: up to limit behind
// the event after. Limit is 1 to 1000; 0 means 100. Errors: NotFound.
func (r *Runner) Dead(ctx context.Context, name string, after int64, limit int) ([]Delivery, error) {
	if err := r.known(name); err != nil {
		return nil, err
	}
	docs, err := r.opt.Store.Documents(ctx, kindDelivery, name+placeDead, name+placeDead+fmt.Sprintf("%016x", max(after, 0)), limit)
	if err != nil {
		return nil, err
	}
	list := make([]Delivery, len(docs))
	for i := range docs {
		d, err := decodeDelivery(&docs[i])
		if err != nil {
			return nil, err
		}
		list[i] = *d
	}
	return list, nil
}

func (r *Runner) known(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rules[name] == nil {
		return unknown(name)
	}
	return nil
}

// Revival is dead deliveries that are to be tried again: Writes are to be
// committed, then it is to be given to Revive.
type Revival struct {
	Writes []store.DocumentWrite
	Count  int
	More   bool // there are more dead ones than MaxRedrive
	list   []*Delivery
}

// Redrive makes dead deliveries live again, with all their tries before them: that
// of one event, or, when event is 0, the MaxRedrive oldest. Those that could never
// be made stay dead. Errors: NotFound.
func (r *Runner) Redrive(ctx context.Context, name string, event int64) (*Revival, error) {
	if err := r.known(name); err != nil {
		return nil, err
	}
	prefix, limit := name+placeDead, MaxRedrive+1
	if event > 0 {
		prefix, limit = (&Delivery{Hook: name, Event: event, Dead: true}).id().Key, 1
	}
	v := &Revival{}
	now := r.now().UTC()
	for after := ""; ; {
		docs, err := r.opt.Store.Documents(ctx, kindDelivery, prefix, after, limit)
		if err != nil {
			return nil, err
		}
		for i := range docs {
			after = docs[i].Key
			d, err := decodeDelivery(&docs[i])
			if err != nil {
				return nil, err
			}
			if d.Attempts == 0 {
				continue // there is nothing to send
			}
			if v.Count == MaxRedrive {
				v.More = true
				return v, nil
			}
			d.Dead, d.Attempts, d.Since, d.Due = false, 0, now, now
			w, err := d.write(0)
			if err != nil {
				return nil, err
			}
			v.Writes = append(v.Writes, store.DocumentWrite{DocumentID: docs[i].DocumentID, Was: docs[i].Version}, w)
			v.list = append(v.list, d)
			v.Count++
		}
		if len(docs) < limit || event > 0 {
			break
		}
	}
	if event > 0 && v.Count == 0 {
		return nil, &fault.Error{Code: fault.NotFound, Field: "event",
			Message: fmt.Sprintf("the hook %s has no dead delivery of event %d that could be sent; list them with wilco hook dead %s", name, event, name)}
	}
	return v, nil
}

// Revive puts what was committed into the queue.
func (r *Runner) Revive(v *Revival) {
	r.mu.Lock()
	for _, d := range v.list {
		if r.rules[d.Hook] != nil {
			r.queue.Add(itemOf(d), d.Due)
		}
	}
	r.mu.Unlock()
	signal(r.kick)
}
