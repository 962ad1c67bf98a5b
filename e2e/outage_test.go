package e2e

import (
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/internal/testkit"
)

// TestBrokerGone takes the broker away for a while, with all that it held in
// memory, while orders come in: once in good order and once by SIGKILL. The
// server must go on to take orders, and everything must end truthfully.
func TestBrokerGone(t *testing.T) {
	t.Parallel()
	binary := testkit.MosquittoPath(t)
	seed := seedOf(t)
	dir, data := t.TempDir(), filepath.Join(t.TempDir(), "data")
	web, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"WILCO_DATA=" + data, "WILCO_HTTP_ADDRESS=" + web, "WILCO_MQTT_TCP=" + tcp, "WILCO_LOG_LEVEL=error"}

	// The devices are registered first: Mosquitto gets its list from the database.
	srv, err := serve(env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.kill() })
	s := newSite(t, seed, web, adminToken(t, data), 20)
	if err := srv.stop(); err != nil {
		t.Fatal(err)
	}
	broker, err := newMosquitto(binary, dir, data)
	if err == nil {
		err = broker.start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { broker.kill() })
	if srv, err = serve(env, "--broker-url", broker.url); err != nil {
		t.Fatal(err)
	}
	s.powerOn(broker.address)
	stop := s.load(40)
	t.Cleanup(stop)

	rnd := rand.New(rand.NewPCG(seed, 5))
	pause := func(base time.Duration) { <-time.After(base + time.Duration(rnd.Int64N(int64(time.Second)))) }
	pause(3 * time.Second)
	if err := broker.stop(); err != nil {
		t.Error(err)
	}
	before := s.count()
	pause(5 * time.Second)
	if s.count() == before {
		t.Error("no order was taken while the broker was away")
	}
	if err := broker.start(); err != nil {
		t.Fatal(err)
	}
	pause(4 * time.Second)
	broker.kill()
	pause(time.Second)
	if err := broker.start(); err != nil {
		t.Fatal(err)
	}
	pause(2 * time.Second)
	stop()
	s.settle()
	s.audit()
	if err := srv.stop(); err != nil {
		t.Error(err)
	}
}
