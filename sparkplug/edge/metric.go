package edge

import (
	"context"
	"fmt"
	"time"

	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/edge/internal/node"
)

// WriteFunc does what a command asks of a metric. want has the metric's name and
// datatype, and a value that fits or Null. Of a template it has the members that the
// command names, which need not be all, each with its datatype. What it returns is
// the value of the metric from then on; members that it leaves out stay as they are.
// Only the value, Null, Timestamp and Properties count. With an error the metric
// stays as it is. ctx ends when Run is to end.
type WriteFunc func(ctx context.Context, want sparkplug.Metric) (sparkplug.Metric, error)

// Metric is a metric as it is declared: name, datatype and first value, and what
// else is to be in its births (properties, meta data, is_transient). Without a
// value it is null until the first sample. The definition of a template is a
// metric of the edge node. The first value of a template has all its members.
type Metric struct {
	sparkplug.Metric
	Write WriteFunc // nil: commands for it are refused
}

// Go is a Go type that is a datatype of Sparkplug: Boolean, Int8 to UInt64,
// Float, Double, String and DateTime.
type Go interface {
	bool | int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64 | float32 | float64 | string | time.Time
}

// Sample is a metric of that name and value, with the datatype of its Go type.
// Nothing else is set. A time before 1970, which a DateTime cannot be, is null.
func Sample[T Go](name string, x T) sparkplug.Metric {
	m := sparkplug.Metric{Name: []byte(name)}
	switch x := any(x).(type) {
	case bool:
		m.Datatype, m.Value = sparkplug.TypeBoolean, sparkplug.NewBool(x)
	case int8:
		m = integer(m, sparkplug.TypeInt8, int64(x))
	case int16:
		m = integer(m, sparkplug.TypeInt16, int64(x))
	case int32:
		m = integer(m, sparkplug.TypeInt32, int64(x))
	case int64:
		m = integer(m, sparkplug.TypeInt64, x)
	case uint8:
		m = integer(m, sparkplug.TypeUInt8, int64(x))
	case uint16:
		m = integer(m, sparkplug.TypeUInt16, int64(x))
	case uint32:
		m = integer(m, sparkplug.TypeUInt32, int64(x))
	case uint64:
		m.Datatype = sparkplug.TypeUInt64
		m.Value, _ = sparkplug.NewUint(m.Datatype, x)
	case float32:
		m.Datatype = sparkplug.TypeFloat
		m.Value, _ = sparkplug.NewFloat(m.Datatype, float64(x))
	case float64:
		m.Datatype = sparkplug.TypeDouble
		m.Value, _ = sparkplug.NewFloat(m.Datatype, x)
	case string:
		m.Datatype, m.Value = sparkplug.TypeString, sparkplug.NewText([]byte(x))
	case time.Time:
		var err error
		m.Datatype = sparkplug.TypeDateTime
		m.Value, err = sparkplug.NewTime(x)
		m.Null = err != nil
	}
	return m
}

// integer has no error: x is of a Go type of the width of d.
func integer(m sparkplug.Metric, d sparkplug.Datatype, x int64) sparkplug.Metric {
	m.Datatype = d
	m.Value, _ = sparkplug.NewInt(d, x)
	return m
}

// Get is the value of m as T. It is an error that m is null, or is of a datatype
// that is not T's.
func Get[T Go](m *sparkplug.Metric) (x T, err error) {
	if m.Null {
		return x, fmt.Errorf("%s is null", m.Name)
	}
	var zero T
	if want := Sample("", zero).Datatype; m.Datatype != want {
		return x, fmt.Errorf("%s is %s, not %s", m.Name, m.Datatype, want)
	}
	switch p := any(&x).(type) {
	case *bool:
		*p, err = m.Value.Bool()
	case *int8:
		*p, err = narrow[int8](m.Value.Int(m.Datatype))
	case *int16:
		*p, err = narrow[int16](m.Value.Int(m.Datatype))
	case *int32:
		*p, err = narrow[int32](m.Value.Int(m.Datatype))
	case *int64:
		*p, err = m.Value.Int(m.Datatype)
	case *uint8:
		*p, err = narrow[uint8](m.Value.Uint(m.Datatype))
	case *uint16:
		*p, err = narrow[uint16](m.Value.Uint(m.Datatype))
	case *uint32:
		*p, err = narrow[uint32](m.Value.Uint(m.Datatype))
	case *uint64:
		*p, err = m.Value.Uint(m.Datatype)
	case *float32:
		*p, err = narrow[float32](m.Value.Float(m.Datatype))
	case *float64:
		*p, err = m.Value.Float(m.Datatype)
	case *string:
		var b []byte
		b, err = m.Value.Text()
		*p = string(b)
	case *time.Time:
		*p, err = m.Value.Time()
	}
	return x, err
}

// narrow loses nothing: the readers of Value keep to the width of the datatype.
func narrow[T, W int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64 | float32 | float64](x W, err error) (T, error) {
	return T(x), err
}

// Readable declares a metric that commands cannot write.
func Readable[T Go](name string, first T) Metric { return Metric{Metric: Sample(name, first)} }

// Writable declares a metric and what commands for it do. write returns the
// value that the metric has afterwards, which need not be the one that was
// asked for. A null is refused.
func Writable[T Go](name string, first T, write func(ctx context.Context, want T) (T, error)) Metric {
	return Metric{Metric: Sample(name, first), Write: func(ctx context.Context, want sparkplug.Metric) (sparkplug.Metric, error) {
		x, err := Get[T](&want)
		if err == nil {
			x, err = write(ctx, x)
		}
		return Sample(name, x), err
	}}
}

// Reboot declares Node Control/Reboot, a metric of the edge node; reboot is
// called when a command writes true.
func Reboot(reboot func(context.Context) error) Metric {
	return Writable(sparkplug.MetricReboot, false, func(ctx context.Context, ask bool) (bool, error) {
		if !ask {
			return false, nil
		}
		return false, reboot(ctx)
	})
}

// ScanRate declares Node Control/Scan Rate, a metric of the edge node, in whole
// milliseconds; change is called with what a command asks for, which is above 0.
func ScanRate(first time.Duration, change func(context.Context, time.Duration) error) Metric {
	return Writable(sparkplug.MetricScanRate, first.Milliseconds(), func(ctx context.Context, ms int64) (int64, error) {
		const most = int64(1<<63-1) / int64(time.Millisecond)
		if ms <= 0 || ms > most {
			return 0, fmt.Errorf("a scan rate of %d ms", ms)
		}
		return ms, change(ctx, time.Duration(ms)*time.Millisecond)
	})
}

// WithQuality is m with the property Quality: sparkplug.QualityGood, QualityBad
// or QualityStale. A later sample without properties is good again.
func WithQuality(m sparkplug.Metric, quality int) sparkplug.Metric {
	m.Properties = node.WithQuality(m.Properties, int64(quality))
	return m
}

// Device is something behind the edge node that is born and dies by itself.
type Device struct {
	Name    string
	Metrics []Metric
	Down    bool // it is known, but not there yet: SetDevice says when it is
}

// split gives the core what it needs to know of metrics, and the handlers.
func split(metrics []Metric) ([]node.Metric, map[string]WriteFunc) {
	list, writers := make([]node.Metric, len(metrics)), map[string]WriteFunc{}
	for i, m := range metrics {
		list[i] = node.Metric{Metric: m.Metric, Writable: m.Write != nil}
		if m.Write != nil {
			writers[string(m.Name)] = m.Write
		}
	}
	return list, writers
}
