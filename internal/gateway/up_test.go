package gateway

import (
	"testing"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// Where the two clocks differ, what the broker above has counted down is what is left.
func TestTimeLeft(t *testing.T) {
	for name, c := range map[string]struct{ until, expiry, waited, want time.Duration }{
		"clocks agree":             {1500 * time.Millisecond, 2 * time.Second, 0, 1500 * time.Millisecond},
		"too late":                 {-time.Second, time.Second, 0, -time.Second},
		"too late, after a wait":   {-time.Minute, 9 * time.Second, 69 * time.Second, -time.Minute},
		"the gateway's is fast":    {-time.Hour, 30 * time.Second, 0, 30 * time.Second},
		"fast, after a wait":       {-time.Hour, 30 * time.Second, time.Minute, -30 * time.Second},
		"the gateway's is slow":    {time.Hour, 30 * time.Second, 0, 30 * time.Second},
		"nothing was counted down": {time.Minute, 0, 0, time.Minute},
	} {
		if got := timeLeft(noon.Add(c.until), c.expiry, noon.Add(-c.waited), noon); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// What a server that has lost the session does not grant again is asked for again.
func TestARefusedRenewalIsForgotten(t *testing.T) {
	var a asked
	a.forget([]mqtt.Subscription{{Filter: "a"}})
	a.set("a", true)
	a.set("b", true)
	a.set("c", true)
	a.set("c", false)
	a.forget([]mqtt.Subscription{{Filter: "a"}})
	if got := a.list(); len(got) != 1 || !got["b"] {
		t.Errorf("%v", got)
	}
}
