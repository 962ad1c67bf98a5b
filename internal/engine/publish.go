package engine

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/wire"
)

// ErrRefused is in the chain of a Link's error when the broker has said no, so
// that the device certainly did not get the message from this publication.
var ErrRefused = errors.New("the broker refused the publication")

// publish hands a committed publication to the link.
func (s *shard) publish(o *send) {
	c, d := &o.c, o.device
	now := time.Now()
	doc := wire.Command{TID: c.TID.String(), Cmd: c.Name, Epoch: c.Epoch, Issued: now, NotAfter: c.NotAfter}
	expiry := c.NotAfter.Sub(now)
	switch o.effect {
	case command.SendRequest:
		doc.Status, doc.Params, doc.Seq, doc.Attempt = wire.Request, c.Params, c.Seq, c.Attempt
		if c.Terms != nil && c.Terms.If != nil {
			doc.If = json.RawMessage(c.Terms.If.String())
		}
		if c.Attempt > 1 {
			s.e.stats.retries.Add(1)
		}
	case command.SendCancel:
		doc.Status, doc.NotAfter = wire.Cancel, time.Time{}
		expiry = c.FinishDue.Sub(now)
	case command.SendQuery:
		doc.Status, doc.NotAfter = wire.Query, time.Time{}
		expiry = c.Policy.Settle.D()
	}
	doc.Epoch = s.e.opt.Epoch
	payload, err := d.profile.AppendCommand(nil, doc)
	if errors.Is(err, wire.ErrUnsupported) {
		return // this profile cannot say it; the clocks go on
	}
	if err != nil {
		s.e.log.Error("a command cannot be written for its device", "tid", c.TID, "device", d.address, "error", err)
		if o.effect == command.SendRequest {
			s.add(&refusedJob{tid: c.TID, device: d, why: err.Error()})
		}
		return
	}
	pub := Publication{Topic: d.profile.Topic(d.address), Payload: payload, Correlation: []byte(doc.TID),
		Expiry: max(expiry, time.Second), Command: &o.c, Effect: o.effect}
	if dp, ok := d.profile.(wire.DeviceProfile); ok {
		pub.ResponseTopic = dp.ResultTopic(d.address)
	}
	s.e.stats.published.Add(1)
	tid, request := c.TID, o.effect == command.SendRequest
	s.e.opt.Link.Publish(pub, func(err error) {
		if request && errors.Is(err, ErrRefused) {
			s.add(&refusedJob{tid: tid, device: d, why: err.Error()})
		}
	})
}
