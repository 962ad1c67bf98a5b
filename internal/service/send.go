package service

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/engine"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/wire"
)

// Bounds of what is asked for.
const (
	MaxBulk   = 1000          // commands in one call
	MaxParams = wire.MaxValue // bytes of params
	MaxName   = wire.MaxCmd   // bytes of a command's name
	MaxKey    = 200           // bytes of an idempotency key
	maxWhy    = 1024          // bytes of a reason given by a person
)

// Request is what the engine is asked for, and Created what became of it.
type (
	Request = engine.Request
	Created = engine.Created
)

// Order asks for one command. Begin with Policy() of the service for Policy and
// change what should differ.
type Order struct {
	Device wire.Address
	Name   string
	Params json.RawMessage // any JSON value; nil: none
	Policy command.Policy
	Key    string // idempotency key, unique within the device; "": none
	// IfDesired is the version of the desired state that a StateDesired was made
	// for; nil: any.
	IfDesired *int64
	// Err is why the order could not be read. It stays the outcome of this
	// item, so that the items of a bulk request keep their places.
	Err error
}

// Send makes one command.
func (s *Service) Send(ctx context.Context, p Principal, o Order) (Created, error) {
	out, err := s.SendBulk(ctx, p, []Order{o})
	if err != nil {
		return Created{}, err
	}
	return out[0], out[0].Err
}

// SendBulk makes commands, at most MaxBulk, with one call of the engine. The
// outcomes stand in the order of the orders, each with its own error; the
// commands of one device are made in that order too.
func (s *Service) SendBulk(ctx context.Context, p Principal, orders []Order) ([]Created, error) {
	if err := must(p, Operator); err != nil {
		return nil, err
	}
	if len(orders) > MaxBulk {
		return nil, fault.New(fault.TooMany, "%d commands; at most %d in one request", len(orders), MaxBulk)
	}
	out := make([]Created, len(orders))
	reqs := make([]Request, 0, len(orders))
	at := make([]int, 0, len(orders))
	for i := range orders {
		o := &orders[i]
		if err := s.check(p, o); err != nil {
			out[i].Err = err
			continue
		}
		r := Request{Device: o.Device, Name: o.Name, Params: o.Params, Policy: o.Policy, Key: o.Key, By: p.Name, IfDesired: o.IfDesired}
		if o.Key != "" {
			r.Digest = digest(o)
		}
		reqs, at = append(reqs, r), append(at, i)
	}
	if len(reqs) == 0 {
		return out, nil
	}
	made, err := s.opt.Engine.Create(ctx, reqs)
	if err != nil {
		return nil, done(err)
	}
	for j := range made {
		out[at[j]] = made[j]
		out[at[j]].Err = done(made[j].Err)
	}
	return out, nil
}

// check says what is wrong with an order.
func (s *Service) check(p Principal, o *Order) error {
	if o.Err != nil {
		return o.Err
	}
	if err := address(o.Device); err != nil {
		return err
	}
	if err := inside(p, o.Device.Group); err != nil {
		return err
	}
	switch {
	case o.Name == "":
		return fault.Field("name", "missing; name the command, for example valve.open")
	case !validName(o.Name):
		return fault.Field("name", "must be 1 to %d of the characters A-Z a-z 0-9 . _ : -", MaxName)
	case len(o.Params) > MaxParams:
		return &fault.Error{Code: fault.TooLarge, Field: "params",
			Message: fmt.Sprintf("%d bytes; at most %d", len(o.Params), MaxParams)}
	case !validKey(o.Key):
		return fault.Field("Idempotency-Key", "must be at most %d printable ASCII characters", MaxKey)
	}
	if err := params(o.Params); err != nil {
		return err
	}
	if err := o.Policy.Check(); err != nil {
		var pe *command.PolicyError
		if errors.As(err, &pe) {
			return fault.Field("policy."+pe.Field, "%s", pe.Text)
		}
		return fault.Wrap(err, fault.Invalid, "the policy is not valid")
	}
	return s.mayTake(o.Device)
}

// mayTake says why a device takes no commands.
func (s *Service) mayTake(a wire.Address) error {
	d, ok := s.opt.Fleet.Device(a)
	if !ok {
		return unknownDevice(a)
	}
	if d.Disabled {
		return fault.New(fault.Conflict, "the device %s is disabled; enable it first: wilco device enable %s", a, a)
	}
	return nil
}

func unknownDevice(a wire.Address) error {
	return &fault.Error{Code: fault.NotFound, Field: "device",
		Message: "there is no device " + a.String() + "; register it first: wilco device add " + a.String()}
}

func address(a wire.Address) error {
	if err := a.Valid(); err != nil {
		var we *wire.Error
		if errors.As(err, &we) {
			return fault.Field(we.Field, "%s", we.Text)
		}
		return fault.Wrap(err, fault.Invalid, "the device address is not valid")
	}
	return nil
}

func validName(s string) bool {
	if len(s) > MaxName {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == ':', c == '-':
		default:
			return false
		}
	}
	return true
}

func validKey(s string) bool {
	if len(s) > MaxKey {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// params checks that a device can be told b. The check is the device contract
// itself: what it would not write is refused here, before anything is promised.
func params(b json.RawMessage) error {
	if len(b) == 0 {
		return nil
	}
	buf := documents.Get().(*[]byte)
	defer documents.Put(buf)
	doc, err := contract.AppendCommand((*buf)[:0], wire.Command{TID: "x", Cmd: "x", Status: wire.Request, Params: b})
	if err != nil {
		var we *wire.Error
		if errors.As(err, &we) {
			return fault.Field("params", "%s", we.Text)
		}
		return fault.Wrap(err, fault.Invalid, "the params cannot be sent to a device")
	}
	*buf = doc
	return nil
}

var (
	contract  = wire.NewWilco("")
	documents = sync.Pool{New: func() any { return new([]byte) }}
)

// digest tells orders under one key apart. White space in params does not count.
func digest(o *Order) string {
	h := sha256.New()
	h.Write([]byte(o.Name))
	h.Write([]byte{0})
	var b bytes.Buffer
	if len(o.Params) > 0 && json.Compact(&b, o.Params) == nil {
		h.Write(b.Bytes())
	}
	h.Write([]byte{0})
	policy, _ := json.Marshal(o.Policy)
	h.Write(policy)
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:18])
}
