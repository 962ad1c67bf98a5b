package e2e

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/sim"
	"github.com/wilco-iot/wilco/wire"
)

// voter is a person who looks at what is held and agrees, or now and then does not,
// and remembers what the server has acknowledged of that.
type voter struct {
	name   string
	denies float64 // share
	api    *client.Client
	rnd    *rand.Rand

	mu     sync.Mutex
	agreed map[string]bool // by tid
	denied map[string]bool
}

func (s *site) voter(name string, denies float64) *voter {
	s.t.Helper()
	tok, err := s.api.CreateToken(s.t.Context(), client.NewToken{Name: name, Role: client.Approver})
	if err != nil {
		s.t.Fatal(err)
	}
	api, err := client.New(s.base, client.Token(tok.Token), client.HTTP(s.http), client.Retries(0))
	if err != nil {
		s.t.Fatal(err)
	}
	return &voter{name: name, denies: denies, api: api, rnd: rand.New(rand.NewPCG(s.seed, uint64(len(name)))),
		agreed: map[string]bool{}, denied: map[string]bool{}}
}

// work votes until ctx ends. What the server does not answer is not remembered: it
// may have been taken or not.
func (v *voter) work(ctx context.Context) {
	for ctx.Err() == nil {
		page, err := v.api.List(ctx, client.ListOptions{States: []client.State{client.AwaitingApproval}, Limit: 50, OldestFirst: true})
		if err == nil {
			for i := range page.Items {
				v.vote(ctx, &page.Items[i])
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (v *voter) vote(ctx context.Context, c *client.Command) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.agreed[c.TID]:
	case v.rnd.Float64() < v.denies:
		if _, err := v.api.Deny(ctx, c.TID, "not today"); err == nil {
			v.denied[c.TID] = true
		}
	default:
		if _, err := v.api.Approve(ctx, c.TID, c.Approval.Digest, "fine"); err == nil {
			v.agreed[c.TID] = true
		}
	}
}

// TestApprovalAfterKill kills the server again and again while commands are asked
// for that two people must agree to, and they agree or not. Every vote that was
// acknowledged is kept and counted once, nothing is executed without two votes or
// after a denial, nothing twice, and the record of who did what is whole.
func TestApprovalAfterKill(t *testing.T) {
	t.Parallel()
	rounds := 15
	if testing.Short() {
		rounds = 4
	}
	seed := seedOf(t)
	rnd := rand.New(rand.NewPCG(seed, 23))
	data, web, tcp, start := restartable(t)
	srv := start()
	t.Cleanup(func() { srv.kill() })
	s := newSite(t, seed, web, adminToken(t, data), 10)
	for _, name := range []string{sim.Set, sim.Move} {
		if _, _, err := s.api.ApplyType(t.Context(), name, []byte(`{"name":"`+name+`","approval":{"quorum":2}}`)); err != nil {
			t.Fatal(err)
		}
	}
	ann, ben := s.voter("ann", 0), s.voter("benjamin", 0.2)
	s.powerOn(tcp)
	voting, rest := context.WithCancel(t.Context())
	var people sync.WaitGroup
	people.Go(func() { ann.work(voting) })
	people.Go(func() { ben.work(voting) })
	t.Cleanup(func() { rest(); people.Wait() })
	stop := s.load(40)
	t.Cleanup(stop)
	for range rounds {
		<-time.After(time.Duration(rnd.Int64N(int64(800 * time.Millisecond))))
		srv.kill()
		srv = start()
	}
	stop()
	s.settle()
	rest()
	people.Wait()

	s.auditVotes(ann, ben)
	if out, err := command("audit", "verify", "--server", s.base, "--token", s.token).CombinedOutput(); err != nil {
		t.Errorf("the record of who did what is not whole: %v\n%s", err, out)
	}
}

// auditVotes compares what the server has with what it told its people and with
// what its devices did. Order is not promised between commands that wait for
// people for different times.
func (s *site) auditVotes(voters ...*voter) {
	s.t.Helper()
	known := s.known()
	var claims []sim.Claim
	for _, m := range s.made {
		c, ok := known[m.tid]
		claim := sim.Claim{TID: m.tid, Known: ok}
		if ok {
			claim.State, claim.Final, claim.Sent = string(c.State), c.Ended, !c.Sent.IsZero()
			claim.Device, _ = wire.ParseAddress(c.Device)
		}
		claims = append(claims, claim)
	}
	v := sim.Audit(claims, s.fleet.Logs())
	if v.OutOfOrder = 0; !v.Good() {
		s.t.Errorf("the server and the devices contradict each other: %+v", v)
	}
	votes, denials, executed := 0, 0, 0
	for _, p := range voters {
		for tid := range p.agreed {
			votes++
			if c := known[tid]; !voted(c, p.name) {
				s.t.Errorf("the vote of %s for %s is lost: %+v", p.name, tid, c.Approval)
			}
		}
		for tid := range p.denied {
			denials++
			if c := known[tid]; c.State != client.Denied {
				s.t.Errorf("%s has denied %s, which is %s", p.name, tid, c.State)
			}
		}
	}
	for tid, c := range known {
		if c.Name != sim.Set && c.Name != sim.Move {
			continue
		}
		if c.Approval == nil || len(c.Approval.Votes) > len(voters) {
			s.t.Errorf("%s has the approval %+v", tid, c.Approval)
			continue
		}
		if !c.Sent.IsZero() {
			executed++
			for _, p := range voters {
				if !voted(c, p.name) {
					s.t.Errorf("%s was sent without the vote of %s", tid, p.name)
				}
			}
		}
	}
	s.t.Logf("%v; %d votes, %d denials, %d sent", v.ByState, votes, denials, executed)
	if votes == 0 || denials == 0 || executed == 0 {
		s.t.Error("too little has happened: the test has shown nothing")
	}
}

// voted says whether c has one vote of name.
func voted(c *client.Command, name string) bool {
	n := 0
	if c != nil && c.Approval != nil {
		for _, v := range c.Approval.Votes {
			if v.By == name {
				n++
			}
		}
	}
	return n == 1
}
