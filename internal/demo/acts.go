package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/app"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/config"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/sim"
	"github.com/wilco-iot/wilco/wire"
)

// Act is something that the demo shows beside the mass of commands: what people do,
// over the API, to devices of the group "acts". These are behind the same networks,
// but for the one that is behind a gateway.
type Act struct {
	Name string `json:"name"`
	Said string `json:"said"` // how it went
	Good bool   `json:"good"` // as it should
}

// actsGroup is the group of the devices of the acts.
const actsGroup = "acts"

// What the acts are about.
const (
	setValve = "valve.set"
	openGate = "gate.open"
	install  = "firmware.install"
)

// types say what people must agree to, and what can be taken back.
var types = map[string]string{
	setValve: "name: valve.set\neffects:\n  - {path: position, param: position}\n",
	openGate: "name: gate.open\napproval: {quorum: 1}\n",
	install:  "name: firmware.install\n",
}

// lineSize is how many devices the roll-out is for, actorCount how many all acts are.
const (
	lineSize   = 12
	actorCount = lineSize + 3
)

// actors registers the devices of the acts. The firmware fails on every one of the line.
func (d *director) actors(ctx context.Context) ([]sim.Member, error) {
	good := &sim.Kind{Commands: []string{setValve, openGate}, Work: sim.Span{Min: 100 * time.Millisecond, Max: 400 * time.Millisecond}, Valve: true}
	bad := &sim.Kind{Commands: []string{install}, Work: good.Work, Fail: 1}
	members := []sim.Member{{Address: wire.Address{Group: actsGroup, Device: "gate"}, Kind: good}, {Address: wire.Address{Group: actsGroup, Device: "valve"}, Kind: good}}
	for i := range lineSize {
		members = append(members, sim.Member{Address: wire.Address{Group: actsGroup, Device: fmt.Sprintf("line-%02d", i+1)}, Kind: bad})
	}
	for i := range members {
		var err error
		if _, members[i].Secret, err = d.server.Fleet.Add(ctx, fleet.NewDevice{Address: members[i].Address}); err != nil {
			return nil, err
		}
	}
	return members, nil
}

// stage is what the acts are played with.
type stage struct {
	operator, lead *client.Client // two people
	site           *site
}

// person is somebody with a token at a server.
func person(server *app.Server, token string) (*client.Client, error) {
	return client.New("http://"+server.HTTPAddr().String(), client.Token(token))
}

// admin is who has the first token of a server that keeps its data in a directory.
func admin(server *app.Server, data string) (*client.Client, error) {
	token, err := os.ReadFile(filepath.Join(data, config.TokenFile))
	if err != nil {
		return nil, err
	}
	return person(server, strings.TrimSpace(string(token)))
}

func (d *director) stage(ctx context.Context) (*stage, error) {
	operator, err := admin(d.server, d.o.Data)
	if err != nil {
		return nil, err
	}
	s := &stage{operator: operator}
	lead, err := s.operator.CreateToken(ctx, client.NewToken{Name: "shift-lead", Role: client.Approver})
	if err != nil {
		return nil, err
	}
	if s.lead, err = person(d.server, lead.Token); err != nil {
		return nil, err
	}
	for name, text := range types {
		if _, _, err := s.operator.ApplyType(ctx, name, []byte(text)); err != nil {
			return nil, fmt.Errorf("type %s: %w", name, err)
		}
	}
	return s, nil
}

// play plays the acts side by side and returns when all are over.
func (d *director) play(ctx context.Context, s *stage) {
	var wg sync.WaitGroup
	for i, act := range []struct {
		name string
		play func(context.Context) (string, error)
	}{{"approval", s.approval}, {"rollback", s.rollback}, {"roll-out", s.rollout}, {"gateway", s.cutOff}} {
		d.setAct(i, Act{Name: act.name, Said: "begins"})
		wg.Go(func() {
			said, err := act.play(ctx)
			if err != nil {
				said = strings.TrimSpace(said + " " + err.Error())
			}
			d.setAct(i, Act{Name: act.name, Said: said, Good: err == nil})
		})
	}
	wg.Wait()
}

func (d *director) setAct(i int, a Act) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.acts) <= i {
		d.acts = append(d.acts, Act{})
	}
	d.acts[i] = a
}

// played is how far the acts are.
func (d *director) played() []Act {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.acts)
}

// actPolicy is the server's, for commands that name none: all but the mass. It is
// more patient than that of the mass: an act is not over before its end.
func actPolicy() command.Policy {
	p := policy
	p.DeliverBy, p.MaxAttempts = command.Duration(time.Minute), 10
	return p
}

func order(name, params string) client.Order {
	return client.Order{Name: name, Params: json.RawMessage(params)}
}

// ended waits for the end of a command, which must be executed.
func (s *stage) ended(ctx context.Context, c *client.Command, err error) (*client.Command, error) {
	for err == nil && !c.Ended {
		c, err = s.operator.Changed(ctx, c.TID, c.Version)
	}
	if err == nil && c.State != client.Executed {
		err = fmt.Errorf("%s %s is %s (%s)", c.Name, c.TID, c.State, c.Reason)
	}
	return c, err
}

// approval is a command that is held until somebody else agrees.
func (s *stage) approval(ctx context.Context) (string, error) {
	c, err := s.operator.Send(ctx, actsGroup+"/gate", order(openGate, `{}`))
	if err != nil {
		return "", err
	}
	timer := time.NewTimer(time.Second) // the lead comes in
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if c, err = s.operator.Get(ctx, c.TID); err != nil {
		return "", err
	}
	if c.State != client.AwaitingApproval || !c.Sent.IsZero() {
		return "", fmt.Errorf("it was not held: it is %s", c.State)
	}
	if _, err := s.operator.Approve(ctx, c.TID, c.Approval.Digest, ""); err == nil {
		return "", errors.New("who asked for it could agree to it")
	}
	c, err = s.lead.Approve(ctx, c.TID, c.Approval.Digest, "the yard is empty")
	if c, err = s.ended(ctx, c, err); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s was held for %.1f s until shift-lead agreed, and is executed", c.Name, c.Sent.Sub(c.Created).Seconds()), nil
}

// rollback is a command that is taken back by what the device reported before.
func (s *stage) rollback(ctx context.Context) (string, error) {
	const valve = actsGroup + "/valve"
	var last *client.Command
	for _, position := range []float64{10, 40} {
		c, err := s.operator.Send(ctx, valve, order(setValve, fmt.Sprintf(`{"position":%g}`, position)))
		if last, err = s.ended(ctx, c, err); err != nil {
			return "", err
		}
		if err := stands(ctx, s.operator, valve, "position", position); err != nil {
			return "", err
		}
	}
	c, err := s.operator.Rollback(ctx, last.TID, client.RollbackOptions{Reason: "wrong valve"})
	if _, err = s.ended(ctx, c, err); err != nil {
		return "", err
	}
	return "the valve went from 10 to 40, was taken back, and reports 10", stands(ctx, s.operator, valve, "position", 10)
}

// stands waits until a server says that a device reports a number under a name.
func stands(ctx context.Context, at *client.Client, device, name string, number float64) error {
	return poll(ctx, func() (bool, error) {
		got, err := at.State(ctx, device, false)
		if err != nil {
			return false, err
		}
		var now map[string]float64
		err = json.Unmarshal(got.Reported, &now)
		return now[name] == number, err
	})
}

// poll looks until it is so.
func poll(ctx context.Context, so func() (bool, error)) error {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		if yes, err := so(); yes || err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// rollout is one that ends itself when too many of its devices have failed.
func (s *stage) rollout(ctx context.Context) (string, error) {
	devices := make([]string, lineSize)
	for i := range devices {
		devices[i] = fmt.Sprintf("%s/line-%02d", actsGroup, i+1)
	}
	r, err := s.operator.StartRollout(ctx, client.RolloutSpec{Name: "demo", Command: install,
		Targets: client.RolloutTargets{Devices: devices}, Concurrency: 2, Abort: &client.RolloutThreshold{Share: 0.3, Minimum: 3}})
	if err != nil {
		return "", err
	}
	err = poll(ctx, func() (_ bool, err error) {
		r, err = s.operator.Rollout(ctx, r.ID)
		return err == nil && r.Final(), err
	})
	if err == nil && (r.State != "aborted" || r.Started >= r.Total) {
		err = fmt.Errorf("it is %s (%s) after %d of %d", r.State, r.Reason, r.Started, r.Total)
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s failed on %d devices, aborted itself, and never reached %d of %d", install, r.Counts["failed"], r.Total-r.Started, r.Total), nil
}

// commands are those that the acts have made.
func (s *stage) commands(ctx context.Context) (tids []string, err error) {
	for c, err := range s.operator.All(ctx, client.ListOptions{Group: actsGroup}) {
		if err != nil {
			return nil, err
		}
		tids = append(tids, c.TID)
	}
	return tids, nil
}
