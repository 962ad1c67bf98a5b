package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/replica"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
	"github.com/wilco-iot/wilco/wire/state"
)

// What is kept of a device's state. Stored; never change.
const (
	KindReplica  store.Kind = "replica"  // by group/device: a replica.Replica as JSON
	KindRevision store.Kind = "revision" // by RevisionKey: a replica.Revision as JSON
)

// KindsOfDevices are the kinds that go with a device that is removed.
var KindsOfDevices = [...]store.Kind{KindReplica, KindRevision}

// RevisionsKept is how many changes of one device's state are kept: always the
// last ones, without a gap.
const RevisionsKept = 100

// RevisionKey is the key of the revision of that version; keys are in the order
// of the versions.
func RevisionKey(a wire.Address, version int64) string {
	return fmt.Sprintf("%s/%016x", a, version)
}

// replicaCache bounds the memory for replicas that are not in use, in bytes of
// their stored form, of all shards together. What Go makes of them is a few times
// as large.
const replicaCache = 32 << 20

// kept is a replica as the store has it.
type kept struct {
	replica.Replica
	doc  int64 // version of its document; 0: there is none
	size int   // bytes of the document
	// careful: somebody else has written into the history, so what of it is there
	// must be looked up.
	careful bool
}

// replicaChange is what a turn makes of a replica. It is written once, at the end
// of the turn, however many reports came.
type replicaChange struct {
	kept
	device    *device
	changed   bool
	reported  bool // by the message that is being decided
	drifted   bool // and it took something away that was as desired
	revisions []*replica.Revision
}

// replica gives the replica of d as this turn has it so far.
func (t *turn) replica(d *device) (*replicaChange, error) {
	if ch, ok := t.replicas[d]; ok {
		return ch, nil
	}
	t.touch(d)
	k, ok := t.s.replicas[d.address]
	if !ok {
		var err error
		if k, err = t.s.loadReplica(d.address); err != nil {
			return nil, err
		}
	}
	ch := &replicaChange{kept: k, device: d}
	if t.replicas == nil {
		t.replicas = make(map[*device]*replicaChange)
	}
	t.replicas[d] = ch
	return ch, nil
}

// loadReplica reads a replica from the store; that of a device that has none is
// empty.
func (s *shard) loadReplica(a wire.Address) (kept, error) {
	var k kept
	doc, err := s.e.opt.Store.Document(context.Background(), store.DocumentID{Kind: KindReplica, Key: a.String()})
	switch {
	case fault.CodeOf(err) == fault.NotFound:
	case err != nil:
		return kept{}, err
	default:
		if err := json.Unmarshal(doc.Body, &k.Replica); err != nil {
			return kept{}, fmt.Errorf("the stored state of %s: %w", a, err)
		}
		k.doc, k.size = doc.Version, len(doc.Body)
	}
	s.keepReplica(a, k)
	return k, nil
}

// keepReplica puts a replica that the store has into the cache.
func (s *shard) keepReplica(a wire.Address, k kept) {
	const overhead = 256 // of an entry, so that empty ones count
	s.dropReplica(a)
	limit := replicaCache / len(s.e.shards)
	for other := range s.replicas {
		if s.replicaBytes+k.size+overhead <= limit {
			break
		}
		s.dropReplica(other) // any one: the store has it
	}
	s.replicas[a] = k
	s.replicaBytes += k.size + overhead
}

func (s *shard) dropReplica(a wire.Address) {
	if k, ok := s.replicas[a]; ok {
		s.replicaBytes -= k.size + 256
		delete(s.replicas, a)
	}
}

// removeReplica takes what is known of a device's state out of memory, and out of the
// store what a turn has put there that was under way while the device was removed.
func (s *shard) removeReplica(a wire.Address) error {
	s.dropReplica(a)
	k, err := s.loadReplica(a)
	if err != nil || k.doc == 0 {
		return err
	}
	defer s.dropReplica(a)
	ids := []store.DocumentID{{Kind: KindReplica, Key: a.String()}}
	for v := max(k.Version-RevisionsKept+1, 1); v <= k.Version; v++ {
		ids = append(ids, store.DocumentID{Kind: KindRevision, Key: RevisionKey(a, v)})
	}
	var b store.Batch
	for _, id := range ids {
		doc, err := s.e.opt.Store.Document(context.Background(), id)
		if err == nil {
			b.Documents = append(b.Documents, store.DocumentWrite{DocumentID: id, Was: doc.Version})
		} else if fault.CodeOf(err) != fault.NotFound {
			return err
		}
	}
	_, err = s.e.opt.Store.Commit(context.Background(), &b)
	return err
}

// revise takes a changed replica into the turn, with the revision that it gave,
// which is nil when no value is another.
func (t *turn) revise(ch *replicaChange, r replica.Replica, rev *replica.Revision) {
	ch.Replica, ch.changed = r, true
	if rev == nil {
		return
	}
	ch.revisions = append(ch.revisions, rev)
	ev := store.Event{Type: store.EventState, At: rev.At, Device: ch.device.address, Name: string(rev.Side),
		By: rev.By, Boot: rev.Boot, Version: rev.Version}
	if rev.Side == replica.Reported {
		ev.By = "device"
	}
	if tid, err := uuid.Parse(rev.TID); err == nil {
		ev.TID = &tid
	}
	if patch := rev.Patch.Append(nil); len(patch) <= maxDetail {
		ev.Detail = string(patch) // a longer one is in the history
	}
	t.batch.Events = append(t.batch.Events, ev)
}

// writeReplicas puts what the turn has changed into its batch. An error is that
// of the store, and of the whole turn.
func (t *turn) writeReplicas() error {
	for _, ch := range t.replicas {
		if !ch.changed {
			continue
		}
		body, err := json.Marshal(&ch.Replica)
		if err != nil {
			return err
		}
		t.batch.Documents = append(t.batch.Documents, store.DocumentWrite{
			DocumentID: store.DocumentID{Kind: KindReplica, Key: ch.device.address.String()}, Was: ch.doc, Body: body})
		ch.size = len(body)
		if err := t.writeHistory(ch); err != nil {
			return err
		}
	}
	return nil
}

// writeHistory keeps the last revisions and takes away those that they push out.
// Of a turn with more of them only the last are written.
func (t *turn) writeHistory(ch *replicaChange) error {
	if len(ch.revisions) == 0 {
		return nil
	}
	last := ch.Version
	before := last - int64(len(ch.revisions))
	for _, rev := range ch.revisions[max(len(ch.revisions)-RevisionsKept, 0):] {
		body, err := json.Marshal(rev)
		if err != nil {
			return err
		}
		if err := t.writeRevision(ch, rev.Version, 0, body); err != nil {
			return err
		}
	}
	for v := max(before-RevisionsKept+1, 1); v <= min(last-RevisionsKept, before); v++ {
		if err := t.writeRevision(ch, v, 1, nil); err != nil {
			return err
		}
	}
	return nil
}

func (t *turn) writeRevision(ch *replicaChange, version, was int64, body []byte) error {
	id := store.DocumentID{Kind: KindRevision, Key: RevisionKey(ch.device.address, version)}
	if ch.careful {
		doc, err := t.s.e.opt.Store.Document(context.Background(), id)
		if err != nil && fault.CodeOf(err) != fault.NotFound {
			return err
		}
		if was = doc.Version; was == 0 && body == nil {
			return nil
		}
	}
	t.batch.Documents = append(t.batch.Documents, store.DocumentWrite{DocumentID: id, Was: was, Body: body})
	return nil
}

// keepReplicas is for after the commit: the cache has what the store has.
func (t *turn) keepReplicas() {
	for d, ch := range t.replicas {
		if ch.changed {
			ch.doc++
			ch.careful = false
			t.s.keepReplica(d.address, ch.kept)
		}
	}
}

// relearnReplicas forgets what of the state of devices somebody else has written.
// A history that is not as it should be is looked up the next time.
func (t *turn) relearnReplicas(ids []store.DocumentID) {
	for d := range t.replicas {
		key := d.address.String()
		if slices.Contains(ids, store.DocumentID{Kind: KindReplica, Key: key}) {
			t.s.dropReplica(d.address)
		}
		for _, id := range ids {
			if id.Kind == KindRevision && len(id.Key) > len(key) && id.Key[:len(key)+1] == key+"/" {
				k, err := t.s.loadReplica(d.address)
				if err == nil {
					k.careful = true
					t.s.keepReplica(d.address, k)
				}
			}
		}
	}
}

// outstanding is what a device has yet to do of what is desired, without what
// commands that have not ended will bring it: these keep their places in the
// device's order, and nothing may overtake them.
func (t *turn) outstanding(ch *replicaChange) state.Object {
	delta, left := ch.Delta(), state.Object{}
	open := map[string]bool{} // by tid
	for path, v := range delta.Leaves() {
		said := ch.DesiredMeta[path].TID
		coming, known := open[said]
		if !known {
			if tid, err := uuid.Parse(said); err == nil {
				c, err := t.command(tid)
				coming = err == nil && !c.Final()
			}
			open[said] = coming
		}
		if coming {
			continue
		}
		if leaf, err := state.At(path, v); err == nil {
			left = state.Merge(left, leaf)
		}
	}
	return left
}

// reply publishes an answer about the state of d once the turn is committed.
func (t *turn) reply(d *device, on wire.StateTopic, r wire.StateReply) {
	p, ok := d.profile.(wire.StateProfile)
	if !ok {
		return
	}
	r.Timestamp = t.now
	payload, err := p.AppendStateReply(nil, on, r)
	if err != nil {
		t.s.e.log.Error("an answer about a device's state cannot be written", "device", d.address, "topic", on, "error", err)
		return
	}
	pub := Publication{Topic: p.StateTopic(d.address, on), Payload: payload, Expiry: replyExpiry}
	t.after = append(t.after, func() {
		t.s.e.opt.Link.Publish(pub, func(err error) {
			if err != nil { // it asks again, or is told when it comes back
				t.s.e.log.Warn("an answer about a device's state was not published", "topic", pub.Topic, "error", err)
			}
		})
	})
}

// replyExpiry is how long an answer is of use to a device that is away: when it is
// back it asks.
const replyExpiry = time.Minute

// sayDelta publishes delta to d, if there is any and d is there.
func (t *turn) sayDelta(ch *replicaChange, delta state.Object, tid string) {
	if len(delta) > 0 && t.sendable(ch.device) {
		t.reply(ch.device, wire.StateDelta, wire.StateReply{State: delta.Append(nil), TID: tid,
			Version: ch.Version, DesiredVersion: ch.DesiredVersion})
	}
}

// welcome tells a device that has come online what is outstanding.
func (t *turn) welcome(d *device) {
	if _, ok := d.profile.(wire.StateProfile); !ok {
		return
	}
	ch, err := t.replica(d)
	if err != nil {
		t.s.e.log.Error("the state of a device cannot be read; it is not told what is outstanding", "device", d.address, "error", err)
		return
	}
	if len(ch.Desired) > 0 {
		t.sayDelta(ch, t.outstanding(ch), "")
	}
}

// record keeps with a command what its device reports at the paths that it
// changes: before it is first sent, and when it has ended or its outcome is not
// known; once more when a late answer settles that. A change that had to be approved
// is made now.
func (t *turn) record(d *device, was, is *command.Command) error {
	if was.State == command.AwaitingApproval && is.State == command.Created && is.Name == StateDesired {
		t.approved(d, is)
	}
	first := was.FirstSent.IsZero() && !is.FirstSent.IsZero()
	last := is.State != was.State && (is.State.Final() || is.State == command.TimedOut) && len(is.Former) > 0
	if !first && !last {
		return nil
	}
	paths := effects(is)
	if len(paths) == 0 {
		return nil
	}
	ch, err := t.replica(d)
	if err != nil {
		return err
	}
	stood, err := json.Marshal(ch.Former(paths))
	if first {
		is.Former = stood
	}
	if last {
		is.After = stood
	}
	return err
}
