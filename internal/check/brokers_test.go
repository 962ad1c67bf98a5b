package check

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/mqtt"
)

// TestMain lets more tests run at once than there are processors: those that start
// brokers wait, for what should not come, more than they compute.
func TestMain(m *testing.M) {
	if address, dir, ok := strings.Cut(os.Getenv(asBroker), " "); ok {
		if err := beBroker(address, dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "12"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// places are the listeners in memory, by the host of their URL.
var places sync.Map

// inMemory is a listener in memory, and its URL, for who runs with a connect.
func inMemory(t *testing.T) (string, *testkit.Listener) {
	l, host := testkit.NewListener(), rand.Text()
	places.Store(host, l)
	t.Cleanup(func() { places.Delete(host) })
	return "mqtt://" + host, l
}

// connect connects with a broker in memory.
func connect(ctx context.Context, u *url.URL) (net.Conn, error) {
	l, ok := places.Load(u.Host)
	if !ok {
		return nil, net.ErrClosed
	}
	return l.(*testkit.Listener).Dial(ctx)
}

// ownBroker runs our broker, in memory, and gives its URL.
func ownBroker(t *testing.T, how broker.Share) string {
	t.Helper()
	url, l := inMemory(t)
	startBroker(t, how, broker.Listener{Name: "memory", Network: "tcp", Open: func() (net.Listener, error) { return l, nil }})
	return url
}

// startBroker runs our broker in this process.
func startBroker(t *testing.T, how broker.Share, at broker.Listener) *broker.Broker {
	t.Helper()
	var there sync.WaitGroup // connections; a session ends before its connection is told to have
	b, err := broker.New(broker.Options{Authority: broker.AllowAnonymous(), Shares: map[string]broker.ShareRule{"": {How: how}},
		Events: broker.Events{
			Connected:    func(broker.ConnInfo, bool) { there.Add(1) },
			Disconnected: func(broker.ConnInfo, mqtt.ReasonCode, error) { there.Done() },
		},
		Listeners: []broker.Listener{at}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		there.Wait() // who has left may still be on the way out, and a broker that stops ends no session
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := b.Stop(ctx); err != nil {
			t.Error(err)
		}
		if s := b.Stats(); s.Retained != 0 {
			t.Errorf("%d retained messages were left behind", s.Retained)
		}
		if s := b.Stats(); s.Sessions != 0 {
			t.Errorf("%d sessions were left behind", s.Sessions)
		}
	})
	return b
}

// mosquittoCommand gives the command that starts it on a free port, and its URL.
func mosquittoCommand(t *testing.T) (command []string, url string) {
	t.Helper()
	program, address := testkit.MosquittoPath(t), testkit.FreeAddress(t)
	conf := testkit.MosquittoConfig(t, testkit.MosquittoListener(address), "log_dest none")
	return []string{program, "-c", conf}, "mqtt://" + address
}

var versions = map[string]mqtt.Version{"5": mqtt.V5, "3.1.1": mqtt.V311}

// virtually runs f in virtual time, beside other tests.
func virtually(t *testing.T, name string, f func(*testing.T)) {
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, f)
	})
}

func mustRun(t *testing.T, o Options) Report {
	t.Helper()
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	r.Print(&b)
	t.Log("\n" + b.String())
	return r
}

// quick are all cases, without the slow ones in a short run.
func quick(t *testing.T, slow ...string) []string {
	t.Helper()
	all, err := listed()
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, c := range all {
		if !testing.Short() || !slices.Contains(slow, c.ID) {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// Shows [B1a] [B2a] [B7a] [B7c].
func TestOurBrokerViolatesNothing(t *testing.T) {
	t.Parallel()
	for name, v := range versions {
		virtually(t, name, func(t *testing.T) {
			r := mustRun(t, Options{URL: ownBroker(t, broker.RoundRobin), open: connect, Version: v, Strict: true, Cases: quick(t, "O18")})
			if n := r.Violations(); n > 0 {
				t.Errorf("%d cases are violated", n)
			}
			for _, s := range []Strength{TotalOrder, CrossTopic} {
				if !slices.Contains(r.Strengths, s) {
					t.Errorf("%s was not seen", s)
				}
			}
			for _, c := range r.Cases {
				if c.Skipped == "" && len(c.Verdicts) == 0 && c.ID != "O29" && c.ID != "O30" && c.ID != "O31" && c.ID != "O33" {
					t.Errorf("%s ran and says nothing", c.ID)
				}
			}
		})
	}
}

// Shows [B8c].
func TestOurSharesKeepTheOrderPerKey(t *testing.T) {
	for _, how := range []broker.Share{broker.Sticky, broker.ByTopic, broker.ByPublisher} {
		for name, v := range versions {
			virtually(t, how.String()+"/"+name, func(t *testing.T) {
				r := mustRun(t, Options{URL: ownBroker(t, how), open: connect, Version: v, Strict: true, Cases: []string{"O29", "O30", "O31"}})
				if r.Violations() > 0 || !slices.Contains(r.Strengths, KeyOrderShared) {
					t.Errorf("%d cases are violated; strengths %v", r.Violations(), r.Strengths)
				}
			})
		}
	}
}

// TestMosquitto shows what the tester finds in a broker that others wrote. What
// is wrong with a version of it is no failure here; a run that cannot be done is.
func TestMosquitto(t *testing.T) {
	t.Parallel()
	for name, v := range versions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			command, url := mosquittoCommand(t)
			o := Options{URL: url, Start: command, Version: v, Cases: quick(t, "O18"), Patience: time.Second}
			for _, c := range mustRun(t, o).Cases {
				// It keeps queues in memory only.
				if c.ID == "O25" && !slices.Contains(c.Verdicts, LossAcked) {
					t.Errorf("O25: %v: %s", c.Verdicts, c.Detail)
				}
			}
			o.Cases, o.Patience = []string{"O12"}, time.Minute // which is not used up
			if c := mustRun(t, o).Cases[0]; c.Violated {
				t.Errorf("O12: %v: %s", c.Verdicts, c.Detail)
			}
		})
	}
}

// locked lets nobody in.
type locked struct{}

func (locked) Authenticate(context.Context, broker.Credentials) (broker.Identity, error) {
	return nil, errors.New("locked")
}

// TestNobodyIsLetIn: who tries the broker of wilco serve first is told what is wanted.
func TestNobodyIsLetIn(t *testing.T) {
	b, err := broker.New(broker.Options{Authority: locked{}, Listeners: []broker.Listener{{Name: "tcp", Network: "tcp", Address: "127.0.0.1:0"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	defer b.Stop(context.Background())
	_, err = Run(t.Context(), Options{URL: "mqtt://me:secret@" + b.Addr("tcp").String()})
	if fault.CodeOf(err) != fault.Forbidden || !strings.Contains(err.Error(), "wilco broker") || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}
