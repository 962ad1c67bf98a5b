package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// CommandType is one version of a command type: what a command of a name means,
// what goes into it and comes out of it, and how long it may take.
type CommandType struct {
	Name        string `json:"name" doc:"[A-Za-z0-9._:-]{1,128}" example:"valve.set"`
	Version     int    `json:"version,omitempty" doc:"given by the server: 1, 2, 3, ..."`
	Description string `json:"description,omitempty" maxLength:"2048"`

	Params json.RawMessage `json:"params,omitempty" doc:"JSON Schema (2020-12) of the parameters; absent: anything"`
	Result json.RawMessage `json:"result,omitempty" doc:"JSON Schema of the result; absent: anything"`

	Policy   *Policy `json:"policy,omitempty" doc:"what differs from the server's default"`
	Window   int     `json:"window,omitempty" doc:"commands of the type in flight on a device at once; absent: as many as the device takes"`
	Priority int     `json:"priority,omitempty" minimum:"-9" maximum:"9" doc:"among those that wait for a device the highest goes first"`
	OnReboot string  `json:"onReboot,omitempty" enum:"fails,expected" doc:"what it means that the device restarts meanwhile; default fails"`

	Effects  []TypeEffect  `json:"effects,omitempty" doc:"values of the device's state that it changes"`
	Approval *TypeApproval `json:"approval,omitempty" doc:"who must agree before it is sent"`

	If        json.RawMessage `json:"if,omitempty" doc:"condition on the reported state: when it is sent, and when the device begins"`
	Unmet     string          `json:"unmet,omitempty" enum:"refuse,hold" doc:"what becomes of it when the condition does not hold, or others are in its way: it ends as denied (default), or it waits"`
	AtMost    *TypeAtMost     `json:"atMost,omitempty" doc:"commands of the type in flight at once, over several devices"`
	Exclusive string          `json:"exclusive,omitempty" doc:"of all commands of a group with the same word, one is in flight at a time"`

	Deprecated string    `json:"deprecated,omitempty" maxLength:"2048" doc:"why, and what to use instead"`
	Created    time.Time `json:"created,omitzero" doc:"given by the server"`
	By         string    `json:"by,omitempty" doc:"who applied it; given by the server"`
}

// TypeEffect is one value of the device's state that commands of a type change.
type TypeEffect struct {
	Path  string `json:"path" doc:"in the reported state"`
	Param string `json:"param,omitempty" doc:"path of the parameter that the value is set by"`
}

// TypeApproval is who must agree, and when. All that is said must apply.
type TypeApproval struct {
	Quorum  int             `json:"quorum,omitempty" doc:"people who must agree, the requester apart; default 1"`
	Expires Duration        `json:"expires,omitempty" doc:"after which it is not approved any more; default: deliver-by"`
	When    json.RawMessage `json:"when,omitempty" doc:"condition on the parameters; default: whatever they are"`
	Groups  []string        `json:"groups,omitempty" doc:"of devices; default: all"`
	Tags    []string        `json:"tags,omitempty" doc:"of devices, one of them is enough; default: all"`
	Targets int             `json:"targets,omitempty" doc:"from so many devices at once; default 1"`
}

// TypeAtMost bounds how many commands of a type are in flight at once.
type TypeAtMost struct {
	Count int    `json:"count"`
	Of    string `json:"of,omitempty" doc:"group (default), all, or tag:NAME"`
}

// TypeList is all command types, each in its newest version.
type TypeList struct {
	Items []CommandType `json:"items"`
}

func typePath(name, rest string) string { return "/v1/types/" + url.PathEscape(name) + rest }

// ApplyType makes the type given as JSON or YAML the newest version of its name,
// and says whether that is a new one: the same content is not. Errors: "invalid",
// "conflict" when somebody else has applied another at the same time.
func (c *Client) ApplyType(ctx context.Context, name string, text []byte) (*CommandType, bool, error) {
	out := &CommandType{}
	contentType := "application/yaml"
	if json.Valid(text) {
		contentType = "application/json"
	}
	res, err := c.do(ctx, call{method: http.MethodPut, path: typePath(name, ""), raw: text, out: out,
		header: http.Header{"Content-Type": {contentType}}})
	if err != nil {
		return nil, false, err
	}
	return out, res.StatusCode == http.StatusCreated, nil
}

// Types gives the newest version of each command type, in the order of their names.
func (c *Client) Types(ctx context.Context) ([]CommandType, error) {
	out := &TypeList{}
	_, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/types", out: out})
	return out.Items, err
}

// Type looks at one version of a command type; 0 is the newest. Errors: "not_found".
func (c *Client) Type(ctx context.Context, name string, version int) (*CommandType, error) {
	q := url.Values{}
	if version != 0 {
		q.Set("version", strconv.Itoa(version))
	}
	out := &CommandType{}
	if _, err := c.do(ctx, call{method: http.MethodGet, path: typePath(name, ""), query: q, out: out}); err != nil {
		return nil, err
	}
	return out, nil
}

// DeprecateType makes a version of a type that warns those who send commands of
// it. Errors: "not_found".
func (c *Client) DeprecateType(ctx context.Context, name, why string) (*CommandType, error) {
	out := &CommandType{}
	body := struct {
		Why string `json:"reason"`
	}{why}
	if _, err := c.do(ctx, call{method: http.MethodPost, path: typePath(name, "/deprecate"), body: body, out: out}); err != nil {
		return nil, err
	}
	return out, nil
}
