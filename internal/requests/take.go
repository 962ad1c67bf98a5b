package requests

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/service"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/wire"
)

const (
	maxPayload     = 260 << 10 // bytes, as in the HTTP body
	maxCorrelation = 1 << 10   // bytes of Correlation Data, which are kept until the command ends
)

// request is the payload: the body of the HTTP API, and the key that is a header
// there.
type request struct {
	Name     string          `json:"name"`
	Params   json.RawMessage `json:"params"`
	Policy   json.RawMessage `json:"policy"`
	Priority *int            `json:"priority"`
	Key      string          `json:"key"`
}

// take decides about one request, and acknowledges it when what came of it is
// durable or the requester has been told why nothing did. It returns no errors:
// what is not acknowledged comes again with the next connection.
func (r *Runner) take(ctx context.Context, device wire.Address, d *client.Delivery) error {
	if d.Retain {
		d.Ack() // an old one; whoever retained it has been answered then, or not
		return nil
	}
	who, clientID, err := r.opt.Who(r.signature(d))
	to, bad := r.replyTo(d, who.Name)
	if err == nil {
		err = bad
	}
	if err == nil {
		err = r.send(ctx, who, clientID, device, to, d)
	}
	if err == nil || r.refuse(ctx, to, who.Name, d, err) {
		d.Ack()
	}
	return nil
}

func (r *Runner) signature(d *client.Delivery) string {
	if r.opt.Signature == "" {
		return ""
	}
	for _, u := range d.User {
		if u.Key == r.opt.Signature {
			return u.Value
		}
	}
	return ""
}

// replyTo is where the answers to a request go, and what is wrong with that. With
// the built-in broker it must be in the requester's own space: it would be a way to
// have this server publish anywhere.
func (r *Runner) replyTo(d *client.Delivery, name string) (address, error) {
	to := address{d.ResponseTopic, d.CorrelationData}
	of, ok := wire.InReplySpace(r.opt.Root, to.Topic)
	switch {
	case to.Topic == "":
		return r.fallback(d, name), fault.Field("Response Topic", "missing; requests need MQTT 5, with Response Topic and Correlation Data")
	case len(to.Correlation) == 0:
		return r.fallback(d, name), fault.Field("Correlation Data", "missing; answers could not be told apart")
	case len(to.Correlation) > maxCorrelation:
		return address{r.fallback(d, name).Topic, nil}, fault.Field("Correlation Data", "%d bytes; at most %d", len(to.Correlation), maxCorrelation)
	case !ok || of != name && r.opt.Signature != "":
		space := wire.ReplySpace(r.opt.Root, "NAME")
		return r.fallback(d, name), fault.Field("Response Topic", "must be below %s, with the name that you log in with", space)
	}
	return to, nil
}

// fallback is where a request is refused that does not say where.
func (r *Runner) fallback(d *client.Delivery, name string) address {
	if name == "" {
		name = "unknown"
	}
	return address{wire.ReplySpace(r.opt.Root, name) + "refused", d.CorrelationData}
}

// send makes the command, and has it told of.
func (r *Runner) send(ctx context.Context, who service.Principal, clientID string, device wire.Address, to address, d *client.Delivery) error {
	o, err := parse(d.Payload)
	if err != nil {
		return err
	}
	o.Device, o.Room = device, func() error { return r.room(to) }
	if o.Key == "" {
		o.Key = keyOf(who.Name, clientID, to)
	}
	made, err := r.opt.Service.Send(ctx, who, o)
	if err != nil {
		return err
	}
	r.count.taken.Add(1)
	return r.follow(ctx, &made.Command, to)
}

// keyOf tells requests apart that have no key of their own. Where nobody knows the
// client, the topic of its answers stands for it.
func keyOf(name, clientID string, to address) string {
	if clientID == "" {
		clientID = to.Topic
	}
	h := sha256.New()
	for _, part := range []string{name, clientID, string(to.Correlation)} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return "mqtt:" + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:18])
}

func parse(payload []byte) (service.Order, error) {
	if len(payload) > maxPayload {
		return service.Order{}, fault.New(fault.TooLarge, "%d bytes; at most %d", len(payload), maxPayload)
	}
	var q request
	d := json.NewDecoder(bytes.NewReader(payload))
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil {
		var te *json.UnmarshalTypeError
		if errors.As(err, &te) && te.Field != "" {
			return service.Order{}, fault.Field(te.Field, "must not be a JSON %s", te.Value)
		}
		if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
			return service.Order{}, fault.Field(strings.Trim(name, `"`), "unknown field; there are name, params, policy, priority and key")
		}
		return service.Order{}, fault.Field("payload", "is not a JSON object like {\"name\":\"valve.open\"}")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return service.Order{}, fault.Field("payload", "has something behind the JSON object")
	}
	return service.Order{Name: q.Name, Params: q.Params, Policy: q.Policy, Priority: q.Priority, Key: q.Key}, nil
}

// refuse tells the requester why nothing came of its request, and says whether the
// request is done with.
func (r *Runner) refuse(ctx context.Context, to address, name string, d *client.Delivery, why error) bool {
	if ctx.Err() != nil || r.ctx.Err() != nil {
		return false // this server stops; the request comes again
	}
	f := fault.From(why)
	n := r.count.refused.Add(1)
	if f.Code == fault.Internal {
		r.log.Error("a request over MQTT failed", "topic", d.Topic, "requester", name, "error", why)
	} else if n&(n-1) == 0 {
		r.log.Warn("a request over MQTT was refused", "topic", d.Topic, "requester", name, "code", f.Code, "why", f.Public(), "so far", n)
	}
	done, err := r.publish(problemMessage(to, f))
	if err != nil {
		return false
	}
	select {
	case result := <-done:
		r.tally(result)
		return true
	case <-r.ctx.Done():
		return false
	}
}

// follow has the requester told of a command: of each change of its state from now
// on, by a conversation, or of its end, if that has come already.
func (r *Runner) follow(ctx context.Context, c *command.Command, to address) error {
	for {
		r.mu.Lock()
		talk := r.open[c.TID]
		if talk == nil {
			talk = &conversation{tid: c.TID, of: r.requester(to), to: to}
			talk.mu.Lock()
			r.keep(talk)
			r.mu.Unlock()
			return r.begin(ctx, talk)
		}
		r.mu.Unlock()
		joined, err := r.join(ctx, talk, to)
		if joined || err != nil {
			return err
		}
		// It ended at this moment: a new one tells the end.
	}
}

// begin keeps the address of a new conversation, whose lock is held, and starts it.
func (r *Runner) begin(ctx context.Context, talk *conversation) error {
	defer talk.mu.Unlock()
	if err := r.put(ctx, talk.tid, talk.to, 0); err != nil {
		talk.over = true
		r.forget(talk)
		return err
	}
	talk.version = 1
	r.running.Go(func() { r.converse(talk) })
	return nil
}

// join has an open conversation go on where its requester has asked last, and say once
// more how things are. It returns false when the conversation has ended. Errors:
// Conflict for another requester, who could take the answers away by the key.
func (r *Runner) join(ctx context.Context, talk *conversation, to address) (bool, error) {
	talk.mu.Lock()
	defer talk.mu.Unlock()
	if talk.over {
		return false, nil
	}
	if r.requester(to) != talk.of {
		return true, fault.New(fault.Conflict, "the command is another requester's, who is told of it; use another key")
	}
	if to.Topic != talk.to.Topic || !bytes.Equal(to.Correlation, talk.to.Correlation) {
		if err := r.put(ctx, talk.tid, to, talk.version); err != nil {
			return true, err
		}
		talk.to = to
		talk.version++
	}
	talk.again()
	return true, nil
}
