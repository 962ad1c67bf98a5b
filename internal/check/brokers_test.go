package check

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/mqtt"
)

// TestMain lets more tests run at once than there are processors: they wait,
// for what should not come, more than they compute.
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

// ownBroker runs our broker in this process and gives its URL.
func ownBroker(t *testing.T) string {
	t.Helper()
	return ownBrokerWith(t, broker.RoundRobin)
}

func ownBrokerWith(t *testing.T, how broker.Share) string {
	t.Helper()
	var there sync.WaitGroup // connections; a session ends before its connection is told to have
	b, err := broker.New(broker.Options{Authority: broker.AllowAnonymous(), Shares: map[string]broker.ShareRule{"": {How: how}},
		Events: broker.Events{
			Connected:    func(broker.ConnInfo, bool) { there.Add(1) },
			Disconnected: func(broker.ConnInfo, mqtt.ReasonCode, error) { there.Done() },
		},
		Listeners: []broker.Listener{{Name: "tcp", Network: "tcp", Address: "127.0.0.1:0"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		there.Wait() // who has left may still be on the way out, and a broker that stops ends no session
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
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
	return "mqtt://" + b.Addr("tcp").String()
}

// mosquittoCommand gives the command that starts it on a free port, and its URL.
func mosquittoCommand(t *testing.T) (command []string, url string) {
	t.Helper()
	program, address := testkit.MosquittoPath(t), testkit.FreeAddress(t)
	conf := testkit.MosquittoConfig(t, testkit.MosquittoListener(address), "log_dest none")
	return []string{program, "-c", conf}, "mqtt://" + address
}

func both(t *testing.T, f func(t *testing.T, v mqtt.Version)) {
	t.Parallel()
	for name, v := range map[string]mqtt.Version{"5": mqtt.V5, "3.1.1": mqtt.V311} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, v)
		})
	}
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
	both(t, func(t *testing.T, v mqtt.Version) {
		r := mustRun(t, Options{URL: ownBroker(t), Version: v, Strict: true, Cases: quick(t, "O18")})
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

// Shows [B8c].
func TestOurSharesKeepTheOrderPerKey(t *testing.T) {
	for _, how := range []broker.Share{broker.Sticky, broker.ByTopic, broker.ByPublisher} {
		t.Run(how.String(), func(t *testing.T) {
			both(t, func(t *testing.T, v mqtt.Version) {
				r := mustRun(t, Options{URL: ownBrokerWith(t, how), Version: v, Strict: true, Cases: []string{"O29", "O30", "O31"}})
				if r.Violations() > 0 || !slices.Contains(r.Strengths, KeyOrderShared) {
					t.Errorf("%d cases are violated; strengths %v", r.Violations(), r.Strengths)
				}
			})
		})
	}
}

// TestMosquitto shows what the tester finds in a broker that others wrote. What
// is wrong with a version of it is no failure here; a run that cannot be done is.
func TestMosquitto(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		command, url := mosquittoCommand(t)
		r := mustRun(t, Options{URL: url, Start: command, Version: v, Cases: quick(t, "O18"), Patience: 2 * time.Second})
		for _, c := range r.Cases {
			if c.ID == "O12" && c.Violated {
				t.Errorf("O12: %v: %s", c.Verdicts, c.Detail)
			}
			// It keeps queues in memory only.
			if c.ID == "O25" && !slices.Contains(c.Verdicts, LossAcked) {
				t.Errorf("O25: %v: %s", c.Verdicts, c.Detail)
			}
		}
	})
}
