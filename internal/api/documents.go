package api

import (
	"cmp"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/service"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// schemaOf is the schema of T in the description.
func schemaOf[T any](a *API) *huma.Schema {
	t := reflect.TypeFor[T]()
	return a.huma.OpenAPI().Components.Schemas.Schema(t, true, t.Name())
}

func policyDoc(p *command.Policy) client.Policy {
	return client.Policy{DeliverBy: client.Duration(p.DeliverBy), AckBy: client.Duration(p.AckBy),
		Heartbeat: client.Duration(p.Heartbeat), FinishBy: client.Duration(p.FinishBy), Settle: client.Duration(p.Settle),
		Backoff: string(p.Backoff), MaxAttempts: p.MaxAttempts, Jitter: p.Jitter, Supersede: p.Supersede,
		MaxBackoff: client.Duration(p.MaxBackoff)}
}

func tidDoc(t *command.TID) string {
	if t == nil {
		return ""
	}
	return t.String()
}

func commandDoc(c *command.Command) client.Command {
	d := client.Command{TID: c.TID.String(), Device: c.Device.String(), Name: c.Name, Params: c.Params,
		Policy: policyDoc(&c.Policy), RequestedBy: c.RequestedBy, Key: c.Key, RetryOf: tidDoc(c.RetryOf), Rollout: c.Rollout,
		Undoes: tidDoc(c.Undoes), UndoneBy: tidDoc(c.UndoneBy),
		TypeVersion: c.TypeVersion(), Priority: c.Priority(), Held: c.Held,
		State: client.State(c.State), Reason: string(c.Reason), Detail: c.Detail, Ended: c.Final(),
		Version: c.Version, Attempt: c.Attempt, Anomalies: c.Anomalies,
		Result: c.Result, DeviceState: c.DeviceState, SupersededBy: tidDoc(c.SupersededBy),
		Created: c.Created, NotAfter: c.NotAfter, Sent: c.FirstSent, Acked: c.Acked, Heard: c.LastHeard, Finished: c.Ended}
	d.Approval = approvalDoc(c.Approval)
	if p := c.Progress; p != nil {
		d.Progress = &client.Progress{Percent: p.Percent, Note: p.Note}
	}
	return d
}

func approvalDoc(a *command.Approval) *client.Approval {
	if a == nil {
		return nil
	}
	d := &client.Approval{Rule: a.Rule, Quorum: a.Quorum, Digest: a.Digest, Expires: a.Expires, Votes: []client.Vote{}}
	for _, v := range a.Votes {
		d.Votes = append(d.Votes, client.Vote{By: v.By, At: v.At, Reason: v.Why})
	}
	return d
}

func entryDocs(entries []command.Entry) []client.Entry {
	out := make([]client.Entry, len(entries))
	for i, e := range entries {
		out[i] = client.Entry{At: e.At, Kind: string(e.Kind), State: client.State(e.State), Reason: string(e.Reason), By: e.By,
			Detail: e.Detail, Attempt: e.Attempt, Count: e.Count, Until: e.Until, Anomaly: e.Anomaly}
	}
	return out
}

func deviceDoc(d *store.Device, secret string) client.Device {
	via := ""
	if d.Via != (wire.Address{}) {
		via = d.Via.String()
	}
	return client.Device{Device: d.Address.String(), Via: via, Profile: d.Profile, Window: max(d.Window, 1), Tags: d.Tags, Note: d.Note,
		Disabled: d.Disabled, Certificate: fleet.ByCertificate(d), Secret: secret, Created: d.Created, Rotated: d.Rotated,
		Presence: client.Presence{Known: d.Presence.Known, Online: d.Presence.Online, Boot: d.Presence.Boot,
			Firmware: d.Presence.Firmware, Commands: d.Presence.Commands, Since: d.Presence.Since, Seen: d.Presence.Seen}}
}

func anomalyDoc(a *store.Anomaly) client.Anomaly {
	return client.Anomaly{At: a.At, Device: a.Device.String(), Kind: a.Kind, TID: a.TID, Topic: a.Topic, Detail: a.Detail}
}

func tokenDoc(t *service.Token, secret string) client.APIToken {
	return client.APIToken{ID: t.ID, Name: t.Name, Kind: cmp.Or(t.Kind, "token"), User: t.User, Grants: mapped(t.Grants, grantDoc), Token: secret,
		Created: t.Created, Expires: t.Expires}
}

func grantDoc(g *service.Grant) client.Grant {
	return client.Grant{Role: client.Role(g.Role), Groups: g.Groups, Commands: g.Commands}
}

func grantOf(g *client.Grant) service.Grant {
	return service.Grant{Role: service.Role(g.Role), Groups: g.Groups, Commands: g.Commands}
}

func eventDoc(e *store.Event) client.Event {
	device := ""
	if e.Device != (wire.Address{}) {
		device = e.Device.String()
	}
	return client.Event{ID: e.ID, Type: string(e.Type), At: e.At, Device: device, Rollout: e.Rollout, Percent: e.Percent, TID: tidDoc(e.TID), Name: e.Name,
		Kind: string(e.Kind), From: client.State(e.From), State: client.State(e.State), Reason: string(e.Reason), By: e.By,
		Detail: e.Detail, Attempt: e.Attempt, Online: e.Online, Boot: e.Boot, Version: e.Version}
}

func healthDoc(h service.Health) client.Health {
	d := client.Health{Live: true, Ready: h.Ready, Version: h.Version, Parts: make([]client.Part, len(h.Parts))}
	for i, p := range h.Parts {
		d.Parts[i] = client.Part{Name: p.Name, Ready: p.Detail == "", Detail: p.Detail}
	}
	return d
}

// mapped turns each item into its document.
func mapped[T, D any](items []T, doc func(*T) D) []D {
	out := make([]D, len(items))
	for i := range items {
		out[i] = doc(&items[i])
	}
	return out
}

// span is a duration in a query. It is a struct so that huma reads it as text
// and not as the number that it is made of.
type span struct{ d time.Duration }

func (s *span) UnmarshalText(b []byte) error {
	var d command.Duration
	err := d.UnmarshalText(b)
	s.d = d.D()
	return err
}
