package sim

import (
	"slices"
	"testing"

	"github.com/wilco-iot/wilco/wire"
)

var pump = wire.Address{Group: "g", Device: "pump"}

func claim(tid, state string) Claim {
	return Claim{TID: tid, Device: pump, Known: true, State: state, Final: true, Sent: true}
}

func log(effects []string, ends map[string]string) []Log {
	return []Log{{Address: pump, Effects: effects, Ends: ends}}
}

func TestTheAuditorFindsEveryKindOfUntruth(t *testing.T) {
	unsent := claim("a", "cancelled")
	unsent.Sent = false
	open := claim("a", "running")
	open.Final = false
	for _, test := range []struct {
		name  string
		claim Claim
		logs  []Log
		want  Verdict
	}{
		{"all well", claim("a", "executed"), log([]string{"a"}, map[string]string{"a": wire.Success}), Verdict{}},
		{"failed in truth", claim("a", "failed"), log([]string{"a"}, map[string]string{"a": wire.Failure}), Verdict{}},
		{"refused in truth", claim("a", "rejected"), log(nil, map[string]string{"a": wire.Rejected}), Verdict{}},
		{"cancelled on the way", claim("a", "cancelled"), log([]string{"a"}, map[string]string{"a": wire.Cancelled}), Verdict{}},
		{"cancelled before it was sent", unsent, log(nil, nil), Verdict{}},
		{"unknown for ever", claim("a", "timed_out"), log([]string{"a"}, nil), Verdict{}},

		{"executed, and nothing was done", claim("a", "executed"), log(nil, nil), Verdict{Untrue: 1}},
		{"executed, and the device failed", claim("a", "executed"), log([]string{"a"}, map[string]string{"a": wire.Failure}), Verdict{Untrue: 1}},
		{"failed, and the device succeeded", claim("a", "failed"), log([]string{"a"}, map[string]string{"a": wire.Success}), Verdict{Untrue: 1}},
		{"expired, and it was done", claim("a", "expired"), log([]string{"a"}, map[string]string{"a": wire.Success}), Verdict{Untrue: 1}},
		{"rejected, and it was done", claim("a", "rejected"), log([]string{"a"}, nil), Verdict{Untrue: 1}},
		{"denied, and it was done", claim("a", "denied"), log([]string{"a"}, nil), Verdict{Untrue: 1}},
		{"cancelled unsent, and it was done", unsent, log([]string{"a"}, nil), Verdict{Untrue: 1}},
		{"cancelled, and the device succeeded", claim("a", "cancelled"), log([]string{"a"}, map[string]string{"a": wire.Success}), Verdict{Untrue: 1}},
		{"done twice", claim("a", "executed"), log([]string{"a", "a", "a"}, map[string]string{"a": wire.Success}), Verdict{ExecutedTwice: 1}},
		{"older after younger", claim("a", "executed"), log([]string{"b", "a"}, map[string]string{"a": wire.Success}), Verdict{OutOfOrder: 1}},
		{"forgotten by the server", Claim{TID: "a"}, log(nil, nil), Verdict{Lost: 1}},
		{"not ended", open, log([]string{"a"}, nil), Verdict{Unsettled: 1}},
	} {
		got := Audit([]Claim{test.claim}, test.logs)
		if got.ExecutedTwice != test.want.ExecutedTwice || got.Lost != test.want.Lost || got.OutOfOrder != test.want.OutOfOrder ||
			got.Unsettled != test.want.Unsettled || got.Untrue != test.want.Untrue {
			t.Errorf("%s: %+v", test.name, got)
		}
		if got.Good() != test.want.Good() || got.Good() != (len(got.Examples) == 0) {
			t.Errorf("%s: good %t with examples %q", test.name, got.Good(), got.Examples)
		}
	}
}

func TestOrderIsJudgedForEachDevice(t *testing.T) {
	other := wire.Address{Group: "g", Device: "other"}
	v := Audit(nil, []Log{{Address: pump, Effects: []string{"b", "c"}}, {Address: other, Effects: []string{"a", "d"}}})
	if !v.Good() {
		t.Errorf("%+v", v)
	}
	v = Audit(nil, []Log{{Address: pump, Effects: []string{"c", "b"}, Unordered: true}, {Address: other, Effects: []string{"d", "a"}}})
	if v.OutOfOrder != 1 {
		t.Errorf("%+v: only one of the two promises an order", v)
	}
}

func TestExamplesAreBounded(t *testing.T) {
	claims := slices.Repeat([]Claim{{TID: "x"}}, 10*maxExamples)
	if v := Audit(claims, nil); v.Lost != len(claims) || len(v.Examples) != maxExamples {
		t.Errorf("%d lost, %d examples", v.Lost, len(v.Examples))
	}
}
