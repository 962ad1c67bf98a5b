package e2e

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the faults; 0: random")

// seedOf is printed, so that a failure can be had again, as far as the machine's
// own timing lets it.
func seedOf(t *testing.T) uint64 {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64N(1 << 32)
	}
	t.Logf("seed %d: run again with -seed %d", seed, seed)
	return seed
}

// TestKillNine kills the server again and again at random moments while orders
// come in and devices work, with networks that lose, repeat and overtake and
// devices that lose power. Whatever the server has acknowledged must then be
// known, have ended, be true, have been executed once at most, and in order. Who
// follows the events sees each of them once, across all the kills.
func TestKillNine(t *testing.T) {
	t.Parallel()
	rounds := 50
	if testing.Short() {
		rounds = 8
	}
	seed := seedOf(t)
	rnd := rand.New(rand.NewPCG(seed, 9))
	data := t.TempDir()
	web, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"WILCO_DATA=" + data, "WILCO_HTTP_ADDRESS=" + web, "WILCO_MQTT_TCP=" + tcp, "WILCO_LOG_LEVEL=error"}
	start := func() *server {
		srv, err := serve(env)
		if err != nil {
			t.Fatal(err)
		}
		return srv
	}
	srv := start()
	t.Cleanup(func() { srv.kill() })
	s := newSite(t, seed, web, adminToken(t, data), 30)
	events := s.follow()
	s.powerOn(tcp)
	stop := s.load(60)
	t.Cleanup(stop)
	var starting time.Duration
	for round := range rounds {
		<-time.After(time.Duration(rnd.Int64N(int64(time.Second))))
		if !srv.running() {
			t.Fatalf("round %d: the server has ended by itself: %v\n%s", round, srv.err, srv.out.String())
		}
		srv.kill()
		began := time.Now()
		srv = start()
		starting += time.Since(began)
	}
	stop()
	s.settle()
	t.Logf("%d rounds, %s to be ready again", rounds, (starting / time.Duration(rounds)).Round(time.Millisecond))
	s.audit()
	events.check(s.known())
	if s.repeated.Load() == 0 {
		t.Error("no request met a dead server: the test has shown nothing about keys")
	}
	if err := srv.stop(); err != nil {
		t.Error(err)
	}
}
