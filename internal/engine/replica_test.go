package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/replica"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
	"github.com/wilco-iot/wilco/wire/state"
)

// said is what a device was told of its state.
type said struct {
	on wire.StateTopic
	wire.StateReply
}

// String is what the tests compare.
func (s said) String() string {
	out := string(s.on)
	for _, raw := range []json.RawMessage{s.State, s.Desired, s.Reported, s.Delta} {
		if raw != nil {
			out += " " + string(raw)
		}
	}
	if s.Code != "" {
		return out + " " + s.Code + " " + s.Field
	}
	return fmt.Sprintf("%s v%d d%d", out, s.Version, s.DesiredVersion)
}

// state keeps p if it is about the state.
func (r *recorder) state(profile wire.StateProfile, p Publication) bool {
	levels := strings.Split(p.Topic, "/")
	if len(levels) < 4 {
		return false
	}
	a := wire.Address{Group: levels[1], Device: levels[2]}
	on, ok := profile.StateReplyTopic(a, p.Topic)
	if !ok {
		return false
	}
	reply, err := profile.ParseStateReply(on, p.Payload)
	if err != nil {
		panic(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, said{on, reply})
	return true
}

// told compares what was said of the state since the last look.
func (r *rig) told(want ...string) {
	r.t.Helper()
	r.link.mu.Lock()
	var got []string
	for _, s := range r.link.said {
		got = append(got, s.String())
	}
	r.link.said = nil
	r.link.mu.Unlock()
	if !slices.Equal(got, want) {
		r.t.Errorf("told\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// replica reads what the store has of a device's state.
func (r *rig) replica(a wire.Address) replica.Replica {
	r.t.Helper()
	var got replica.Replica
	doc, err := r.store.Document(r.t.Context(), store.DocumentID{Kind: KindReplica, Key: a.String()})
	if err == nil {
		err = json.Unmarshal(doc.Body, &got)
	}
	if err != nil && fault.CodeOf(err) != fault.NotFound {
		r.t.Fatal(err)
	}
	return got
}

// history gives the versions of the revisions that the store has.
func (r *rig) history(a wire.Address) (versions []int64) {
	r.t.Helper()
	docs, err := r.store.Documents(r.t.Context(), KindRevision, a.String()+"/", "", 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, d := range docs {
		var rev replica.Revision
		if err := json.Unmarshal(d.Body, &rev); err != nil || d.Key != RevisionKey(a, rev.Version) {
			r.t.Fatalf("%s: %v", d.DocumentID, err)
		}
		versions = append(versions, rev.Version)
	}
	return versions
}

func (r *rig) reports(patch string) {
	r.says(valve, "state/update", `{"state":`+patch+`,"clientToken":"x"}`, "report")
}

func (r *rig) desire(patch string, change func(*Request)) (command.Command, error) {
	r.t.Helper()
	req := Request{Device: valve, Name: StateDesired, Params: json.RawMessage(patch), By: "ann"}
	if change != nil {
		change(&req)
	}
	out, err := r.e.Create(r.t.Context(), []Request{req})
	if err != nil {
		r.t.Fatal(err)
	}
	synctest.Wait()
	return out[0].Command, out[0].Err
}

func (r *rig) mustDesire(patch string) command.Command {
	r.t.Helper()
	c, err := r.desire(patch, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func TestAReportIsKeptThenAnsweredThenAcknowledged(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		r.reports(`{"position":10,"motor":{"on":true}}`)
		r.told("state/update/accepted v1 d0")
		r.says(valve, "state/update", `{"state":{"motor":{"on":null}},"boot":"b1","ts":"2000-01-01T00:00:00Z","tid":"t-1"}`, "report")
		r.reports(`{"position":10}`)
		r.told("state/update/accepted v2 d0", "state/update/accepted v2 d0")
		got := r.replica(valve)
		if got.Reported.String() != `{"motor":{},"position":10}` || got.Version != 2 || r.acked["report"] != 3 {
			t.Errorf("%s version %d, acknowledged %d", got.Reported, got.Version, r.acked["report"])
		}
		if s := got.ReportedMeta["motor"]; s.Boot != "b1" || s.TID != "t-1" || s.TS.IsZero() {
			t.Errorf("stamp %+v", s)
		}
		if h := r.history(valve); !slices.Equal(h, []int64{1, 2}) {
			t.Errorf("history %v", h)
		}
		events, err := r.store.Events(t.Context(), 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		last := events[len(events)-1]
		if last.Type != store.EventState || last.Version != 2 || last.Name != "reported" || last.Detail != `{"motor":{"on":null}}` || last.By != "device" {
			t.Errorf("event %+v", last)
		}
		r.says(valve, "state/get", ``, "get")
		r.told(`state/get/accepted {} {"motor":{},"position":10} {} v2 d0`)
	})
}

func TestWhatIsNoReportIsRefusedAndAnAnomaly(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		deep := strings.Repeat(`{"a":`, state.MaxDepth+1) + "1" + strings.Repeat("}", state.MaxDepth+1)
		big := `{"a":"` + strings.Repeat("x", state.MaxBytes) + `"}`
		half := func(name string) string { return `{"` + name + `":"` + strings.Repeat("x", state.MaxBytes*2/3) + `"}` }
		r.reports(half("a"))
		r.told("state/update/accepted v1 d0")
		r.reports(half("b"))
		r.reports(big)
		r.reports(deep)
		r.reports(`{"a":1,"a":2}`)
		r.reports(`[]`)
		r.says(valve, "state/update", `{"state":{"a":1},"boot":"b0"}`, "report")
		r.says(valve, "state/update", `nonsense`, "report")
		r.says(valve, "state/get", `nonsense`, "report")
		r.receive(Message{Topic: "wilco/plant/valve-1/state/update", Payload: []byte(`{"state":{"a":1}}`), Retained: true}, "report")
		r.told("state/update/rejected too_large state", "state/update/rejected too_large state",
			"state/update/rejected invalid state."+strings.TrimSuffix(strings.Repeat("a.", state.MaxDepth), "."),
			"state/update/rejected invalid state.a", "state/update/rejected malformed state", "state/update/rejected wrong_boot boot",
			"state/update/rejected malformed document", "state/get/rejected malformed document", "state/update/rejected retained document")
		if got := r.anomalies(valve); !slices.Equal(got, []string{"bad_state", "bad_state", "bad_state", "bad_state", "malformed", "malformed", "malformed", "retained_state", "stale_state"}) {
			t.Errorf("anomalies %v", got)
		}
		if got := r.replica(valve); got.Version != 1 || r.acked["report"] != 10 {
			t.Errorf("version %d, acknowledged %d", got.Version, r.acked["report"])
		}
	})
}

func TestABurstIsOneWriteAndTheLastHundredRevisions(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		writes := 0
		r.store.setHook(func(b *store.Batch) error {
			for _, d := range b.Documents {
				if d.Kind == KindReplica {
					writes++
				}
			}
			return nil
		})
		next := 0
		send := func(n int) {
			t.Helper()
			writes = 0
			for range n {
				next++
				r.e.Receive(Message{Topic: "wilco/plant/valve-1/state/update", Ack: func() { r.acked["burst"]++ },
					Payload: fmt.Appendf(nil, `{"state":{"n":%d}}`, next)})
			}
			r.pass(time.Second)
			want := []int64{}
			for v := max(next-RevisionsKept+1, 1); v <= next; v++ {
				want = append(want, int64(v))
			}
			if got := r.history(valve); !slices.Equal(got, want) {
				t.Errorf("after %d: history %v", next, got)
			}
			// How many come while one turn is under way is a matter of the machine.
			if r.acked["burst"] != next || writes == 0 || writes > 3+n/10 {
				t.Errorf("after %d: acknowledged %d with %d writes", next, r.acked["burst"], writes)
			}
		}
		for _, n := range []int{3, 90, 20, 250, 1} {
			send(n)
		}
		if e := r.e.Err(); e != nil {
			t.Error(e)
		}
	})
}

func TestAFailedCommitLeavesTheStateAndAnswersNothing(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		r.reports(`{"n":1}`)
		r.told("state/update/accepted v1 d0")
		r.store.failWith(errors.New("disk"))
		r.reports(`{"n":2}`)
		r.reports(`{"n":3}`)
		r.told()
		if got := r.replica(valve); got.Version != 1 || r.acked["report"] != 1 {
			t.Errorf("version %d, acknowledged %d", got.Version, r.acked["report"])
		}
		if _, err := r.desire(`{"n":9}`, nil); err == nil {
			t.Error("a change that was not kept was promised")
		}
		r.store.failWith(nil)
		r.pass(2 * time.Second)
		r.told("state/update/accepted v2 d0", "state/update/accepted v3 d0")
		if got := r.replica(valve); got.Version != 3 || got.DesiredVersion != 0 || r.acked["report"] != 3 {
			t.Errorf("version %d, desired %d, acknowledged %d", got.Version, got.DesiredVersion, r.acked["report"])
		}
	})
}

// Somebody else writes: a second server, or a restore of half a backup.
func TestAConflictIsReadAnew(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		r.reports(`{"n":1}`)
		doc, err := r.store.Document(t.Context(), store.DocumentID{Kind: KindReplica, Key: valve.String()})
		if err != nil {
			t.Fatal(err)
		}
		other := []byte(`{"version":7,"desiredVersion":7,"desired":{"n":5},"reported":{"n":1}}`)
		if _, err := r.store.Commit(t.Context(), &store.Batch{Documents: []store.DocumentWrite{
			{DocumentID: doc.DocumentID, Was: doc.Version, Body: other},
			{DocumentID: store.DocumentID{Kind: KindRevision, Key: RevisionKey(valve, 8)}, Body: []byte(`{"version":8}`)}}}); err != nil {
			t.Fatal(err)
		}
		r.told("state/update/accepted v1 d0")
		r.reports(`{"n":2}`)
		r.told("state/update/accepted v8 d7")
		if got := r.replica(valve); got.Version != 8 || got.Reported.String() != `{"n":2}` {
			t.Errorf("%+v", got)
		}
		if h := r.history(valve); !slices.Equal(h, []int64{1, 8}) {
			t.Errorf("history %v", h)
		}
	})
}

func TestDesiredGoesOutInOrderAndIsExecutedWhenReported(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		r.reports(`{"position":10}`)
		r.told("state/update/accepted v1 d0")
		first := r.send(valve, "open", command.Policy{})
		c := r.mustDesire(`{"position":40,"speed":2}`)
		if docs := r.link.take(); len(docs) != 1 {
			t.Fatalf("%d sent while the first is under way", len(docs))
		}
		r.told() // nothing overtakes the first
		if got := r.replica(valve); got.DesiredVersion != 2 || got.DesiredMeta["position"].By != "ann" {
			t.Errorf("%+v", got)
		}
		r.answer(valve, first.TID.String(), "result", "SUCCESS")
		docs := r.link.take()
		if len(docs) != 1 || docs[0].Cmd != StateDesired || string(docs[0].Params) != `{"position":40,"speed":2}` {
			t.Fatalf("%+v", docs)
		}
		r.told(`state/update/delta {"position":40,"speed":2} v2 d2`)
		r.says(valve, "result", `{"tid":"`+docs[0].TID+`","status":"SUCCESS","result":1,"state":{"position":40}}`, "result")
		got := r.expect(c.TID, command.Running, command.ReportAwaited)
		r.told()
		r.reports(`{"speed":2}`)
		r.told("state/update/accepted v4 d2")
		got = r.expect(c.TID, command.Executed, command.StateReported)
		if string(got.Result) != "1" || string(got.Former) != `{"version":2,"values":[{"path":"position","value":10},{"path":"speed","absent":true}]}` ||
			string(got.After) != `{"version":4,"values":[{"path":"position","value":40},{"path":"speed","value":2}]}` {
			t.Errorf("result %s former %s after %s", got.Result, got.Former, got.After)
		}
		if last := got.Timeline[len(got.Timeline)-1]; last.By != "server" {
			t.Errorf("the word was the server's own: %+v", last)
		}
	})
}

func TestSuccessWithTheStateIsExecutedAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		c := r.mustDesire(`{"position":40,"old":null}`)
		r.says(valve, "result", `{"tid":"`+c.TID.String()+`","status":"SUCCESS","state":{"position":40}}`, "result")
		r.expect(c.TID, command.Executed, command.DeviceSucceeded)
		// A repetition must not bring back what the device has left since.
		r.reports(`{"position":50}`)
		r.says(valve, "result", `{"tid":"`+c.TID.String()+`","status":"SUCCESS","state":{"position":40}}`, "result")
		if got := r.replica(valve); got.Reported.String() != `{"position":50}` {
			t.Errorf("reported %s", got.Reported)
		}
		r.told(`state/update/delta {"position":40} v1 d1`, `state/update/accepted v3 d1`, `state/update/delta {"position":40} v3 d1`)
	})
}

func TestSuccessThatNeverShowsHasFailed(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		c, err := r.desire(`{"position":40}`, func(q *Request) { q.Policy.FinishBy = command.Duration(time.Hour) })
		if err != nil {
			t.Fatal(err)
		}
		r.answer(valve, c.TID.String(), "result", "SUCCESS")
		r.expect(c.TID, command.Running, command.ReportAwaited)
		r.reports(`{"position":39}`)
		r.pass(time.Hour)
		got := r.expect(c.TID, command.Failed, command.NotConverged)
		if got.Anomalies != 0 {
			t.Error("an anomaly")
		}
	})
}

func TestFirmwareThatOnlyKnowsTheDelta(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		c := r.mustDesire(`{"position":40}`)
		r.told()
		r.online(valve, "b1")
		r.told(`state/update/delta {"position":40} v1 d1`)
		r.reports(`{"position":40}`)
		got := r.expect(c.TID, command.Executed, command.StateReported)
		if last := got.Timeline[len(got.Timeline)-1]; last.By != "server" || last.Kind != command.Succeeded {
			t.Errorf("%+v", last)
		}
	})
}

func TestTheDesiredStateIsGuardedByItsVersion(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		at := func(v int64) func(*Request) { return func(q *Request) { q.IfDesired = &v } }
		if _, err := r.desire(`{"a":1}`, at(0)); err != nil {
			t.Fatal(err)
		}
		if _, err := r.desire(`{"a":2}`, at(0)); fault.CodeOf(err) != fault.Changed {
			t.Errorf("an old version: %v", err)
		}
		if _, err := r.desire(`{"a":2}`, at(1)); err != nil {
			t.Error(err)
		}
		for _, bad := range []string{`[]`, `{}`, `{"a":1,"a":2}`, `1`} {
			if _, err := r.desire(bad, nil); fault.CodeOf(err) != fault.Invalid {
				t.Errorf("%s: %v", bad, err)
			}
		}
		if got := r.replica(valve); got.Desired.String() != `{"a":2}` || len(r.history(valve)) != 2 {
			t.Errorf("%+v", got)
		}
	})
}

func TestAHeldChangeIsDesiredOnceItIsApproved(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		c, err := r.desire(`{"a":1}`, func(q *Request) { q.Hold = &command.Approval{Quorum: 1} })
		if err != nil {
			t.Fatal(err)
		}
		if got := r.replica(valve); got.Version != 0 {
			t.Errorf("desired before it was approved: %+v", got)
		}
		if _, err := r.e.Approve(t.Context(), c.TID, "bo", "", c.Approval.Digest); err != nil {
			t.Fatal(err)
		}
		if got := r.replica(valve); got.Desired.String() != `{"a":1}` {
			t.Errorf("%+v", got)
		}
	})
}

// What a command that has ended did not bring about is said again when the device
// comes back; what waits in its lane comes with its command, in its order.
func TestADeviceThatComesBackIsToldWhatIsOutstanding(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		c := r.mustDesire(`{"a":1,"deep":{"b":2}}`)
		r.answer(valve, c.TID.String(), "result", "FAILURE")
		r.expect(c.TID, command.Failed, command.DeviceFailed)
		r.says(valve, "status", `{"online":false,"boot":"b1"}`, "status")
		blocker := r.send(valve, "open", command.Policy{})
		later := r.mustDesire(`{"deep":{"b":3}}`)
		r.told(`state/update/delta {"a":1,"deep":{"b":2}} v1 d1`)
		r.stop()
		r.restart()
		r.online(valve, "b2")
		r.told(`state/update/delta {"a":1} v2 d2`)
		r.says(valve, "state/get", `{"clientToken":"y"}`, "get")
		r.told(`state/get/accepted {"a":1,"deep":{"b":3}} {} {"a":1} v2 d2`)
		r.answer(valve, blocker.TID.String(), "result", "SUCCESS")
		r.told(`state/update/delta {"deep":{"b":3}} v2 d2`)
		r.reports(`{"a":1,"deep":{"b":3}}`)
		r.expect(later.TID, command.Executed, command.StateReported)
		r.says(valve, "status", `{"online":false,"boot":"b2"}`, "status")
		r.told(`state/update/accepted v3 d2`)
		r.online(valve, "b2")
		r.told()
	})
}

// A report that was there before says nothing of what was sent since.
func TestOnlyAReportSettles(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		r.reports(`{"position":40}`)
		c := r.mustDesire(`{"position":40}`)
		r.answer(valve, c.TID.String(), "ack", "RECEIVED")
		r.expect(c.TID, command.Acknowledged, command.DeviceReceived)
		r.reports(`{"position":40}`)
		r.expect(c.TID, command.Executed, command.StateReported)
	})
}

// A state that cannot be read delays what is about it, and nothing else.
func TestAStateThatCannotBeRead(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.store.setBlind(true)
		r.online(valve, "b1")
		r.reports(`{"position":10}`)
		r.says(valve, "state/get", ``, "get")
		c := r.send(valve, "open", command.Policy{})
		r.says(valve, "result", `{"tid":"`+c.TID.String()+`","status":"SUCCESS","state":{"position":20}}`, "result")
		if _, err := r.desire(`{"position":30}`, nil); err == nil {
			t.Error("a change of what could not be read was promised")
		}
		r.pass(3 * time.Second)
		r.expect(c.TID, command.Sent, command.TurnCame)
		r.told()
		if r.acked["status"] != 1 || r.acked["report"]+r.acked["get"]+r.acked["result"] != 0 {
			t.Errorf("acknowledged %v", r.acked)
		}
		r.store.setBlind(false)
		r.pass(3 * time.Second)
		r.expect(c.TID, command.Executed, command.DeviceSucceeded)
		r.told("state/update/accepted v1 d0", `state/get/accepted {} {"position":10} {} v1 d0`)
		if got := r.replica(valve); got.Reported.String() != `{"position":20}` || r.acked["report"]+r.acked["get"]+r.acked["result"] != 3 {
			t.Errorf("reported %s, acknowledged %v", got.Reported, r.acked)
		}
	})
}
