package scenario

import (
	"reflect"
	"time"

	"github.com/wilco-iot/wilco/internal/sim"
)

// faster is by how much Fast hurries.
const faster = 10

// leastClock is the shortest that a policy may have.
const leastClock = 10 * time.Millisecond

// Fast gives the same scenario with all times a tenth and all rates ten times as
// high. What devices and servers need for themselves, to start or to connect
// again, stays as it is, and so weighs more.
func (s *Scenario) Fast() *Scenario {
	fast := hurried(reflect.ValueOf(*s)).Interface().(Scenario)
	for i := range fast.Load {
		fast.Load[i].Rate *= faster
	}
	return &fast
}

// hurried is a copy of v with its times divided.
func hurried(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	switch x := v.Interface().(type) {
	case Duration:
		if x > 0 {
			x = max(x/faster, Duration(leastClock))
		}
		out.Set(reflect.ValueOf(x))
		return out
	case sim.Span:
		out.Set(reflect.ValueOf(sim.Span{Min: x.Min / faster, Max: x.Max / faster}))
		return out
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			out.Field(i).Set(hurried(v.Field(i)))
		}
	case reflect.Slice:
		if v.IsNil() {
			break
		}
		out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		for i := range v.Len() {
			out.Index(i).Set(hurried(v.Index(i)))
		}
	}
	return out
}
