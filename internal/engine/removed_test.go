package engine

import (
	"testing"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/store"
)

// TestARemovedDeviceHasNoState: a report was taken between the removal and the telling
// of it, which has put its state there anew.
func TestARemovedDeviceHasNoState(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		r.reports(`{"pos":10}`)
		r.reports(`{"pos":20}`)
		dev, _ := r.dir.Device(valve)
		if err := r.store.RemoveDevice(t.Context(), valve, KindsOfDevices[:]...); err != nil {
			t.Fatal(err)
		}
		r.reports(`{"pos":30}`)
		r.dir.remove(valve)
		r.e.Removed(valve)
		r.reports(`{"pos":40}`)
		if kept := r.replica(valve); kept.Version != 0 || len(r.history(valve)) != 0 {
			t.Errorf("its state is there: %s, %v", kept.Reported.Append(nil), r.history(valve))
		}
		r.change(valve, func(d *store.Device) { *d = dev })
		r.reports(`{"on":true}`)
		if kept := r.replica(valve); string(kept.Reported.Append(nil)) != `{"on":true}` || len(r.history(valve)) != 1 {
			t.Errorf("who is added under its name is %s, %v", kept.Reported.Append(nil), r.history(valve))
		}
	})
}

// TestAnApprovedChangeOfARemovedDevice gives it no state.
func TestAnApprovedChangeOfARemovedDevice(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		c, err := r.desire(`{"pos":10}`, func(q *Request) { q.Hold = &command.Approval{Quorum: 1} })
		if err != nil {
			t.Fatal(err)
		}
		r.dir.remove(valve)
		r.e.Removed(valve)
		if _, err := r.e.Approve(t.Context(), c.TID, "eve", "", c.Approval.Digest); err != nil {
			t.Fatal(err)
		}
		r.pass(0)
		if kept := r.replica(valve); kept.Version != 0 || len(r.history(valve)) != 0 {
			t.Errorf("desired of nobody: %s", kept.Desired.Append(nil))
		}
	})
}
