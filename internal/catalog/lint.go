package catalog

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/wilco-iot/wilco/internal/command"
)

// Remark is something about a type that is allowed and probably not meant.
type Remark struct {
	Field string `json:"field"`
	Text  string `json:"text"` // what, and what to do about it
}

func (r Remark) String() string { return r.Field + ": " + r.Text }

// Lint gives the remarks on a type. Base is the server's default policy.
func Lint(t *Type, base command.Policy) (list []Remark) {
	remark := func(field, format string, args ...any) {
		list = append(list, Remark{field, fmt.Sprintf(format, args...)})
	}
	if t.Description == "" {
		remark("description", "is missing; say what the command does to the device")
	}
	lintSchema(t, remark)
	p := t.PolicyOver(base)
	if p.Heartbeat > 0 && p.Heartbeat >= p.FinishBy {
		remark("policy.heartbeat", "%s is not below finishBy %s, and so is never missed", p.Heartbeat, p.FinishBy)
	}
	if t.OnReboot == RebootExpected && p.Heartbeat == 0 {
		remark("onReboot", "without policy.heartbeat a device that does not come back is noticed after finishBy %s only", p.FinishBy)
	}
	if p.AckBy > p.DeliverBy {
		remark("policy.ackBy", "%s is above deliverBy %s", p.AckBy, p.DeliverBy)
	}
	if p.AckBy > p.FinishBy {
		remark("policy.ackBy", "%s is above finishBy %s", p.AckBy, p.FinishBy)
	}
	if a := t.Approval; a != nil {
		if p.Supersede {
			remark("policy.supersede", "with approval: a newer command takes the place of one that people have agreed to")
		}
		if a.Expires > p.DeliverBy {
			remark("approval.expires", "%s is above policy.deliverBy %s, which ends it before", a.Expires, p.DeliverBy)
		}
	}
	lintOverlap(t, remark)
	if t.Unmet == command.Hold && t.If == nil && t.AtMost == nil && t.Exclusive == "" {
		remark("unmet", "has no use without if, atMost or exclusive")
	}
	if t.If != nil && !strings.Contains(t.If.String(), `"maxAge"`) {
		remark("if", "has no maxAge: it holds of a state that may have been reported long ago")
	}
	return list
}

// lintOverlap tells of effects of which one is a part of another: which of the two
// values a rollback brings back depends on their order.
func lintOverlap(t *Type, remark func(field, format string, args ...any)) {
	for i, e := range t.Effects {
		for _, other := range t.Effects {
			if strings.HasPrefix(e.Path, other.Path+".") {
				remark(fmt.Sprintf("effects.%d.path", i), "%s is a part of %s, which is an effect too; declare the whole or its parts", e.Path, other.Path)
			}
		}
	}
}

func lintSchema(t *Type, remark func(field, format string, args ...any)) {
	if len(t.Params) == 0 {
		remark("params", "has no schema: every parameter is let through")
		return
	}
	var schema struct {
		Properties           map[string]json.RawMessage
		AdditionalProperties json.RawMessage `json:"additionalProperties"`
	}
	if json.Unmarshal(t.Params, &schema) != nil {
		return // true or false
	}
	if string(schema.AdditionalProperties) != "false" {
		remark("params.additionalProperties", "is not false: a misspelt parameter is let through")
	}
	for i, e := range t.Effects {
		name, _, _ := strings.Cut(e.Param, ".")
		if _, ok := schema.Properties[name]; e.Param != "" && !ok {
			remark("effects."+strconv.Itoa(i)+".param", "%q is no property of params", e.Param)
		}
	}
}
