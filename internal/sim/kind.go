package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/device"
	"github.com/wilco-iot/wilco/wire"
)

// Kind is how the devices of one kind behave. It is not changed once a fleet has it.
type Kind struct {
	Profile  wire.DeviceProfile // nil: wilco
	Commands []string           // the names of those that they understand
	Work     Span               // how long one takes
	// Fail, Reject and Silent are the shares of commands, 0 to 1, that fail, that
	// are refused before they begin, and of which no answer ever reaches the server.
	Fail, Reject, Silent float64
	Reboots              Reboots
	Clock                Clock
	// Unordered devices may begin a command behind a younger one.
	Unordered bool
	// Valve devices have a state: their position, which any command may change by
	// its param of that name.
	Valve bool
}

// valve is the reported state of devices that are one.
type valve struct {
	Position float64 `json:"position"`
}

// Reboots say when devices lose power. Zero: never.
type Reboots struct {
	Every  time.Duration   // on average between two; each is between half and one and a half of it
	At     []time.Duration // after the start of the fleet, rising
	Midway float64         // share of commands in whose middle the power fails
	Off    Span            // how long they are off then; default 100 ms to 1 s
}

// Clock says how wrong the clocks of devices are. Each device draws its own,
// which is off by up to Offset either way, and goes wrong by up to Drift seconds
// a second either way.
type Clock struct {
	Offset time.Duration
	Drift  float64
}

// clock is one device's.
type clock struct {
	set    time.Time
	offset time.Duration
	drift  float64
}

func (c Clock) draw(rnd *rand.Rand) clock {
	either := func() float64 { return 2*rnd.Float64() - 1 }
	return clock{set: time.Now(), offset: time.Duration(either() * float64(c.Offset)), drift: either() * c.Drift}
}

func (c clock) now() time.Time {
	now := time.Now()
	return now.Add(c.offset + time.Duration(c.drift*float64(now.Sub(c.set))))
}

// Span is a range of durations, both ends included. Its text is "20ms..200ms",
// or "20ms" when the two are the same.
type Span struct{ Min, Max time.Duration }

func (s Span) String() string {
	if s.Min == s.Max {
		return s.Min.String()
	}
	return s.Min.String() + ".." + s.Max.String()
}

// MarshalText writes "20ms..200ms".
func (s Span) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads "20ms..200ms" or "20ms".
func (s *Span) UnmarshalText(b []byte) error {
	from, to, ranged := strings.Cut(string(b), "..")
	if !ranged {
		to = from
	}
	var err1, err2 error
	s.Min, err1 = time.ParseDuration(from)
	s.Max, err2 = time.ParseDuration(to)
	if errors.Join(err1, err2) != nil || s.Min < 0 || s.Max < s.Min {
		return fmt.Errorf("%q is no duration like 2s, and no range like 100ms..2s", b)
	}
	return nil
}

// draw takes a duration of the span.
func (s Span) draw(rnd *rand.Rand) time.Duration {
	return s.Min + time.Duration(rnd.Int64N(int64(s.Max-s.Min)+1))
}

func (m *member) pick(rnd *rand.Rand, s Span) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return s.draw(rnd)
}

// nextReboot is how long from now the device has power; 0: for ever.
func (m *member) nextReboot() (after time.Duration) {
	r, run := &m.kind.Reboots, time.Since(m.f.began)
	if r.Every > 0 {
		after = m.between(r.Every/2, r.Every/2+r.Every)
	}
	for _, at := range r.At {
		if at > run {
			if wait := at - run; after == 0 || wait < after {
				after = wait
			}
			break
		}
	}
	return after
}

// execute is what a device of a kind does about any command.
func (m *member) execute(ctx context.Context, r *device.Request) (any, error) {
	k := m.kind
	m.mu.Lock()
	work, fate, midway := k.Work.draw(m.work), m.work.Float64(), m.work.Float64()
	m.mu.Unlock()
	if fate < k.Reject {
		return nil, device.Reject("not_now", "the device refuses it")
	}
	m.effect(r.TID)
	if midway < k.Reboots.Midway && !m.f.isCalm() {
		m.mu.Lock()
		if off := m.power; off != nil {
			time.AfterFunc(work/2, off)
		}
		m.mu.Unlock()
	}
	timer := time.NewTimer(work)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if fate < k.Reject+k.Fail {
		return nil, device.Fail("motor_stuck", "the motor did not move")
	}
	return nil, nil
}

// turn is execute for a valve.
func (m *member) turn(ctx context.Context, r *device.Request, state *device.Replica[valve]) (any, error) {
	m.mu.Lock()
	to := m.valve
	m.mu.Unlock()
	if err := r.Unmarshal(&to); err != nil {
		return nil, err
	}
	if _, err := m.execute(ctx, r); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.valve = to
	return nil, state.Report(to)
}

// understand lets a boot know the commands of its kind.
func (m *member) understand(d *device.Device) {
	handler := m.execute
	if m.kind.Valve {
		state := device.NewReplica[valve](d, device.KeepReports())
		m.mu.Lock()
		_ = state.Report(m.valve) // it is an object, and small
		m.mu.Unlock()
		handler = func(ctx context.Context, r *device.Request) (any, error) { return m.turn(ctx, r, state) }
	}
	for _, name := range m.kind.Commands {
		d.Handle(name, handler)
	}
}

// muted says whether the server is never to hear of a command.
func (m *member) muted(tid string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	mute, known := m.mute[tid]
	if !known {
		mute = m.work.Float64() < m.kind.Silent
		m.mute[tid] = mute
	}
	return mute
}
