package service

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/wilco-iot/wilco/internal/engine"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/gateway/rules"
	"github.com/wilco-iot/wilco/internal/hook"
	"github.com/wilco-iot/wilco/internal/rollout"
	"github.com/wilco-iot/wilco/internal/store"
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

// Request is what the engine is asked for.
type Request = engine.Request

// Created is what became of an order.
type Created struct {
	engine.Created
	// Deprecated says why the command's type should not be used any more.
	Deprecated string
}

// Order asks for one command.
type Order struct {
	Device wire.Address
	Name   string
	Params json.RawMessage // any JSON value; nil: none
	// Policy is what differs from the policy of the command's type, or from the
	// server's default where there is no type: a JSON object with the names of
	// command.Policy; nil: nothing.
	Policy   json.RawMessage
	Priority *int   // nil: that of the type, or 0
	Key      string // idempotency key, unique within the device; "": none
	// IfDesired is the version of the desired state that a StateDesired was made
	// for; nil: any.
	IfDesired *int64
	// Room says why nothing more can be made now; nil: there is room. It is not asked
	// about an order that has made its command already.
	Room func() error
	// Err is why the order could not be read. It stays the outcome of this
	// item, so that the items of a bulk request keep their places.
	Err error

	ours bool // the key is one of the server's own
}

// ownKeys begin the idempotency keys that the server makes commands by. Who could use
// one could guess the next, and take its place.
var ownKeys = []string{rollout.KeyPrefix, hook.KeyPrefix, rules.KeyPrefix}

// checkKey says what is wrong with an idempotency key that somebody asks with.
func checkKey(key string) error {
	if !validKey(key) {
		return fault.Field("Idempotency-Key", "must be at most %d printable ASCII characters", MaxKey)
	}
	for _, own := range ownKeys {
		if strings.HasPrefix(key, own) {
			return fault.Field("Idempotency-Key", "keys that begin with %q are the server's own; use another one", own)
		}
	}
	return nil
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
		return nil, fault.New(fault.TooLarge, "%d commands; at most %d in one request", len(orders), MaxBulk)
	}
	out := make([]Created, len(orders))
	reqs := make([]Request, 0, len(orders))
	at := make([]int, 0, len(orders))
	planner := planner{s: s, count: make(map[string]int, 1)}
	for i := range orders {
		planner.count[orders[i].Name]++
	}
	for i := range orders {
		o := &orders[i]
		d, err := s.check(p, o)
		if err != nil {
			out[i].Err = err
			continue
		}
		by, err := planner.of(o, &d)
		if err == nil {
			err = s.supported(o)
		}
		if err == nil {
			by.terms, err = s.fits(o, &d, by.terms)
		}
		if err == nil && o.Room != nil {
			err = o.Room()
		}
		if err != nil {
			out[i] = s.refused(ctx, o, err)
			continue
		}
		if by.item != nil {
			out[i].Deprecated = by.item.Deprecated
		}
		r := Request{Device: o.Device, Name: o.Name, Params: o.Params, Policy: by.policy, Terms: by.terms, Hold: by.hold, Key: o.Key, By: p.Name, IfDesired: o.IfDesired}
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
		out[at[j]].Created = made[j]
		out[at[j]].Err = done(made[j].Err)
	}
	return out, nil
}

// refused is the outcome of an order that does not fit its type, or for which there is
// no room: the command that it made when it did, if its key has one.
func (s *Service) refused(ctx context.Context, o *Order, why error) (c Created) {
	c.Err = why
	if o.Key == "" {
		return c
	}
	tid, had, err := s.opt.Store.CommandByKey(ctx, o.Device, o.Key)
	if err != nil || had != digest(o) {
		return c
	}
	if known, err := s.opt.Store.Command(ctx, tid); err == nil {
		c.Command, c.Existed, c.Err = known, true, nil
	}
	return c
}

// check says what is wrong with an order, whatever its type, and gives its device.
func (s *Service) check(p Principal, o *Order) (store.Device, error) {
	if err := s.checkOrder(p, o); err != nil {
		return store.Device{}, err
	}
	return s.mayTake(o.Device)
}

func (s *Service) checkOrder(p Principal, o *Order) error {
	if o.Err != nil {
		return o.Err
	}
	if err := address(o.Device); err != nil {
		return err
	}
	if err := may(p, Operator, o.Device.Group, o.Name); err != nil {
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
	case !o.ours:
		if err := checkKey(o.Key); err != nil {
			return err
		}
	}
	return params(o.Params)
}

// mayTake gives a device, or says why it takes no commands.
func (s *Service) mayTake(a wire.Address) (store.Device, error) {
	d, ok := s.opt.Fleet.Device(a)
	if !ok {
		return d, unknownDevice(a)
	}
	if d.Disabled {
		return d, fault.New(fault.Conflict, "the device %s is disabled; enable it first: wilco device enable %s", a, a)
	}
	return d, nil
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

// digest tells orders under one key apart. White space in params does not count,
// and neither does how the policy is written, nor what the type says: a type that
// changes does not make another order of the same one.
func digest(o *Order) string {
	h := sha256.New()
	h.Write([]byte(o.Name))
	h.Write([]byte{0})
	var b bytes.Buffer
	if len(o.Params) > 0 && json.Compact(&b, o.Params) == nil {
		h.Write(b.Bytes())
	}
	h.Write([]byte{0})
	var policy map[string]any
	if json.Unmarshal(o.Policy, &policy) == nil && len(policy) > 0 {
		text, _ := json.Marshal(policy) // names sorted
		h.Write(text)
	}
	if o.Priority != nil {
		fmt.Fprintf(h, "\x00%d", *o.Priority)
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:18])
}
