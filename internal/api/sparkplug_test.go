package api

import (
	"math"
	"testing"

	"github.com/wilco-iot/wilco/sparkplug"
)

func TestValuesAsJSON(t *testing.T) {
	must := func(v sparkplug.Value, err error) sparkplug.Value {
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct {
		v    sparkplug.Value
		d    sparkplug.Datatype
		want string
	}{
		{must(sparkplug.NewInt(sparkplug.TypeInt8, -3)), sparkplug.TypeInt8, "-3"},
		{must(sparkplug.NewInt(sparkplug.TypeInt64, math.MinInt64)), sparkplug.TypeInt64, "-9223372036854775808"},
		{must(sparkplug.NewUint(sparkplug.TypeUInt64, math.MaxUint64)), sparkplug.TypeUInt64, "18446744073709551615"},
		{must(sparkplug.NewFloat(sparkplug.TypeDouble, 1.5)), sparkplug.TypeDouble, "1.5"},
		{must(sparkplug.NewFloat(sparkplug.TypeDouble, math.NaN())), sparkplug.TypeDouble, `"NaN"`},
		{must(sparkplug.NewFloat(sparkplug.TypeFloat, math.Inf(-1))), sparkplug.TypeFloat, `"-Inf"`},
		{sparkplug.NewBool(true), sparkplug.TypeBoolean, "true"},
		{sparkplug.NewText([]byte("a\"b")), sparkplug.TypeString, `"a\"b"`},
		{sparkplug.NewBytes([]byte{0, 255}), sparkplug.TypeBytes, `"AP8="`},
		{must(sparkplug.NewInt(sparkplug.TypeDateTime, 1700000000000)), sparkplug.TypeDateTime, "1700000000000"},
		{sparkplug.Value{}, sparkplug.TypeDataSet, ""},
		{sparkplug.NewBool(true), sparkplug.TypeInt8, ""},
	} {
		if got := string(valueJSON(c.v, c.d)); got != c.want {
			t.Errorf("%s: %s, want %s", c.d, got, c.want)
		}
	}
}
