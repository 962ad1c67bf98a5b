package client

import (
	"context"
	"net/http"
)

type vote struct {
	Digest string `json:"digest"`
	Reason string `json:"reason,omitempty"`
}

// Approve agrees to a held command, whose Approval.Digest says what was looked
// at; reason goes to its timeline. With the last agreement that it needs the
// command goes on. Errors: "forbidden" without the role approver, and for who has
// requested it; "conflict" when it is not held, or another by now.
func (c *Client) Approve(ctx context.Context, tid, digest, reason string) (*Command, error) {
	return c.command(ctx, call{method: http.MethodPost, path: commandPath(tid, "/approve"), body: vote{digest, reason}})
}

// Deny ends a held command. Errors: "forbidden" without the role approver,
// "conflict" when it is not held.
func (c *Client) Deny(ctx context.Context, tid, reason string) (*Command, error) {
	return c.command(ctx, call{method: http.MethodPost, path: commandPath(tid, "/deny"), body: why{reason}})
}

// BreakGlass lets a held command go without the agreement that it needs. Reason
// must not be empty, and the server's log has an alarm. Errors: as of Deny.
func (c *Client) BreakGlass(ctx context.Context, tid, reason string) (*Command, error) {
	return c.command(ctx, call{method: http.MethodPost, path: commandPath(tid, "/break-glass"), body: why{reason}})
}
