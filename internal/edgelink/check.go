package edgelink

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/near"
	"github.com/wilco-iot/wilco/internal/spjson"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/host"
	"github.com/wilco-iot/wilco/sparkplug/session"
	"github.com/wilco-iot/wilco/wire"
	"github.com/wilco-iot/wilco/wire/state"
)

// The commands of a Sparkplug device. Stored; never change.
const (
	Write   = "sparkplug.write"   // params: {"metrics": {NAME: VALUE, ...}}
	Rebirth = "sparkplug.rebirth" // of an edge node; no params
)

// commands are those that an edge node knows, or a device behind one.
func commands(device string) []string {
	if device != "" {
		return []string{Write}
	}
	return []string{Write, Rebirth}
}

// MaxMetrics is how many metrics one command writes at most.
const MaxMetrics = 100

// Check says what is wrong with a command for a device of the profile sparkplug,
// before it is made: its name, its params and, where a birth is in force, its metrics
// and their values. The error is a *fault.Error that names the field.
func (l *Link) Check(a wire.Address, name string, params json.RawMessage) error {
	if l.opt.Passive {
		return &fault.Error{Code: fault.Conflict, Message: "this server is a passive Sparkplug host and writes nothing",
			Cure: "set sparkplug.role of the server to active or primary"}
	}
	edge, device, _ := fleet.EdgeOf(a)
	id := host.NodeID{Group: a.Group, Node: edge}
	u, online := l.opt.Host.Unit(id, device)
	if !online {
		u = nil // another birth comes first
	}
	_, err := writes(a, name, params, u, l.definitions(id, u))
	return err
}

// Effects are what a command changes of its device's reported state, each by the
// parameter that sets it; nil when that is not known because one of its metrics is not
// reported. The command has passed Check.
func (l *Link) Effects(name string, params json.RawMessage) (list []command.PathEffect) {
	var p writeParams
	if name != Write || json.Unmarshal(params, &p) != nil {
		return nil
	}
	for _, metric := range slices.Sorted(maps.Keys(p.Metrics)) {
		path := pathOf(metric)
		if path == nil || !wanted(metric, l.opt.Reported) {
			return nil
		}
		list = append(list, command.PathEffect{Path: state.JoinPath(path...), Param: state.JoinPath("metrics", metric)})
	}
	return list
}

// writeParams are the params of Write.
type writeParams struct {
	Metrics map[string]json.RawMessage `json:"metrics"`
}

// definitions are those that the templates of a unit may be of: its own, or those of
// its node [tck-id-payloads-template-definition-nbirth].
func (l *Link) definitions(id host.NodeID, u *session.Unit) spjson.Definitions {
	return func(ref string) *sparkplug.Template {
		if t := u.Template(ref); t != nil {
			return t
		}
		if own, _ := l.opt.Host.Unit(id, ""); own != nil {
			return own.Template(ref)
		}
		return nil
	}
}

// writes reads what a command asks of the metrics of a unit; with none, only that it
// can be read.
func writes(a wire.Address, name string, params json.RawMessage, u *session.Unit, definitions spjson.Definitions) ([]sparkplug.Metric, error) {
	_, device, _ := fleet.EdgeOf(a)
	switch {
	case name == Rebirth && device != "":
		return nil, fault.Field("name", "births are asked of an edge node: send %s to %s", Rebirth, strings.TrimSuffix(a.String(), ":"+device))
	case name == Rebirth:
		if text := strings.TrimSpace(string(params)); text != "" && text != "{}" && text != "null" {
			return nil, fault.Field("params", "%s takes none", Rebirth)
		}
		return nil, nil
	case name != Write:
		return nil, fault.Field("name", "%s is a Sparkplug device, which takes %s and %s only", a, Write, Rebirth)
	}
	var p writeParams
	d := json.NewDecoder(strings.NewReader(string(params)))
	d.DisallowUnknownFields()
	switch err := d.Decode(&p); {
	case err != nil:
		return nil, fault.Field("params", `must be {"metrics": {"NAME": VALUE, ...}}`)
	case len(p.Metrics) == 0:
		return nil, fault.Field("params.metrics", `names no metric; write {"metrics": {"NAME": VALUE, ...}}`)
	case len(p.Metrics) > MaxMetrics:
		return nil, fault.Field("params.metrics", "%d metrics; at most %d in one command", len(p.Metrics), MaxMetrics)
	}
	if _, asks := p.Metrics[sparkplug.MetricRebirth]; asks {
		return nil, fault.Field("params.metrics", "births are asked for by the command %s", Rebirth)
	}
	if u == nil {
		return nil, nil
	}
	list := make([]sparkplug.Metric, 0, len(p.Metrics))
	for _, metric := range slices.Sorted(maps.Keys(p.Metrics)) {
		m, err := write(a, metric, p.Metrics[metric], u, definitions)
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

func write(a wire.Address, metric string, value json.RawMessage, u *session.Unit, definitions spjson.Definitions) (sparkplug.Metric, error) {
	field := "params.metrics." + metric
	d := u.Find(metric)
	if d == nil {
		like := ""
		if list := near.Names(metric, names(u)); len(list) > 0 {
			like = "; did you mean " + strings.Join(list, " or ") + "?"
		}
		return sparkplug.Metric{}, fault.Field(field, "the birth of %s has no such metric%s", a, like)
	}
	if t := u.Template(metric); t != nil {
		return sparkplug.Metric{}, fault.Field(field, "is the definition of a template, which has no value to write")
	}
	m, err := spjson.Parse(value, d.Datatype, definitions)
	if err != nil {
		return m, fault.Field(field, "%v", err)
	}
	m.Name = []byte(d.Name)
	return m, nil
}

func names(u *session.Unit) []string {
	list := make([]string, len(u.Metrics))
	for i := range u.Metrics {
		list[i] = u.Metrics[i].Name
	}
	return list
}

// text is an error with its field, for those who read it in a timeline.
func text(err error) string {
	var f *fault.Error
	if errors.As(err, &f) && f.Field != "" {
		return f.Field + ": " + f.Message
	}
	return err.Error()
}
