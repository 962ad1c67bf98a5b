package command

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"
)

// Approval is what a held command waits for, and who has agreed so far. Stored;
// never change the names.
type Approval struct {
	Rule    string    `json:"rule,omitempty"`   // what asks for it, in words for people
	Quorum  int       `json:"quorum"`           // how many must agree; at least 1
	Digest  string    `json:"digest"`           // of what they agree to
	Expires time.Time `json:"expires,omitzero"` // after which nobody may any more; zero: with deliver-by
	Votes   []Vote    `json:"votes,omitempty"`
}

// Vote is one person's agreement. Stored; never change the names.
type Vote struct {
	By  string    `json:"by"`
	At  time.Time `json:"at"`
	Why string    `json:"why,omitempty"`
}

// ContentDigest is the SHA-256, in hex, of what a person who approves a command
// agrees to: this tid, to this device, to do this with these parameters under
// this policy and these terms. A vote names the digest that its person has seen, so that nothing
// can be swapped between the look and the vote.
func (c *Command) ContentDigest() string {
	var params bytes.Buffer
	if json.Compact(&params, c.Params) != nil {
		params.Reset() // there are none
	}
	b, err := json.Marshal(struct {
		TID    TID             `json:"tid"`
		Device string          `json:"device"`
		Name   string          `json:"name"`
		Params json.RawMessage `json:"params,omitempty"`
		Policy Policy          `json:"policy"`
		Terms  *Terms          `json:"terms,omitempty"`
	}{c.TID, c.Device.String(), c.Name, params.Bytes(), c.Policy, c.Terms})
	if err != nil {
		return "" // cannot be: all of it was made of valid values
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// hold makes the new command c wait for people.
func (c *Command) hold(a Approval) {
	a.Quorum, a.Votes, a.Expires = max(a.Quorum, 1), nil, stamp(a.Expires)
	if a.Digest == "" {
		a.Digest = c.ContentDigest()
	}
	c.State, c.Approval = AwaitingApproval, &a
}

// approvalDue is when it is too late to agree.
func (c *Command) approvalDue() time.Time { return earlier(c.NotAfter, c.Approval.Expires) }

// approve counts a vote; with the last one that is needed the command goes on.
func approve(m *move) error {
	refuse := func(why string) error { return &NotAllowedError{m.c.State, m.ev.Kind, why} }
	a := *m.c.Approval
	switch {
	case m.ev.Digest != a.Digest:
		return refuse("and what is approved is not what it is: look at it again")
	case m.ev.By == "":
		return refuse("and a vote needs a name")
	case m.ev.By == m.c.RequestedBy:
		return refuse("and who has requested it cannot approve it")
	case m.reached(m.c.approvalDue()):
		return refuse("and its time for that is over")
	case slices.ContainsFunc(a.Votes, func(v Vote) bool { return v.By == m.ev.By }):
		return nil
	}
	a.Votes = append(slices.Clip(a.Votes), Vote{By: m.ev.By, At: m.now, Why: m.detail()})
	m.c.Approval = &a
	if len(a.Votes) < a.Quorum {
		m.to(AwaitingApproval, VoteCounted)
		return nil
	}
	m.release(Approved)
	return nil
}

// breakGlass lets the command go without the votes: for an emergency, with the
// reason and the person on record.
func breakGlass(m *move) error {
	if m.ev.By == "" || m.ev.Text == "" {
		return &NotAllowedError{m.c.State, m.ev.Kind, "and to pass over an approval needs a name and a reason"}
	}
	m.release(GlassBroken)
	return nil
}

func (m *move) release(r Reason) {
	m.c.NotAfter = m.now.Add(m.c.Policy.DeliverBy.D()) // the wait for people does not eat the time for delivery
	m.to(Created, r)
}

func deny(m *move) error {
	m.to(Denied, NotApproved)
	return nil
}
