package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
)

func TestDefaultsAreRight(t *testing.T) {
	c := Default()
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	if c.Policy.Command() != command.Defaults {
		t.Errorf("the default policy is %+v, that of commands %+v", c.Policy.Command(), command.Defaults)
	}
}

// TestTheTableIsWhole has a name, documentation and a unique variable and flag
// for every leaf of the struct.
func TestTheTableIsWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Settings() {
		if s.Path == "" || strings.HasSuffix(s.Path, ".") || s.Doc == "" {
			t.Errorf("%+v is incomplete", s)
		}
		for _, name := range []string{s.Path, s.Env, "--" + s.Flag} {
			if seen[name] {
				t.Errorf("%s is there twice", name)
			}
			seen[name] = true
		}
	}
	if want := leaves(reflect.TypeFor[Config]()); len(Settings()) != want {
		t.Errorf("%d settings for %d fields", len(Settings()), want)
	}
	for _, name := range []string{"policy.ackBy", "WILCO_POLICY_ACK_BY", "--policy-ack-by", "WILCO_MQTT_TLS_CERT", "--broker-url"} {
		if !seen[name] {
			t.Errorf("%s is missing", name)
		}
	}
}

func leaves(t reflect.Type) (n int) {
	if t.Kind() != reflect.Struct {
		return 1
	}
	for i := range t.NumField() {
		n += leaves(t.Field(i).Type)
	}
	return n
}

func TestTheExampleSaysWhatHoldsAnyway(t *testing.T) {
	l, err := load([]byte(Example()), Source{File: "example.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Data = expand(want.Data)
	if l.Config != want {
		t.Errorf("got %+v, want %+v", l.Config, want)
	}
}

func TestOrderAndOrigin(t *testing.T) {
	file := filepath.Join(t.TempDir(), "w.yaml")
	if err := os.WriteFile(file, []byte("log:\n  level: warn\n  format: json\nretention: 48h\npolicy: {ackBy: 3s, supersede: true}\nmqtt:\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Load(Source{File: file, Env: []string{"WILCO_LOG_FORMAT=text", "WILCO_RETENTION=72h", "WILCO_TOKEN=x", "WILCO_TOKN=x", "PATH=/"},
		Flags: map[string]string{"retention": "96h"}})
	if err != nil {
		t.Fatal(err)
	}
	if l.Log.Level != "warn" || l.Log.Format != "text" || l.Retention.D() != 96*time.Hour || l.Policy.AckBy.D() != 3*time.Second || !l.Policy.Supersede {
		t.Errorf("got %+v", l.Config)
	}
	for path, want := range map[string]string{"log.level": file + ":2:10", "log.format": "WILCO_LOG_FORMAT", "retention": "--retention",
		"policy.ackBy": file + ":5:17", "root": "default"} {
		if got := l.Origin[path]; got != want {
			t.Errorf("%s comes from %q, want %q", path, got, want)
		}
	}
	if len(l.Warnings) != 1 || !strings.Contains(l.Warnings[0], "WILCO_TOKN") {
		t.Errorf("warnings %q", l.Warnings)
	}
}

func TestWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ doc, field, text string }{
		{"htp:\n  address: x", "htp", "f.yaml:1:1: unknown key; did you mean http?"},
		{"http:\n  adress: x", "http.adress", "f.yaml:2:3: unknown key; did you mean http.address?"},
		{"address: x", "address", "did you mean http.address?"},
		{"policy:\n  ackby: 1s", "policy.ackby", "did you mean policy.ackBy?"},
		{"completely: different", "completely", "see wilco config show"},
		{"data: a\ndata: b", "data", "f.yaml:2:1: given twice"},
		{"data: [a]", "data", "must be one value"},
		{"data: true", "data", "must be text; put it in quotes"},
		{"http: 5", "http", "must be a list of key: value"},
		{"- a", "", "must be a list of key: value"},
		{"a: b\n---\nc: d", "file", "more than one document"},
		{"a: b: c", "file", "is not YAML"},
		{"data: ''", "data", "must name a directory"},
		{"retention: 5m", "retention", "less than an hour"},
		{"retention: 30d", "retention", `"30d" is not a duration`},
		{"http: {address: ''}", "http.address", "host:port"},
		{"http: {address: '127.0.0.1'}", "http.address", "host:port"},
		{"http: {trustedProxies: 'proxy.local'}", "http.trustedProxies", "neither an address"},
		{"http: {trustedProxies: '10.0.0.1, 10.0.0.0/33'}", "http.trustedProxies", "10.0.0.0/33"},
		{"http: {trustedProxies: '::/0'}", "http.trustedProxies", "everybody"},
		{"http: {trustedProxies: '10.0.0.1,'}", "http.trustedProxies", "neither an address"},
		{"http: {tls: {cert: /dev/null}}", "http.tls.key", "because http.tls.cert is set"},
		{"http: {tls: {key: /dev/null}}", "http.tls.cert", "because http.tls.key is set"},
		{"http: {tls: {cert: /none, key: /dev/null}}", "http.tls.cert", "cannot be read"},
		{"mqtt: {tcp: 'a b:1'}", "mqtt.tcp", "host"},
		{"mqtt: {tcp: ':70000'}", "mqtt.tcp", "port"},
		{"mqtt: {tcp: ''}", "mqtt.tcp", "no listener"},
		{"mqtt: {tls: {address: ':8883'}}", "mqtt.tls.cert", "PEM"},
		{"mqtt: {tls: {address: ':8883', cert: /none, key: /none}}", "mqtt.tls.cert", "cannot be read"},
		{"broker: {url: 'http://x'}", "broker.url", "mqtt://"},
		{"broker: {requestsToken: t}", "broker.requestsToken", "built-in"},
		{"broker: {url: 'mqtt://b'}\nmqtt: {users: u.yaml}", "mqtt.users", "built-in"},
		{"oidc: {issuer: 'http://example.com', audience: a}", "oidc.issuer", "https"},
		{"oidc: {issuer: 'https://example.com'}", "oidc.audience", "oidc.issuer"},
		{"broker: {version: 4}", "broker.version", "3.1.1, 5"},
		{"profile: coap", "profile", "wilco, atlas"},
		{"sparkplug: {role: secondary}", "sparkplug.role", "passive, active, primary"},
		{"sparkplug: {role: primary}", "sparkplug.hostID", "must be an id"},
		{"sparkplug: {role: primary, hostID: a/b}", "sparkplug.hostID", "must be an id"},
		{"sparkplug: {role: active, filters: 'spBv1.0/a/#,#'}", "sparkplug.filters", `"#" is not a topic filter`},
		{"sparkplug: {role: active, filters: 'spBv1.0/#/a'}", "sparkplug.filters", "is not a topic filter"},
		{"sparkplug: {role: active, reported: 'Process/#,a/#/b'}", "sparkplug.reported", `"a/#/b" is not a filter`},
		{"sparkplug: {role: active, servers: 'mqtt://other'}", "sparkplug.servers", "NAME=URL"},
		{"sparkplug: {role: active, servers: 'broker=mqtt://other'}", "sparkplug.servers", `none "broker"`},
		{"sparkplug: {role: active, servers: 'a=mqtt://x,a=mqtt://y'}", "sparkplug.servers", "NAME once"},
		{"root: 'a/+/b'", "root", "characters"},
		{"log: {level: loud}", "log.level", "debug, info, warn, error"},
		{"policy: {maxAttempts: 0}", "policy.maxAttempts", "between 1 and 100"},
		{"policy: {maxAttempts: many}", "policy.maxAttempts", "whole number"},
		{"policy: {jitter: NaN}", "policy.jitter", "between 0 and 1"},
		{"policy: {supersede: perhaps}", "policy.supersede", "neither true nor false"},
		{"data: &a x\nroot: *a", "root", "must be one value"},
	} {
		_, err := load([]byte(c.doc), Source{File: "f.yaml"})
		f := fault.From(err)
		if f == nil || f.Code != fault.Invalid || f.Field != c.field || !strings.Contains(f.Public(), c.text) {
			t.Errorf("%q: got %v, want %s: %s", c.doc, err, c.field, c.text)
		}
	}
}

func TestEverythingThatIsWrongIsSaid(t *testing.T) {
	_, err := load([]byte("a: 1\nroot: '+'\nretention: 1s\nb: 2"), Source{File: "f.yaml", Env: []string{"WILCO_LOG_LEVEL=loud"}})
	var e *Error
	if !errors.As(err, &e) || len(e.Faults) != 3 { // what is read is checked only when it could be read
		t.Fatalf("got %v", err)
	}
	_, err = load([]byte("root: '+'\nretention: 1s"), Source{})
	if !errors.As(err, &e) || len(e.Faults) != 2 || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("got %v", err)
	}
}

func TestSecretsAreMasked(t *testing.T) {
	for url, want := range map[string]string{
		"mqtt://ops:hunter2@h:1883":   "mqtt://ops:***@h:1883",
		"mqtt://ops@h":                "mqtt://ops@h",
		"mqtt://h:1883":               "mqtt://h:1883",
		"":                            "",
		"ops:hunter2@h":               "***",
		"mqtt://ops:hun ter2@h":       "***",
		"mqtt://ops:hunter2%zz@h":     "***",
		"mqtts://a:hunter2@h:8883/x?": "mqtts://a:***@h:8883/x?",
	} {
		c := Default()
		c.Broker.URL = url
		s, _ := find("broker.url")
		if got := s.Value(&c); got != want || strings.Contains(got, "hunter2") {
			t.Errorf("%q is shown as %q, want %q", url, got, want)
		}
	}
	_, err := load([]byte("broker: {url: 'http://ops:hunter2@h'}"), Source{})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

// FuzzLoad never panics; what it takes passes its own check, and every fault
// names a field.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(Example()))
	for _, s := range []string{"", "a: b", "http: {address: ':1'}", "data: &a [*a]", "? [a]\n: b", "!!binary a: b", "policy: {jitter: .inf}", "\x00", "a: |\n  b", "<<: {a: b}", "data: !!int x"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		l, err := load(doc, Source{File: "f.yaml"})
		if err == nil {
			if err := l.Check(); err != nil {
				t.Fatalf("taken, but %v", err)
			}
			return
		}
		var e *Error
		if !errors.As(err, &e) || len(e.Faults) == 0 {
			t.Fatalf("got %v", err)
		}
		for _, x := range e.Faults {
			if x.Code != fault.Invalid || x.Public() == "" {
				t.Fatalf("fault %+v", x)
			}
		}
	})
}
