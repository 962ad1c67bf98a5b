package engine

import (
	"errors"
	"fmt"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/replica"
	"github.com/wilco-iot/wilco/wire"
	"github.com/wilco-iot/wilco/wire/state"
)

// Anomalies about the state. Stored; never change.
const (
	AnomalyBadState      = "bad_state"      // a report that cannot be taken in
	AnomalyStaleState    = "stale_state"    // of another boot than the present one: late or replayed
	AnomalyRetainedState = "retained_state" // a report or question that the broker has retained
)

// Codes of state/update/rejected and state/get/rejected. Sent to devices; never change.
const (
	StateMalformed = "malformed" // not such a document
	StateInvalid   = "invalid"   // a document of state that is none
	StateTooLarge  = "too_large" // the state would grow beyond its bounds
	StateWrongBoot = "wrong_boot"
	StateRetained  = "retained"
)

// stateDocument decides about a report or a question; it says whether it has been
// dealt with.
func (t *turn) stateDocument(j *upJob) bool {
	d, refused := t.s.device(j.up.Address), wire.StateReportRejected
	t.touch(d)
	token := j.up.Update.ClientToken
	if j.up.Kind == wire.UpStateGet {
		refused, token = wire.StateAskRejected, j.up.Get.ClientToken
	}
	refuse := func(anomaly, code, field, text string) bool {
		t.anomaly(j, anomaly, j.up.Update.TID, field+": "+text)
		t.reply(d, refused, wire.StateReply{Code: code, Field: field, Text: text, ClientToken: token})
		return true
	}
	var we *wire.Error
	boot := j.up.Update.Boot
	switch {
	case errors.As(j.err, &we):
		return refuse(AnomalyMalformed, StateMalformed, we.Field, we.Text)
	case j.m.Retained:
		return refuse(AnomalyRetainedState, StateRetained, "document", "is retained at the broker; publish it without")
	case boot != "" && d.presence.Boot != "" && boot != d.presence.Boot:
		return refuse(AnomalyStaleState, StateWrongBoot, "boot", fmt.Sprintf("%q is not the present one, %q", boot, d.presence.Boot))
	}
	ch, err := t.replica(d)
	if err != nil {
		return j.waits(t, d, err)
	}
	if j.up.Kind == wire.UpStateGet {
		t.reply(d, wire.StateAskAccepted, wire.StateReply{Desired: ch.Desired.Append(nil), Reported: ch.Reported.Append(nil),
			Delta: t.outstanding(ch).Append(nil), Version: ch.Version, DesiredVersion: ch.DesiredVersion, ClientToken: token})
		return true
	}
	patch, err := state.Parse(j.up.Update.State)
	code := StateInvalid
	if len(j.up.Update.State) > state.MaxBytes {
		code = StateTooLarge
	}
	if err == nil {
		code = StateTooLarge
		err = t.report(ch, replica.Report{Patch: patch, TS: j.up.Update.TS, Boot: boot, TID: j.up.Update.TID})
	}
	var se *state.Error
	if errors.As(err, &se) {
		return refuse(AnomalyBadState, code, inState(se.Path), se.Text)
	}
	t.reply(d, wire.StateReportAccepted, wire.StateReply{Version: ch.Version, DesiredVersion: ch.DesiredVersion, ClientToken: token})
	t.followReport(ch)
	return true
}

// waits keeps a message for later, because the state of its device cannot be read.
func (j *upJob) waits(t *turn, d *device, err error) bool {
	if j.tries++; j.tries&(j.tries-1) == 0 { // ever more seldom
		t.s.e.log.Error("the state of a device cannot be read; its message waits", "device", d.address, "error", err, "tries", j.tries)
	}
	return false
}

func inState(path string) string {
	if path == "" {
		return "state"
	}
	return "state." + path
}

// report takes into ch what its device says. The error is a *state.Error.
func (t *turn) report(ch *replicaChange, p replica.Report) error {
	if p.Boot == "" {
		p.Boot = ch.device.presence.Boot
	}
	before := state.Object{}
	if len(ch.Desired) > 0 {
		before = ch.Delta()
	}
	r, rev, err := ch.Report(p, t.now)
	if err != nil {
		return err
	}
	t.revise(ch, r, rev)
	ch.reported = true
	if len(ch.Desired) > 0 && rev != nil {
		ch.drifted = len(state.Delta(ch.Delta(), before)) > 0
	}
	return nil
}

// resultState takes in the state that came with a result, before the result moves
// the command. What is told a second time is not taken in again: since then the
// device may have reported otherwise.
func (t *turn) resultState(d *device, j *upJob, c *command.Command) error {
	said := j.up.Result.State
	if j.up.Kind != wire.UpResult || len(said) == 0 || c.Final() || c.Converging || c.FirstSent.IsZero() {
		return nil
	}
	if _, ok := d.profile.(wire.StateProfile); !ok {
		return nil
	}
	ch, err := t.replica(d)
	if err != nil {
		return err
	}
	patch, err := state.Parse(said)
	if err == nil {
		err = t.report(ch, replica.Report{Patch: patch, TID: c.TID.String()})
	}
	var se *state.Error
	if errors.As(err, &se) {
		t.anomaly(j, AnomalyBadState, c.TID.String(), inState(se.Path)+": "+se.Text)
	}
	return nil
}
