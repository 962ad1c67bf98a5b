package service

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/wilco-iot/wilco/internal/engine"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/replica"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// StateDesired is the name of the command that changes what is desired of a device.
const StateDesired = engine.StateDesired

// State looks at what is desired of a device, and what it has reported. That of a
// device that has never reported is empty.
func (s *Service) State(ctx context.Context, p Principal, a wire.Address) (replica.Replica, error) {
	var r replica.Replica
	if _, err := s.Device(ctx, p, a); err != nil {
		return r, err
	}
	doc, err := s.opt.Store.Document(ctx, store.DocumentID{Kind: engine.KindReplica, Key: a.String()})
	if fault.CodeOf(err) == fault.NotFound {
		return r, nil
	}
	if err != nil {
		return r, done(err)
	}
	return r, json.Unmarshal(doc.Body, &r)
}

// StateHistory lists the last changes of a device's state, newest first; at most
// limit, 0 means all that are kept.
func (s *Service) StateHistory(ctx context.Context, p Principal, a wire.Address, limit int) ([]replica.Revision, error) {
	if _, err := s.Device(ctx, p, a); err != nil {
		return nil, err
	}
	if limit < 0 || limit > engine.RevisionsKept {
		return nil, fault.Field("limit", "%d is not between 1 and %d", limit, engine.RevisionsKept)
	}
	docs, err := s.opt.Store.Documents(ctx, engine.KindRevision, a.String()+"/", "", engine.RevisionsKept)
	if err != nil {
		return nil, done(err)
	}
	if limit > 0 && len(docs) > limit {
		docs = docs[len(docs)-limit:]
	}
	list := make([]replica.Revision, 0, len(docs))
	for _, d := range slices.Backward(docs) {
		var rev replica.Revision
		if err := json.Unmarshal(d.Body, &rev); err != nil {
			return nil, err
		}
		list = append(list, rev)
	}
	return list, nil
}
