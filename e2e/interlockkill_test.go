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

// The bounds of the test: so many at once may drill, and one may use the crane.
const (
	drills = 2
	drill  = "drill"
	lift   = "lift"
	turn   = "turn"
)

// yard counts what is being done at once, by all devices: it is where an interlock
// that was broken would be seen.
type yard struct {
	mu   sync.Mutex
	now  map[string]int
	most map[string]int
	bad  []string
	done map[string]int // by tid
}

// begin is called by a device that begins, end when it has done.
func (y *yard) begin(device string, r *device.Request) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.now[r.Name]++
	y.done[r.TID]++
	y.most[r.Name] = max(y.most[r.Name], y.now[r.Name])
	if crane := y.now[lift] + y.now[turn]; y.now[drill] > drills || crane > 1 {
		y.bad = append(y.bad, fmt.Sprintf("%s on %s began, and %v are at work", r.Name, device, y.now))
	}
}

func (y *yard) end(name string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.now[name]--
}

// TestInterlocksAfterKill kills the server again and again at random moments while many
// commands wait for few places. There are never more at work than there may be, and
// each comes to its turn.
func TestInterlocksAfterKill(t *testing.T) {
	t.Parallel()
	small := 15
	if testing.Short() {
		small = 5
	}
	rounds := roundsOf(t, small)
	seed := seedOf(t)
	rnd := rand.New(rand.NewPCG(seed, 37))
	data, web, tcp, start := restartable(t)
	srv := start()
	t.Cleanup(func() { srv.kill() })
	s := newSite(t, seed, web, adminToken(t, data), 6)
	for name, text := range map[string]string{
		drill: fmt.Sprintf(`{"name":"drill","atMost":{"count":%d},"unmet":"hold"}`, drills),
		lift:  `{"name":"lift","exclusive":"crane","unmet":"hold"}`,
		turn:  `{"name":"turn","exclusive":"crane","unmet":"hold"}`,
	} {
		if _, _, err := s.api.ApplyType(t.Context(), name, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	y := &yard{now: map[string]int{}, most: map[string]int{}, done: map[string]int{}}
	ctx, stop := context.WithCancel(t.Context())
	asking, rest := context.WithCancel(ctx)
	var devices, people sync.WaitGroup
	t.Cleanup(func() { rest(); people.Wait(); stop(); devices.Wait() })
	var mu sync.Mutex
	var tids []string
	for i, m := range s.members {
		d, err := device.New(device.Config{Address: m.Address, Servers: []string{"mqtt://" + tcp}, Version: mqtt.V5,
			Password: []byte(m.Secret), Journal: new(device.MemoryJournal)})
		if err != nil {
			t.Fatal(err)
		}
		work := func(ctx context.Context, r *device.Request) (any, error) {
			y.begin(m.Address.String(), r)
			defer y.end(r.Name)
			took := 5 * time.Millisecond
			if rand.N(3) == 0 {
				took += rand.N(1500 * time.Millisecond) // it is still at work when the server is back
			}
			select {
			case <-ctx.Done():
			case <-time.After(took):
			}
			return nil, nil
		}
		for _, name := range []string{drill, lift, turn} {
			d.Handle(name, work)
		}
		devices.Go(func() {
			if err := d.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		people.Go(func() {
			for n := 0; asking.Err() == nil; n++ {
				o := client.Order{Name: []string{drill, lift, turn}[(i+n)%3], Key: fmt.Sprint("work ", n)}
				c := s.insist(asking, func() (*client.Command, error) { return s.api.Send(asking, m.Address.String(), o) })
				if c == nil {
					return
				}
				mu.Lock()
				tids = append(tids, c.TID)
				mu.Unlock()
				if n%3 == 2 { // three of a device wait, and then for the last of them
					s.insist(asking, func() (*client.Command, error) { return s.api.Await(asking, c.TID) })
				}
			}
		})
	}
	for range rounds {
		<-time.After(time.Duration(rnd.Int64N(int64(400 * time.Millisecond))))
		srv.kill()
		srv = start()
	}
	rest()
	people.Wait()
	ends, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	for _, tid := range tids {
		c := s.insist(ends, func() (*client.Command, error) { return s.api.Await(ends, tid) })
		if c == nil {
			t.Fatalf("%s waits for ever", tid)
		}
		if c.State != client.Executed {
			t.Errorf("%s %s is %s (%s): %s", c.Name, tid, c.State, c.Reason, c.Detail)
		}
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	for _, text := range y.bad {
		t.Error(text)
	}
	for _, tid := range tids {
		if y.done[tid] != 1 {
			t.Errorf("%s was done %d times", tid, y.done[tid])
		}
	}
	if y.most[drill] < drills || len(tids) < 3*len(s.members) {
		t.Errorf("%d commands, at most %v at once: the test has shown nothing", len(tids), y.most)
	}
	t.Logf("%d commands over %d kills, at most %v at once", len(tids), rounds, y.most)
}

// insist asks until the server answers; nil: ctx has ended, or it said no.
func (s *site) insist(ctx context.Context, ask func() (*client.Command, error)) *client.Command {
	for ctx.Err() == nil {
		c, err := ask()
		if err == nil {
			return c
		}
		if e := (*client.Error)(nil); errors.As(err, &e) && e.Status < 500 && e.Status != 429 {
			s.t.Errorf("%v", err)
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}
