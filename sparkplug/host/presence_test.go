package host

import (
	"testing"
	"time"
)

// TestPresence is what a host does about words under its own id. Shows
// [tck-id-message-flow-hid-sparkplug-state-message-delivered]
// [tck-id-operational-behavior-host-application-multi-server-timestamp].
func TestPresence(t *testing.T) {
	now := time.UnixMilli(1000)
	for _, tt := range []struct {
		name, payload string
		retained      bool
		before        bool // our birth
		foreign       bool
		want          repair
	}{
		{"our birth", `{"online":true,"timestamp":1000}`, false, false, false, fine},
		{"our former death, retained", `{"online":false,"timestamp":900}`, true, true, false, fine},
		{"the same, after our birth was sent", `{"online":false,"timestamp":900}`, true, false, false, fine},
		{"63 foreign, older", `{"online":false,"timestamp":900}`, false, false, true, republish},
		{"63 foreign, as old", `{"online":false,"timestamp":1000}`, false, false, true, republish},
		{"63 foreign, newer", `{"online":false,"timestamp":1001}`, false, false, true, reconnect},
		{"62 an online one that is newer, retained", `{"online":true,"timestamp":5000}`, true, true, true, reconnect},
		{"62 an online one that is older", `{"online":true,"timestamp":900}`, false, false, true, republish},
		{"63 deleted", ``, false, false, true, republish},
		{"61 no JSON", `whatever`, false, false, true, republish},
		{"61 no number", `{"online":false,"timestamp":"1001"}`, false, false, true, republish},
		{"61 nothing known of before us", `whatever`, true, true, false, fine},
		{"60 words of 2.2", `OFFLINE`, false, false, true, republish},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var p presence
			if p.connect(now) != 1000 {
				t.Fatal(p.stamp)
			}
			p.born = !tt.before
			if got := p.receive([]byte(tt.payload), tt.retained, now); got != tt.foreign {
				t.Errorf("foreign is %v", got)
			}
			p.born = true
			if got := p.repair(now); got != tt.want {
				t.Errorf("repair %v, want %v", got, tt.want)
			}
			if got := p.repair(now.Add(time.Hour)); got != fine {
				t.Errorf("and once more %v", got)
			}
		})
	}
}

// The next connection is newer than all that was said, although the clock is not.
func TestNasty62ClockSetBack(t *testing.T) {
	var p presence
	p.connect(time.UnixMilli(1000))
	p.born = true
	p.receive([]byte(`{"online":false,"timestamp":7000}`), false, time.UnixMilli(1001))
	if got := p.connect(time.UnixMilli(500)); got != 7001 {
		t.Errorf("the new connection has %d", got)
	}
	if got := p.death(time.UnixMilli(600)); got != 7001 {
		t.Errorf("its death has %d", got)
	}
}

// Two hosts with one id: each answers the other, ever more slowly.
func TestNasty63PingPong(t *testing.T) {
	var p presence
	now := time.UnixMilli(1_000_000)
	p.connect(now)
	p.born = true
	repairs := 0
	for range 3600 {
		p.receive([]byte(`{"online":false,"timestamp":900}`), false, now)
		if p.repair(now) != fine {
			repairs++
		}
		now = now.Add(time.Second)
	}
	if repairs < 10 || repairs > 25 {
		t.Errorf("%d repairs in an hour", repairs)
	}
}

func TestNasty64OwnDeath(t *testing.T) {
	var p presence
	now := time.UnixMilli(1000)
	p.connect(now)
	p.born = true
	p.death(now)
	if p.receive([]byte(`{"online":false,"timestamp":1000}`), false, now) || p.repair(now) != fine {
		t.Error("the own death was answered")
	}
}

// A new connection begins with nothing published: what is retained is of before.
func TestPresenceBeginsAnew(t *testing.T) {
	var p presence
	now := time.UnixMilli(1000)
	p.connect(now)
	p.born = true
	p.receive([]byte(`{"online":false,"timestamp":900}`), false, now)
	p.connect(now.Add(time.Second))
	if p.receive([]byte(`{"online":true,"timestamp":1000}`), false, now) || p.repair(now.Add(time.Hour)) != fine {
		t.Error("repaired before our birth")
	}
}
