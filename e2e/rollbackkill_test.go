package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/device"
	"github.com/wilco-iot/wilco/mqtt"
)

// undoer sends a device somewhere and takes that back, over and over, asking each
// step again until it is answered: a server that is killed between any two of them
// must not take it for two.
type undoer struct {
	s      *site
	device string
	state  *device.Replica[map[string]int]

	mu   sync.Mutex
	done map[string]int    // by tid: how often the device has done it
	at   int               // where the device is
	undo map[string]string // by tid: what its person was told takes it back
}

// set is what the device does.
func (u *undoer) set(_ context.Context, r *device.Request) (any, error) {
	var p struct{ To int }
	if err := r.Unmarshal(&p); err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.done[r.TID]++
	u.at = p.To
	now := map[string]int{"n": p.To}
	return nil, errors.Join(u.state.Report(now), r.State(now))
}

// insist asks until there is an answer; one that says no is the end of the test.
func (u *undoer) insist(ctx context.Context, what string, ask func() (*client.Command, error)) *client.Command {
	for ctx.Err() == nil {
		c, err := ask()
		if err == nil {
			return c
		}
		if e := (*client.Error)(nil); errors.As(err, &e) && e.Status < 500 {
			u.s.t.Errorf("%s: %v", what, err)
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// work goes to 1, 2, 3, ... and each time back to 0, until ctx ends.
func (u *undoer) work(ctx context.Context, api *client.Client) {
	for n := 1; ; n++ {
		order := client.Order{Name: "set", Params: fmt.Appendf(nil, `{"to":%d}`, n), Key: fmt.Sprint("go ", n)}
		made := u.insist(ctx, "send", func() (*client.Command, error) { return api.Send(ctx, u.device, order) })
		if made = u.executed(ctx, api, made); made == nil {
			return
		}
		o := client.RollbackOptions{Key: fmt.Sprint("back ", n), Reason: "as a test"}
		back := u.insist(ctx, "rollback of "+made.TID, func() (*client.Command, error) { return api.Rollback(ctx, made.TID, o) })
		if back != nil {
			u.mu.Lock()
			u.undo[made.TID] = back.TID
			u.mu.Unlock()
		}
		if back = u.executed(ctx, api, back); back == nil {
			return
		}
		u.mu.Lock()
		if u.at != 0 || string(back.Params) != `{"to":0}` {
			u.s.t.Errorf("after rollback %d with %s %s is at %d", n, back.Params, u.device, u.at)
		}
		u.mu.Unlock()
	}
}

// executed waits for the end of c; nil when the work is over, or it ended otherwise.
func (u *undoer) executed(ctx context.Context, api *client.Client, c *client.Command) *client.Command {
	if c == nil {
		return nil
	}
	c = u.insist(ctx, "await "+c.TID, func() (*client.Command, error) { return api.Await(ctx, c.TID) })
	if c != nil && c.State != client.Executed {
		u.s.t.Errorf("%s is %s (%s): %s", c.TID, c.State, c.Reason, c.Detail)
		return nil
	}
	return c
}

// TestRollbackAfterKill kills the server again and again while commands are taken
// back. Nothing is taken back twice, and at no time does one of two name the other
// alone.
func TestRollbackAfterKill(t *testing.T) {
	t.Parallel()
	rounds := roundsOf(t, 12)
	seed := seedOf(t)
	rnd := rand.New(rand.NewPCG(seed, 29))
	data, web, tcp, start := restartable(t)
	srv := start()
	t.Cleanup(func() { srv.kill() })
	s := newSite(t, seed, web, adminToken(t, data), 4)
	if _, _, err := s.api.ApplyType(t.Context(), "set", []byte(`{"name":"set","effects":[{"path":"n","param":"to"}]}`)); err != nil {
		t.Fatal(err)
	}
	undoers := make([]*undoer, len(s.members))
	ctx, stop := context.WithCancel(t.Context())
	working, rest := context.WithCancel(ctx)
	var devices, workers sync.WaitGroup
	t.Cleanup(func() { rest(); workers.Wait(); stop(); devices.Wait() })
	for i, m := range s.members {
		u := &undoer{s: s, device: m.Address.String(), done: map[string]int{}, undo: map[string]string{}}
		undoers[i] = u
		d, err := device.New(device.Config{Address: m.Address, Servers: []string{"mqtt://" + tcp}, Version: mqtt.V5,
			Password: []byte(m.Secret), Journal: new(device.MemoryJournal)})
		if err != nil {
			t.Fatal(err)
		}
		d.Handle("set", u.set)
		u.state = device.NewReplica[map[string]int](d)
		if err := u.state.Report(map[string]int{"n": 0}); err != nil {
			t.Fatal(err)
		}
		devices.Go(func() {
			if err := d.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		if err := within(patience, func() error { return s.reported(ctx, u.device) }); err != nil {
			t.Fatal(err)
		}
		workers.Go(func() { u.work(working, s.api) })
	}
	for range rounds {
		<-time.After(time.Duration(rnd.Int64N(int64(300 * time.Millisecond))))
		srv.kill()
		srv = start()
		s.linked()
	}
	rest()
	workers.Wait()
	for _, u := range undoers {
		s.undone(u)
	}
}

// reported wants a device to have reported anything.
func (s *site) reported(ctx context.Context, device string) error {
	got, err := s.api.State(ctx, device, false)
	if err == nil && string(got.Reported) == "{}" {
		err = errors.New("nothing is reported")
	}
	return err
}

// linked looks at every command that names another, and wants the other to name it.
func (s *site) linked() {
	s.t.Helper()
	for tid, c := range s.known() {
		for name, pair := range map[string]struct {
			other string
			link  func(*client.Command) string
		}{"undoes": {c.Undoes, func(o *client.Command) string { return o.UndoneBy }}, "is undone by": {c.UndoneBy, func(o *client.Command) string { return o.Undoes }}} {
			if pair.other == "" {
				continue
			}
			other, err := s.api.Get(s.t.Context(), pair.other)
			if err != nil {
				s.t.Fatal(err)
			}
			if pair.link(other) != tid {
				s.t.Errorf("%s %s %s, which does not name it: %+v", tid, name, pair.other, other)
			}
		}
	}
}

// undone compares what u was told with what the server has and the device has done.
func (s *site) undone(u *undoer) {
	s.t.Helper()
	made := map[string]int{} // by the tid that is undone
	for _, c := range s.known() {
		if c.Device == u.device && c.Undoes != "" {
			made[c.Undoes]++
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for tid, by := range u.undo {
		c, err := s.api.Get(s.t.Context(), tid)
		if err != nil {
			s.t.Fatal(err)
		}
		if made[tid] != 1 || c.UndoneBy != by {
			s.t.Errorf("%s was undone %d times, by %s; its person was told of %s", tid, made[tid], c.UndoneBy, by)
		}
	}
	for tid, n := range u.done {
		if n > 1 {
			s.t.Errorf("%s was done %d times", tid, n)
		}
	}
	if len(u.undo) == 0 {
		s.t.Errorf("%s: nothing was undone: the test has shown nothing", u.device)
	}
	s.t.Logf("%s: %d were undone", u.device, len(u.undo))
}
