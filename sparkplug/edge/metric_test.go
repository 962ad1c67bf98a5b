package edge_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/edge"
)

// same tells whether a value survives the way there and back, and has a datatype
// that fits it.
func same[T edge.Go](t *testing.T, d sparkplug.Datatype, list ...T) {
	t.Helper()
	for _, x := range list {
		m := edge.Sample("x", x)
		if err := m.Check(0); m.Datatype != d || err != nil {
			t.Errorf("%T %v: %s, %v", x, x, m.Datatype, err)
		}
		if y, err := edge.Get[T](&m); y != x || err != nil {
			t.Errorf("%T %v comes back as %v, %v", x, x, y, err)
		}
	}
}

func TestSampleAndGet(t *testing.T) {
	same(t, sparkplug.TypeBoolean, true, false)
	same[int8](t, sparkplug.TypeInt8, math.MinInt8, -1, 0, math.MaxInt8)
	same[int16](t, sparkplug.TypeInt16, math.MinInt16, -1, math.MaxInt16)
	same[int32](t, sparkplug.TypeInt32, math.MinInt32, -1, math.MaxInt32)
	same[int64](t, sparkplug.TypeInt64, math.MinInt64, -1, math.MaxInt64)
	same[uint8](t, sparkplug.TypeUInt8, 0, math.MaxUint8)
	same[uint16](t, sparkplug.TypeUInt16, 0, math.MaxUint16)
	same[uint32](t, sparkplug.TypeUInt32, 0, math.MaxUint32)
	same[uint64](t, sparkplug.TypeUInt64, 0, math.MaxUint64)
	same[float32](t, sparkplug.TypeFloat, 0.1, -math.MaxFloat32)
	same(t, sparkplug.TypeDouble, 0.1, math.MaxFloat64)
	same(t, sparkplug.TypeString, "", "größer")
	same(t, sparkplug.TypeDateTime, time.UnixMilli(0).UTC(), time.UnixMilli(1_767_225_600_123).UTC())

	if m := edge.Sample("x", time.UnixMilli(-1)); !m.Null {
		t.Error("a time before 1970 is not null")
	}
	null, text := edge.Sample("x", 1.0), edge.Sample("x", "1")
	null.Null = true
	if _, err := edge.Get[float64](&null); err == nil {
		t.Error("null is a number")
	}
	if _, err := edge.Get[float64](&text); err == nil {
		t.Error("a text is a number")
	}
}

// Handlers get what they are declared for, and the node's controls what they mean.
func TestHandlers(t *testing.T) {
	ctx := context.Background()
	double := edge.Writable("x", 1.0, func(_ context.Context, x float64) (float64, error) { return 2 * x, nil })
	out, err := double.Write(ctx, edge.Sample("x", 4.0))
	if x, _ := edge.Get[float64](&out); x != 8 || err != nil {
		t.Errorf("wrote %v, %v", x, err)
	}
	null := edge.Sample("x", 1.0)
	null.Null = true
	if _, err := double.Write(ctx, null); err == nil {
		t.Error("a null reached the handler")
	}

	boom := errors.New("boom")
	called := 0
	reboot := edge.Reboot(func(context.Context) error { called++; return boom })
	if _, err := reboot.Write(ctx, edge.Sample(sparkplug.MetricReboot, false)); err != nil || called != 0 {
		t.Errorf("false reboots: %v", err)
	}
	if _, err := reboot.Write(ctx, edge.Sample(sparkplug.MetricReboot, true)); !errors.Is(err, boom) || called != 1 {
		t.Errorf("true does not reboot: %v", err)
	}

	var rate time.Duration
	scan := edge.ScanRate(time.Second, func(_ context.Context, d time.Duration) error { rate = d; return nil })
	if scan.Datatype != sparkplug.TypeInt64 {
		t.Errorf("scan rate is %s", scan.Datatype)
	}
	for _, ms := range []int64{0, -5, math.MaxInt64} {
		if _, err := scan.Write(ctx, edge.Sample(sparkplug.MetricScanRate, ms)); err == nil {
			t.Errorf("a scan rate of %d ms", ms)
		}
	}
	if _, err := scan.Write(ctx, edge.Sample(sparkplug.MetricScanRate, int64(250))); err != nil || rate != 250*time.Millisecond {
		t.Errorf("scan rate %v, %v", rate, err)
	}
}
