package fleet

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// forgetAtOnce is how many tokens one commit takes away.
const forgetAtOnce = 500

// Forget takes away the sessions that have ended, and the tokens that had ended before
// a time: up to then they are listed, and who comes by one is told that it has expired.
// With the last token of a name goes what is kept for the name. It blocks for a commit
// for each 500.
func (f *Fleet) Forget(ctx context.Context, before time.Time) error {
	f.changing.Lock()
	defer f.changing.Unlock()
	for some := range slices.Chunk(f.ended(before), forgetAtOnce) {
		ids := make([]string, len(some))
		for i := range some {
			ids[i] = some[i].ID
		}
		if err := f.commit(ctx, removals(ids)...); err != nil {
			return fmt.Errorf("fleet: tokens that have ended: %w", err)
		}
		f.mu.Lock()
		for _, id := range ids {
			delete(f.tokens, id)
		}
		f.mu.Unlock()
		for i := range some {
			if t := &some[i]; t.User == "" && !f.tokenNamed(t.Name) {
				f.tellUser(t.Name, true)
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// ended are the tokens that Forget takes away.
func (f *Fleet) ended(before time.Time) (list []Token) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for _, t := range f.tokens {
		if f.expired(&t) && (t.Kind == KindSession || t.Expires.Before(before)) {
			list = append(list, t)
		}
	}
	return list
}
