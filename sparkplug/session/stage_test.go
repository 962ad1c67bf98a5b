package session_test

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/session"
)

// stage is a node with a clock.
type stage struct {
	cfg   session.Config
	n     *session.Node
	now   time.Time
	out   session.Actions
	lines []string
}

var start = time.Unix(1_000_000, 0)

func newStage() *stage {
	st := &stage{now: start}
	st.cfg = session.Config{ReorderTimeout: 5 * time.Second, HeldBytes: 1000, Definitions: 20}
	st.n = session.New(&st.cfg)
	return st
}

func (st *stage) say(format string, args ...any) {
	st.lines = append(st.lines, strings.TrimRight("    "+fmt.Sprintf(format, args...), " "))
}

// step does one line of a script: a message type, with its device, or one of
// the words below.
func (st *stage) step(t *testing.T, words []string) {
	t.Helper()
	switch words[0] {
	case "config":
		st.config(t, words[1:])
		return
	case "wait":
		st.now = st.now.Add(duration(t, words[1]))
		return
	case "due":
		st.n.Due(st.now, &st.out)
	case "lost":
		st.n.Lost(st.now, &st.out)
	case "found":
		st.n.Found(st.now, &st.out)
	default:
		for range max(1, number(t, find(words, "times="))) {
			st.n.Receive(message(t, words), st.now, &st.out)
		}
	}
	for i, e := range st.out.Events {
		if i > 0 && show(e) == show(st.out.Events[i-1]) {
			continue
		}
		st.say("%s", show(e))
	}
	st.out.Reset()
	status := st.n.State().String()
	if held, bytes := st.n.Held(); held > 0 {
		status += fmt.Sprintf(", %d held (%d bytes)", held, bytes)
	}
	if d := st.n.Deadline(); !d.IsZero() {
		status += fmt.Sprintf(", due in %v", d.Sub(st.now))
	}
	st.say("= %s", status)
}

func (st *stage) config(t *testing.T, words []string) {
	for _, w := range words {
		k, v, _ := strings.Cut(w, "=")
		switch k {
		case "reorder": // [tck-id-operational-behavior-host-reordering-param]
			st.cfg.ReorderTimeout = duration(t, v)
		case "anydeath":
			st.cfg.AnyDeath = true
		case "ratio":
			st.cfg.Limits.Ratio = number(t, v)
		case "bytes":
			st.cfg.Limits.Bytes = number(t, v)
		case "held":
			st.cfg.HeldBytes = number(t, v)
		default:
			t.Fatalf("config %s", w)
		}
	}
}

func show(e session.Event) string {
	s := e.Kind.String()
	if e.Reason != session.NoReason {
		s += " " + e.Reason.String()
	}
	if e.Device != "" {
		s += " device=" + e.Device
	}
	switch e.Kind {
	case session.Gap:
		s += fmt.Sprintf(" seq=%d missing=%d", e.Seq, e.Missing)
	case session.Late:
		s += fmt.Sprintf(" seq=%d", e.Seq)
	case session.Malformed:
		if e.Metric >= 0 {
			s += fmt.Sprintf(" metric=%d", e.Metric)
		}
	case session.Data:
		s += fmt.Sprintf(" seq=%d", e.Seq)
	}
	for _, v := range e.Values {
		s += fmt.Sprintf(" %s=%s", v.Metric.Name, text(v))
	}
	if e.Err != nil {
		s += fmt.Sprintf(" (%v)", e.Err)
	}
	return s
}

func text(v session.Value) string {
	d := v.Datatype()
	s := "?"
	switch {
	case v.Raw.Null:
		s = "null"
	case v.Raw.Template != nil:
		s = fmt.Sprintf("template(%d)", len(v.Raw.Template.Members))
	case v.Raw.DataSet != nil:
		s = fmt.Sprintf("dataset(%d)", len(v.Raw.DataSet.Rows))
	default:
		if x, err := v.Raw.Value.Float(d); err == nil {
			s = fmt.Sprint(x)
		} else if x, err := v.Raw.Value.Int(d); err == nil {
			s = fmt.Sprint(x)
		} else if x, err := v.Raw.Value.Uint(d); err == nil {
			s = fmt.Sprint(x)
		} else if x, err := v.Raw.Value.Bool(); err == nil {
			s = fmt.Sprint(x)
		} else if x, err := v.Raw.Value.Text(); err == nil {
			s = fmt.Sprintf("%q", x)
		}
	}
	if v.Raw.Historical {
		s += "(historical)"
	}
	return s
}

// message makes what a node publishes:
//
//	nbirth seq=0 bdseq=1 ts=100 temp:1:Double=20.5
//	ddata dev seq=2 ts=101 :1:=21
//
// A metric is name:alias:datatype=value, each of them may be empty. "raw=" has a
// payload in hex or, with text=, in words.
func message(t *testing.T, words []string) session.Message {
	t.Helper()
	m := session.Message{Type: types[words[0]]}
	if m.Type == 0 {
		t.Fatalf("unknown step %v", words)
	}
	p := sparkplug.Payload{}
	algorithm := ""
	for i, w := range words[1:] {
		k, v, has := strings.Cut(w, "=")
		switch {
		case i == 0 && !has && words[0][0] == 'd':
			m.Device = w
		case k == "seq":
			p.Seq, p.HasSeq = uint64(number(t, v)), true
		case k == "ts":
			p.Timestamp, p.HasTimestamp = uint64(number(t, v)), true
		case k == "bdseq":
			b := sparkplug.BdSeqMetric(0, 0)
			b.HasTimestamp = false
			b.Value, _ = sparkplug.NewInt(sparkplug.TypeInt64, int64(number(t, v)))
			p.Metrics = append(p.Metrics, b)
		case k == "retained":
			m.Retained = true
		case k == "compressed":
			algorithm = v
		case k == "raw":
			m.Payload, _ = hex.DecodeString(v)
		case k == "text":
			m.Payload = []byte(v)
		case k == "times":
		case k == "template":
			p.Metrics = append(p.Metrics, template(t, v))
		default:
			p.Metrics = append(p.Metrics, metric(t, k, v, has))
		}
	}
	switch {
	case m.Payload != nil:
	case algorithm == "inside":
		// Sequence number and time are within the body only.
		full, err := p.AppendCompressed(nil, sparkplug.AlgorithmDeflate)
		if err != nil {
			t.Fatal(err)
		}
		var q sparkplug.Payload
		if err := q.Decode(full, sparkplug.Limits{}); err != nil {
			t.Fatal(err)
		}
		q.HasSeq, q.HasTimestamp = false, false
		m.Payload = q.Append(nil)
	case algorithm != "":
		var err error
		if m.Payload, err = p.AppendCompressed(nil, algorithm); err != nil {
			t.Fatal(err)
		}
	default:
		m.Payload = p.Append([]byte{})
	}
	return m
}

var types = map[string]sparkplug.MessageType{
	"nbirth": sparkplug.NBirth, "ndeath": sparkplug.NDeath, "ndata": sparkplug.NData, "ncmd": sparkplug.NCmd,
	"dbirth": sparkplug.DBirth, "ddeath": sparkplug.DDeath, "ddata": sparkplug.DData, "dcmd": sparkplug.DCmd,
}

func metric(t *testing.T, what, value string, has bool) sparkplug.Metric {
	t.Helper()
	part := strings.Split(what, ":")
	for len(part) < 3 {
		part = append(part, "")
	}
	m := sparkplug.Metric{}
	if part[0] == `""` {
		m.Name = []byte{}
	} else if part[0] != "" {
		m.Name = []byte(part[0])
	}
	if part[1] != "" {
		m.Alias, m.HasAlias = uint64(number(t, part[1])), true
	}
	form, historical := part[2], false
	if form, historical = strings.CutSuffix(form, "!"); historical {
		m.Historical = true
	}
	if name, in, ok := strings.Cut(form, "@"); ok {
		m.Datatype, _ = sparkplug.ParseDatatype(name)
		form = in
	} else if n, err := strconv.Atoi(form); err == nil {
		m.Datatype = sparkplug.Datatype(n)
	} else {
		m.Datatype, _ = sparkplug.ParseDatatype(form)
	}
	if !has {
		return m
	}
	number := func() int64 { n, _ := strconv.ParseInt(value, 0, 64); return n }
	switch form {
	case "null":
		m.Null = true
	case "Boolean":
		m.Value = sparkplug.NewBool(value == "true")
	case "String":
		m.Value = sparkplug.NewText([]byte(value))
	case "int":
		m.Value, _ = sparkplug.NewUint(sparkplug.TypeUInt32, uint64(number()))
	case "long":
		m.Value, _ = sparkplug.NewInt(sparkplug.TypeInt64, number())
	case "Int8", "Int16", "Int32", "Int64":
		m.Value, _ = sparkplug.NewInt(m.Datatype, number())
	default:
		x, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatal(err)
		}
		m.Value, _ = sparkplug.NewFloat(sparkplug.TypeDouble, x)
	}
	return m
}

// template makes a Template with members of type Double: "define,T,a,b" is the
// definition T, "use,x,T,a" the metric x, an instance of it.
func template(t *testing.T, v string) sparkplug.Metric {
	t.Helper()
	part := strings.Split(v, ",")
	m := sparkplug.Metric{Name: []byte(part[1]), Datatype: sparkplug.TypeTemplate, Template: &sparkplug.Template{}}
	members := part[2:]
	if part[0] == "define" {
		m.Template.Definition = true
	} else {
		m.Template.Ref = []byte(part[2])
		members = part[3:]
	}
	for _, name := range members {
		x, _ := sparkplug.NewFloat(sparkplug.TypeDouble, 1)
		m.Template.Members = append(m.Template.Members, sparkplug.Metric{Name: []byte(name), Datatype: sparkplug.TypeDouble, Value: x})
	}
	return m
}

func find(words []string, prefix string) string {
	for _, w := range words {
		if v, ok := strings.CutPrefix(w, prefix); ok {
			return v
		}
	}
	return "0"
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.ParseInt(s, 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

func duration(t *testing.T, s string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
