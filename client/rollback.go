package client

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// RollbackPlan is what taking a command back would do now.
type RollbackPlan struct {
	TID      string           `json:"tid" doc:"of the command to be taken back"`
	Device   string           `json:"device"`
	Name     string           `json:"name,omitempty" doc:"of the command that would be made; absent: there is none"`
	Params   json.RawMessage  `json:"params,omitempty"`
	Changes  []RollbackChange `json:"changes" doc:"all values that the command says it changes"`
	Approval string           `json:"approval,omitempty" doc:"what asks for people's agreement before it is sent"`
	Quorum   int              `json:"quorum,omitempty" doc:"how many people"`
	Refused  string           `json:"refused,omitempty" doc:"why it is not possible now; absent: it is"`
	Forcible bool             `json:"forcible,omitempty" doc:"force passes over that"`
}

// RollbackChange is one value of a device's state. An absent one was, or is, not there.
type RollbackChange struct {
	Path    string          `json:"path"`
	Former  json.RawMessage `json:"former,omitempty" doc:"before the command was first sent"`
	After   json.RawMessage `json:"after,omitempty" doc:"when it had ended"`
	Now     json.RawMessage `json:"now,omitempty"`
	Differs bool            `json:"differs" doc:"there is something to be brought back"`
	Foreign bool            `json:"foreign" doc:"it was changed, or is desired otherwise, by somebody else since"`
	Desired json.RawMessage `json:"desired,omitempty" doc:"what somebody else has desired there since"`
	By      string          `json:"by,omitempty" doc:"who that was, if it is known"`
	TID     string          `json:"changedBy,omitempty" doc:"tid of the command that changed it, if it is known"`
	At      time.Time       `json:"at,omitzero" doc:"when that was last said"`
}

// RollbackOptions say how a command is taken back.
type RollbackOptions struct {
	Force  bool   // also what others have changed since; needs Reason
	Reason string // for the timelines of both commands
	Key    string // idempotency key; "": one is made, which covers the retries of this call only
}

// PlanRollback says what Rollback would do now, and what is in the way; it changes
// nothing. Errors: "not_found".
func (c *Client) PlanRollback(ctx context.Context, tid string) (*RollbackPlan, error) {
	out := &RollbackPlan{}
	if _, err := c.do(ctx, call{method: http.MethodGet, path: commandPath(tid, "/rollback"), out: out}); err != nil {
		return nil, err
	}
	return out, nil
}

// Rollback takes a command back: it makes another one that brings back what the
// device had reported before, and returns that as soon as it is durable on the server.
// [Client.Await] waits for its end. Errors: "not_found", "forbidden", "invalid",
// "key_reused"; "conflict" when it cannot be taken back, or when somebody else has
// changed the values since and Force is not set.
func (c *Client) Rollback(ctx context.Context, tid string, o RollbackOptions) (*Command, error) {
	if o.Key == "" {
		o.Key = newKey()
	}
	body := struct {
		Force  bool   `json:"force,omitempty"`
		Reason string `json:"reason,omitempty"`
	}{o.Force, o.Reason}
	return c.command(ctx, call{method: http.MethodPost, path: commandPath(tid, "/rollback"), body: body, header: http.Header{"Idempotency-Key": {o.Key}}})
}
