package spcommand

import (
	"bytes"
	"slices"

	"github.com/wilco-iot/wilco/sparkplug"
)

// write is one value that has to be seen: a metric's or, of a template, that of one
// member or parameter. A template is taken apart because DATA may have some of its
// members, and because two commands may write different ones.
type write struct {
	metric string
	name   string // for people: the metric, and after slashes what is in it
	path   []part // from the metric to the value; empty for the metric itself
	want   *sparkplug.Metric

	done    bool
	already bool   // it had the value before
	before  uint64 // time of the metric's value before, by the node's clock
}

// part is a step into a template.
type part struct {
	ref, name []byte
	parameter bool
}

// writesOf takes a command's metrics apart.
func writesOf(metrics []sparkplug.Metric) []write {
	list := make([]write, 0, len(metrics))
	for i := range metrics {
		name := string(metrics[i].Name)
		list = takeApart(list, write{metric: name, name: name, want: &metrics[i]})
	}
	return list
}

func takeApart(list []write, w write) []write {
	t := w.want.Template
	if w.want.Null || t == nil || len(t.Members)+len(t.Parameters) == 0 {
		return append(list, w)
	}
	into := func(name []byte, parameter bool, want *sparkplug.Metric) write {
		path := append(slices.Clip(w.path), part{t.Ref, name, parameter})
		return write{metric: w.metric, name: w.name + "/" + string(name), path: path, want: want}
	}
	for i := range t.Members {
		list = takeApart(list, into(t.Members[i].Name, false, &t.Members[i]))
	}
	for i := range t.Parameters {
		list = append(list, into(t.Parameters[i].Name, true, t.Parameters[i].Metric()))
	}
	return list
}

// in is what m, a value of the metric, says of w's part. ok is false when it says
// nothing of it. A metric that is no template of the kind any more has another value
// altogether, which is m itself.
func (w *write) in(m *sparkplug.Metric) (v *sparkplug.Metric, ok bool) {
	for _, p := range w.path {
		t := m.Template
		if m.Null || t == nil || !bytes.Equal(t.Ref, p.ref) {
			return m, true
		}
		if p.parameter {
			x := t.Parameter(p.name)
			if x == nil {
				return nil, false
			}
			return x.Metric(), true
		}
		if m = t.Member(p.name); m == nil {
			return nil, false
		}
	}
	return m, true
}

// clashes tells whether w and o cannot both come true: they are about the same value,
// or one about a whole template and the other about a part of it, and do not agree.
func (w *write) clashes(o *write) bool {
	if w.metric != o.metric {
		return false
	}
	n := min(len(w.path), len(o.path))
	for i := range n {
		a, b := w.path[i], o.path[i]
		if !bytes.Equal(a.ref, b.ref) {
			return true
		}
		if a.parameter != b.parameter || !bytes.Equal(a.name, b.name) {
			return false
		}
	}
	return len(w.path) != len(o.path) || !w.want.Holds(o.want, 0)
}
