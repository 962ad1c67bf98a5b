package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// AuditEntry is one act of a person or a program. Each has the hash of the one
// before it.
type AuditEntry struct {
	Seq     int64     `json:"seq" doc:"1 is the first; rises without gaps"`
	At      time.Time `json:"at"`
	Who     string    `json:"who" doc:"name of the token, or hook/NAME/DEPTH"`
	Role    string    `json:"role"`
	Group   string    `json:"group,omitempty" doc:"the only one that who may touch; absent: all"`
	Act     string    `json:"act" doc:"object.verb, for example device.add"`
	Target  string    `json:"target,omitempty"`
	Outcome string    `json:"outcome" doc:"ok, or the code of the error"`
	Detail  string    `json:"detail,omitempty"`
	Count   int       `json:"count,omitempty" doc:"commands made"`
	Digest  string    `json:"digest,omitempty" doc:"SHA-256 over the 16 bytes of each tid made, in order; hex"`
	Prev    string    `json:"prev" doc:"hash of the entry before; empty for the first"`
	Hash    string    `json:"hash,omitempty"`
	Key     string    `json:"key,omitempty" doc:"where the entry was found, when that is not the place of seq: somebody moved it"`
}

// AuditHead is the end of the audit log. Seq is 0 when there is no entry.
type AuditHead struct {
	Seq  int64  `json:"seq"`
	Hash string `json:"hash"`
}

// AuditPage is a piece of the audit log.
type AuditPage struct {
	Items []AuditEntry `json:"items"`
	Next  string       `json:"next,omitempty" doc:"cursor of the next page; absent: this one is empty"`
	Head  AuditHead    `json:"head" doc:"of the whole log, at the time of the answer"`
}

// AuditOptions select a page of the audit log: behind the entry After, or from
// the first; Cursor is the Next of the last page, in place of After.
type AuditOptions struct {
	After  int64
	Cursor string
	Limit  int // 1 to 1000; 0 means 100
}

// Audit gives one page of the audit log, the oldest entries first. Errors:
// "forbidden".
func (c *Client) Audit(ctx context.Context, o AuditOptions) (*AuditPage, error) {
	q := url.Values{}
	set(q, "cursor", o.Cursor)
	if o.After > 0 {
		q.Set("after", strconv.FormatInt(o.After, 10))
	}
	if o.Limit > 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	out := &AuditPage{}
	if _, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/audit", query: q, out: out}); err != nil {
		return nil, err
	}
	return out, nil
}
