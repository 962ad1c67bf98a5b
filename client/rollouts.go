package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// RolloutSpec is a roll-out to begin: one command to many devices. Its JSON is also
// the form of files.
type RolloutSpec struct {
	Name     string          `json:"name,omitempty" doc:"its id: 1 to 64 of A-Z a-z 0-9 . _ -; the same again begins nothing twice. Absent: one is made"`
	Command  string          `json:"command" doc:"name of the command" example:"firmware.install"`
	Params   json.RawMessage `json:"params,omitempty" doc:"any JSON value, at most 16 KiB"`
	Policy   *Policy         `json:"policy,omitempty" doc:"what differs from the type's"`
	Priority *int            `json:"priority,omitempty" minimum:"-9" maximum:"9"`
	Targets  RolloutTargets  `json:"targets"`

	Waves       []RolloutWave     `json:"waves,omitempty" maxItems:"32" doc:"behind the last one comes the rest"`
	Rate        *RolloutRate      `json:"rate,omitempty" doc:"absent: as fast as can be"`
	Concurrency int               `json:"concurrency,omitempty" minimum:"0" doc:"commands under way at once; absent: any number"`
	Abort       *RolloutThreshold `json:"abort,omitempty"`
	Windows     []RolloutWindow   `json:"windows,omitempty" maxItems:"32" doc:"nothing is started outside of them, and what was not delivered by their end expires; absent: always"`
	StartAt     time.Time         `json:"startAt,omitzero"`
	Deadline    time.Time         `json:"deadline,omitzero" doc:"what is not begun by then is not begun"`
	Dynamic     bool              `json:"dynamic,omitempty" doc:"devices that match later are taken in, until the deadline"`
}

// RolloutTargets says which devices: a list; all; or those for which everything holds
// that is said of group, tag and online.
type RolloutTargets struct {
	All     bool     `json:"all,omitempty" doc:"all devices to which the one who asks may send"`
	Group   string   `json:"group,omitempty"`
	Tag     string   `json:"tag,omitempty"`
	Online  *bool    `json:"online,omitempty"`
	Devices []string `json:"devices,omitempty" doc:"addresses like plant/valve-1, in the order in which they are started; only in what is asked for"`
	Listed  bool     `json:"listed,omitempty" doc:"said by the server: there was a list"`
}

// RolloutWave is a part of the targets, and what must be before the next one begins.
type RolloutWave struct {
	Share   float64  `json:"share,omitempty" minimum:"0" maximum:"1" doc:"of all targets, rounded up; or count"`
	Count   int      `json:"count,omitempty" minimum:"0" doc:"of targets; or share"`
	Success float64  `json:"success,omitempty" minimum:"0" maximum:"1" doc:"the gate: share of the wave that must be executed; when it cannot be reached any more the roll-out is paused. Absent: all have ended, however"`
	Soak    Duration `json:"soak,omitempty" doc:"the pause after that"`
}

// RolloutRate bounds the starts of any minute.
type RolloutRate struct {
	PerMinute int     `json:"perMinute" minimum:"1" maximum:"1000000"`
	Factor    float64 `json:"factor,omitempty" doc:"with every and max: it grows by this factor"`
	Every     int     `json:"every,omitempty" doc:"after so many successes, each time"`
	Max       int     `json:"max,omitempty" doc:"and no further than this"`
}

// RolloutThreshold aborts a roll-out.
type RolloutThreshold struct {
	Share   float64 `json:"share" doc:"when more than this share of those executed, failed, rejected and timed out are of the last three"`
	Minimum int     `json:"minimum,omitempty" doc:"and at least so many have ended"`
}

// RolloutWindow is a time of the week in which targets are started.
type RolloutWindow struct {
	Days []string `json:"days,omitempty" doc:"sun, mon, tue, wed, thu, fri, sat: on which it begins; absent: all"`
	From string   `json:"from" example:"22:00"`
	To   string   `json:"to" example:"04:00" doc:"when it is not behind from it is on the next day"`
	Zone string   `json:"zone,omitempty" example:"Europe/Vienna" doc:"absent: UTC"`
}

// Rollout is a roll-out as it stands.
type Rollout struct {
	ID       string          `json:"id"`
	Spec     RolloutSpec     `json:"spec"`
	By       string          `json:"by"`
	Answers  string          `json:"answers,omitempty" doc:"who answers for it: who made it, or has resumed it since; it is paused when they are disabled"`
	State    string          `json:"state" enum:"awaiting_approval,scheduled,running,paused,aborting,finished,aborted,denied,damaged" doc:"damaged: its record cannot be read; detail says why"`
	Reason   string          `json:"reason"`
	Detail   string          `json:"detail,omitempty"`
	Hold     string          `json:"hold,omitempty" enum:"window,rate,concurrency,ends,soak,new_devices" doc:"what a running one that starts nothing at the moment waits for"`
	Wake     time.Time       `json:"wake,omitzero" doc:"when time alone changes something"`
	Digest   string          `json:"digest" doc:"of command, plan and targets"`
	Approval *Approval       `json:"approval,omitempty"`
	Undoes   string          `json:"undoes,omitempty" doc:"the roll-out that this one takes back"`
	UndoneBy string          `json:"undoneBy,omitempty"`
	Groups   []string        `json:"groups" doc:"of its targets"`
	Total    int             `json:"total"`
	Started  int             `json:"started"`
	Counts   map[string]int  `json:"counts" doc:"of the targets, by state"`
	Wave     int             `json:"wave" doc:"number of the wave that is under way, from 1"`
	Waves    []RolloutCounts `json:"waves"`
	Created  time.Time       `json:"created"`
	Begun    time.Time       `json:"begun,omitzero"`
	Ended    time.Time       `json:"ended,omitzero"`
	Log      []RolloutEntry  `json:"log"`
}

// Damaged says whether its record cannot be read: it does not go on.
func (r *Rollout) Damaged() bool { return r.State == "damaged" }

// Final says whether the roll-out has ended.
func (r *Rollout) Final() bool { return !r.Ended.IsZero() }

// RolloutCounts are the targets of one wave, by state.
type RolloutCounts struct {
	Total  int            `json:"total"`
	Counts map[string]int `json:"counts"`
}

// RolloutEntry is one line of what happened to a roll-out.
type RolloutEntry struct {
	At     time.Time `json:"at"`
	State  string    `json:"state"`
	Reason string    `json:"reason"`
	By     string    `json:"by,omitempty"`
	Detail string    `json:"detail,omitempty"`
}

// RolloutList is roll-outs, the newest first.
type RolloutList struct {
	Items []Rollout `json:"items"`
}

// RolloutPlan is what a roll-out would do.
type RolloutPlan struct {
	Rollout   Rollout           `json:"rollout" doc:"as it would begin"`
	Targets   []string          `json:"targets" doc:"the first 1000"`
	Conflicts []RolloutConflict `json:"conflicts" doc:"the first 1000; none of them stops it"`
	Kinds     map[string]int    `json:"conflictCounts" doc:"all of them, by kind"`
	Waves     []time.Time       `json:"waves,omitempty" doc:"when each would begin at the earliest, were it approved at once"`
	End       time.Time         `json:"end,omitzero" doc:"when it would end at the earliest; absent: that is too far away to tell"`
	EndsAs    string            `json:"endsAs,omitempty" doc:"when even then it does not come to its end"`
}

// RolloutConflict is what may be in the way of a target.
type RolloutConflict struct {
	Device string `json:"device"`
	Kind   string `json:"kind" enum:"offline,unsupported,open_command,other_rollout"`
	With   string `json:"with,omitempty" doc:"the other roll-out, absent when you may not see it, or the tid"`
}

// RolloutTarget is one device of a roll-out.
type RolloutTarget struct {
	Number int    `json:"number"`
	Device string `json:"device"`
	State  string `json:"state" enum:"waiting,starting,open,executed,failed,rejected,expired,cancelled,denied,timed_out,skipped"`
	TID    string `json:"tid,omitempty"`
	Why    string `json:"why,omitempty" doc:"it has no command"`
}

// RolloutTargetPage is a piece of the targets.
type RolloutTargetPage struct {
	Items []RolloutTarget `json:"items"`
	Next  int             `json:"next,omitempty" doc:"from of the next page; absent: this is the last"`
}

func rolloutPath(id, rest string) string { return "/v1/rollouts/" + url.PathEscape(id) + rest }

// PlanRollout says what StartRollout would do now, and changes nothing. Errors:
// "invalid", "forbidden".
func (c *Client) PlanRollout(ctx context.Context, s RolloutSpec) (*RolloutPlan, error) {
	out := &RolloutPlan{}
	_, err := c.do(ctx, call{method: http.MethodPost, path: "/v1/rollouts/plan", body: s, out: out})
	return out, err
}

// StartRollout begins a roll-out. One without a name is not repeated after a failure
// of the network: look with Rollouts. Errors: "exists", "invalid", "forbidden",
// "conflict" when 64 are under way.
func (c *Client) StartRollout(ctx context.Context, s RolloutSpec) (*Rollout, error) {
	out := &Rollout{}
	_, err := c.do(ctx, call{method: http.MethodPost, path: "/v1/rollouts", body: s, out: out, once: s.Name == ""})
	return out, err
}

// Rollouts lists roll-outs, the newest first.
func (c *Client) Rollouts(ctx context.Context) ([]Rollout, error) {
	out := &RolloutList{}
	_, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/rollouts", out: out})
	return out.Items, err
}

// Rollout looks at one roll-out. Errors: "not_found".
func (c *Client) Rollout(ctx context.Context, id string) (*Rollout, error) {
	out := &Rollout{}
	_, err := c.do(ctx, call{method: http.MethodGet, path: rolloutPath(id, ""), out: out})
	return out, err
}

// RolloutTargets goes through the targets of a roll-out: those in one of the states,
// or all. Errors: "not_found".
func (c *Client) RolloutTargets(ctx context.Context, id string, states ...string) iter.Seq2[RolloutTarget, error] {
	return func(yield func(RolloutTarget, error) bool) {
		for from := 0; ; {
			q := url.Values{"from": {strconv.Itoa(from)}, "limit": {"1000"}, "state": states}
			out := &RolloutTargetPage{}
			if _, err := c.do(ctx, call{method: http.MethodGet, path: rolloutPath(id, "/targets"), query: q, out: out}); err != nil {
				yield(RolloutTarget{}, err)
				return
			}
			for _, t := range out.Items {
				if !yield(t, nil) {
					return
				}
			}
			if from = out.Next; from == 0 {
				return
			}
		}
	}
}

// PauseRollout lets a roll-out start nothing more until ResumeRollout; what is under
// way goes on. Errors: "not_found", "conflict".
func (c *Client) PauseRollout(ctx context.Context, id, why string) (*Rollout, error) {
	return c.askRollout(ctx, id, "pause", why, "")
}

// ResumeRollout lets a paused roll-out go on, also past a gate that was missed.
func (c *Client) ResumeRollout(ctx context.Context, id, why string) (*Rollout, error) {
	return c.askRollout(ctx, id, "resume", why, "")
}

// AbortRollout ends a roll-out: nothing more is started, and what was never sent is
// cancelled. It has ended when the rest has.
func (c *Client) AbortRollout(ctx context.Context, id, why string) (*Rollout, error) {
	return c.askRollout(ctx, id, "abort", why, "")
}

// ApproveRollout agrees to a roll-out that is held. Digest is that of its approval.
func (c *Client) ApproveRollout(ctx context.Context, id, digest, why string) (*Rollout, error) {
	return c.askRollout(ctx, id, "approve", why, digest)
}

// DenyRollout ends a roll-out that is held.
func (c *Client) DenyRollout(ctx context.Context, id, why string) (*Rollout, error) {
	return c.askRollout(ctx, id, "deny", why, "")
}

// BreakGlassRollout lets a held roll-out go without the agreement that it needs.
func (c *Client) BreakGlassRollout(ctx context.Context, id, why string) (*Rollout, error) {
	return c.askRollout(ctx, id, "break-glass", why, "")
}

// RollbackRollout begins the roll-out that takes back one that has ended: in reverse
// order, only where it was executed. Errors: "not_found", "conflict".
func (c *Client) RollbackRollout(ctx context.Context, id, why string) (*Rollout, error) {
	return c.askRollout(ctx, id, "rollback", why, "")
}

// askRollout posts one word. None is repeated after a failure of the network: that it
// is not possible any more would be told in place of that it was done.
func (c *Client) askRollout(ctx context.Context, id, word, why, digest string) (*Rollout, error) {
	body := struct {
		Reason string `json:"reason,omitempty"`
		Digest string `json:"digest,omitempty"`
	}{why, digest}
	out := &Rollout{}
	_, err := c.do(ctx, call{method: http.MethodPost, path: rolloutPath(id, "/"+word), body: body, out: out, once: true})
	return out, err
}
