package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"runtime"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/session"
)

// sparkplugTraffic is what each edge node says: an NBIRTH, and then the 256
// messages of a round of sequence numbers, again and again.
type sparkplugTraffic struct {
	birth []byte
	data  [256][]byte
}

// sparkplugTime is when all of it was said.
const sparkplugTime = 1_767_225_600_000

func newSparkplugTraffic(metrics int) (*sparkplugTraffic, error) {
	p := sparkplug.Payload{
		Timestamp: sparkplugTime, HasTimestamp: true, HasSeq: true, Seq: sparkplug.MaxSeq,
		Metrics: []sparkplug.Metric{sparkplug.BdSeqMetric(0, sparkplugTime), sparkplug.RebirthMetric(false, sparkplugTime)},
	}
	own := len(p.Metrics)
	for i := range metrics {
		x, err := sparkplug.NewFloat(sparkplug.TypeDouble, 20+float64(i)/3)
		if err != nil {
			return nil, err
		}
		p.Metrics = append(p.Metrics, sparkplug.Metric{
			Name: fmt.Appendf(nil, "line-1/press-042/temperature-%d", i), Alias: uint64(i + 1), HasAlias: true,
			Datatype: sparkplug.TypeDouble, Value: x, Timestamp: sparkplugTime, HasTimestamp: true,
		})
	}
	t := &sparkplugTraffic{birth: p.Append(nil)}
	p.Metrics = p.Metrics[own:]
	for i := range p.Metrics {
		p.Metrics[i].Name, p.Metrics[i].Datatype = nil, 0
	}
	for i := range t.data {
		p.Seq, p.Timestamp = uint64(i), sparkplugTime+uint64(i)
		t.data[i] = p.Append(nil)
	}
	return t, nil
}

// pureFor is how long the pure path is measured.
const pureFor = 2 * time.Second

// pure measures the path of a message without a network, on one thread: its
// order, its bytes, the names of its values, and the values.
func (t *sparkplugTraffic) pure(ctx context.Context, o SparkplugOptions, r *SparkplugReport) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var cfg session.Config
	var out session.Actions
	now := time.UnixMilli(sparkplugTime)
	nodes := make([]*session.Node, o.Nodes)
	for i := range nodes {
		nodes[i] = session.New(&cfg)
		nodes[i].Receive(session.Message{Type: sparkplug.NBirth, Payload: t.birth}, now, &out)
		out.Reset()
	}
	used, err := threadCPU()
	if err != nil {
		return err
	}
	sent, values, sum := 0, 0, 0.0
	for begin, i := time.Now(), 0; time.Since(begin) < pureFor && ctx.Err() == nil; i++ {
		data := t.data[place(i, o.late())%len(t.data)]
		for _, n := range nodes {
			n.Receive(session.Message{Type: sparkplug.NData, Payload: data}, now, &out)
			for k := range out.Events {
				for _, v := range out.Events[k].Values {
					x, err := v.Raw.Value.Float(v.Metric.Datatype)
					if err != nil {
						return err
					}
					sum += x
					values++
				}
			}
			out.Reset()
			sent++
		}
	}
	after, err := threadCPU()
	if err != nil {
		return err
	}
	// A message of each node may still be held.
	if values < (sent-len(nodes))*o.Metrics || sum <= 0 {
		return fmt.Errorf("%d messages of %d metrics gave %d values", sent, o.Metrics, values)
	}
	if after > used {
		r.PurePerSecond = float64(sent) / (after - used)
		r.PureCPUPerMillion = (after - used) / float64(sent) * 1e6
	}
	return ctx.Err()
}

// sparkplugEdges are edge nodes behind one connection. One goroutine publishes,
// on a thread of its own.
type sparkplugEdges struct {
	b      *sparkplugBench
	link   *link
	topics []string    // of NDATA
	heads  [][2][]byte // of data with a number below 128, and from there
	more   chan struct{}
	cpu    float64 // of the thread, when publish has returned
}

func (b *sparkplugBench) newEdges(ctx context.Context, number int) (*sparkplugEdges, error) {
	u, err := url.Parse(b.o.URL)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	e := &sparkplugEdges{b: b, more: make(chan struct{}, 1)}
	e.link = &link{nc: nc, id: fmt.Sprintf("bench-edges-%d", number), version: mqtt.V5, in: make([]byte, 4096)}
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	defer stop()
	connect, err := (&mqtt.Connect{Version: mqtt.V5, ClientID: e.link.id, CleanStart: true}).Append(nil, mqtt.V5)
	if err == nil {
		err = e.link.ask(connect, &e.link.connack)
	}
	if err == nil && e.link.connack.Reason.Failed() {
		err = errors.New(e.link.connack.Reason.String())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect %s: %w", e.link.id, err), nc.Close())
	}
	for i := number; i < b.o.Nodes; i += sparkplugLinks {
		topic := sparkplug.Topic{Type: sparkplug.NData, Group: "bench", Node: fmt.Sprintf("node-%d", i)}.String()
		low, err := e.head(topic, b.traffic.data[0])
		high, err2 := e.head(topic, b.traffic.data[sparkplug.MaxSeq])
		if err := errors.Join(err, err2); err != nil {
			return nil, err
		}
		e.topics, e.heads = append(e.topics, topic), append(e.heads, [2][]byte{low, high})
	}
	return e, nil
}

// head is what stands before a payload, by the length of which there are two:
// numbers from 128 take a byte more.
func (e *sparkplugEdges) head(topic string, data []byte) ([]byte, error) {
	whole, err := (&mqtt.Publish{Topic: []byte(topic), Payload: data}).Append(nil, mqtt.V5)
	if err != nil {
		return nil, err
	}
	return whole[:len(whole)-len(data)], nil
}

func (e *sparkplugEdges) births() error {
	for _, topic := range e.topics {
		nbirth, err := sparkplug.ParseTopic(topic)
		if err != nil {
			return err
		}
		nbirth.Type = sparkplug.NBirth
		head, err := e.head(nbirth.String(), e.b.traffic.birth)
		if err != nil {
			return err
		}
		if _, err := e.link.nc.Write(append(head, e.b.traffic.birth...)); err != nil {
			return err
		}
	}
	return nil
}

// publish sends data of all nodes by turns until the measurement is over, and no
// number is left out.
func (e *sparkplugEdges) publish() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	used, err := threadCPU()
	if err != nil {
		return err
	}
	err = e.rounds()
	if errors.Is(err, errStalled) {
		err = nil // the report says what is lost
	}
	after, err2 := threadCPU()
	e.cpu = after - used
	return errors.Join(err, err2)
}

func (e *sparkplugEdges) rounds() error {
	late, data, n := e.b.o.late(), &e.b.traffic.data, int64(0)
	for i := 0; late > 0 && i%late == 1 || !isClosed(e.b.over); i++ {
		seq := place(i, late) % len(data)
		for k := range e.topics {
			e.link.out = append(append(e.link.out, e.heads[k][seq>>7]...), data[seq]...)
			if n++; len(e.link.out) >= writeSize || k == len(e.topics)-1 {
				if err := e.write(n); err != nil {
					return err
				}
				n = 0
			}
		}
	}
	return nil
}

// errStalled says that so many messages are lost that no more may be under way.
var errStalled = errors.New("messages are lost")

// write sends the n messages that have gathered, when not too many are under way.
func (e *sparkplugEdges) write(n int64) error {
	for e.b.sent.Load()-e.b.taken.Load() > sparkplugLead {
		select {
		case <-e.more:
		case <-time.After(sparkplugQuiet):
			return errStalled
		}
	}
	e.b.sent.Add(n)
	return e.link.flush()
}
