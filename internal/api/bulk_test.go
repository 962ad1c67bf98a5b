package api_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/api"
	"github.com/wilco-iot/wilco/internal/command"
)

func TestBulk(t *testing.T) {
	w := newWorld(t, options{})
	w.add("plant/a")
	w.add("plant/b")
	items := []string{
		`{"device":"plant/a","name":"one","params":{"x":[1,"]}"]},"key":"k1"}`,
		`{"device":"plant/b","name":"two","policy":{"ackBy":"7s"}}`,
		` { "name" : "three" , "device" : "plant\/a", "params" : null } `,
		`{"device":"plant/c","name":"nowhere"}`,
		`{"device":"plant/a","name":"bad name"}`,
		`{"device":"plant/a","name":"x","retain":true}`,
		`{"device":"plant/a","name":"x","policy":{"ackBy":"1ns"}}`,
		`{"device":"plant/a","name":"x","policy":{"ackby":"1s","nope":1}}`,
		`{"name":"x"}`,
		`{"device":"plant/a","name":7}`,
		`{"device":"plant/a","name":"x","name":"y"}`,
		`{"device":"plant/a","name":"x","params":[1}}`,
		`{"device":"plant/a","name":"one","params":{"x":[1,"]}"]},"key":"k1"}`,
		`{"device":"plant/a","name":"other","key":"k1"}`,
		`{}`,
	}
	want := []struct {
		status      int
		code, field string
	}{{202, "", ""}, {202, "", ""}, {202, "", ""}, {404, "not_found", "device"}, {400, "invalid", "name"}, {400, "invalid", "retain"},
		{400, "invalid", "policy.ackBy"}, {400, "invalid", "policy.nope"}, {400, "invalid", "device"}, {400, "invalid", "name"},
		{400, "invalid", "name"}, {400, "invalid", "params"}, {200, "", ""}, {409, "key_reused", ""}, {400, "invalid", "device"}}
	check := func(t *testing.T, results []client.BulkResult) {
		t.Helper()
		if len(results) != len(want) {
			t.Fatalf("%d results, want %d", len(results), len(want))
		}
		for i, r := range results {
			code, field := "", ""
			if r.Error != nil {
				code, field = r.Error.Code, r.Error.Field
			}
			if r.Status != want[i].status || code != want[i].code || field != want[i].field || (r.TID == "") != (r.Error != nil) {
				t.Errorf("item %d: got %d %q %q tid %q, want %+v", i, r.Status, code, field, r.TID, want[i])
			}
		}
		if results[12].TID != results[0].TID || !results[12].Replayed {
			t.Errorf("the same key gave %s, want %s", results[12].TID, results[0].TID)
		}
	}
	t.Run("array", func(t *testing.T) {
		check(t, read[[]client.BulkResult](t, w.do(t, request{method: "POST", path: "/v1/commands", body: "[" + strings.Join(items, ",") + "]"}), 200))
		p := read[client.CommandPage](t, w.do(t, request{path: "/v1/commands?order=oldest"}), 200)
		made := map[string]client.Command{}
		for _, c := range p.Items {
			made[c.Name] = c
		}
		if len(p.Items) != 3 || made["two"].Policy.AckBy.String() != "7s" || made["three"].Device != "plant/a" || made["one"].Key != "k1" {
			t.Errorf("made %+v", p.Items)
		}
		if made["one"].TID > made["three"].TID {
			t.Error("the commands of one device must be made in the order of the request")
		}
		if got := string(made["one"].Params); got != `{"x":[1,"]}"]}` {
			t.Errorf("params %s", got)
		}
	})
	t.Run("lines", func(t *testing.T) {
		w.add("mill/a")
		body := `{"device":"mill/a","name":"one"}` + "\n\n" + `{"device":"mill/a","name":"two"}` + "\r\n" + `{"device":"mill/z","name":"three"}`
		r := w.do(t, request{method: "POST", path: "/v1/commands", body: body, header: map[string]string{"Content-Type": "application/x-ndjson"}})
		lines := strings.Split(strings.TrimSpace(string(r.body)), "\n")
		if r.status != 200 || len(lines) != 3 || !strings.HasPrefix(lines[0], `{"status":202,"tid":"`) || !strings.HasPrefix(lines[2], `{"status":404,`) {
			t.Errorf("%d %s", r.status, r.body)
		}
		if got := r.header.Get("Content-Type"); got != "application/x-ndjson" {
			t.Errorf("content type %q", got)
		}
	})
	t.Run("a line that is no JSON", func(t *testing.T) {
		before := w.Engine.Stats().Created
		r := w.do(t, request{method: "POST", path: "/v1/commands", body: "{\"device\":\"mill/a\",\"name\":\"one\"}\n{] \n", header: map[string]string{"Content-Type": "application/x-ndjson"}})
		refused(t, r, 400, "invalid", "[1]", "quotes")
		if after := w.Engine.Stats().Created; after != before {
			t.Error("a request that was refused as a whole has made commands")
		}
	})
	t.Run("empty", func(t *testing.T) {
		if r := w.do(t, request{method: "POST", path: "/v1/commands", body: "[]"}); string(r.body) != "[]\n" {
			t.Errorf("%d %s", r.status, r.body)
		}
	})
}

// BenchmarkBulk is the CPU of the whole way of a bulk request of 1,000 commands,
// the durable store included, but for the network.
func BenchmarkBulk(b *testing.B) {
	w, err := startWorld(b.TempDir(), options{})
	if err != nil {
		b.Fatal(err)
	}
	defer w.close()
	for i := range 100 {
		w.add(fmt.Sprintf("plant/d%d", i))
	}
	benchmarkBulk(b, w.API, w.Token)
}

// BenchmarkBulkAPI is the same without engine and store: reading, checking and
// writing.
func BenchmarkBulkAPI(b *testing.B) {
	w, err := startWorld(b.TempDir(), options{Wrap: func(s api.Service) api.Service { return canned{Service: s} }})
	if err != nil {
		b.Fatal(err)
	}
	defer w.close()
	benchmarkBulk(b, w.API, w.Token)
}

func benchmarkBulk(b *testing.B, h http.Handler, token string) {
	var body bytes.Buffer
	const n = 1000
	for i := range n {
		fmt.Fprintf(&body, `%c{"device":"plant/d%d","name":"valve.open","params":{"percent":%d,"slowly":true,"why":"bench"},"policy":{"ackBy":"5s"}}`, "[,"[min(i, 1)], i%100, i)
	}
	body.WriteByte(']')
	before := cpu(b)
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, "/v1/commands", bytes.NewReader(body.Bytes()))
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/json")
		out := httptest.NewRecorder()
		h.ServeHTTP(out, r)
		if out.Code != 200 || !strings.HasPrefix(out.Body.String(), `[{"status":202`) {
			b.Fatalf("%d %.200s", out.Code, out.Body)
		}
	}
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N)/n, "cpu-ns/command")
}

// cpu is what this process has used so far, garbage collection and store included.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func commandIn(s command.State) command.Command {
	return command.Command{TID: command.TID{1, 2, 3}, State: s}
}
