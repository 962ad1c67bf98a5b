package config

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/config"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/wire"
)

const good = `name: plant-1/gw-1
upstream:
  url: mqtts://wilco.example:8883
  secret: s3cret
  keepAlive: 5s
data: /var/lib/gateway
http: {address: 127.0.0.1:0}
mirror:
  up: ["plant-1/telemetry/#", {topics: "plant-1/levels/+", overflow: latest, maxMessages: 7}, {topics: "plant-1/log/#", maxMessages: 1500, maxBytes: 10, overflow: oldest}]
  down: ["plant-1/recipes/+"]

queue: {maxMessages: 2000, maxBytes: 20, overflow: oldest}
ledger: {maxBytes: 100000}
rules:
  - name: close
    when: {upstreamDown: 10m, device: plant-1/valve-2, if: {path: position, gt: 0}}
    do: {device: plant-1/valve-2, rollback: true}
  - name: lamp
    when: {upstreamDown: 1m}
    do: {device: plant-1/lamp, desired: {on: true}}
    again: 1h
  - name: stop
    when: {upstreamDown: 1m}
    do: {device: plant-1/pump, command: stop, params: {soft: true}}
`

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestLoad(t *testing.T) {
	c, err := Load(write(t, good))
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != (wire.Address{Group: "plant-1", Device: "gw-1"}) || c.Upstream.Secret != "s3cret" || c.Upstream.KeepAlive != 5*time.Second ||
		c.Queue != (Queue{2000, 20, broker.DropOldest}) || c.Ledger.MaxBytes != 100000 || c.Server.Data != "/var/lib/gateway" || len(c.Rules) != 3 || len(c.Down) != 1 || c.Down[0].MaxMessages != 256 ||
		!reflect.DeepEqual(c.Up, []Mirror{{Filter: "plant-1/telemetry/#", Queue: Queue{2000, 20, broker.Refuse}}, {"plant-1/levels/+", Queue{7, 20, broker.Refuse}, true},
			{"plant-1/log/#", Queue{1500, 10, broker.DropOldest}, false}}) {
		t.Errorf("%+v", c)
	}
	r := c.Rules
	if !r[0].Do.Rollback || r[0].If.Path != "position" || r[0].Of.Device != "valve-2" || r[1].Do.Desired.String() != `{"on":true}` ||
		r[1].Again != time.Hour || r[2].Do.Command != "stop" || string(r[2].Do.Params) != `{"soft":true}` {
		t.Errorf("%+v", r)
	}
}

func TestTheSecretMayBeInAFile(t *testing.T) {
	file := write(t, strings.Replace(good, "secret: s3cret", "secretFile: gw.secret", 1))
	if err := os.WriteFile(filepath.Join(filepath.Dir(file), "gw.secret"), []byte("from the file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Load(file); err != nil || c.Upstream.Secret != "from the file" {
		t.Errorf("%+v %v", c, err)
	}
}

// What is wrong is told with its place and its field, and all at once.
func TestWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ from, to, field, place, says string }{
		{"name: plant-1/gw-1", "name: gw-1", "name", ":1:7:", "must be GROUP/NAME"},
		{"name: plant-1/gw-1\n", "", "name", "", "is missing"},
		{"data: /var/lib/gateway\n", "", "data", "", "say where"},
		{"secret: s3cret", "secert: s3cret", "upstream.secert", ":4:3:", "unknown key"},
		{"secret: s3cret\n", "\n", "upstream.secret", ":3:3:", "is missing"},
		{"url: mqtts://wilco.example:8883", "url: http://x", "upstream.url", ":3:3:", "must be like"},
		{"url: mqtts://wilco.example:8883", "url: mqtt://a:b@x", "upstream.url", ":3:3:", "without user"},
		{"keepAlive: 5s", "keepAlive: 1ms", "upstream.keepAlive", ":3:3:", "between"},
		{"keepAlive: 5s", "keepAlive: [1]", "upstream.keepAlive", "", "must be a time"},
		{"mirror:", "miror:", "miror", ":8:1:", "unknown key"},
		{`"plant-1/telemetry/#"`, `"a/#b"`, "mirror.up", ":9:8:", "no filter"},
		{`"plant-1/telemetry/#"`, `{topics: "a/#b"}`, "mirror.up", ":9:17:", "no filter"},
		{`"plant-1/telemetry/#"`, `{maxMessages: 2000}`, "mirror.up", ":9:8:", "no filter"},
		{`"plant-1/telemetry/#"`, `"plant-1/+/x"`, "mirror", "", "circle"},
		{`"plant-1/telemetry/#"`, `"#"`, "mirror", "", "devices"},
		{`"plant-1/telemetry/#"`, `"wilco/plant-1/valve-2/+"`, "mirror", "", "devices"},
		{"overflow: latest, maxMessages: 7", "overflow: last", "mirror.up.2.overflow", ":9:70:", "latest"},
		{"maxMessages: 1500", "maxMessages: 15", "mirror.up", "", "1024 or more"},
		{"maxMessages: 1500", "maxMessages: 15000", "mirror.up", "", "above those of queue"},
		{`["plant-1/recipes/+"]`, `[{topics: "plant-1/recipes/+", overflow: latest}]`, "mirror.down", "", "for what goes up"},
		{`["plant-1/recipes/+"]`, `["plant-1/recipes/+", "plant-1/recipes/x"]`, "mirror", "", "one way only"},
		{"maxMessages: 2000", "maxMessages: 0", "queue.maxMessages", ":12:22:", "above 0"},
		{"maxMessages: 2000", "maxMessages: 100", "queue.maxMessages", ":12:8:", "1024 or more"},
		{"maxBytes: 100000", "maxBytes: 1", "ledger.maxBytes", "", "or more"},
		{"  - name: lamp", "  - name: close", "rules.2.name", ":18:5:", "twice"},
		{"maxBytes: 20, overflow: oldest", "maxBytes: 20, overflow: none", "queue.overflow", ":12:52:", "oldest"},
		{`"plant-1/levels/+"`, `"plant-1/telemetry/x"`, "mirror", "", "one way only"},
		{`"plant-1/levels/+"`, `"plant-1/recipes/x"`, "mirror", "", "circle"},
		{"rollback: true", "rollback: false", "rules.1.do.rollback", ":17:45:", "must be true"},
		{"rollback: true", "rollback: true, command: x", "rules.1.do", "", "exactly one"},
		{"gt: 0", "gt: [1]", "rules.1.when.if", "", ""},
		{"when: {upstreamDown: 1m}\n    do: {device: plant-1/lamp", "when: {}\n    do: {device: plant-1/lamp", "rules.2.when.upstreamDown", "", "above 0"},
		{"desired: {on: true}", "desired: {}", "rules.2.do.desired", "", "empty"},
		{"again: 1h", "again: -1h", "rules.2.again", "", "time like"},
		{"http: {address: 127.0.0.1:0}", "http: {adress: x}", "http.adress", ":7:8:", "unknown key"},
		{"data: /var", "broker: {url: mqtt://x}\ndata: /var", "broker.url", "", "leave it out"},
	} {
		text := strings.Replace(good, c.from, c.to, 1)
		if text == good {
			t.Fatalf("%q is not in the file", c.from)
		}
		_, err := Load(write(t, text))
		var all *config.Error
		if !errors.As(err, &all) {
			t.Errorf("%q: %v", c.to, err)
			continue
		}
		found := false
		for _, f := range all.Faults {
			found = found || f.Field == c.field && f.Code == fault.Invalid && strings.Contains(f.Public(), c.place) && strings.Contains(f.Public(), c.says)
		}
		if !found {
			t.Errorf("%q: %v; want %s%s %s", c.to, err, c.field, c.place, c.says)
		}
	}
	_, err := Load(write(t, "nam: x\nrules: 7\nhttp: 8\n"))
	var all *config.Error
	if !errors.As(err, &all) || len(all.Faults) < 4 {
		t.Errorf("not all at once: %v", err)
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none")); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("no file: %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("rules: [{name: a, when: {if: {not: {}}}, do: {desired: 1}}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		file := filepath.Join(t.TempDir(), "gateway.yaml")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(file)
		if err != nil {
			return
		}
		for _, r := range c.Rules {
			if r.Down <= 0 && r.If == nil || r.Do.Device.Valid() != nil || len(r.Do.Params) > 0 && !json.Valid(r.Do.Params) {
				t.Errorf("accepted %+v", r)
			}
		}
	})
}
