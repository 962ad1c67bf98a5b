package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/device"
	"github.com/wilco-iot/wilco/internal/app"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/gateway"
	"github.com/wilco-iot/wilco/internal/gateway/config"
	"github.com/wilco-iot/wilco/internal/sim"
	"github.com/wilco-iot/wilco/wire"
)

// The gateway of the acts, and the device behind it.
var (
	gatewayAddress = wire.Address{Group: actsGroup, Device: "gateway"}
	pumpAddress    = wire.Address{Group: actsGroup, Device: "pump"}
)

// ruleName is of the rule that acts when the server above is out of reach.
const ruleName = "slow-down"

// gatewayFile is what somebody writes for the gateway.
const gatewayFile = `name: %s
upstream: {url: "mqtt://%s", secret: %q}
data: %q
rules:
  - name: %s
    when: {upstreamDown: 2s}
    do: {device: %s, rollback: true}
`

// site is a gateway with a pump behind it, and the line to the server above.
type site struct {
	line   *line
	server *app.Server    // of the gateway
	own    *client.Client // somebody at the site
	ends   []func() error // of its parts, last first

	mu     sync.Mutex // guards what follows
	log    sim.Log    // of the pump
	speeds []int      // that it was set to
}

// site starts one. Whatever the error is, what is returned is to be closed.
func (d *director) site(ctx context.Context, s *stage) (*site, error) {
	// A command that waits above is done behind a younger one of the gateway: the act
	// looks itself at what the pump has done.
	x := &site{log: sim.Log{Address: pumpAddress, Unordered: true, Ends: make(map[string]string)}}
	above, err := s.operator.AddDevice(ctx, client.NewDevice{Device: gatewayAddress.String()})
	if err != nil {
		return x, err
	}
	if _, err := s.operator.AddDevice(ctx, client.NewDevice{Device: pumpAddress.String(), Via: gatewayAddress.String()}); err != nil {
		return x, err
	}
	if x.line, err = newLine(d.server.MQTTAddr("tcp").String()); err != nil {
		return x, err
	}
	x.ends = append(x.ends, x.line.close)
	o := d.o
	o.Data = filepath.Join(d.o.Data, "gateway")
	if x.server, err = start(ctx, o); err != nil {
		return x, err
	}
	x.ends = append(x.ends, func() error { return within(x.server.Stop) })
	if x.own, err = admin(x.server, o.Data); err != nil {
		return x, err
	}
	_, secret, err := x.server.Fleet.Add(ctx, fleet.NewDevice{Address: pumpAddress})
	if err != nil {
		return x, err
	}
	file := filepath.Join(o.Data, "gateway.yaml")
	text := fmt.Sprintf(gatewayFile, gatewayAddress, x.line.Addr(), above.Secret, o.Data, ruleName, pumpAddress)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return x, err
	}
	c, err := config.Load(file)
	if err != nil {
		return x, err
	}
	g, err := gateway.Start(ctx, c, x.server, o.Logger)
	if err != nil {
		return x, err
	}
	x.ends = append(x.ends, func() error { return within(g.Stop) })
	return x, x.power(ctx, secret)
}

// power starts the pump, which runs at 10 until somebody desires another speed.
func (x *site) power(ctx context.Context, secret string) error {
	d, err := device.New(device.Config{Address: pumpAddress, Servers: []string{"mqtt://" + x.server.MQTTAddr("tcp").String()},
		Password: []byte(secret), Journal: new(device.MemoryJournal), Observer: device.Observer{
			Executing: func(tid, _ string) { x.note(func() { x.log.Effects = append(x.log.Effects, tid) }) },
			Executed:  func(r wire.Result) { x.note(func() { x.log.Ends[r.TID] = r.Status }) }}})
	if err != nil {
		return err
	}
	state := device.NewReplica[map[string]int](d)
	state.OnDesired("speed", func(_ context.Context, v json.RawMessage) error {
		var speed int
		if err := json.Unmarshal(v, &speed); err != nil {
			return device.Fail("bad_speed", err.Error())
		}
		x.note(func() { x.speeds = append(x.speeds, speed) })
		return nil
	})
	if err := state.Report(map[string]int{"speed": 10}); err != nil {
		return err
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	over := make(chan error, 1)
	go func() { over <- d.Run(life) }()
	x.ends = append(x.ends, func() error { end(); return <-over })
	return nil
}

func (x *site) note(what func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	what()
}

// done gives a copy of the pump's own log, and the speeds that it was set to.
func (x *site) done() (sim.Log, []int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	l := x.log
	l.Effects, l.Ends = slices.Clone(l.Effects), maps.Clone(l.Ends)
	return l, slices.Clone(x.speeds)
}

// close ends all that has started. A second one does nothing.
func (x *site) close() error {
	var all []error
	for _, end := range slices.Backward(x.ends) {
		all = append(all, end())
	}
	x.ends = nil
	return errors.Join(all...)
}

// cutOff is a gateway that loses the server above, acts alone, and returns.
func (s *stage) cutOff(ctx context.Context) (string, error) {
	if err := s.reaches(ctx, true); err != nil {
		return "", err
	}
	raised, err := s.desire(ctx, 80)
	if raised, err = s.ended(ctx, raised, err); err != nil {
		return "", err
	}
	s.site.line.cut()
	began := time.Now()
	if err := s.reaches(ctx, false); err != nil {
		return "", err
	}
	waiting, err := s.desire(ctx, 55)
	if err != nil {
		return "", err
	}
	slowed, err := s.site.ruled(ctx, raised.TID)
	if err != nil {
		return "", err
	}
	if waiting, err = s.operator.Get(ctx, waiting.TID); err != nil {
		return "", err
	}
	if waiting.State != client.Created || waiting.Attempt != 0 {
		return "", fmt.Errorf("what was asked for above did not wait: it is %s after %d attempts", waiting.State, waiting.Attempt)
	}
	s.site.line.mend()
	away := time.Since(began)
	if waiting, err = s.ended(ctx, waiting, nil); err != nil {
		return "", err
	}
	if err := s.told(ctx, slowed, waiting); err != nil {
		return "", err
	}
	return fmt.Sprintf("alone for %.1f s, it took the pump back from 80 to 10; then what had waited above came, marked", away.Seconds()), nil
}

// desire asks above for a speed of the pump.
func (s *stage) desire(ctx context.Context, speed int) (*client.Command, error) {
	return s.operator.SetDesired(ctx, pumpAddress.String(), client.Desire{Patch: fmt.Appendf(nil, `{"speed":%d}`, speed)})
}

// reaches waits until the server above says whether the pump can be reached.
func (s *stage) reaches(ctx context.Context, online bool) error {
	err := poll(ctx, func() (bool, error) {
		d, err := s.operator.Device(ctx, pumpAddress.String())
		return err == nil && d.Presence.Online == online, err
	})
	if err != nil {
		return fmt.Errorf("that the pump's being online is %v is not known above: %w", online, err)
	}
	return nil
}

// ruled waits at the site until the rule has taken a command back, and the pump is
// as it was before.
func (x *site) ruled(ctx context.Context, undoes string) (*client.Command, error) {
	var made []client.Command
	err := poll(ctx, func() (bool, error) {
		page, err := x.own.List(ctx, client.ListOptions{RequestedBy: "rule:" + ruleName})
		if err != nil {
			return false, err
		}
		made = page.Items
		return len(made) > 0 && made[0].Ended, nil
	})
	if err == nil && (len(made) != 1 || made[0].State != client.Executed || made[0].Undoes != undoes) {
		err = fmt.Errorf("it has made %d commands, the last is %s and undoes %s", len(made), made[0].State, made[0].Undoes)
	}
	if err == nil {
		err = stands(ctx, x.own, pumpAddress.String(), "speed", 10)
	}
	if err != nil {
		return nil, fmt.Errorf("the rule of the gateway: %w", err)
	}
	return &made[0], nil
}

// told says what is wrong after the return: the pump must have done all in the order
// of its gateway, and the server above must have in its history what the gateway did
// alone, and show what that contradicts.
func (s *stage) told(ctx context.Context, slowed, waiting *client.Command) error {
	if _, got := s.site.done(); !slices.Equal(got, []int{80, 10, 55}) {
		return fmt.Errorf("the pump was set to %v", got)
	}
	if waiting.Attempt != 1 {
		return fmt.Errorf("what had waited took %d attempts", waiting.Attempt)
	}
	above, err := s.operator.Get(ctx, slowed.TID)
	if err != nil {
		return fmt.Errorf("what the gateway did alone: %w", err)
	}
	if above.State != client.Executed || above.RequestedBy != slowed.RequestedBy+" at "+gatewayAddress.String() {
		return fmt.Errorf("what the gateway did alone is %s by %s above", above.State, above.RequestedBy)
	}
	raised, err := s.operator.Get(ctx, slowed.Undoes)
	if err != nil || raised.UndoneBy != slowed.TID {
		return errors.Join(err, errors.New("that the gateway took a command back is not known above"))
	}
	t, err := s.operator.Timeline(ctx, waiting.TID)
	if err != nil || !slices.ContainsFunc(t.Entries, func(e client.Entry) bool { return e.Kind == "overtaken" }) {
		return errors.Join(err, errors.New("what had waited is not marked as overtaken"))
	}
	list, err := s.operator.Anomalies(ctx, pumpAddress.String(), 0)
	if err != nil || !slices.ContainsFunc(list, func(a client.Anomaly) bool { return a.Kind == "gateway_conflict" && a.TID == slowed.TID }) {
		return errors.Join(err, errors.New("that the two contradict is not shown above"))
	}
	return stands(ctx, s.operator, pumpAddress.String(), "speed", 55)
}
