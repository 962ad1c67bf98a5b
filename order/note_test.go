package order_test

import (
	"errors"
	"math"
	"testing"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/order"
)

func parseGap(t *testing.T, values ...string) order.Notes {
	t.Helper()
	list := []mqtt.UserProperty{{Key: "other", Value: "7 queue_full"}}
	for _, v := range values {
		list = append(list, mqtt.UserProperty{Key: order.PropertyGap, Value: v})
	}
	n, err := order.ParseGap(list)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestParseGap(t *testing.T) {
	for _, x := range []struct {
		values []string
		want   order.Reason
	}{
		{[]string{"3 queue_full"}, order.Overflow}, {[]string{"3 qos0_full"}, order.Overflow},
		{[]string{"1 queue_full", "2 qos0_full"}, order.Overflow}, {[]string{"3 expired"}, order.Expired},
		{[]string{"3 denied"}, order.Denied}, {[]string{"3 too_large"}, order.Lost}, {[]string{"3 offline"}, order.Lost},
		{[]string{"3 a word of a later version"}, order.Lost}, {[]string{"2 expired", "1 denied"}, order.Lost},
		{[]string{"2 expired"}, order.Silent}, {nil, order.Silent},
	} {
		n := parseGap(t, x.values...)
		if got := n.Take(order.Gap{From: 5, To: 7}); got != x.want {
			t.Errorf("%q: %v, want %v", x.values, got, x.want)
		}
	}
	for _, bad := range []string{"", "3", "3 ", " expired", "0 expired", "-1 expired", "03 expired", "x expired", "99999999999999999999 expired"} {
		n, err := order.ParseGap([]mqtt.UserProperty{{Key: order.PropertyGap, Value: bad}})
		if !errors.Is(err, order.ErrGap) || n.Len() != 0 {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// What was told counts for as many messages, whichever stream misses them.
// Shows [B5b].
func TestNotes(t *testing.T) {
	var n order.Notes
	if got := n.Take(order.Gap{}); got != order.Silent {
		t.Error(got)
	}
	n.Add(parseGap(t, "2 queue_full"))
	n.Add(parseGap(t, "3 queue_full"))
	if got := n.Take(order.Gap{From: 1, To: 4}); got != order.Overflow || n.Len() != 1 {
		t.Error(got, n.Len())
	}
	if got := n.Take(order.Gap{From: 9, To: 10}); got != order.Silent || n.Len() != 1 {
		t.Error(got, n.Len())
	}
	n.Add(parseGap(t, "4 expired"))
	if got := n.Take(order.Gap{From: 9, To: 10}); got != order.Lost || n.Len() != 3 {
		t.Error(got, n.Len())
	}
	n.Add(parseGap(t, "18446744073709551615 denied"))
	if n.Add(parseGap(t, "2 denied")); n.Len() != math.MaxUint64 {
		t.Error(n.Len())
	}
}

func FuzzParseGap(f *testing.F) {
	f.Add("3 queue_full")
	f.Add("18446744073709551615 x")
	f.Fuzz(func(t *testing.T, value string) {
		n, err := order.ParseGap([]mqtt.UserProperty{{Key: order.PropertyGap, Value: value}})
		if (err == nil) != (n.Len() > 0) {
			t.Errorf("%q: %d, %v", value, n.Len(), err)
		}
	})
}
