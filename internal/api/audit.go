package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/audit"
	"github.com/wilco-iot/wilco/internal/fault"
)

type auditInput struct {
	After  int64  `query:"after" minimum:"1" doc:"number of the last entry that is known; absent: from the first"`
	Cursor string `query:"cursor" maxLength:"512" doc:"next of the last page, in place of after"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" doc:"items a page; default 100"`
}

func (a *API) audit() {
	typed(a, huma.Operation{Method: http.MethodGet, Path: "/v1/audit", OperationID: "audit", Tags: []string{"server"},
		Summary: "Who did what, the oldest entries first",
		Description: "Each entry has the hash of the one before: SHA-256 of the entry's JSON without white space, its fields in the " +
			"order of this schema, hash and key left out. For admins of all groups. Keep the head elsewhere: with it a later check can tell that " +
			"nothing up to it was changed, not even as a whole."}, a.auditPage)
}

func (a *API) auditPage(ctx context.Context, in *auditInput) (*struct{ Body client.AuditPage }, error) {
	after := in.Cursor
	if in.After > 0 {
		if after != "" {
			return nil, fault.Field("cursor", "goes not with after; give one of them")
		}
		after = audit.KeyOf(in.After)
	}
	list, head, err := a.svc.Audit(ctx, caller(ctx), after, in.Limit)
	if err != nil {
		return nil, err
	}
	page := client.AuditPage{Items: mapped(list, entryAuditDoc), Head: client.AuditHead{Seq: head.Seq, Hash: head.Hash}}
	if len(list) > 0 {
		page.Next = list[len(list)-1].Key
	}
	return &struct{ Body client.AuditPage }{page}, nil
}

func entryAuditDoc(e *audit.Entry) client.AuditEntry {
	d := client.AuditEntry{Seq: e.Seq, At: e.At, Who: e.Who, Role: e.Role, Group: e.Group, Act: e.Act, Target: e.Target,
		Outcome: e.Outcome, Detail: e.Detail, Count: e.Count, Digest: e.Digest, Prev: e.Prev, Hash: e.Hash}
	if e.Key != audit.KeyOf(e.Seq) {
		d.Key = e.Key
	}
	return d
}
