package node

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/wilco-iot/wilco/sparkplug"
)

// pump is the definition of a template, and an instance of it.
func pump() (definition, instance Metric) {
	member := metricOf("rpm", sparkplug.TypeInt32, "0")
	definition = Metric{Metric: sparkplug.Metric{Name: []byte("Pump"), Datatype: sparkplug.TypeTemplate, Timestamp: 999, HasTimestamp: true,
		Template: &sparkplug.Template{Definition: true, Members: []sparkplug.Metric{member, metricOf("on", sparkplug.TypeBoolean, "false")}}}}
	instance = Metric{Metric: sparkplug.Metric{Name: []byte("p1"), Datatype: sparkplug.TypeTemplate,
		Template: &sparkplug.Template{Ref: []byte("Pump"), Members: []sparkplug.Metric{member, metricOf("on", sparkplug.TypeBoolean, "true")}}}}
	return definition, instance
}

// What cannot be in a birth is refused where it is declared.
// Shows [tck-id-payloads-template-definition-nbirth] [tck-id-payloads-template-definition-nbirth-only]
// [tck-id-payloads-template-instance-members-birth] [tck-id-topic-structure-namespace-unique-device-id].
func TestDeclarations(t *testing.T) {
	definition, instance := pump()
	part := Metric{Metric: instance.Clone()}
	part.Template.Members = part.Template.Members[:1]
	mode := Metric{Metric: metricOf("mode", sparkplug.TypeInt32, "1")}
	misfit := mode
	misfit.Datatype = sparkplug.TypeString
	tests := []struct {
		name         string
		node, device []Metric
		want         string
	}{
		{"instance before its definition", []Metric{instance, definition}, nil, ""},
		{"instance in a device", []Metric{definition}, []Metric{instance}, ""},
		{"no definition", nil, []Metric{instance}, ErrNoDefinition.Error()},
		{"definition in a device", nil, []Metric{definition}, "cannot define"},
		{"part of an instance", []Metric{definition, part}, nil, "member"},
		{"twice", []Metric{mode, mode}, nil, ErrDuplicate.Error()},
		{"node and device", []Metric{mode}, []Metric{mode}, ""},
		{"bdSeq", []Metric{{Metric: metricOf(sparkplug.MetricBdSeq, sparkplug.TypeInt32, "1")}}, nil, ErrReserved.Error()},
		{"rebirth", []Metric{{Metric: metricOf(sparkplug.MetricRebirth, sparkplug.TypeBoolean, "false")}}, nil, ErrReserved.Error()},
		{"bdSeq of a device", nil, []Metric{{Metric: metricOf(sparkplug.MetricBdSeq, sparkplug.TypeInt32, "1")}}, ""},
		{"misfit", []Metric{misfit}, nil, "mismatch"},
		{"no name", []Metric{{}}, nil, "without a name"},
		{"no datatype", []Metric{{Metric: sparkplug.Metric{Name: []byte("x")}}}, nil, "datatype"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := New(Config{Group: "G", Node: "N", History: 1}, tt.node)
			if err == nil {
				err = c.AddDevice("press", tt.device, true)
			}
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	for _, id := range []string{"", "a/b", "+", "#"} {
		if _, err := New(Config{Group: id, Node: "N"}, nil); err == nil {
			t.Errorf("group %q is taken", id)
		}
		if _, err := New(Config{Group: "G", Node: "N", PrimaryHost: id}, nil); err == nil && id != "" {
			t.Errorf("host %q is taken", id)
		}
		c, _ := New(Config{Group: "G", Node: "N"}, nil)
		if err := c.AddDevice(id, nil, true); err == nil {
			t.Errorf("device %q is taken", id)
		}
	}
}

// A template: its definition leads the NBIRTH whatever its time, instances are
// told whole, also when a sample has a part of them.
func TestTemplates(t *testing.T) {
	definition, instance := pump()
	c, err := New(Config{Group: "G", Node: "N", History: 10, Aliases: true}, []Metric{instance, definition})
	if err != nil {
		t.Fatal(err)
	}
	c.Connecting(1, start)
	c.Connected(0, start)
	var got []*sparkplug.Payload
	publish := func(m sparkplug.Message) error {
		p := new(sparkplug.Payload)
		if err := p.Decode(m.Payload, sparkplug.Limits{}); err != nil {
			t.Fatal(err)
		}
		topic, _ := sparkplug.ParseTopic(m.Topic)
		for v := range sparkplug.Violations(topic.Type, p) {
			t.Errorf("%s breaks %s (metric %d)", topic.Type, v.Statement, v.Metric)
		}
		got = append(got, p)
		return nil
	}
	if err := c.Send(start, publish); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || string(got[0].Metrics[0].Name) != "Pump" || got[0].Metrics[0].HasAlias {
		t.Fatalf("births: %+v", got)
	}
	next := instance.Clone()
	next.Template.Members[0] = metricOf("rpm", sparkplug.TypeInt32, "1500")
	if err := c.Update("", []sparkplug.Metric{next, next}, start); err != nil {
		t.Fatal(err)
	}
	part := instance.Clone()
	part.Template.Members = []sparkplug.Metric{metricOf("on", sparkplug.TypeBoolean, "false")}
	if err := c.Update("", []sparkplug.Metric{part, part}, start); err != nil {
		t.Fatal(err)
	}
	past := part.Clone()
	past.Historical = true
	if err := c.Update("", []sparkplug.Metric{past}, start); err != nil {
		t.Fatal(err)
	}
	wrong := part.Clone()
	wrong.Template.Members[0].Name = []byte("off")
	if err := c.Update("", []sparkplug.Metric{wrong}, start); err == nil {
		t.Error("a member is taken that the definition does not have")
	}
	wrong = instance.Clone()
	wrong.Template.Definition = true
	if err := c.Update("", []sparkplug.Metric{wrong}, start); err == nil {
		t.Error("an instance becomes a definition")
	}
	if err := c.Update("", []sparkplug.Metric{definition.Metric}, start); !errors.Is(err, ErrReadOnly) {
		t.Errorf("update of a definition: %v", err)
	}
	if err := c.Send(start, publish); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || len(got[1].Metrics) != 3 {
		t.Fatalf("data: %+v", got[1:])
	}
	data := got[1].Metrics
	if d := data[0].Template; textOf(d.Member([]byte("rpm")), sparkplug.TypeInt32) != "1500" || textOf(d.Member([]byte("on")), sparkplug.TypeBoolean) != "true" {
		t.Errorf("the whole: %+v", d)
	}
	if d := data[1].Template; textOf(d.Member([]byte("rpm")), sparkplug.TypeInt32) != "1500" || textOf(d.Member([]byte("on")), sparkplug.TypeBoolean) != "false" {
		t.Errorf("a part: %+v", d)
	}
	if d := data[2].Template; len(d.Members) != 1 || !data[2].Historical {
		t.Errorf("a part for the record: %+v", d)
	}
}

// A command may write a part of a template: who writes it is given that part, with
// the datatypes that the command leaves out, and what comes back is a part as well.
func TestWriteAPart(t *testing.T) {
	definition, instance := pump()
	instance.Writable = true
	c, err := New(Config{Group: "G", Node: "N", History: 10}, []Metric{definition})
	if err == nil {
		err = c.AddDevice("press", []Metric{instance}, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.Connecting(1, start)
	c.Connected(0, start)
	var last *sparkplug.Payload
	publish := func(m sparkplug.Message) error {
		last = new(sparkplug.Payload)
		return last.Decode(m.Payload, sparkplug.Limits{})
	}
	if err := c.Send(start, publish); err != nil {
		t.Fatal(err)
	}
	ask := func(change func(*sparkplug.Template)) []Action {
		m := sparkplug.Metric{Name: []byte("p1"), Template: &sparkplug.Template{Ref: []byte("Pump"),
			Members: []sparkplug.Metric{metricOf("rpm", 0, "null")}}}
		m.Template.Members[0].Null, m.Template.Members[0].Value = false, metricOf("", sparkplug.TypeInt32, "900").Value
		change(m.Template)
		c.Command("press", &sparkplug.Payload{Metrics: []sparkplug.Metric{m}}, start)
		return c.Actions()
	}
	got := ask(func(*sparkplug.Template) {})
	if len(got) != 1 || got[0].Kind != Write || len(got[0].Metric.Template.Members) != 1 || got[0].Metric.Template.Members[0].Datatype != sparkplug.TypeInt32 {
		t.Fatalf("%+v", got)
	}
	if err := c.Wrote("press", got[0].Metric, start); err != nil {
		t.Fatal(err)
	}
	if err := c.Send(start, publish); err != nil {
		t.Fatal(err)
	}
	if d := last.Metrics[0].Template; len(last.Metrics) != 1 || len(d.Members) != 2 || textOf(d.Member([]byte("rpm")), sparkplug.TypeInt32) != "900" {
		t.Errorf("told: %+v", d)
	}
	for name, change := range map[string]func(*sparkplug.Template){
		"another member":     func(t *sparkplug.Template) { t.Members[0].Name = []byte("speed") },
		"another value":      func(t *sparkplug.Template) { t.Members[0].Value = sparkplug.NewBool(true) },
		"another definition": func(t *sparkplug.Template) { t.Ref = []byte("Valve") },
		"a definition":       func(t *sparkplug.Template) { t.Definition = true },
	} {
		if got := ask(change); len(got) != 1 || got[0].Kind != Refused {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// DATA has the field that the birth had, whatever field the sample came in: some
// readers know one form of UInt32 only.
func TestForms(t *testing.T) {
	long := func(x int64) sparkplug.Metric {
		m := metricOf("goal", sparkplug.TypeUInt32, "0")
		v, _ := sparkplug.NewInt(sparkplug.TypeUInt32, x)
		m.Value = v.In(sparkplug.FormLong, sparkplug.TypeUInt32)
		return m
	}
	st := newStage(t, Config{})
	if err := st.c.AddDevice("tahu", []Metric{{Metric: long(1)}}, true); err != nil {
		t.Fatal(err)
	}
	st.host.setUp("tahu", true)
	st.step("connecting")
	st.step("connected")
	// The strict host compares the forms.
	st.step("update tahu goal=3")
	if err := st.c.Update("press", []sparkplug.Metric{long(4)}, st.now); err != nil {
		t.Fatal(err)
	}
	st.step("flush")
	st.step("wait 2s")
	st.step("command Node_Control/Rebirth=true")
	st.step("update tahu goal=5")
	if s := st.c.Stats(); s.Samples != 3 || s.Births != 2 {
		t.Errorf("%+v", s)
	}
}

// A stream with much to say does not keep the others waiting.
func TestTurns(t *testing.T) {
	st := newStage(t, Config{History: 10_000})
	st.step("connecting")
	st.step("connected")
	st.step("block")
	for i := range 3 * batch {
		if err := st.c.Update("", []sparkplug.Metric{metricOf("temp", sparkplug.TypeDouble, fmt.Sprint(i+100))}, st.now); err != nil {
			t.Fatal(err)
		}
	}
	st.step("update press goal=8")
	st.blocked, st.lines = false, nil
	st.step("flush")
	kinds := ""
	for _, l := range st.lines {
		kinds += " " + strings.Fields(l)[0]
	}
	if want := " NDATA DDATA NDATA NDATA"; kinds != want {
		t.Errorf("sent%s, want%s", kinds, want)
	}
}
