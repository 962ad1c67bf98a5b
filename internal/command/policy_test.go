package command

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

func TestPolicyCheck(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Policy)
		field  string // "" when it is right
	}{
		{"defaults", func(*Policy) {}, ""},
		{"no deliver-by", func(p *Policy) { p.DeliverBy = 0 }, "deliverBy"},
		{"negative deliver-by", func(p *Policy) { p.DeliverBy = -1 }, "deliverBy"},
		{"shortest deliver-by", func(p *Policy) { p.DeliverBy = Duration(minClock) }, ""},
		{"too short", func(p *Policy) { p.DeliverBy = Duration(minClock - 1) }, "deliverBy"},
		{"longest deliver-by", func(p *Policy) { p.DeliverBy = Duration(maxClock) }, ""},
		{"too long", func(p *Policy) { p.DeliverBy = Duration(maxClock + 1) }, "deliverBy"},
		{"no ack-by", func(p *Policy) { p.AckBy = 0 }, "ackBy"},
		{"no heartbeat", func(p *Policy) { p.Heartbeat = 0 }, ""},
		{"negative heartbeat", func(p *Policy) { p.Heartbeat = -1 }, "heartbeat"},
		{"short heartbeat", func(p *Policy) { p.Heartbeat = 1 }, "heartbeat"},
		{"no finish-by", func(p *Policy) { p.FinishBy = 0 }, "finishBy"},
		{"no settle", func(p *Policy) { p.Settle = 0 }, "settle"},
		{"no bound of a wait", func(p *Policy) { p.MaxBackoff = 0 }, "maxBackoff"},
		{"unknown backoff", func(p *Policy) { p.Backoff = "quadratic" }, "backoff"},
		{"no backoff", func(p *Policy) { p.Backoff = "" }, "backoff"},
		{"one attempt", func(p *Policy) { p.MaxAttempts = 1 }, ""},
		{"no attempt", func(p *Policy) { p.MaxAttempts = 0 }, "maxAttempts"},
		{"a hundred", func(p *Policy) { p.MaxAttempts = 100 }, ""},
		{"more than a hundred", func(p *Policy) { p.MaxAttempts = 101 }, "maxAttempts"},
		{"all jitter", func(p *Policy) { p.Jitter = 1 }, ""},
		{"too much jitter", func(p *Policy) { p.Jitter = 1.01 }, "jitter"},
		{"negative jitter", func(p *Policy) { p.Jitter = -0.01 }, "jitter"},
		{"no number", func(p *Policy) { p.Jitter = math.NaN() }, "jitter"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := Defaults
			tt.change(&p)
			err := p.Check()
			var pe *PolicyError
			if tt.field == "" && err != nil || tt.field != "" && (!errors.As(err, &pe) || pe.Field != tt.field) {
				t.Errorf("got %v, want the field %q", err, tt.field)
			}
			if tt.field != "" && !strings.HasPrefix(err.Error(), "policy."+tt.field+": ") {
				t.Errorf("%q does not name the field", err)
			}
		})
	}
}

func TestDefaultsFillOnlyWhatIsMissing(t *testing.T) {
	if got := (Policy{}).WithDefaults(); got != Defaults {
		t.Errorf("of an empty policy: %+v", got)
	}
	given := Policy{DeliverBy: Duration(time.Second), AckBy: Duration(2 * time.Second), Heartbeat: Duration(3 * time.Second),
		FinishBy: Duration(4 * time.Second), Settle: Duration(5 * time.Second), Backoff: Linear, MaxAttempts: 6,
		Supersede: true, MaxBackoff: Duration(7 * time.Second)}
	if got := given.WithDefaults(); got != given {
		t.Errorf("of a full policy: %+v", got)
	}
	if got := (Policy{Backoff: Linear}).WithDefaults(); got.Jitter != 0 {
		t.Error("a policy that names a backoff and no jitter wants none")
	}
	if got := (Policy{Jitter: 0.5}).WithDefaults(); got.Jitter != 0.5 || got.Backoff != Defaults.Backoff {
		t.Errorf("jitter alone: %+v", got)
	}
	if err := Defaults.Check(); err != nil {
		t.Error(err)
	}
}

func TestWaits(t *testing.T) {
	sec := func(n int) Duration { return Duration(n) * Duration(time.Second) }
	tests := []struct {
		name string
		p    Policy
		want []int // seconds, of the first, second, ... publication
	}{
		{"none", Policy{AckBy: sec(10), Backoff: NoRetry, MaxBackoff: sec(300)}, []int{10, 10}},
		{"linear", Policy{AckBy: sec(10), Backoff: Linear, MaxBackoff: sec(300)}, []int{10, 20, 30, 40, 50}},
		{"linear with a bound", Policy{AckBy: sec(10), Backoff: Linear, MaxBackoff: sec(25)}, []int{10, 20, 25, 25}},
		{"exponential", Policy{AckBy: sec(10), Backoff: Exponential, MaxBackoff: sec(300)}, []int{10, 20, 40, 80, 160, 300, 300}},
		{"a bound below ack-by is no bound", Policy{AckBy: sec(10), Backoff: Exponential, MaxBackoff: sec(1)}, []int{10, 10, 10}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sum := time.Duration(0)
			for i, want := range tt.want {
				got := tt.p.wait(testTID, i+1)
				if got != sec(want).D() {
					t.Errorf("wait %d is %s, want %ds", i+1, got, want)
				}
				sum += got
			}
			if tt.p.wait(testTID, 0) != tt.p.wait(testTID, 1) {
				t.Error("before the first publication the first wait counts")
			}
			if tt.p.MaxAttempts = len(tt.want); tt.p.Backoff != NoRetry && tt.p.patience(testTID) != sum {
				t.Errorf("patience %s, want the sum %s", tt.p.patience(testTID), sum)
			}
		})
	}
}

// Jitter is there so that devices that were sent to together are not sent to
// again together, and so must differ by command and by attempt.
func TestJitterSpreads(t *testing.T) {
	p := Policy{AckBy: Duration(10 * time.Second), Backoff: NoRetry, Jitter: 0.5, MaxBackoff: Duration(time.Hour)}
	p.Backoff = Linear
	tenths := func(share func(i int) float64) (counts [10]int) {
		for i := range 1000 {
			s := share(i) // -0.5 to 0.5 of the wait
			counts[min(int((s+0.5)*10), 9)]++
		}
		return counts
	}
	share := func(id TID, n int) float64 {
		plain := float64(p.AckBy) * float64(n)
		return (float64(p.wait(id, n)) - plain) / plain
	}
	for name, counts := range map[string][10]int{
		"by command": tenths(func(i int) float64 { return share(tid(i), 2) }),
		"by attempt": tenths(func(i int) float64 { return share(tid(i/100), 2+i%100) }),
	} {
		for tenth, n := range counts {
			if n < 50 || n > 200 {
				t.Errorf("%s: %d of 1000 in tenth %d: %v", name, n, tenth, counts)
				break
			}
		}
	}
	if p.wait(testTID, 1) != p.AckBy.D() {
		t.Error("the first wait is the promised one")
	}
}

func TestDurationText(t *testing.T) {
	var v struct{ D Duration }
	if err := json.Unmarshal([]byte(`{"D":"1h30m"}`), &v); err != nil || v.D.D() != 90*time.Minute {
		t.Errorf("got %v %v", v, err)
	}
	if b, err := json.Marshal(v); err != nil || string(b) != `{"D":"1h30m0s"}` {
		t.Errorf("got %s %v", b, err)
	}
	for _, bad := range []string{"", "10", "ten seconds", "1d"} {
		if err := new(Duration).UnmarshalText([]byte(bad)); err == nil || !strings.Contains(err.Error(), "not a duration") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
