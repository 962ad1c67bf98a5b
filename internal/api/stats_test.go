package api_test

import (
	"testing"

	"github.com/wilco-iot/wilco/client"
)

func TestStats(t *testing.T) {
	w := newWorld(t, options{})
	w.online("plant/valve")
	w.online("mill/saw")
	for _, path := range []string{"plant/valve", "plant/valve", "mill/saw"} {
		read[client.Command](t, w.do(t, request{method: "POST", path: "/v1/devices/" + path + "/commands?wait=30s", body: `{"name":"open"}`}), 202)
	}
	w.behave(nil)
	read[client.Command](t, w.do(t, request{method: "POST", path: "/v1/devices/plant/valve/commands", body: `{"name":"shut"}`}), 202)
	s := read[client.Stats](t, w.do(t, request{path: "/v1/stats"}), 200)
	if s.Commands != 4 || s.Cut || s.From.IsZero() || len(s.Types) != 2 || len(s.MostFailed) != 0 {
		t.Fatalf("%+v", s)
	}
	open, shut := s.Types[0], s.Types[1]
	if open.Name != "open" || open.Commands != 3 || len(open.Ends) != 1 || open.Ends[0] != (client.EndStats{State: client.Executed, Reason: "device_succeeded", Count: 3}) ||
		open.CreatedToEnded.Count != 3 || open.CreatedToEnded.Max < open.CreatedToEnded.P50 || shut.Open != 1 || shut.SentToEnded.Count != 0 {
		t.Errorf("%+v", s.Types)
	}
	if s = read[client.Stats](t, w.do(t, request{path: "/v1/stats?group=mill&type=open"}), 200); s.Commands != 1 {
		t.Errorf("%+v", s)
	}
	if p := read[client.Error](t, w.do(t, request{path: "/v1/stats?since=2000-01-01T00:00:00Z"}), 400); p.Field != "since" {
		t.Errorf("%+v", p)
	}
}
