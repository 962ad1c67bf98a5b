package client

import (
	"encoding/json"
	"fmt"
	"time"
)

// State is where a command stands.
type State string

// The states. Executed to Denied are ends.
const (
	AwaitingApproval State = "awaiting_approval" // held until somebody approves
	Created          State = "created"           // waits for its device or its turn; certainly not executed
	Sent             State = "sent"              // published at least once; no word yet
	Acknowledged     State = "acknowledged"      // the device has it
	Running          State = "running"           // the device works on it
	Cancelling       State = "cancelling"        // cancel sent; the device must confirm
	TimedOut         State = "timed_out"         // sent, and the outcome is unknown; a late answer still settles it
	Executed         State = "executed"          // the device says so
	Failed           State = "failed"            // the device says so
	Rejected         State = "rejected"          // the device refused it: not executed
	Expired          State = "expired"           // never sent: certainly not executed
	Cancelled        State = "cancelled"         // before it was sent, or confirmed by the device
	Denied           State = "denied"            // not approved
)

// Duration is a time.Duration that is written as text ("1m30s") in JSON.
type Duration time.Duration

// D gives the duration as the standard library's type.
func (d Duration) D() time.Duration { return time.Duration(d) }

// String writes it as time.Duration does.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes "1m30s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads "1m30s".
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is not a duration like 30s or 1h30m", b)
	}
	*d = Duration(v)
	return nil
}

// Policy is how long things may take, and what is done about it. A field that
// is left out has the server's default.
type Policy struct {
	DeliverBy   Duration `json:"deliverBy,omitempty" doc:"from creation until the device must not begin any more" example:"24h"`
	AckBy       Duration `json:"ackBy,omitempty" doc:"from a publication until its acknowledgement" example:"10s"`
	Heartbeat   Duration `json:"heartbeat,omitempty" doc:"at most between two RUNNING; 0s: none expected" example:"30s"`
	FinishBy    Duration `json:"finishBy,omitempty" doc:"from the first publication until the result" example:"1h"`
	Settle      Duration `json:"settle,omitempty" doc:"how long a late answer still counts after timed_out" example:"24h"`
	Backoff     string   `json:"backoff,omitempty" enum:"none,linear,exponential" doc:"how the wait between attempts grows"`
	MaxAttempts int      `json:"maxAttempts,omitempty" doc:"publications without an answer while the device is online, 1 to 100"`
	Jitter      float64  `json:"jitter,omitempty" doc:"share of the wait, 0 to 1, that is added or taken away"`
	Supersede   bool     `json:"supersede,omitempty" doc:"a newer command of the same name replaces it while it waits"`
	MaxBackoff  Duration `json:"maxBackoff,omitempty" doc:"upper bound of one wait" example:"5m"`
}

// Order is what a device is asked to do.
type Order struct {
	// Name of the command type: [A-Za-z0-9._:-]{1,128}.
	Name string `json:"name"`
	// Params is any JSON value of at most 192 KiB; nil: none.
	Params json.RawMessage `json:"params,omitempty"`
	// Policy overrides the server's default, field by field; nil: none.
	Policy *Policy `json:"policy,omitempty"`
	// Key makes the order idempotent for its device: the same key and body give
	// the same command, for ever; another body is refused with "key_reused".
	// Empty: the client makes one, which covers the retries of this call only.
	Key string `json:"-"`
	// Priority among those that wait for the device, -9 to 9: the highest goes
	// first. Nil: that of the type, or 0.
	Priority *int `json:"priority,omitempty"`
}

// Progress is how far a running command has come, as the device says.
type Progress struct {
	Percent *float64 `json:"percent,omitempty" doc:"0 to 100; absent: not known"`
	Note    string   `json:"note,omitempty"`
}

// Command is one request to one device, and all that is known of it but its
// timeline.
type Command struct {
	TID         string          `json:"tid" doc:"transaction id, a UUIDv7; the same for every attempt, for ever"`
	Device      string          `json:"device" doc:"group/device" example:"plant-1/pump-3"`
	Name        string          `json:"name"`
	Params      json.RawMessage `json:"params,omitempty"`
	Policy      Policy          `json:"policy"`
	RequestedBy string          `json:"requestedBy,omitempty" doc:"name of the token that asked"`
	Key         string          `json:"key,omitempty" doc:"idempotency key"`
	RetryOf     string          `json:"retryOf,omitempty" doc:"tid of the ended command that this one repeats"`
	Rollout     string          `json:"rollout,omitempty" doc:"id of the roll-out that it is part of"`
	Undoes      string          `json:"undoes,omitempty" doc:"tid of the command that this one takes back"`
	UndoneBy    string          `json:"undoneBy,omitempty" doc:"tid of the last command that was made to take this one back"`
	TypeVersion int             `json:"typeVersion,omitempty" doc:"of the command type that it was made by; absent: there was none of its name"`
	Priority    int             `json:"priority,omitempty" doc:"among those that wait for the device the highest goes first"`
	Warning     string          `json:"warning,omitempty" doc:"only in the answer that made it: its type is deprecated, and why"`

	State     State     `json:"state" enum:"awaiting_approval,created,sent,acknowledged,running,cancelling,timed_out,executed,failed,rejected,expired,cancelled,denied"`
	Reason    string    `json:"reason" doc:"why it is in this state: one of a closed set"`
	Detail    string    `json:"detail,omitempty" doc:"own words of the device or person"`
	Ended     bool      `json:"ended" doc:"nothing but anomalies can follow"`
	Version   int64     `json:"version" doc:"rises by one with every change"`
	Attempt   int       `json:"attempt" doc:"publications of the request so far"`
	Progress  *Progress `json:"progress,omitempty"`
	Anomalies int       `json:"anomalies,omitempty" doc:"messages of the device that contradicted this state or the type"`
	Held      bool      `json:"held,omitempty" doc:"its turn has come, and it must not be sent yet: reason and detail say why"`

	Approval *Approval `json:"approval,omitempty" doc:"of a command that was held until people agreed"`

	Result       json.RawMessage `json:"result,omitempty" doc:"what the device gave back"`
	DeviceState  json.RawMessage `json:"deviceState,omitempty" doc:"the device's state after the command"`
	SupersededBy string          `json:"supersededBy,omitempty"`

	Created  time.Time `json:"created"`
	NotAfter time.Time `json:"notAfter" doc:"the device must not begin later"`
	Sent     time.Time `json:"sent,omitzero" doc:"first publication"`
	Acked    time.Time `json:"acked,omitzero"`
	Heard    time.Time `json:"heard,omitzero" doc:"last word of the device about it"`
	Finished time.Time `json:"finished,omitzero" doc:"when the end state was reached"`
}

// Settled says whether waiting longer makes no sense by itself: the command has
// ended, or its outcome is unknown.
func (c *Command) Settled() bool { return c.Ended || c.State == TimedOut }

// Approval is what a held command waits for, and who has agreed so far.
type Approval struct {
	Rule    string    `json:"rule" doc:"what asks for it"`
	Quorum  int       `json:"quorum" doc:"how many people must agree; who has requested it is none of them"`
	Digest  string    `json:"digest" doc:"of what they agree to: to be given back with the approval"`
	Expires time.Time `json:"expires,omitzero" doc:"after that it is too late; absent: notAfter"`
	Votes   []Vote    `json:"votes"`
}

// Vote is one person's agreement.
type Vote struct {
	By     string    `json:"by" doc:"name of a token"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitempty"`
}

// Entry is one line of a command's timeline.
type Entry struct {
	At      time.Time `json:"at"`
	Kind    string    `json:"kind" doc:"what happened: one of a closed set"`
	State   State     `json:"state" doc:"after it happened"`
	Reason  string    `json:"reason" doc:"why: one of a closed set"`
	By      string    `json:"by,omitempty" doc:"device, clock, server, or the name of a token"`
	Detail  string    `json:"detail,omitempty"`
	Attempt int       `json:"attempt,omitempty"`
	Count   int       `json:"count,omitempty" doc:"how often in a row, when more than once"`
	Until   time.Time `json:"until,omitzero" doc:"of the last of them"`
	Anomaly bool      `json:"anomaly,omitempty" doc:"the device said what it should not have said"`
}

// Timeline is the whole story of a command.
type Timeline struct {
	Command Command `json:"command"`
	Entries []Entry `json:"entries"`
}

// Page is one page of a list.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"cursor of the next page; absent on the last"`
}

// CommandPage is one page of a list of commands.
type CommandPage = Page[Command]

// BulkOrder is one item of a bulk request.
type BulkOrder struct {
	Device   string          `json:"device" doc:"group/device"`
	Name     string          `json:"name"`
	Params   json.RawMessage `json:"params,omitempty"`
	Policy   *Policy         `json:"policy,omitempty"`
	Key      string          `json:"key,omitempty" doc:"idempotency key, as the header Idempotency-Key of a single request"`
	Priority *int            `json:"priority,omitempty" minimum:"-9" maximum:"9" doc:"among those that wait for the device the highest goes first; default: that of the type, or 0"`
}

// BulkResult tells what became of one item of a bulk request.
type BulkResult struct {
	Status   int    `json:"status" doc:"202 created, 200 existed already, or the status of the error"`
	TID      string `json:"tid,omitempty"`
	State    State  `json:"state,omitempty"`
	Replayed bool   `json:"replayed,omitempty" doc:"the command existed already under this key"`
	Warning  string `json:"warning,omitempty" doc:"its type is deprecated, and why"`
	Error    *Error `json:"error,omitempty"`
}

// Presence is what a device last said of itself, or its Will for it.
type Presence struct {
	Known    bool      `json:"known" doc:"false: it has never said anything"`
	Online   bool      `json:"online"`
	Boot     string    `json:"boot,omitempty" doc:"random id that the device makes at each start"`
	Firmware string    `json:"firmware,omitempty"`
	Commands []string  `json:"commands,omitempty" doc:"names of those that it says it knows; absent: it has not said, and may know any"`
	Since    time.Time `json:"since,omitzero" doc:"of the last change"`
	Seen     time.Time `json:"seen,omitzero" doc:"of the last status"`
}

// Device is a registered device.
type Device struct {
	Device      string    `json:"device" doc:"group/device; also its MQTT user name and client id"`
	Profile     string    `json:"profile,omitempty" doc:"absent: the server's default"`
	Window      int       `json:"window" doc:"commands in flight at once"`
	Tags        []string  `json:"tags,omitempty"`
	Note        string    `json:"note,omitempty"`
	Disabled    bool      `json:"disabled" doc:"it may not log in and takes no commands"`
	Certificate bool      `json:"certificate,omitempty" doc:"it logs in with a certificate that has the URI wilco:group/device, and has no secret"`
	Via         string    `json:"via,omitempty" doc:"group/device of the gateway that it is behind, and that logs in for it"`
	Secret      string    `json:"secret,omitempty" doc:"only in the answer that made it; kept nowhere"`
	Created     time.Time `json:"created"`
	Rotated     time.Time `json:"rotated,omitzero" doc:"when the secret was made"`
	Presence    Presence  `json:"presence"`
}

// DevicePage is one page of a list of devices.
type DevicePage = Page[Device]

// NewDevice registers a device.
type NewDevice struct {
	Device      string   `json:"device" doc:"group/device, both [A-Za-z0-9._:-]{1,64}" example:"plant-1/pump-3"`
	Profile     string   `json:"profile,omitempty" enum:"wilco,atlas,sparkplug" doc:"default: the server's"`
	Window      int      `json:"window,omitempty" minimum:"1" maximum:"1000" doc:"commands in flight at once; default 1"`
	Tags        []string `json:"tags,omitempty" maxItems:"32"`
	Note        string   `json:"note,omitempty" maxLength:"1024"`
	Certificate bool     `json:"certificate,omitempty" doc:"it logs in with a certificate that has the URI wilco:group/device among its subject alternative names; no secret is made"`
	Via         string   `json:"via,omitempty" doc:"group/device of the gateway that it is behind; no secret is made" example:"plant-1/gw-1"`
}

// DeviceChange changes a device; nil fields stay as they are.
type DeviceChange struct {
	Disabled *bool     `json:"disabled,omitempty"`
	Window   *int      `json:"window,omitempty" minimum:"1" maximum:"1000"`
	Tags     *[]string `json:"tags,omitempty" maxItems:"32"`
	Note     *string   `json:"note,omitempty" maxLength:"1024"`
}

// Anomaly is something that a device said and that was not obeyed.
type Anomaly struct {
	At     time.Time `json:"at"`
	Device string    `json:"device"`
	Kind   string    `json:"kind"`
	TID    string    `json:"tid,omitempty"`
	Topic  string    `json:"topic,omitempty"`
	Detail string    `json:"detail"`
}

// AnomalyList is the newest anomalies of a device, newest first.
type AnomalyList struct {
	Items []Anomaly `json:"items"`
}

// Part is one part of the server and how it is.
type Part struct {
	Name   string `json:"name"`
	Ready  bool   `json:"ready"`
	Detail string `json:"detail,omitempty"`
}

// Health is how the server is.
type Health struct {
	Live    bool   `json:"live"`
	Ready   bool   `json:"ready" doc:"all parts are ready"`
	Version string `json:"version"`
	Parts   []Part `json:"parts"`
}

// Event is one thing that happened, in the order of its commit.
type Event struct {
	ID      int64     `json:"id" doc:"rises without gaps"`
	Type    string    `json:"type" enum:"command,device,state,anomaly,rollout,alarm"`
	At      time.Time `json:"at"`
	Device  string    `json:"device" doc:"empty in what is of a roll-out as a whole"`
	Rollout string    `json:"rollout,omitempty" doc:"of a roll-out's events and alarms: its id; from, state and reason are the roll-out's then"`
	TID     string    `json:"tid,omitempty"`
	Name    string    `json:"name,omitempty"`
	Kind    string    `json:"kind,omitempty"`
	From    State     `json:"from,omitempty"`
	State   State     `json:"state,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	By      string    `json:"by,omitempty"`
	Detail  string    `json:"detail,omitempty"`
	Attempt int       `json:"attempt,omitempty"`
	Percent *float64  `json:"percent,omitempty" doc:"of the work done, or of a roll-out's targets that have ended"`
	Online  *bool     `json:"online,omitempty"`
	Boot    string    `json:"boot,omitempty"`
	Version int64     `json:"version,omitempty" doc:"of the device's state, in state events"`
}

// Gap says that events are gone: those after After and before First have been
// purged. The stream goes on with First.
type Gap struct {
	After int64 `json:"after"`
	First int64 `json:"first"`
}
