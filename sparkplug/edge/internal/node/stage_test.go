package node

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/sparkplug"
)

var rewrite = flag.Bool("rewrite", false, "write what came out into the scripts and goldens")

// stage is a node with what stands around it: a connection that can be blocked,
// and a strict host that reads every message.
type stage struct {
	t       fataler
	c       *Core
	now     time.Time
	host    *host
	blocked bool
	take    int // messages that publish still takes; negative: any number
	taken   int // not yet written
	lines   []string
	cfg     Config
	file    map[uint64]Record // what Records has said
}

// fataler is what the stage needs of a test, and rapid's tests have too.
type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

var start = time.UnixMilli(1_000_000)

// newStage has a node with one device, press, that is there.
func newStage(t fataler, cfg Config) *stage {
	t.Helper()
	cfg.Group, cfg.Node = "G", "N"
	if cfg.History == 0 {
		cfg.History = 100
	}
	c, err := New(cfg, nodeMetrics())
	if err != nil {
		t.Fatal(err)
	}
	st := &stage{t: t, c: c, now: start, take: -1, cfg: cfg, file: map[uint64]Record{}}
	st.host = newHost(st)
	if err := c.AddDevice("press", deviceMetrics(), true); err != nil {
		t.Fatal(err)
	}
	return st
}

func nodeMetrics() []Metric {
	return []Metric{
		{Metric: metricOf("temp", sparkplug.TypeDouble, "20")},
		{Metric: metricOf("mode", sparkplug.TypeInt32, "1"), Writable: true},
		{Metric: transient(metricOf("note", sparkplug.TypeString, "-"))},
	}
}

func deviceMetrics() []Metric {
	return []Metric{
		{Metric: metricOf("force", sparkplug.TypeInt16, "null")},
		{Metric: metricOf("goal", sparkplug.TypeUInt32, "5"), Writable: true},
	}
}

func transient(m sparkplug.Metric) sparkplug.Metric {
	m.Transient = true
	return m
}

// metricOf makes a metric out of text.
func metricOf(name string, d sparkplug.Datatype, text string) sparkplug.Metric {
	m := sparkplug.Metric{Name: []byte(name), Datatype: d}
	if text == "null" {
		m.Null = true
		return m
	}
	x, err := strconv.ParseFloat(text, 64)
	switch d {
	case sparkplug.TypeString:
		m.Value, err = sparkplug.NewText([]byte(text)), nil
	case sparkplug.TypeBoolean:
		m.Value, err = sparkplug.NewBool(text == "true"), nil
	case sparkplug.TypeDouble, sparkplug.TypeFloat:
		m.Value, _ = sparkplug.NewFloat(d, x)
	default:
		if err == nil {
			m.Value, err = sparkplug.NewInt(d, int64(x))
		}
	}
	if err != nil {
		panic(fmt.Sprintf("%s=%s: %v", name, text, err))
	}
	return m
}

var types = map[string]sparkplug.Datatype{
	"temp": sparkplug.TypeDouble, "mode": sparkplug.TypeInt32, "note": sparkplug.TypeString,
	"force": sparkplug.TypeInt16, "goal": sparkplug.TypeUInt32,
	sparkplug.MetricRebirth: sparkplug.TypeBoolean, sparkplug.MetricNextServer: sparkplug.TypeBoolean,
}

// textOf is the value of a metric in words.
func textOf(m *sparkplug.Metric, d sparkplug.Datatype) string {
	if m.Null {
		return "null"
	}
	switch d {
	case sparkplug.TypeDouble, sparkplug.TypeFloat:
		x, err := m.Value.Float(d)
		return said(x, err)
	case sparkplug.TypeString:
		x, err := m.Value.Text()
		return said(string(x), err)
	case sparkplug.TypeBoolean:
		x, err := m.Value.Bool()
		return said(x, err)
	case sparkplug.TypeUInt32, sparkplug.TypeUInt64:
		x, err := m.Value.Uint(d)
		return said(x, err)
	}
	x, err := m.Value.Int(d)
	return said(x, err)
}

func said[T any](x T, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(x)
}

var errFull = errors.New("full")

// publish is the connection: it decodes what it takes, and gives it to the host.
func (st *stage) publish(m sparkplug.Message) error {
	if st.blocked || st.take == 0 {
		return errFull
	}
	st.take--
	st.taken++
	st.host.read(m)
	return nil
}

func (st *stage) say(format string, args ...any) {
	st.lines = append(st.lines, strings.TrimRight("    "+fmt.Sprintf(format, args...), " "))
}

// flush sends what is due and tells the actions.
func (st *stage) flush() {
	_ = st.c.Send(st.now, st.publish)
	for _, a := range st.c.Actions() {
		s := a.Kind.String()
		if a.Device != "" {
			s += " " + a.Device
		}
		switch a.Kind {
		case Write:
			s += fmt.Sprintf(" %s=%s", a.Metric.Name, textOf(&a.Metric, a.Metric.Datatype))
		case Refused:
			s += fmt.Sprintf(" %d: %v", a.Count, a.Err)
		case Unfit:
			s += fmt.Sprintf(": %v", a.Err)
		case Disconnect:
			s += fmt.Sprintf(": %s, death=%v", a.Reason, a.Death)
		}
		st.say("%s", s)
	}
}

// keep writes down what Records says.
func (st *stage) keep(flight bool) {
	for _, r := range st.c.Records(flight) {
		_, is := st.file[r.Number]
		if is != r.Done {
			st.t.Fatalf("sample %d is in the file: %v; record %+v", r.Number, is, r)
		}
		if r.Done {
			delete(st.file, r.Number)
		} else {
			st.file[r.Number] = r
		}
	}
}

// restart is another process with the same declarations, which has the file.
func (st *stage) restart() {
	st.keep(true)
	waiting := st.c.Waiting()
	for _, r := range waiting {
		if _, ok := st.file[r.Number]; !ok {
			st.t.Fatalf("sample %d waits, and is not in the file", r.Number)
		}
	}
	if len(waiting) != len(st.file) {
		st.t.Fatalf("%d samples wait, %d are in the file", len(waiting), len(st.file))
	}
	old := st.c
	var err error
	if st.c, err = New(st.cfg, nodeMetrics()); err != nil {
		st.t.Fatal(err)
	}
	st.c.Restore(waiting)
	for _, s := range old.order {
		if old.devices[s.device] != s {
			continue
		}
		if err := st.c.AddDevice(s.device, deviceMetrics(), s.up); err != nil {
			st.t.Fatal(err)
		}
	}
	st.host.lost()
	st.taken = 0
}

// args are the key=value words of a step.
func parse(words []string) (plain []string, pairs [][2]string) {
	for _, w := range words {
		if k, v, ok := strings.Cut(w, "="); ok {
			pairs = append(pairs, [2]string{strings.ReplaceAll(k, "_", " "), v})
		} else {
			plain = append(plain, w)
		}
	}
	return plain, pairs
}

func number(pairs [][2]string, key string) int {
	for _, p := range pairs {
		if p[0] == key {
			n, _ := strconv.Atoi(p[1])
			return n
		}
	}
	return 0
}

// step is one line of a script.
func (st *stage) step(line string) {
	words := strings.Fields(line)
	plain, pairs := parse(words[1:])
	var err error
	switch words[0] {
	case "connecting":
		will := st.c.Connecting(uint8(number(pairs, "bdseq")), st.now)
		st.host.connect(will)
	case "connected":
		st.c.Connected(number(pairs, "limit"), st.now)
	case "disconnected":
		st.c.Disconnected()
		st.host.lost()
		st.taken = 0
	case "state":
		st.c.Host("scada", hostWord(plain[0], number(pairs, "t")))
	case "foreign":
		st.c.Host("other", hostWord(plain[0], number(pairs, "t")))
	case "command":
		device := ""
		if len(plain) > 0 {
			device = plain[0]
		}
		st.c.Command(device, command(pairs), st.now)
	case "update":
		device := ""
		if len(plain) > 0 {
			device = plain[0]
		}
		err = st.c.Update(device, st.samples(pairs), st.now)
	case "wrote":
		err = st.c.Wrote("", st.samples(pairs)[0], st.now)
	case "device":
		switch plain[1] {
		case "add":
			err = st.c.AddDevice(plain[0], deviceMetrics(), true)
		case "remove":
			err = st.c.RemoveDevice(plain[0])
		default:
			err = st.c.SetDevice(plain[0], plain[1] == "up")
		}
	case "restart":
		st.restart()
	case "block":
		st.blocked = true
	case "unblock":
		st.blocked = false
	case "take":
		st.take, _ = strconv.Atoi(plain[0])
	case "written":
		for ; st.taken > 0; st.taken-- {
			st.c.Written()
		}
		st.host.written()
	case "wait":
		d, err := time.ParseDuration(plain[0])
		if err != nil {
			st.t.Fatal(err)
		}
		st.now = st.now.Add(d)
		st.c.Tick(st.now)
	case "resync":
		st.c.Resync(st.now)
	case "leave":
		st.c.Leave(Stopped)
	case "flush":
	default:
		st.t.Fatalf("no such step: %s", line)
	}
	if err != nil {
		st.say("error: %v", err)
	}
	st.flush()
	st.keep(false)
}

func hostWord(word string, t int) sparkplug.HostState {
	switch word {
	case "ONLINE", "OFFLINE":
		return sparkplug.HostState{Online: word == "ONLINE", Legacy: true}
	}
	return sparkplug.HostState{Online: word == "online", Timestamp: uint64(t)}
}

// samples are name=value; t=, past= and quality= count for all of them.
func (st *stage) samples(pairs [][2]string) (list []sparkplug.Metric) {
	for _, p := range pairs {
		switch p[0] {
		case "t", "past", "quality":
			continue
		}
		d, ok := types[p[0]]
		if !ok {
			d = sparkplug.TypeInt32
		}
		m := metricOf(p[0], d, p[1])
		if t := number(pairs, "t"); t > 0 {
			m.Timestamp, m.HasTimestamp = uint64(t), true
		}
		m.Historical = number(pairs, "past") > 0
		if q := number(pairs, "quality"); q > 0 {
			m.Properties = WithQuality(nil, int64(q))
		}
		list = append(list, m)
	}
	return list
}

// command is name=value, #alias=value, or name#alias=value; with ! before the
// value the datatype is left out.
func command(pairs [][2]string) *sparkplug.Payload {
	p := &sparkplug.Payload{Seq: 77, HasSeq: true}
	for _, kv := range pairs {
		name, alias, aliased := strings.Cut(kv[0], "#")
		text, bare := strings.CutPrefix(kv[1], "!")
		d, ok := types[name]
		if !ok {
			d = sparkplug.TypeInt32
		}
		if x, y, ok := strings.Cut(text, ":"); ok {
			d, _ = sparkplug.ParseDatatype(x)
			text = y
		}
		m := metricOf(name, d, text)
		if bare {
			m.Datatype = 0
		}
		if aliased {
			m.HasAlias = true
			m.Alias, _ = strconv.ParseUint(alias, 10, 64)
			if name == "" {
				m.Name = nil
			}
		}
		p.Metrics = append(p.Metrics, m)
	}
	return p
}

// describe is a message in words.
func describe(t sparkplug.Topic, p *sparkplug.Payload, m sparkplug.Message, known map[uint64]*sparkplug.Metric) string {
	var b bytes.Buffer
	b.WriteString(t.Type.String())
	if t.Device != "" {
		b.WriteString(" " + t.Device)
	}
	if p.HasSeq {
		fmt.Fprintf(&b, " seq=%d", p.Seq)
	}
	if m.QoS != 0 {
		fmt.Fprintf(&b, " qos=%d", m.QoS)
	}
	for i := range p.Metrics {
		x := &p.Metrics[i]
		b.WriteByte(' ')
		b.WriteString(strings.ReplaceAll(string(x.Name), " ", "_"))
		d := x.Datatype
		if x.HasAlias {
			fmt.Fprintf(&b, "#%d", x.Alias)
			if k := known[x.Alias]; k != nil && d == 0 {
				d = k.Datatype
			}
		}
		if x.Datatype != 0 {
			b.WriteString(":" + x.Datatype.String())
		}
		if d == 0 {
			d = types[string(x.Name)]
		}
		b.WriteString("=" + textOf(x, d))
		if x.HasTimestamp && x.Timestamp != p.Timestamp {
			fmt.Fprintf(&b, "@%+d", int64(x.Timestamp)-int64(p.Timestamp))
		}
		if x.Historical {
			b.WriteString(" (past)")
		}
		if x.Transient {
			b.WriteString(" (transient)")
		}
		if v := x.Properties.Find(sparkplug.Quality); v != nil {
			q, _ := v.Value.Int(sparkplug.TypeInt32)
			fmt.Fprintf(&b, " (quality %d)", q)
		}
	}
	return b.String()
}
