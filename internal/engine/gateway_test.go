package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

var gateway = wire.Address{Group: "plant", Device: "gw-1"}

// behindGateway puts the valve behind a gateway, which is there.
func (r *rig) behindGateway() {
	r.register(gateway, 1)
	r.change(valve, func(d *store.Device) { d.Via = gateway })
	r.online(gateway, "g1")
}

func TestDevicesBehindAGatewayThatIsGoneAreGone(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.behindGateway()
		r.online(valve, "b1")
		r.says(gateway, "status", `{"online":false,"boot":"g1"}`, "will")
		if r.e.Presence(valve).Online {
			t.Fatal("the valve is online without its gateway")
		}
		c := r.send(valve, "open", command.Policy{})
		r.online(valve, "b1") // said before, come late
		if r.e.Presence(valve).Online || len(r.link.take()) > 0 {
			t.Error("a device is believed to be there without its gateway")
		}
		r.online(gateway, "g1")
		if r.e.Presence(valve).Online || len(r.link.take()) > 0 {
			t.Error("a gateway that is back says nothing of its devices")
		}
		r.online(valve, "b1")
		if sent := r.link.take(); len(sent) != 1 || sent[0].TID != c.TID.String() || sent[0].Attempt != 1 {
			t.Errorf("sent %+v", sent)
		}
	})
}

// The order of the messages decides, not that in which shards come to them.
func TestGatewayThatComesBackAtOnceLosesNobody(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.behindGateway()
		r.online(valve, "b1")
		for range 50 {
			for _, m := range []struct {
				who wire.Address
				doc string
			}{{gateway, `{"online":false,"boot":"g1"}`}, {gateway, `{"online":true,"boot":"g2"}`}, {valve, `{"online":true,"boot":"b1"}`}} {
				r.e.Receive(Message{Topic: "wilco/" + m.who.String() + "/status", Payload: []byte(m.doc), Ack: func() {}})
			}
			r.pass(ackPatience)
			if !r.e.Presence(valve).Online {
				t.Fatal("the loss of the gateway came after what the device has said since")
			}
		}
	})
}

func TestAServerThatStartsWithoutTheGatewayHasNotItsDevices(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.behindGateway()
		r.online(valve, "b1")
		r.stop()
		// Killed between the two commits: the gateway is known to be gone, the valve is not.
		if _, err := r.store.Commit(t.Context(), &store.Batch{Presence: []store.Presence{{Device: gateway, Known: true, Boot: "g1"}}}); err != nil {
			t.Fatal(err)
		}
		r.restart()
		if r.e.Presence(valve).Online {
			t.Error("the valve is online without its gateway")
		}
	})
}

// act is what a gateway tells of a command that it has made.
func act(tid, name, params, seen, by string) string {
	c := fmt.Sprintf(`{"tid":%q,"device":"plant/valve-1","name":%q,"params":%s,"requestedBy":%q,"created":"2000-01-01T00:00:00Z",
		"state":"executed","reason":"device_succeeded","version":4,"ended":"2000-01-01T00:00:05Z","key":"k",
		"timeline":[{"at":"2000-01-01T00:00:00Z","kind":"create","state":"created","reason":"requested","by":%q},
		{"at":"2000-01-01T00:00:05Z","kind":"succeeded","state":"executed","reason":"device_succeeded","by":"device"}]}`, tid, name, params, by, by)
	return fmt.Sprintf(`{"device":"plant/valve-1","seen":%q,"command":%s}`, seen, c)
}

// actTID is younger than all that the server makes.
const actTID = "fedc6acf-ac00-7000-8000-000000000001"

func TestWhatAGatewayDidIsTakenIn(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.behindGateway()
		had := r.mustDesire(`{"position":80,"mode":"auto"}`)
		r.says(gateway, "status", `{"online":false,"boot":"g1"}`, "will")
		r.online(gateway, "g1")
		for range 2 { // it is told at least once
			r.says(gateway, "gateway/act", act(actTID, StateDesired, `{"position":10,"fan":null}`, had.TID.String(), "rule:close"), "act")
		}
		if r.acked["act"] != 2 {
			t.Errorf("acknowledged %d times", r.acked["act"])
		}
		c, err := r.store.Command(t.Context(), uuid.MustParse(actTID))
		if err != nil || c.State != command.Executed || c.RequestedBy != "rule:close at plant/gw-1" || c.Key != "" ||
			c.Timeline[0].By != "rule:close at plant/gw-1" || c.Timeline[1].By != "device" {
			t.Errorf("%+v %v", c, err)
		}
		if got := r.replica(valve).Desired.String(); got != `{"mode":"auto","position":10}` {
			t.Errorf("desired is %s", got)
		}
		// It goes on alone, and may change its own mind.
		second := strings.Replace(actTID, "000000000001", "000000000002", 1)
		r.says(gateway, "gateway/act", act(second, StateDesired, `{"position":30}`, had.TID.String(), "bo"), "more")
		if got := r.replica(valve).Desired.String(); got != `{"mode":"auto","position":30}` {
			t.Errorf("desired is %s", got)
		}
		if list := r.anomalies(valve); len(list) > 0 {
			t.Errorf("contradictions where there are none: %v", list)
		}
	})
}

func TestWhatContradictsIsShownAndStays(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.behindGateway()
		had := r.mustDesire(`{"position":80,"mode":"auto"}`)
		since := r.mustDesire(`{"position":55}`) // the gateway did not have it
		other := r.mustDesire(`{"mode":"off"}`)
		turn := r.send(valve, "turn", command.Policy{})
		r.says(gateway, "gateway/act", act(actTID, StateDesired, `{"position":10,"fan":1}`, had.TID.String(), "rule:close"), "act")
		if got := r.replica(valve).Desired.String(); got != `{"fan":1,"mode":"off","position":55}` {
			t.Errorf("desired is %s", got)
		}
		for tid, want := range map[command.TID]bool{had.TID: false, since.TID: true, other.TID: false, turn.TID: true} {
			c, err := r.store.Command(t.Context(), tid)
			marked := err == nil && slices.ContainsFunc(c.Timeline, func(e command.Entry) bool { return e.Kind == command.Overtaken && e.Anomaly })
			if marked != want {
				t.Errorf("%s %s is marked: %v, want %v", c.Name, c.Params, marked, want)
			}
		}
		list, err := r.store.Anomalies(t.Context(), valve, 0)
		if err != nil || len(list) != 3 || !slices.ContainsFunc(list, func(x store.Anomaly) bool {
			return x.Kind == AnomalyGateway && x.TID == actTID && strings.Contains(x.Detail, "position: the gateway set 10, but 55 is desired")
		}) {
			t.Errorf("shown: %+v %v", list, err)
		}
	})
}

// What a device has executed by the time that its gateway tells of an act before it is
// shown as well: results and acts come up on two ways.
func TestWhatHasEndedSinceIsShownToo(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.behindGateway()
		r.online(valve, "b1")
		had := r.send(valve, "turn", command.Policy{})
		r.answer(valve, had.TID.String(), "result", "SUCCESS")
		since := r.send(valve, "turn", command.Policy{})
		r.answer(valve, since.TID.String(), "result", "SUCCESS")
		r.expect(since.TID, command.Executed, command.DeviceSucceeded)
		for _, tid := range []string{actTID, strings.Replace(actTID, "000000000001", "000000000002", 1)} { // the second is not about the first
			r.says(gateway, "gateway/act", act(tid, "close", "{}", had.TID.String(), "bo"), tid)
		}
		list, err := r.store.Anomalies(t.Context(), valve, 0)
		if err != nil || len(list) != 2 {
			t.Fatalf("shown: %+v %v", list, err)
		}
		for _, x := range list {
			if x.Kind != AnomalyGateway || !strings.Contains(x.Detail, "turn "+since.TID.String()) {
				t.Errorf("shown: %+v", x)
			}
		}
	})
}

func TestBadActsChangeNothing(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.behindGateway()
		stranger := wire.Address{Group: "plant", Device: "gw-2"}
		r.register(stranger, 1)
		good := act(actTID, "open", "{}", "", "bo")
		for name, c := range map[string]struct {
			who       wire.Address
			doc, kind string
		}{
			"another's device": {stranger, good, AnomalyWrongDevice},
			"no JSON":          {gateway, `{"device":`, AnomalyMalformed},
			"no command":       {gateway, `{"device":"plant/valve-1"}`, AnomalyMalformed},
			"command is text":  {gateway, `{"device":"plant/valve-1","command":"x"}`, AnomalyMalformed},
			"unknown device":   {gateway, strings.Replace(good, `"device":"plant/valve-1"`, `"device":"plant/valve-9"`, 1), AnomalyWrongDevice},
			"not ended":        {gateway, strings.Replace(good, `"state":"executed","reason":"device_succeeded","version"`, `"state":"running","reason":"x","version"`, 1), AnomalyMalformed},
			"no tid":           {gateway, strings.Replace(good, actTID, "00000000-0000-0000-0000-000000000000", 1), AnomalyMalformed},
			"no history":       {gateway, strings.Replace(good, `"timeline":[`, `"timeline":[],"x":[`, 1), AnomalyMalformed},
			"other device":     {gateway, strings.Replace(good, `"device":"plant/valve-1","name"`, `"device":"plant/valve-2","name"`, 1), AnomalyMalformed},
		} {
			before := r.e.Stats().Anomalies[c.kind]
			r.says(c.who, "gateway/act", c.doc, name)
			if r.acked[name] != 1 || r.e.Stats().Anomalies[c.kind] != before+1 {
				t.Errorf("%s: acknowledged %d times, anomalies %v", name, r.acked[name], r.e.Stats().Anomalies)
			}
		}
		if _, err := r.store.Command(t.Context(), uuid.MustParse(actTID)); err == nil {
			t.Error("a bad act has made a command")
		}
	})
}

func TestACommandWithATIDIsMadeOnce(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		tid := uuid.MustParse(actTID)
		for i := range 3 {
			out, err := r.e.Create(t.Context(), []Request{{Device: valve, Name: "open", TID: &tid, By: "upstream"}})
			if err != nil || out[0].Err != nil || out[0].Command.TID != tid || out[0].Existed != (i > 0) {
				t.Fatalf("%d: %+v %v", i, out, err)
			}
		}
		r.online(valve, "b1")
		if sent := r.link.take(); len(sent) != 1 || sent[0].TID != actTID {
			t.Errorf("sent %+v", sent)
		}
	})
}
